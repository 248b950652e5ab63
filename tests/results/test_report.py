"""The report holds what the outputs hold, needs nothing but itself, and names what is missing."""

import base64
import io
import shutil
from dataclasses import asdict
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from scipy import stats

from alibench.benchmarks.commands.cli import main
from alibench.evaluation import files, pictures
from alibench.evaluation.data import Data, as_uint8
from alibench.evaluation.measurement import Measurement
from alibench.evaluation.settings import Settings
from alibench.evaluation.subject import Subject
from alibench.models import REGISTRY
from alibench.results import charts, drawing, figures, formats, pixels, report, rows, stored
from tests.conftest import build, origin
from tests.results.conftest import store

MODELS = ("ali", "vae", "bigan", "gan", "x")
ORIGIN = origin("digits", MODELS)


class Page(HTMLParser):
    """What a page refers to, says and shows."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.images: list[dict[str, str | None]] = []
        self.tags: list[str] = []
        self.words: list[str] = []
        self.small: list[str] = []  # intervals
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        links = ("src", "href", "xlink:href", "action")
        self.links += [value or "" for name, value in attributes if name in links]
        if tag == "img":
            self.images.append(dict(attributes))

    def handle_data(self, words: str) -> None:
        if self.tags[-1:] not in (["script"], ["style"]):
            self.words.append(words)
        if self.tags[-1:] == ["small"]:
            self.small.append(words)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


def output(out: Path, values: dict[str, list[float]], arrays: bool = True) -> Path:
    """Store runs of models with a reconstruction error a seed, and pictures of them."""
    curves = pd.DataFrame(
        {"phase": "game", "step": [1, 2], "loss generator": [2.0, 1.0], "logit q": [0.0, 1.0]}
    )
    for model, errors in values.items():
        for seed, error in enumerate(errors):
            measured = [Measurement("reconstruction_error", error, n=355, split="test", protocol="mean code")]
            folder = store(out, model, seed, measured, models=MODELS)
            curves.to_csv(folder / "curves.csv", index=False)
            if arrays:
                x = torch.randint(256, (50, 1, 8, 8), dtype=torch.uint8)
                kept = {"x": x, "y": torch.arange(50) % 10, "samples": x, "reconstructions": x}
                pictures.write(folder, kept)
    return out


def made(*folders: Path) -> tuple[Page, list[str]]:
    text, problems = report.page(folders)
    return Page(text), problems


# -------------------- what the evaluation keeps


@pytest.mark.parametrize("name", ["ali", "bigan", "vae"])
def test_interpolations_lie_on_the_line_between_two_codes(name: str, digits: Data) -> None:
    subject = Subject(build(name).eval(), digits, Settings(), 0)
    found = pictures.arrays(subject)
    lines = pictures.LINES[True]
    assert found["interpolations"].shape == (lines, pictures.STEPS, 1, 8, 8)
    assert torch.equal(found["interpolations"][:, 0], found["reconstructions"][0 : 2 * lines : 2])
    assert torch.equal(found["interpolations"][:, -1], found["reconstructions"][1 : 2 * lines : 2])
    middle = (found["codes"][0 : 2 * lines : 2] + found["codes"][1 : 2 * lines : 2]) / 2
    with torch.no_grad():
        decoded = as_uint8(subject.model.decode(middle))
    halfway = found["interpolations"][:, pictures.STEPS // 2]
    assert (halfway.int() - decoded.int()).abs().max() <= 1  # a grey level of rounding
    assert torch.equal(found["latent"], subject.codes)
    assert torch.equal(found["latent_y"], digits.test.y)


def test_a_model_without_an_encoder_interpolates_between_draws_of_the_prior(digits: Data) -> None:
    names = [name for name, kind in REGISTRY.items() if kind.inference == "none" and not kind.conditional]
    assert names
    for name in names:
        subject = Subject(build(name).eval(), digits, Settings(), 0)
        found = pictures.arrays(subject)
        assert torch.equal(found["interpolations"][:, 0], found["samples"][0 : 2 * pictures.LINES[True] : 2])
        assert "latent" not in found


def test_extremes_are_the_largest_then_the_smallest_errors() -> None:
    assert pictures.extremes(np.array([1.0, 5, 3, 3, 9])).tolist() == [4, 1, 0, 3]
    assert pictures.extremes(np.arange(100.0)).tolist() == [*range(99, 91, -1), *range(8)]
    assert pictures.extremes(np.array([1.0])).tolist() == []


# ------------------------------------------------------------------------------------------------ pictures


def test_pixels_are_kept_exactly_and_frames_lie_below_one_another() -> None:
    images = np.random.RandomState(0).randint(256, size=(4, 11, 3, 8, 8), dtype=np.uint8)
    picture = pixels.frames(images)
    assert picture.uri.startswith("data:image/png;base64,")
    kept = np.asarray(Image.open(io.BytesIO(base64.b64decode(picture.uri.partition(",")[2]))))
    assert kept.shape == (picture.height, picture.width, 3)
    height = picture.height // 11
    for step in range(11):
        assert np.array_equal(kept[step * height : (step + 1) * height], pixels.tile(images[:, step], 4))


def test_a_large_picture_is_kept_smaller_and_nearly_exactly() -> None:
    smooth = np.linspace(0, 255, 400 * 400 * 3).reshape(400, 400, 3)
    noise = np.random.RandomState(0).randint(-9, 9, size=smooth.shape)
    noisy = (smooth + noise).clip(0, 255).astype(np.uint8)
    picture = pixels.picture(noisy)
    stored = base64.b64decode(picture.uri.partition(",")[2])
    assert len(stored) < pixels.EXACT < noisy.nbytes
    kept = np.asarray(Image.open(io.BytesIO(stored)).convert("RGB")).astype(float)
    assert np.abs(kept - noisy).mean() < 9


def test_codes_are_drawn_on_the_axes_that_hold_most_of_their_variance() -> None:
    codes = np.random.RandomState(0).randn(300, 5) * [5, 0.1, 3, 0.1, 0.1]
    share = np.var(codes, axis=0)[[0, 2]].sum() / np.var(codes, axis=0).sum()
    figure, told = figures.latent(codes, np.arange(300) % 3)
    assert f"{share:.0%} of the codes' variance" in told
    assert "both coordinates" in figures.latent(codes[:, :2], np.full(300, -1))[1]
    assert drawing.svg(figure, "x").startswith("<svg")


def test_classes_that_lie_apart_are_drawn_apart_and_those_that_do_not_are_not() -> None:
    rng = np.random.RandomState(0)
    y = np.arange(600) % 3
    apart = rng.randn(600, 8) * [9, 9, 1, 1, 1, 1, 1, 1]  # the classes differ where variance is small
    apart[:, 2] += 9 * y
    apart[:, 3] += 9 * (y == 1)

    def overlap(codes: np.ndarray, panel: int) -> float:
        """Return the share of points whose nearest other is of another class."""
        drawn = figures.latent(codes, y)[0].axes[panel].collections[0]
        points, colours = np.asarray(drawn.get_offsets()), np.asarray(drawn.get_array())
        distances = np.linalg.norm(points[:, None] - points, axis=2) + np.eye(len(points)) * 1e9
        return float((colours[distances.argmin(1)] != colours).mean())

    assert overlap(apart, 0) > 0.3
    assert overlap(apart, 1) < 0.02
    assert overlap(rng.randn(600, 8), 1) > 0.5  # the discriminants are fitted to other codes than they show


@pytest.mark.parametrize("codes", [np.zeros((90, 4)), np.full((90, 4), np.nan), np.eye(4)[np.zeros(90, int)]])
def test_codes_that_say_nothing_are_drawn_without_a_warning(codes: np.ndarray) -> None:
    figure, _ = figures.latent(codes, np.arange(90) % 3)
    assert drawing.svg(figure, "x").startswith("<svg")


def test_numbers_of_several_magnitudes_have_a_logarithmic_axis() -> None:
    columns = {"wide": [(1e-4, 2e-4), (1.0, 8.0)], "near": [(1.0,), (90.0,)], "signed": [(-0.1,), (80.0,)]}
    seeds = pd.DataFrame(columns, ["a", "b"])
    figure = charts.spread(formats.plain("", seeds.map(str))._replace(seeds=seeds), ["a", "b"])
    assert figure is not None
    assert [axes.get_xscale() for axes in figure.axes] == ["log", "linear", "linear"]
    assert "mathdefault" not in drawing.svg(figure, "x")


def test_a_drawing_has_the_ink_of_the_page_and_marks_of_its_own() -> None:
    seeds = pd.DataFrame({"a": [(1.0, 2.0)]}, ["ALI"])
    sheet = formats.plain("", pd.DataFrame({"a": ["1"]}, ["ALI"]))._replace(seeds=seeds)
    one, two = (drawing.svg(charts.spread(sheet, ["ALI"]), name) for name in "xy")
    assert "currentColor" in one
    assert drawing.INK not in one
    marks = [{part.partition('"')[0] for part in text.split(' id="')[1:]} for text in (one, two)]
    assert marks[0]
    assert not marks[0] & marks[1]


# ------------------------------------------------------------------------------------------------ the page


def test_the_page_needs_nothing_but_itself(quick: Path) -> None:
    text = (quick / report.NAME).read_text()
    page = Page(text)
    assert page.links
    assert all(link.startswith(("data:", "#")) for link in page.links), page.links
    assert "@import" not in text
    assert "url(http" not in text
    assert len(text.encode()) < 10_000_000
    assert all(image["alt"] for image in page.images)
    assert page.tags.count("input") == 8  # an interpolation of each model of both suites


def test_means_have_the_interval_of_students_t(tmp_path: Path) -> None:
    errors = [0.01, 0.02, 0.04]
    page, problems = made(output(tmp_path, {"ali": errors, "vae": [0.03]}))
    low, high = stats.t.interval(0.95, 2, np.mean(errors), stats.sem(errors))
    told = {words for words in page.small if words.strip()}
    assert told == {f"{low:.4f} to {high:.4f}"}  # that of one seed has none
    assert not problems


def test_several_outputs_stand_side_by_side(tmp_path: Path) -> None:
    first = output(tmp_path / "a" / "out", {"ali": [0.01]})
    second = output(tmp_path / "b" / "out", {"ali": [0.05], "vae": [0.03]})
    page, problems = made(first, second)
    assert not problems
    tables = [word for word in page.words if word in ("a/out", "b/out")]
    assert tables[:2] == ["a/out", "b/out"]
    for card in ("ALI, a/out", "ALI, b/out", "VAE, b/out"):
        assert card in page.text
    assert "VAE, a/out" not in page.text
    for number in ("0.0100", "0.0500", "0.0300"):
        assert number in page.text
    assert "output 2: out less output 1: out" in page.text
    assert "+0.0400" in page.text


def test_outputs_of_different_data_under_one_heading_are_named(tmp_path: Path) -> None:
    first, second, other = (output(tmp_path / name, {"ali": [0.1]}, arrays=False) for name in ("a", "b", "c"))
    for folder in (other / "runs").iterdir():
        stored.write(folder, stored.ORIGIN, stored.read_origin(folder) | {"data_sha256": "1" * 64})
    page, problems = made(first, second)
    assert "different data" not in " ".join([page.text, *problems])
    assert "Differences between the outputs" in page.text
    page, problems = made(first, second, other)
    line = f"a, b: digits (sha256 {'0' * 16}); c: digits (sha256 {'1' * 16})"
    assert line in page.text
    assert "cannot be compared" in page.text
    assert "Differences between the outputs" not in page.text
    assert sum(line in problem for problem in problems) == 1


def test_what_users_name_is_no_markup(tmp_path: Path) -> None:
    folder = tmp_path / "runs" / "digits-x-seed0"
    folder.mkdir(parents=True)
    title = "<script>alert(1)</script> & $\\alpha$"
    run = rows.Run(folder.name, "digits", "x", title, "digits", 0, 1, "ema")
    config: dict[str, Any] = {**ORIGIN["config"], "title": title, "models": ["x"]}
    measured = [asdict(Measurement("reconstruction_error", 1.0, protocol="mean code"))]
    rows.write(folder, run, measured, ORIGIN | {"config": config})
    page, _ = made(tmp_path)
    assert page.tags.count("script") == 1  # the page's own
    assert title in page.text


def test_the_command_to_repeat_it_names_the_commit_and_no_folder(tmp_path: Path) -> None:
    page, _ = made(output(tmp_path, {"ali": [0.01]}))
    assert f"git checkout {ORIGIN['commit']} alibench run digits --seeds 3" in page.text
    assert "somewhere" not in page.text


# -------------------- what is missing


def test_an_unfinished_run_is_named_and_the_others_stay(tmp_path: Path) -> None:
    out = output(tmp_path, {"ali": [0.01], "vae": [0.03]})
    (out / "runs" / "digits-ali-seed0" / "rows.json").unlink()
    asked = ["digits-ali-seed0", "digits-vae-seed0", "digits-vae-seed1"]
    begun = {"command": ["alibench"], "suites": {"digits": ORIGIN["config"]}, "data": {}, "device": "cpu"}
    stored.write(out, stored.PLAN, {**begun, "versions": {}, "code": {}, "runs": asked})
    page, problems = made(out)
    assert problems == [f"{out}: not finished: digits-ali-seed0, digits-vae-seed1; finish them with --resume"]
    assert problems[0] in page.text
    assert "0.0300" in page.text
    assert "0.0100" not in page.text


@pytest.mark.parametrize("name", ["rows.json", "run.json"])
@pytest.mark.parametrize("older", [False, True])
def test_a_damaged_or_older_run_is_named_and_the_others_stay(name: str, older: bool, tmp_path: Path) -> None:
    out = output(tmp_path, {"ali": [0.01], "vae": [0.03]})
    path = out / "runs" / "digits-ali-seed0" / name
    text = path.read_text()
    path.write_text(text.replace('"version": ', '"version": 9') if older else text[:-9])
    page, problems = made(out)
    (problem,) = problems
    assert problem.startswith(f"{path} {'has version 9' if older else 'is damaged'}")
    assert problem in page.text
    assert "0.0300" in page.text
    assert "0.0100" not in page.text


def test_damaged_or_missing_pictures_leave_the_numbers(tmp_path: Path) -> None:
    out = output(tmp_path, {"ali": [0.01], "vae": [0.03], "bigan": [0.02]})
    damaged, gone, curves = (out / "runs" / f"digits-{name}-seed0" for name in ("ali", "vae", "bigan"))
    (damaged / pictures.NAME).write_bytes((damaged / pictures.NAME).read_bytes()[:-9])
    (gone / pictures.NAME).unlink()
    (curves / "curves.csv").write_text("no,curves\n1,2\n")
    page, problems = made(out)
    assert len(problems) == 2
    assert f"{damaged / pictures.NAME} is damaged: no pictures of ALI; evaluate this run again" in problems
    assert f"No arrays are kept of it ({pictures.NAME})" in page.text
    assert str(curves / "curves.csv") in " ".join(problems)
    for number in ("0.0100", "0.0300", "0.0200"):
        assert number in page.text


ERRORS = {"error": np.linspace(0.4, 0.0004, 50)}


def with_errors(out: Path) -> Path:
    """Store a run with errors of its images, and the extreme ones; return its folder."""
    folder = output(out, {"ali": [0.01]}) / "runs" / "digits-ali-seed0"
    stored.write_per_image(folder, ERRORS, None)
    signed(folder)
    arrays = {name: torch.from_numpy(array) for name, array in pictures.read(folder).items()}
    chosen = arrays["x"][torch.from_numpy(pictures.extremes(ERRORS["error"]))]
    pictures.write(folder, {**arrays, "extremes": chosen, "extreme_reconstructions": chosen})
    return folder


def signed(folder: Path) -> dict[str, Any]:
    """Let a run name the hash of its errors, as they are now."""
    sha256 = files.sha256(folder / stored.PER_IMAGE)
    named = {**stored.read_origin(folder), "per_image_sha256": sha256}
    stored.write(folder, stored.ORIGIN, named)
    return named


def test_the_worst_and_the_best_stand_with_their_errors(tmp_path: Path) -> None:
    folder = with_errors(tmp_path)
    page, problems = made(tmp_path)
    assert problems == []
    assert "The 8 worst and the 8 best of 50 held-out images" in page.text
    assert [word for word in page.words if word.endswith("est errors")] == [
        "largest errors",
        "smallest errors",
    ]
    shown = [word for word in page.words if word in {f"{error:#.3g}" for error in ERRORS["error"]}]
    assert shown == [f"{error:#.3g}" for error in ERRORS["error"][[*range(8), *range(49, 41, -1)]]]
    # a file of which run.json knows nothing is not shown
    origin = stored.read_origin(folder)
    stored.write(folder, stored.ORIGIN, {**origin, "per_image_sha256": None})
    page, problems = made(tmp_path)
    assert problems == []
    assert "8 worst" not in page.text


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "it has no errors by index"),
        ("index,error\n", "it has no errors by index"),
        ("index,label\n0,1\n", "it has no errors by index"),
        ("error,index\n0.5,0\n", "it has no errors by index"),
        ("index,error,<script>\n0,0.5,1\n", "it has no errors by index"),
        (",".join(map(str, range(10**6))) + "\n0,1\n", "it has no errors by index"),
        ("index,error\n0,0.5\n1,nan\n", "numbers that no error can be"),
        ("index,error\n0,0.5\n1,inf\n", "numbers that no error can be"),
        ("index,error\n0,0.5\n1,1e31\n", "numbers that no error can be"),
        ("index,error\n0,0.5\n1,-0.5\n", "numbers that no error can be"),
        ("index,error\n0,0.5\n2,0.5\n", "its lines are not numbered from 0"),
        ("index,error\n0,0.5\n0,0.5\n", "its lines are not numbered from 0"),
        ("index,error\n0,0.5\n1,\n", "cannot be read ("),
        ("index,error\n0,0.5\n1,0.5,7\n", "cannot be read ("),
        ("index,error\n0,0.5,1\n1,0.5,7\n", "cannot be read ("),
        ("index,error\n0,0.5\n1,\x1b[31m\n", "cannot be read ("),
    ],
)
def test_errors_that_nobody_wrote_are_refused_in_a_line(text: str, said: str, tmp_path: Path) -> None:
    (tmp_path / stored.PER_IMAGE).write_text(text)
    sha256 = files.sha256(tmp_path / stored.PER_IMAGE)
    with pytest.raises(files.Damaged) as refused:
        stored.read_per_image(tmp_path, {"per_image_sha256": sha256})
    message = str(refused.value)
    assert message.startswith(f"{tmp_path / stored.PER_IMAGE} cannot be read")
    assert said in message
    assert message == files.one_line(message)


def test_errors_that_are_gone_or_a_link_are_named(tmp_path: Path) -> None:
    path = tmp_path / stored.PER_IMAGE
    with pytest.raises(files.Damaged, match=r"cannot be read \(No such file or directory\)"):
        stored.read_per_image(tmp_path, {})
    path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(files.Damaged, match=r"cannot be read \(is a symbolic link"):
        stored.read_per_image(tmp_path, {})


def test_errors_come_back_to_the_last_digit(tmp_path: Path) -> None:
    numbers = {name: np.random.RandomState(0).rand(9) ** 20 for name in stored.MEASURES}
    stored.write_per_image(tmp_path, numbers, np.arange(9) % 3)
    frame = stored.read_per_image(tmp_path, {})
    assert list(frame.columns) == ["index", "label", *stored.MEASURES]
    for name, column in numbers.items():
        assert np.array_equal(frame[name], column)


def test_damaged_errors_of_images_are_a_line_and_the_rest_stays(tmp_path: Path) -> None:
    folder = with_errors(tmp_path)
    path = folder / stored.PER_IMAGE
    whole = path.read_text()

    def broken(said: str) -> None:
        page, (problem,) = made(tmp_path)
        assert said in problem
        assert "no worst and best reconstructions of ALI; evaluate this run again with" in problem
        assert problem in page.text
        assert "8 worst" not in page.text
        assert "Pairs of a held-out image" in page.text

    path.write_text(whole.replace("0.4", "0.3", 1))
    broken(f"{path} is not what its run wrote")
    path.write_text("".join(whole.splitlines(True)[:5]))  # of other images than the arrays
    signed(folder)
    broken(f"{folder / pictures.NAME} shows other images than {stored.PER_IMAGE} names")


def test_the_command_writes_beside_the_rows_or_where_it_is_told(tmp_path: Path) -> None:
    out, to = output(tmp_path / "out", {"ali": [0.01]}), tmp_path / "page.html"
    assert main(["report", str(out)]) == 0
    assert "0.0100" in Page((out / report.NAME).read_text()).text
    assert main(["report", str(out), "--out", str(to)]) == 0
    assert to.read_text() == (out / report.NAME).read_text()


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (["nowhere"], "nowhere holds no runs: name a folder that 'alibench run --out' made"),
        (["empty"], "empty holds no finished runs"),
        (["broken"], "rows.json is damaged"),
        (["out", "out"], "the same folder is named twice: out"),
        (["out", "--out", "taken.html"], "--out taken.html is there already: name a new file; nothing was"),
        (["out", "--out", "no/where.html"], "there is no folder no"),
    ],
)
def test_what_cannot_be_reported_is_refused_in_a_line(
    given: list[str], told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    output(tmp_path / "out", {"ali": [0.01]}, arrays=False)
    shutil.copytree(tmp_path / "out", tmp_path / "broken")
    (tmp_path / "broken" / "runs" / "digits-ali-seed0" / "rows.json").write_text("{")
    (tmp_path / "empty" / "runs").mkdir(parents=True)
    (tmp_path / "taken.html").write_text("mine")
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    assert main(["report", *given]) == 2
    error = capsys.readouterr().err
    assert told in error
    assert error.count("\n") == 1
    assert sorted(tmp_path.rglob("*")) == before
    assert (tmp_path / "taken.html").read_text() == "mine"
