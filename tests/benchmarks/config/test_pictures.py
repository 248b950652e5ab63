"""From a folder of pictures to a table in one command: what is looked at, what is chosen for it, what is
refused.
"""

import json
import tomllib
import zlib
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from alibench.benchmarks.commands.cli import main
from alibench.benchmarks.config import loading
from alibench.benchmarks.config import pictures as config_pictures
from alibench.benchmarks.running.execute import execute
from alibench.benchmarks.running.jobs import Job
from alibench.evaluation import labels
from alibench.evaluation.data import Data, Split
from alibench.evaluation.features import extractor, extractors
from alibench.evaluation.files import NAME
from alibench.evaluation.metrics import METRICS
from alibench.evaluation.settings import Settings
from alibench.models.tables import FAMILIES
from alibench.results import rows
from tests.conftest import in_this_process

SETTINGS = ("steps=4", "evaluation.draws=1", "metrics=['reconstruction', 'fidelity', 'svm', 'health']")
SHORT = (
    "--device",
    "cpu",
    "--models",
    "ali",
    "--seeds",
    "1",
    *(part for s in SETTINGS for part in ("--set", s)),
)


def noise(folder: Path, sizes: list[tuple[int, int]], channels: int = 3, each: int = 60) -> Path:
    """Make a folder of `each` pictures, of these widths and heights in turn."""
    rng = np.random.RandomState(zlib.crc32(folder.name.encode()))  # no two classes hold the same
    folder.mkdir(parents=True, exist_ok=True)
    for i in range(each):
        width, height = sizes[i % len(sizes)]
        pixels = rng.randint(256, size=(height, width, channels), dtype=np.uint8)
        Image.fromarray(pixels.squeeze()).save(folder / f"{i:03d}.png")
    return folder


def one_line(text: str) -> str:
    """Return a file's text with its comments in one line."""
    return text.replace("\n# ", " ")


@pytest.fixture(scope="module")
def digits_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """8x8 digits as PNGs: 256 to test on, as many as FID takes."""
    from alibench.benchmarks.data.datasets import digits

    loaded: Data = digits()
    folder = tmp_path_factory.mktemp("digits") / "my digits"
    for split, part, count in (
        ("train", loaded.train, 300),
        ("val", loaded.validation, 60),
        ("test", loaded.test, 256),
    ):
        for i in range(count):
            place = folder / split / f"digit {int(part.y[i])}"
            place.mkdir(parents=True, exist_ok=True)
            Image.fromarray(part.x[i, 0].numpy()).save(place / f"{i}.png")
    return folder


@pytest.fixture(scope="module")
def finished(digits_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The one command's folder."""
    out = tmp_path_factory.mktemp("one") / "out"
    with in_this_process():
        assert main(["run", f"folder:{digits_folder}", *SHORT, "--out", str(out)]) == 0
    return out


def test_one_command_leads_from_a_folder_to_a_table_with_fid(finished: Path) -> None:
    frame = rows.read(finished)
    own = frame[(frame.model == "ali") & (frame.run_id == "my digits-ali-seed0")]
    for metric in ("reconstruction_error", "fid", "kid", "svm_accuracy", "alarms"):
        assert (own[(own.metric == metric) & (own.status == "ok")].value.notna()).any(), metric
    assert own[own.metric == "fid"].extractor.str.startswith("my digits-cnn@").all()
    table = (finished / "tables" / "my digits-quality.md").read_text()
    assert "FID" in table
    assert "held-out data" in table


def test_the_file_holds_the_suite_that_the_one_command_runs_and_gives_its_numbers(
    finished: Path, digits_folder: Path, tmp_path: Path
) -> None:
    file = tmp_path / "my digits.toml"
    assert main(["new-suite", f"folder:{digits_folder}", "--out", str(file)]) == 0
    assert file.read_bytes() == (finished / "suite.toml").read_bytes()
    (suite,) = loading.load(str(file), SETTINGS, ["ali"], 1)
    execute([Job("run", suite, "ali", 0, tmp_path, "cpu", ("alibench",))], lambda *_: None)
    first, second = (
        [row for row in rows.read_run(out / "runs" / "my digits-ali-seed0") if row["kind"] != "timing"]
        for out in (finished, tmp_path)
    )
    assert len(first) > 30
    assert first == second


def test_the_same_command_goes_on_in_its_folder(
    finished: Path, digits_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["run", f"folder:{digits_folder}", *SHORT, "--out", str(finished)]
    assert main(command) == 2
    assert "resume it with --resume" in capsys.readouterr().err
    assert main([*command, "--resume"]) == 0
    assert "2 of them finished already" in capsys.readouterr().out


# what pictures there are, and what is asked for: the networks, and the size and channels that they get
CHOICES = {
    "8x8 grey": ((8, 8), 1, {}, ("digits", 8, 1)),
    "16x16 colour": ((16, 16), 3, {}, ("digits", 16, 3)),
    "20x24 grey": ((20, 24), 1, {}, ("digits", 20, 1)),
    "28x28 grey": ((28, 28), 1, {}, ("bigan_mnist", 28, 1)),
    "30x30 grey": ((30, 30), 1, {}, ("bigan_mnist", 28, 1)),
    "28x28 colour, too small for convolutions": ((28, 28), 3, {}, ("digits", 28, 3)),
    "31x31 colour, enlarged on request": ((31, 31), 3, {"size": 32}, ("cifar10", 32, 3)),
    "32x32 colour": ((32, 32), 3, {}, ("cifar10", 32, 3)),
    "32x32 grey": ((32, 32), 1, {}, ("cifar10", 32, 3)),
    "32x32 colour, asked to be grey": ((32, 32), 3, {"channels": 1}, ("bigan_mnist", 28, 1)),
    "63x40 colour": ((63, 40), 3, {}, ("cifar10", 32, 3)),
    "64x64 colour": ((64, 64), 3, {}, ("celeba", 64, 3)),
    "90x70 colour": ((90, 70), 3, {}, ("celeba", 64, 3)),
    "90x70 colour, asked to be small": ((90, 70), 3, {"size": 16}, ("digits", 16, 3)),
    "90x70 colour, of a size that no convolutions take": ((90, 70), 3, {"size": 48}, ("digits", 48, 3)),
}


@pytest.mark.parametrize("case", CHOICES)
def test_networks_are_the_largest_that_enlarge_nothing(case: str, tmp_path: Path) -> None:
    size, channels, asked, expected = CHOICES[case]
    found = config_pictures.look(f"folder:{noise(tmp_path / 'x', [size], channels)}")
    assert (found.sizes, found.grey) == ({size: 60}, channels == 1)
    chosen = config_pictures.choose(found, asked.get("size"), asked.get("channels"), min(size))
    assert (chosen.suite.networks, chosen.size, chosen.channels) == expected
    assert FAMILIES[chosen.suite.networks]().shape in (None, (chosen.channels, chosen.size, chosen.size))


MIXED = [(40, 61), (33, 33), (120, 41), (34, 60)]


@pytest.mark.parametrize(
    ("sizes", "channels", "like", "said"),
    [
        ([(8, 8)], 1, "digits", ["size: their own", "channels: their own"]),
        ([(28, 28)], 1, "mnist_bigan", ["size: their own"]),
        (MIXED, 3, "cifar10", ["shorter sides have 33 to 41 pixels", "the square in the middle is kept"]),
    ],
)
def test_the_recipe_is_that_of_the_suite_whose_networks_are_taken(
    sizes: list[tuple[int, int]], channels: int, like: str, said: list[str], tmp_path: Path
) -> None:
    made = config_pictures.make(f"folder:{noise(tmp_path / 'pictures', sizes, channels)}")
    own, base, compared = made.suite, loading.read(like)[1], loading.read("digits")[1]
    assert made.choice.suite.name == like
    assert asdict(own.recipe) == asdict(made.choice.suite.recipe) | {"steps": 2_000, "batch": 48}
    assert (own.networks, own.latent, own.seeds) == (base["networks"], base["latent"], 3)
    assert own.models == compared["models"]
    assert own.entry("gan").compute == "ali"
    assert own.entry("gan").options == base.get("model", {}).get("gan", {}).get("options", {})
    assert own.load().shape == (made.choice.channels, made.choice.size, made.choice.size)
    updates = f"suite '{like}' makes {made.choice.suite.recipe.steps:,}"
    assert all(text in one_line(made.text) for text in (*said, updates))
    assert not made.hints


@pytest.mark.parametrize(
    ("like", "pictures", "steps"),
    [("digits", 100, 2_000), ("digits", 1000, 4_000), ("digits", 10**6, 20_000), ("cifar10", 10_000, 10_000)],
)
def test_updates_are_those_of_some_epochs_within_bounds(like: str, pictures: int, steps: int) -> None:
    assert config_pictures.steps(like, pictures, 100) == steps


def test_pictures_without_classes_are_measured_by_what_needs_none(tmp_path: Path) -> None:
    made = config_pictures.make(f"folder:{noise(tmp_path / 'pictures', [(9, 9)])}")
    assert made.metrics == ["reconstruction", "likelihood", "copying", "health", "throughput"]
    assert set(made.left_out) == set(METRICS) - set(made.metrics)
    for metric, reason in made.left_out.items():
        assert metric in made.text
        assert reason in one_line(made.text)
    assert "evaluation.extractor=inception" in made.text
    # with an extractor the name may be added: nothing else of the file is in the way
    table = made.table | {"metrics": [*made.metrics, "fidelity"], "evaluation": {"extractor": "corners"}}
    made_here = extractor.Extractor("corners", "0" * 64, 4, lambda x: (x[:, 0, 0], None))
    extractors.register("corners", lambda data, settings, device: made_here)
    assert loading.of_table("mine", table)[0].metrics == table["metrics"]


def test_a_small_picture_that_keeps_the_others_small_is_named(tmp_path: Path) -> None:
    folder = noise(tmp_path / "mixed", [(80, 80)])
    small = noise(tmp_path / "small", [(9, 30)], each=1) / "000.png"
    small.rename(folder / "icon.png")
    made = config_pictures.make(f"folder:{folder}")
    assert made.suite.data.size == 9
    (hint,) = made.hints
    assert hint.startswith("1 of 61 pictures have a side of less than 64 pixels, the smallest is ")
    assert str(folder / "icon.png") in hint
    assert "suite 'celeba'" in hint
    assert "icon.png" in made.text


def classes(folder: Path, counts: tuple[int, ...]) -> Path:
    """Write grey pictures of noise, each class in a folder and brighter than the one before."""
    rng = np.random.RandomState(0)
    for c, count in enumerate(counts):
        (folder / f"class {c}").mkdir(parents=True)
        for i in range(count):
            x = rng.randint(128, size=(8, 8), dtype=np.uint8) + np.uint8(127 * c // (len(counts) - 1))
            Image.fromarray(x).save(folder / f"class {c}" / f"{i:03}.png")
    return folder


COUNTS = [((24, 24), 24), ((200, 200), 100), ((6, 294), 12), ((20,) * 30, 150), ((5, 5), 10)]


@pytest.mark.parametrize(("counts", "expected"), COUNTS, ids=range(len(COUNTS)))
def test_labels_fit_few_pictures_and_many_classes(counts: tuple[int, ...], expected: int) -> None:
    y = torch.arange(len(counts)).repeat_interleave(torch.tensor(counts))
    split = Split(torch.zeros(len(y), 1, 8, 8, dtype=torch.uint8), y)
    loaded = Data("mine", split, split, split, classes=len(counts))
    settings = config_pictures._settings(loaded, Settings(standardise=True))
    assert (settings.labels, settings.standardise) == (expected, True)
    assert labels.unsupported_reason(loaded, settings) == ""


def test_a_class_of_too_few_pictures_leaves_the_classifiers_out(tmp_path: Path) -> None:
    made = config_pictures.make(f"folder:{classes(tmp_path / 'pictures', (3, 60))}")
    assert made.classes == {"class 0": 3, "class 1": 60}
    assert {"svm", "neighbours", "probe"} <= set(made.left_out)
    assert "images in the pool of labels, 5 are needed" in made.left_out["svm"]
    # of seven validation pictures one is of that class: no classifier shows in them that it is better than
    # chance
    assert "not better than chance" in made.left_out["fidelity"]


def test_an_extractor_is_fitted_once_and_where_it_takes_minutes_its_command_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    name = f"folder:{classes(tmp_path / 'some pictures', (40, 40))}"
    monkeypatch.setattr(config_pictures, "FITTED", 40 * 50 * 64 - 1)  # pixels in 40 epochs of a batch
    told = config_pictures.make(name).left_out["fidelity"]
    assert told.endswith(f"alibench fit-extractor '{name}' --size=8 --channels=1")
    assert capsys.readouterr().err == ""
    monkeypatch.undo()
    first = config_pictures.make(name)
    err = capsys.readouterr().err
    assert "fitting a feature extractor to 64 train pictures" in err
    assert "it is right in 100.00 % of validation, by chance in 50.00 %" in err
    again = config_pictures.make(name)
    assert capsys.readouterr().err == ""
    assert (again.text, "fidelity" in again.metrics) == (first.text, True)


ODD = [
    "My pictures (2024)!",
    'it\'s "here"\\now',
    "two\nlines = 1\x7f\x1b[31m",
    "...",
    "-x-",
    "a" * 200,
    "猫の写真",
    "digits",
]


@pytest.mark.parametrize("name", ODD, ids=range(len(ODD)))
def test_any_folders_name_gives_a_file_that_reads_back(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = noise(tmp_path / name, [(8, 8)], 1)
    monkeypatch.chdir(tmp_path)
    assert main(["new-suite", f"folder:./{name}", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    file = Path(told["suite"])
    assert NAME.fullmatch(file.stem)
    assert file.stem not in loading.builtin()
    assert tomllib.loads(file.read_text())["dataset"] == f"folder:{folder}" == told["dataset"]
    (suite,) = loading.load(str(file))
    assert suite.name == file.stem
    assert len(suite.load().train) == 48


@pytest.mark.parametrize("labelled", [True, False])
def test_arrays_are_looked_at_like_folders(labelled: bool, tmp_path: Path) -> None:
    rng = np.random.RandomState(0)
    x = rng.randint(256, size=(90, 16, 12, 3), dtype=np.uint8)
    np.savez(tmp_path / "mine.npz", x=x, **({"y": np.arange(90) % 3} if labelled else {}))
    made = config_pictures.make(f"npz:{tmp_path / 'mine.npz'}")
    assert (made.name, made.pictures.sizes) == ("mine", {(12, 16): 90})
    assert made.classes == ({"0": 30, "1": 30, "2": 30} if labelled else {})
    assert made.suite.load().shape == (3, 12, 12)
    assert ("svm" in made.metrics) == labelled


def test_a_file_that_is_there_is_not_overwritten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    noise(tmp_path / "mine", [(8, 8)])
    monkeypatch.chdir(tmp_path)
    Path("mine.toml").write_text("precious")
    for more in ([], ["--out", "mine.toml"]):
        assert main(["new-suite", "folder:mine", *more]) == 2
        assert capsys.readouterr().err == (
            "alibench: mine.toml is there already: name another file by --out FILE.toml; nothing was "
            "touched\n"
        )
    assert Path("mine.toml").read_text() == "precious"


REFUSED = {
    "no such folder": ("folder:nowhere", "there is no folder"),
    "no kind": ("pictures", "'pictures' is not "),
    "no kind of a file": ("mine.npz", "'mine.npz'"),
    "unknown kind": ("foldr:pictures", "'foldr:pictures' is not "),
    "no path": ("folder:", "'folder:' is not folder:PATH or npz:PATH"),
    "no pictures": ("folder:empty", "is empty: put images into it"),
    "too few": (
        "folder:few",
        "16 / 2 / 2 pictures to train, validate and test are too few, 20 / 6 / 6 are needed",
    ),
    "no picture": ("folder:text", "notes.pdf cannot be read as an image"),
    "a broken picture": ("folder:broken", "000.png cannot be read as an image"),
    "one too small among others": ("folder:dot", "dot.png has a side of 2 pixels"),
    "no such array": ("npz:nothing.npz", "there is no file"),
}


@pytest.mark.parametrize("command", ["new-suite", "run"])
@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_used_is_said_in_one_line_and_nothing_is_written(
    case: str,
    command: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    name, told = REFUSED[case]
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ALIBENCH_DATA", str(tmp_path / "home"))
    kind, _, place = name.partition(":")
    if kind == "folder" and place in ("few", "text", "broken", "dot"):
        noise(Path(place), [(8, 8)], each=20 if place == "few" else 60)
        if place == "text":
            Path(place, "notes.pdf").write_text("notes")
        if place == "broken":
            picture = Path(place, "000.png")
            picture.write_bytes(picture.read_bytes()[:-60])
        if place == "dot":
            Image.new("RGB", (2, 9)).save(Path(place, "dot.png"))
    Path("empty").mkdir()
    before = sorted(path for path in tmp_path.rglob("*") if "home" not in path.parts)
    if command == "run" and ":" not in name:
        Path("pictures").mkdir()
        before.append(tmp_path / "pictures")
    assert main([command, name]) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert told in err
    assert sorted(path for path in tmp_path.rglob("*") if "home" not in path.parts) == sorted(before)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["new-suite", "folder:mine", "--out", "mine.txt"], "a suite is a file NAME.toml"),
        (
            ["new-suite", "folder:mine", "--out", "nowhere/mine.toml"],
            "a suite is a file NAME.toml, in a folder that is there",
        ),
        (["new-suite", "folder:mine", "--size", "5000"], "size"),
        (["run", "folder:mine", "--data", "digits"], "names the data: leave out --data"),
        (["tune", "folder:mine"], "'alibench new-suite' makes a suite for them"),
        (["regression", "folder:mine"], "'alibench new-suite' makes a suite for them"),
    ],
)
def test_what_cannot_be_asked_for_is_said_in_one_line(
    arguments: list[str],
    told: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    noise(tmp_path / "mine", [(8, 8)])
    assert main(arguments) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert told in err
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]
