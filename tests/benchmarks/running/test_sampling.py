"""`alibench sample`: the same pictures for the same seed, read back as data, whole or not at all."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from alibench import load_run
from alibench.benchmarks.commands.cli import main
from alibench.benchmarks.config import loading
from alibench.benchmarks.data import datasets, samples
from alibench.benchmarks.running import sampling, trained
from alibench.evaluation import files
from alibench.evaluation.data import as_uint8
from alibench.evaluation.errors import BadInput
from alibench.models import REGISTRY
from alibench.results import pixels, stored


def untrained(like: Path, name: str, to: Path) -> None:
    """Make the folder of a run of another model, with its first weights."""
    origin = trained.only(like).origin
    ours = {"model": name, "title": REGISTRY[name].title, "run_id": to.name}
    origin |= {**ours, "config": {**origin["config"], "models": [name]}}
    to.mkdir()
    outcome = trained.kept(like)
    assert outcome is not None
    trained.keep(to, loading.of_run(origin).build(name, 0), outcome)
    stored.write(to, stored.ORIGIN, {**origin, "weights_sha256": files.sha256(to / trained.WEIGHTS)})


@pytest.fixture(scope="module")
def image_run(quick: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of runs of ALI, of an autoencoder and of a conditional ALI, on digits."""
    runs, like = tmp_path_factory.mktemp("made") / "runs", quick / "runs" / "digits-ali-seed0"
    shutil.copytree(like, runs / like.name)
    for name in ("ae", "cali"):
        untrained(like, name, runs / f"digits-{name}-seed0")
    return runs


@pytest.fixture
def point_run(quick: Path) -> Path:
    """Return the folder of a run on points."""
    return quick / "runs" / "grid25_easy-ali-seed0"


@pytest.fixture
def sample(image_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    """Call the command for ALI, or another run, in an empty folder."""
    monkeypatch.chdir(tmp_path)

    def called(*words: str, run: Path = image_run / "digits-ali-seed0") -> int:
        return main(["sample", str(run), "--device", "cpu", *words])

    return called


def test_pictures_arrays_and_a_square_show_the_same_samples(
    sample: Callable[..., int], tmp_path: Path
) -> None:
    assert sample("--n", "12", "--out", "made", "--grid", "made.png") == 0
    assert sample("--n", "12", "--out", "made.npz") == 0
    held = np.load("made.npz")
    assert sorted(held) == ["x", "z"]
    assert (held["x"].dtype, held["x"].shape, held["z"].shape) == (np.uint8, (12, 1, 8, 8), (12, 8))
    assert sorted(path.name for path in Path("made").iterdir()) == [f"{i:05d}.png" for i in range(12)]
    for i, x in enumerate(held["x"]):
        assert np.array_equal(Image.open(f"made/{i:05d}.png"), x[0])
    # in the square a pixel of 8x8 digits is 4x4
    enlarged = np.kron(held["x"], np.ones((4, 4), np.uint8))
    assert np.array_equal(Image.open("made.png"), pixels.tile(enlarged, 4)[..., 0])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["made", "made.npz", "made.png"]


def test_samples_are_the_models_for_their_codes(sample: Callable[..., int], image_run: Path) -> None:
    assert sample("--n", "20", "--out", "made.npz") == 0
    held, model = np.load("made.npz"), load_run(image_run / "digits-ali-seed0")
    assert np.array_equal(as_uint8(model.decode(torch.from_numpy(held["z"]))).numpy(), held["x"])


def test_a_seed_gives_the_same_samples_and_few_are_the_first_of_many(sample: Callable[..., int]) -> None:
    cases = {"a": ("30", "0"), "again": ("30", "0"), "other": ("30", "1"), "more": ("230", "0")}
    for name, (n, seed) in cases.items():
        assert sample("--n", n, "--seed", seed, "--out", f"{name}.npz", "--grid", f"{name}.png") == 0
    assert Path("a.npz").read_bytes() == Path("again.npz").read_bytes()
    assert Path("a.png").read_bytes() == Path("again.png").read_bytes()
    a, other, more = (np.load(f"{name}.npz")["x"] for name in ("a", "other", "more"))
    assert (a != other).any(axis=(1, 2, 3)).all()
    assert len(more) == len(np.unique(np.load("more.npz")["z"], axis=0)) == 230
    assert np.array_equal(more[:30], a)


def test_a_conditional_model_is_told_its_classes_in_turn(sample: Callable[..., int], image_run: Path) -> None:
    run = image_run / "digits-cali-seed0"
    assert sample("--n", "25", "--out", "made.npz", run=run) == 0
    held, model = np.load("made.npz"), load_run(run)
    assert held["y"].tolist() == [*range(10), *range(10), *range(5)]
    z, y = (torch.from_numpy(held[name]) for name in ("z", "y"))
    assert np.array_equal(as_uint8(model.decode(z, y=y)).numpy(), held["x"])
    assert not np.array_equal(as_uint8(model.decode(z, y=y.roll(1))).numpy(), held["x"])


def test_what_is_written_is_read_back_as_data_and_as_samples(
    sample: Callable[..., int], image_run: Path
) -> None:
    assert sample("--n", "80", "--out", "made.npz", run=image_run / "digits-cali-seed0") == 0
    assert sample("--n", "80", "--out", "made", run=image_run / "digits-cali-seed0") == 0
    x = np.load("made.npz")["x"]
    for place in ("npz:made.npz", "folder:made"):
        data = datasets.load(place)
        held = np.concatenate([part.x.numpy() for part in (data.train, data.validation, data.test)])
        assert sorted(image.tobytes() for image in held) == sorted(image.tobytes() for image in x)
        assert data.classes == (10 if "npz" in place else 0)
    for path in (Path("made.npz").absolute(), Path("made").absolute()):
        assert np.array_equal(samples.read(path, (1, 8, 8)).numpy(), x)


def test_points_are_arrays_and_make_no_picture(
    sample: Callable[..., int], point_run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert sample("--n", "150", "--out", "made.npz", run=point_run) == 0
    held = np.load("made.npz")
    assert (held["x"].dtype, held["x"].shape) == (np.float32, (150, 2))
    x = load_run(point_run).decode(torch.from_numpy(held["z"]))
    np.testing.assert_allclose(held["x"], x.numpy(), rtol=1e-5)
    for words in (["--out", "made"], ["--out", "more.npz", "--grid", "made.png"]):
        assert sample(*words, run=point_run) == 2
        assert "are points, of which no picture is made: name FILE.npz by --out" in capsys.readouterr().err
    assert [path.name for path in Path().iterdir()] == ["made.npz"]


REFUSED = {
    "nothing to write": (
        [],
        "nothing to write: name a folder or FILE.npz by --out, FILE.png by --grid, or both",
    ),
    "a grid of another kind": (["--grid", "a.jpg"], "--grid a.jpg: a picture is written as PNG"),
    "no such folder": (["--out", "not/there.npz"], "there is no folder not: make it, or name another place"),
    "a folder that holds something": (["--out", "held"], "--out held is there already: name a new place"),
    "a file": (["--out", "mine.npz"], "--out mine.npz is there already: name a new place"),
    "a picture": (["--grid", "mine.png"], "--grid mine.png is there already: name a new place"),
    "a link": (["--out", "link"], "--out link is there already"),
    "one place for two": (["--out", "a.png", "--grid", "a.png"], "--out and --grid are both a.png"),
    "no number": (["--n", "0", "--grid", "a.png"], "invalid value for '--n': 0 is not in the range"),
    "a seed below 0": (["--seed", "-1", "--grid", "a.png"], "invalid value for '--seed': -1 is not in"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_place_that_cannot_be_is_one_line_and_nothing_is_touched(
    case: str, sample: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("held").mkdir()
    Path("empty").mkdir()
    Path("link").symlink_to("empty")
    for name in ("held/mine", "mine.npz", "mine.png"):
        Path(name).write_text("mine")
    before = {path: path.lstat().st_mtime_ns for path in tmp_path.rglob("*")}
    words, told = REFUSED[case]
    assert sample(*words) == 2
    captured = capsys.readouterr()
    assert told in captured.err
    assert captured.err.count("\n") == 1
    assert {path: path.lstat().st_mtime_ns for path in tmp_path.rglob("*")} == before


def test_an_empty_folder_is_filled_and_json_names_it(
    sample: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    Path("empty").mkdir()
    assert sample("--n", "3", "--out", "empty", "--json") == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts == {"run": "digits-ali-seed0", "n": 3, "out": "empty", "grid": None, "exit_code": 0}
    assert len(list(Path("empty").iterdir())) == 3


def test_a_run_that_draws_no_samples_is_one_line(
    sample: Callable[..., int], image_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cases = {
        image_run / "digits-ae-seed0": "autoencoder, l2 draws no samples, since its codes follow no prior",
        image_run.parent: "holds 3 trained runs: name one of them by",
        tmp_path / "nowhere": "holds no runs",
    }
    for run, told in cases.items():
        assert sample("--out", "made", "--grid", "made.png", run=run) == 2
        message = capsys.readouterr().err
        assert told in message
        assert message.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_a_model_that_is_told_attributes_is_named(image_run: Path) -> None:
    run = trained.only(image_run / "digits-cali-seed0")
    faces = trained.TrainedRun(
        {**run.origin, "config": {**run.origin["config"], "dataset": "celeba"}}, run.weights
    )
    with pytest.raises(BadInput, match=r"is told attributes, which do not take turns: choose them in Python"):
        sampling._classes(faces)


def test_broken_weights_leave_nothing_behind(
    sample: Callable[..., int], image_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place = tmp_path / "run"
    shutil.copytree(image_run / "digits-ali-seed0", place)
    model = load_run(place)
    with torch.no_grad():
        for parameter in model.decoder.parameters():
            parameter.fill_(torch.nan)
    outcome = trained.kept(place)
    assert outcome is not None
    trained.keep(place, model, outcome)
    sha256 = files.sha256(place / trained.WEIGHTS)
    stored.write(place, stored.ORIGIN, {**stored.read_origin(place, named=False), "weights_sha256": sha256})
    assert sample("--n", "7", "--out", "made", "--grid", "made.png", run=place) == 2
    assert "samples of digits-ali-seed0 cannot be written: 7 of 7 are not finite" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


def test_a_writer_that_fails_leaves_nothing_behind(
    sample: Callable[..., int],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A disk that is full at the third picture."""
    count = iter(range(100))

    def full(descriptor: int) -> None:
        if next(count) == 2:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    assert sample("--n", "5", "--out", "made") == 2
    assert "nothing more can be written (No space left on device)" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_samples_are_not_put_among_the_data(
    tmp_path: Path, image_run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("pictures").mkdir()
    run = trained.only(image_run / "digits-ali-seed0")
    config = {**run.origin["config"], "dataset": f"folder:{tmp_path / 'pictures'}"}
    places = sampling.SamplePlaces(None, Path("pictures/made.png"))
    with pytest.raises(
        BadInput, match=r"--grid pictures/made\.png lies in the folder of pictures .*by --grid"
    ):
        places.check(trained.TrainedRun({**run.origin, "config": config}, run.weights), 5)
