"""Models from outside the project stand beside the others; those that were trained elsewhere, in the
evaluation alone.
"""

import hashlib
import io
import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import asdict, replace
from pathlib import Path

import pandas as pd
import pytest
import torch
from PIL import Image

from alibench import load_run
from alibench.benchmarks.checkup import checkup
from alibench.benchmarks.commands.cli import main
from alibench.benchmarks.config import checks, loading, plugins
from alibench.benchmarks.data import datasets, samples
from alibench.benchmarks.running import jobs, local
from alibench.benchmarks.running.jobs import Job
from alibench.evaluation.errors import BadInput
from alibench.evaluation.seeds import generator
from alibench.models import REGISTRY
from alibench.results import baseline, rows
from tests.conftest import MODELS

ROOT = Path(__file__).parents[3]
EXAMPLES = ROOT / "docs" / "examples"
OWN, ELSEWHERE = EXAMPLES / "my_model.py", EXAMPLES / "trained_elsewhere.py"
SETTINGS = ("steps=2", "evaluation.samples=40", 'metrics=["reconstruction", "health"]')
TINY = ("--device", "cpu", *(part for setting in SETTINGS for part in ("--set", setting)))
GIVEN = ["--plugin", "late.py", "--plugin", str(OWN), "--plugin", str(ELSEWHERE), "--samples", "made=made"]
NAMED = ["--models", "lsali", "late", "pca-gaussian", "made", "--seeds", "2"]
# it works before training, and no longer after it
LATE = """
from beside import REASON
from alibench.models.bigan import BiGAN


class Late(BiGAN):
    name, title, source = "late", "late", "me"

    def conclude(self, batches, rng):
        self.concluded = True

    def generate(self, n, rng, y=None):
        if hasattr(self, "concluded"):
            raise ValueError(REASON)
        return super().generate(n, rng, y)
"""
MINE = """
from alibench.models.bigan import BiGAN

class Mine(BiGAN):
    name = "mine"
    title = "Mine"
    source = "me"
"""


nothing_left_behind = plugins.meanwhile


@pytest.fixture(autouse=True)
def unplugged() -> Iterator[None]:
    """Leave no model of a test behind."""
    with nothing_left_behind():
        yield


def pictures(folder: Path, n: int, size: int = 8, mode: str = "L") -> Path:
    """Make images out of digits."""
    folder.mkdir(parents=True)
    for i, x in enumerate(datasets.load("digits").train.x[:n, 0]):
        Image.fromarray(x.numpy()).resize((size, 8)).convert(mode).save(folder / f"{i:03d}.png")
    return folder


def written(folder: Path, text: str, name: str = "mine.py") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(text)
    return folder / name


# ------------------------------------------------------------------------------------------------ a run


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a user's folder, with a run that was made there."""
    place = tmp_path_factory.mktemp("place")
    written(place, "REASON = 'out of\\nluck'", "beside.py")
    written(place, LATE, "late.py")
    pictures(place / "made", 40)
    command = ["alibench", "run", "digits", *GIVEN, *NAMED, *TINY, "--out", "out"]
    out, error = io.StringIO(), io.StringIO()
    with (
        pytest.MonkeyPatch.context() as patch,
        redirect_stdout(out),
        redirect_stderr(error),
        nothing_left_behind(),
    ):
        patch.chdir(place)
        patch.setattr(sys, "argv", command)
        patch.setattr(local, "workers", lambda device, suites=(): 1)  # each takes seconds to begin
        code = main(command[1:])
    (place / "said.json").write_text(json.dumps([code, out.getvalue(), error.getvalue()]))
    return place


def test_own_models_and_those_trained_elsewhere_stand_beside_each_other(place: Path) -> None:
    frame = pd.read_csv(place / "out" / "rows.csv", keep_default_na=False)
    own = frame[frame.model.isin(["lsali", "pca-gaussian", "made"])]
    assert {name: set(part.seed) for name, part in own.groupby("model")} == {
        **{"lsali": {"0", "1"}, "pca-gaussian": {"0"}, "made": {"0"}},
    }
    assert set(own.title) == {
        "ALI, least squares",
        "PCA, Gaussian codes, trained elsewhere",
        "made, trained elsewhere",
    }
    elsewhere = own[own.model != "lsali"]
    assert set(elsewhere.step) == {""}
    assert set(elsewhere.weights) == {"as given"}
    budget = elsewhere[elsewhere.kind == "budget"]
    assert set(budget.metric) >= {"updates_encoder", "train_gflop", "train_seconds"}
    assert set(budget.value) == {""}
    assert set(budget.status) == {"not applicable"}
    assert set(budget.reason) == {"it was trained elsewhere"}
    # PCA with as many components reconstructs as the reference of that name does; its images are clamped, so
    # a little better
    error = (
        frame[(frame.metric == "reconstruction_error") & (frame.protocol == "mean code")]
        .set_index("model")
        .value
    )
    assert float(error["pca-gaussian"]) == pytest.approx(float(error["PCA"]), rel=0.1)
    coverage = frame[frame.metric == "data_coverage"].set_index("model").value
    assert float(coverage["made"]) > 50  # digits cover digits
    beside = set(frame.model) - {"lsali", "pca-gaussian", "made"}
    assert beside <= set(plugins.REFERENCES)


def test_tables_show_what_was_trained_elsewhere_as_one_seed(place: Path) -> None:
    table = pd.read_csv(place / "out" / "tables" / "digits-quality.csv", index_col=0)
    assert table.seeds["PCA, Gaussian codes, trained elsewhere"] == "1"
    assert table.seeds["ALI, least squares"] == "2"


def test_a_failure_after_training_is_one_line_and_that_models_alone(place: Path) -> None:
    code, out, error = json.loads((place / "said.json").read_text())
    assert code == 1
    line = LATE.splitlines().index("            raise ValueError(REASON)") + 1
    for seed in (0, 1):
        assert (
            f"digits-late-seed{seed} failed: late.py, line {line}, in generate: ValueError: out of luck\n"
            in out
        )
    assert "Traceback" not in out + error


def test_a_run_is_gone_on_in_with_the_same_plug_ins_alone(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(place)
    _, out, _ = json.loads((place / "said.json").read_text())
    (told,) = (line for line in out.splitlines() if line.startswith("Try again what failed: "))
    assert f"alibench run digits {' '.join(GIVEN)} --models" in told
    # what a plug-in imports changes its numbers as much as it does itself
    (place / "beside.py").write_text("REASON = 'another'")
    (place / "made" / "000.png").write_bytes((place / "made" / "001.png").read_bytes())
    assert main(["run", "digits", *GIVEN, *NAMED, *TINY, "--out", "out", "--resume"]) == 2
    message = capsys.readouterr().err
    assert "begun with something else" in message
    assert "beside.py" in message
    assert "samples of made" in message


def test_an_evaluation_takes_trained_plug_ins_and_adds_others(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(place)
    run = str(place / "out" / "runs" / "digits-lsali-seed1")
    options = ["--metrics", "reconstruction", "--out", str(tmp_path / "out"), "--dry-run", "--json"]
    assert main(["evaluate", run, *options]) == 2
    assert "name their folder or .npz again, by --samples made=PATH" in capsys.readouterr().out
    assert main(["evaluate", run, *GIVEN[-2:], *options]) == 2
    assert plugins.NEEDED in capsys.readouterr().out
    assert main(["evaluate", run, *GIVEN, *options]) == 0
    entries = json.loads(capsys.readouterr().out)["entries"]
    assert {entry["model"]: entry["seeds"] for entry in entries} == {
        "lsali": [1],
        "pca-gaussian": [0],
        "made": [0],
    }
    # and they have the numbers that they had in the run
    for path in (OWN, ELSEWHERE, place / "late.py"):
        plugins.load(path)
    plugins.load_samples("made", place / "made")
    origin = rows.read_origin(Path(run))
    suite = loading.stored(origin, ["reconstruction"], [])
    weights = Path(run) / "model.safetensors"
    for name, seed, own in (("lsali", 1, weights), ("pca-gaussian", 0, None)):
        job = Job("evaluation", suite, name, seed, tmp_path, "cpu", ("test",), weights=own)
        assert jobs.execute([job], lambda run, steps: None) == {job.run_id: "ok"}
        found, expected = (rows.read_run(out / "runs" / job.run_id)[0] for out in (tmp_path, place / "out"))
        assert found["value"] == expected["value"] is not None


def test_a_trained_plug_in_is_loaded_in_python(place: Path) -> None:
    folder = place / "out" / "runs" / "digits-lsali-seed0"
    with pytest.raises(BadInput) as refused:
        load_run(folder)
    assert plugins.NEEDED in str(refused.value)
    model = load_run(folder, plugins=[OWN])
    assert model.sample(3, generator(0, "test")).shape == (3, 1, 8, 8)


@pytest.mark.commands
def test_folders_of_our_names_do_not_stand_in_our_way(tmp_path: Path) -> None:
    written(tmp_path / "models", "raise RuntimeError('the wrong models')", "__init__.py")
    (tmp_path / "results").mkdir()
    command = [sys.executable, "-m", "alibench", "run", "nothing"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr[:32]) == (2, "alibench: unknown suite 'nothing'"[:32])


def test_a_users_own_models_folder_stands_beside_ours(tmp_path: Path) -> None:
    written(tmp_path / "models", "net = 1", "__init__.py")
    program = "import models, alibench.models; assert models.net; assert 'ali' in alibench.models.REGISTRY"
    subprocess.run([sys.executable, "-c", program], cwd=tmp_path, check=True)


# -------------------- what is registered


def test_the_examples_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list", "--plugin", str(OWN), "--plugin", str(ELSEWHERE)]) == 0
    out = capsys.readouterr().out
    assert "lsali" in out
    assert "pca-gaussian" in out


def test_a_command_leaves_no_plug_in_to_the_next(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        assert main(["list", "--plugin", str(written(tmp_path / folder, MINE))]) == 0
    assert set(REGISTRY) == set(MODELS)
    assert main(["run", "digits", "--models", "mine"]) == 2


def test_a_file_is_loaded_once_and_files_beside_it_are_found(tmp_path: Path) -> None:
    written(tmp_path / "a", "raise RuntimeError('not ours')", "models.py")
    written(tmp_path / "a", "TITLE = 'Mine too'", "helper.py")
    first = written(tmp_path / "a", MINE)
    text = "from helper import TITLE" + MINE.replace('"mine"', '"other"').replace('"Mine"', "TITLE")
    second = written(tmp_path / "a" / "b", text)
    (kind,) = plugins.load(first)
    assert plugins.load(str(first)) == (kind,)
    (other,) = plugins.load(second)  # of the same stem; its helper lies beside the first
    assert (REGISTRY["mine"], REGISTRY["other"]) == (kind, other)
    assert other.title == "Mine too"
    assert plugins.names(elsewhere=False) == ["mine", "other"]
    assert str(tmp_path / "a" / "helper.py") in plugins.contents()


def test_objects_and_classes_that_are_no_models_take_part_in_the_evaluation(tmp_path: Path) -> None:
    text = """
from types import SimpleNamespace
import torch

class Sampler:
    def __init__(self, name): self.name = name
    def sample(self, n): return torch.rand(n, 1, 8, 8)

first, second = Sampler("first"), SimpleNamespace(name="second", title="A title", encode=lambda x: x.flatten(1))
stranger = SimpleNamespace(name="stranger")

class Net(torch.nn.Module):
    name, source = "net", "Me 2020"
    def encode(self, x): return x.flatten(1)
    def decode(self, z): return z.view(-1, 1, 8, 8)
"""
    kinds = {kind.name: kind for kind in plugins.load(written(tmp_path, text))}
    assert kinds.keys() == {"first", "second", "net"}
    assert all(kind.elsewhere and not kind.players for kind in kinds.values())
    assert [kind.title for kind in kinds.values()] == ["net", "first", "A title"]
    assert [kind.source for kind in kinds.values()] == ["Me 2020", "trained elsewhere", "trained elsewhere"]
    assert [kind.generative for kind in kinds.values()] == [False, True, False]
    assert [kind.inference != "none" for kind in kinds.values()] == [True, False, True]
    assert [kind.inverts for kind in kinds.values()] == [True, False, False]


def test_plug_ins_are_added_to_each_suite_that_can_have_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = MINE + "\nclass Told(Mine):\n    name = title = 'told'\n    semi_supervised = True\n"
    plugins.load(written(tmp_path, text))
    suites = loading.load("quick", ["evaluation.labels=100"], more=plugins.names(elsewhere=False))
    assert [suite.models[-1] for suite in suites] == ["mine", "told"]
    assert [suite.models.count("mine") for suite in suites] == [1, 1]
    assert (
        "suite 'grid25_easy': model 'told' is left out: it learns classes from labels"
        in capsys.readouterr().err
    )
    assert loading.load("digits", only=["mine"], more=["mine"])[0].models == ["mine"]
    with pytest.raises(BadInput, match="'told' learns classes from labels"):
        loading.load("grid25_easy", only=["told"])
    # the gate's own cells stay what they were
    (gate,) = loading.load("gate", more=["mine"])
    assert not any("mine" in gated.models for gated in gate.gate)


def test_what_was_trained_elsewhere_stands_in_the_suites_of_its_data(
    capsys: pytest.CaptureFixture[str],
) -> None:
    plugins.load(ELSEWHERE)
    points, images = checkup.beside(loading.load("quick"), ["pca-gaussian"])
    assert "pca-gaussian" not in points.models
    assert images.models[-1] == "pca-gaussian"
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("alibench: suite 'grid25_easy': model 'pca-gaussian' is left out: ")
    assert "in sample: samples come as a tensor (16, 1, 8, 8): (16, 2) is expected" in line
    with pytest.raises(BadInput, match=r"\(16, 2\) is expected"):
        checkup.beside(loading.load("grid25_easy"), ["pca-gaussian"])


# ------------------------------------------------------------------------------------------------ bad input

BAD = {
    "no file": (None, "there is no file"),
    "no Python": ("class Mine(:\n    pass\n", "mine.py, line 1: invalid syntax"),
    "no text": ("\0", "mine.py"),
    "raises": (
        "import math\n\ndef f():\n    return 1 / 0\n\nf()\n",
        "mine.py, line 4, in f: ZeroDivisionError: division by",
    ),
    "exits": ("import sys\nsys.exit(3)\n", "mine.py, line 2: SystemExit: 3"),
    "raises what is not an error": (
        "class Ended(BaseException): ...\n\nraise Ended('for\\ngood')\n",
        "mine.py, line 3: Ended: for good",
    ),
    "needs what is not there": (
        "import torch\nimport nowhere_to_be_found\n",
        "line 2: ModuleNotFoundError: No module named",
    ),
    "no model": (
        "x = 1\n",
        "mine.py defines no model: it needs a class of models.base.Model with name, title",
    ),
    "no name": (
        MINE.replace('    name = "mine"\n', ""),
        "mine.py, line 4: Mine has no name: write name = '...'",
    ),
    "a name that is taken": (MINE.replace('"mine"', '"bigan"'), "the name 'bigan' is taken, by 'bigan' of"),
    "a name but for its case": (MINE.replace('"mine"', '"BiGAN"'), "taken, by 'bigan' of"),
    "twice the same": (
        MINE + MINE.replace("class Mine", "class Other"),
        "mine.py, line 11: the name 'mine' is taken, by 'mine' of",
    ),
    "a reference's name": (MINE.replace('"mine"', '"raw pixels"'), "a row that stands beside the models"),
    "no name of a folder": (
        MINE.replace('"mine"', '"a/b"'),
        "mine.py, line 4: the name 'a/b': folders are called by it",
    ),
    "no string": (MINE.replace('"mine"', "3"), "mine.py, line 4: the name 3"),
    "no title of its own": (MINE.replace('    title = "Mine"\n', ""), "has the title of 'bigan', 'BiGAN'"),
    "no title of its own, beside another": (
        MINE + "class Other(Mine):\n    name = 'other'\n",
        "has the title of 'mine', 'Mine'",
    ),
    "little declared": (
        "from alibench.models.base import Model\nclass Mine(Model):\n    name = 'mine'\n",
        "line 2: Mine declares too little, write in it: title = '...', source = '...', players = {",
    ),
    "a player without a list": (
        MINE + "    players = {'generator': 'encoder'}\n",
        "write in it: players = {",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_a_file_that_cannot_be_used_is_named_with_its_line(case: str, tmp_path: Path) -> None:
    text, told = BAD[case]
    path = tmp_path / "mine.py" if text is None else written(tmp_path, text)
    with pytest.raises(BadInput) as refused:
        plugins.load(path)
    assert told in str(refused.value)
    assert not plugins.LOADED
    assert set(REGISTRY) == set(MODELS)
    assert not any(name.startswith(plugins.MODULE) for name in sys.modules)


BROKEN = {
    "it cannot be built": (
        MINE + "    def __init__(self, networks):\n        super().__init__(networks.nothing)\n",
        "mine.py, line 9, in __init__: AttributeError",
    ),
    "it cannot be trained": (
        MINE + "    def game(self, logits, y=None):\n        return logits['nothing']\n",
        "mine.py, line 9, in game: KeyError: 'nothing'",
    ),
    "building it ends the process": (
        "import sys\n" + MINE + "    def __init__(self, networks):\n        sys.exit(0)\n",
        "mine.py, line 10, in __init__: SystemExit: 0",
    ),
    "training it ends the process": (
        "import sys\n" + MINE + "    def game(self, logits, y=None):\n        sys.exit(0)\n",
        "mine.py, line 10, in game: SystemExit: 0",
    ),
    "its samples are no images": (
        MINE
        + "    def decode(self, z, rng=None, y=None):\n        return super().decode(z, rng, y) * 3 - 1\n",
        "mine.py, line 8, in decode: samples: images lie outside [0, 1]",
    ),
    "what was trained elsewhere raises": (
        "class Mine:\n    name = 'mine'\n    def sample(self, n):\n        raise OSError('no weights')\n",
        "mine.py, line 4, in sample: OSError: no weights",
    ),
    "what was trained elsewhere needs more": (
        "class Mine:\n    name = 'mine'\n    def __init__(self, path): ...\n    def sample(self, n): ...\n",
        "mine.py, line 1: TypeError: Mine.__init__() missing 1 required positional argument: 'path'",
    ),
    "its samples are of another shape": (
        "import torch\nclass Mine:\n    name = 'mine'\n    def sample(self, n):\n        return "
        "torch.rand(n, 8, 8)\n",
        "mine.py, line 4, in sample: samples come as a tensor (16, 8, 8): (16, 1, 8, 8) is expected",
    ),
    "its samples are too few": (
        "import torch\nclass Mine:\n    name = 'mine'\n    def sample(self, n):\n        return "
        "torch.rand(3, 1, 8, 8)\n",
        "mine.py, line 2: sample(16) returned a tensor (3, 1, 8, 8): 16 samples as one tensor are needed",
    ),
    "its codes are no vectors": (
        "class Mine:\n    name = 'mine'\n    def encode(self, x):\n        return x\n",
        "mine.py, line 1: encode of 40 images returned a tensor (40, 1, 8, 8)",
    ),
}


@pytest.mark.parametrize("case", BROKEN)
def test_what_fails_on_a_few_samples_is_said_before_anything_is_trained(
    case: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text, told = BROKEN[case]
    path, out = written(tmp_path, text), tmp_path / "out"
    assert (
        main(["run", "digits", "--plugin", str(path), "--models", "ali", "mine", *TINY, "--out", str(out)])
        == 2
    )
    message = capsys.readouterr().err
    assert message.count("\n") == 1
    assert told in message
    assert not out.exists()


def test_what_ends_the_command_after_its_rehearsal_is_said_with_its_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    text = "import sys\n" + MINE + "    def __init__(self, networks):\n        sys.exit(0)\n"
    monkeypatch.setattr(checkup, "rehearse", lambda suites: None)
    out = tmp_path / "out"
    given = ["--plugin", str(written(tmp_path, text)), "--models", "mine", *TINY, "--out", str(out)]
    assert main(["run", "digits", *given, "--dry-run"]) == 2
    message = capsys.readouterr().err
    assert "mine.py, line 10, in __init__: SystemExit: 0\n" in message
    assert message.count("\n") == 1
    assert not out.exists()


def test_ctrl_c_while_a_plug_in_is_imported_is_no_mistake_of_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = written(tmp_path, "raise KeyboardInterrupt\n")
    assert main(["list", "--plugin", str(path)]) == 130
    assert capsys.readouterr().err.startswith("alibench: ended at once")


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (
            ["tune", "digits", "--models", "pca-gaussian"],
            "'pca-gaussian' was trained elsewhere, so there is nothing",
        ),
        (
            ["run", "digits", "--set", "model.ali.compute=pca-gaussian"],
            "was trained elsewhere, nobody knows how long",
        ),
        (
            ["regression", "digits", "--set", 'models=["ali", "pca-gaussian"]'],
            "was trained elsewhere, so there is nothing",
        ),
        (["run", "digits", "--models", "pca-gausian"], "did you mean 'pca-gaussian'?"),
    ],
)
def test_what_was_trained_elsewhere_trains_nowhere(
    arguments: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*arguments, "--plugin", str(ELSEWHERE), "--device", "cpu"]) == 2
    assert told in capsys.readouterr().err


# ------------------------------------------------------------------------------------------------ the gate


def test_a_suite_of_the_users_gates_a_plug_in(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    suite = """
title = "Mine"
source = "me"
expect = "seconds"
dataset = "digits"
networks = "digits"
latent = 4
models = ["lsali"]
metrics = ["reconstruction"]
[recipe]
steps = 2
[[gate]]
metric = "reconstruction_error"
protocol = "mean code"
"""
    path = written(tmp_path, suite, "mine.toml")
    assert main(["regression", str(path), "--seeds", "5"]) == 2
    assert "unknown model 'lsali'" in capsys.readouterr().err
    assert main(["regression", str(path), "--seeds", "5", "--plugin", str(OWN)]) == 2
    assert "mine.baseline.json cannot be read" in capsys.readouterr().err  # all else is well
    plugins.load(OWN)
    (loaded,) = loading.load(str(path))
    planned = baseline.planned("mine", "digits", "", asdict(loaded), loaded.gate)
    assert [cell.model for cell in planned.cells] == ["lsali"]


# -------------------- folders of samples


def test_a_folders_images_are_drawn_once_each_by_the_generator(tmp_path: Path) -> None:
    folder = samples.StoredSamples(pictures(tmp_path / "made", 30, mode="RGB"), (1, 8, 8))
    rng = generator(0, "test")
    parts = [folder.sample(10, rng) for _ in range(3)]
    seen = {part.numpy().tobytes() for part in torch.cat(parts)}
    expected = {(x / 255).numpy().tobytes() for x in datasets.load("digits").train.x[:30]}  # grey again
    assert seen == expected
    assert torch.equal(folder.sample(10, generator(0, "test")), parts[0])
    assert not torch.equal(folder.sample(10, generator(1, "test")), parts[0])


@pytest.mark.parametrize(
    ("samples", "told"),
    [
        (
            "made=few",
            "holds 3 images, suite 'digits' measures 40: add some, or measure fewer of all models by --set "
            "evalu",
        ),
        ("made=large", "000.png is 16x8 pixels, the data are 8x8"),
        (
            "made=broken",
            "x.png cannot be read as an image (not PNG, JPEG, WEBP, BMP, GIF, TIFF, PPM): mend or remove it",
        ),
        ("made=empty", "is empty"),
        ("made=nowhere", "cannot read the folder"),
        ("bigan=few", "the name 'bigan' is taken"),
        ("few", "'few' is not NAME=FOLDER"),
    ],
)
def test_a_folder_that_cannot_be_used_is_refused_by_name(
    samples: str,
    told: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    pictures(tmp_path / "few", 3)
    pictures(tmp_path / "large", 3, size=16)
    written(tmp_path / "broken", "no image", "x.png")
    (tmp_path / "empty").mkdir()
    assert main(["run", "digits", "--samples", samples, "--models", "made", *TINY, "--out", "out"]) == 2
    message = capsys.readouterr().err
    assert message.count("\n") == 1
    assert told in message
    assert not (tmp_path / "out").exists()


def test_stored_samples_have_no_speed(tmp_path: Path) -> None:
    plugins.load_samples("made", pictures(tmp_path / "made", 3))
    (suite,) = loading.load("digits", ['metrics=["throughput"]'], only=["made"])
    job = Job("throughput", suite, "made", 0, tmp_path, "cpu", ("test",))
    assert jobs.execute([job], lambda run, steps: None) == {job.run_id: "ok"}
    found = rows.read_run(job.folder)
    assert {row["metric"] for row in found} == {"train_rate", "sample_rate", "encode_rate"}
    assert {row["status"] for row in found} == {"not applicable"}


@pytest.mark.gpu
def test_what_knows_no_device_is_evaluated_beside_models_on_one() -> None:
    plugins.load(ELSEWHERE)
    (suite,) = loading.load("digits", only=["pca-gaussian"])
    model, x = suite.build("pca-gaussian", 0), torch.rand(5, 1, 8, 8)
    rng = generator(0, "test", "cuda")
    assert model.sample(3, rng).device.type == "cuda"
    assert not torch.equal(model.sample(3, rng), model.sample(3, rng))
    torch.testing.assert_close(model.reconstruct(x.cuda()).cpu(), model.reconstruct(x))


def test_a_run_keeps_the_hash_of_the_files_that_its_model_came_from(place: Path) -> None:
    origin = rows.read_origin(place / "out" / "runs" / "digits-lsali-seed0")
    file = ROOT / "docs" / "examples" / "my_model.py"
    assert origin["plugins"][str(file)] == hashlib.sha256(file.read_bytes()).hexdigest()
    page = (place / "out" / "report.html").read_text()
    assert origin["plugins"][str(file)][:16] in page
    assert "ALI, least squares" in page


def test_a_suite_that_names_a_plug_ins_models_gets_no_others(tmp_path: Path) -> None:
    other = "from alibench.models.bigan import BiGAN\nclass {0}(BiGAN):\n    name, title = '{0}', 'T {0}'\n"
    plugins.load(written(tmp_path, other.format("One")))
    plugins.load(written(tmp_path, other.format("Two"), "two.py"))
    (suite,) = loading.load("digits", only=["ali"])
    assert checks.with_models(suite, ["One", "Two"]).models == ["ali", "One", "Two"]
    named = replace(suite, models=["ali", "One"])
    assert checks.with_models(named, ["One", "Two"]).models == ["ali", "One"]


def test_samples_that_no_row_is_asked_of_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pictures(tmp_path / "made", 20)
    assert (
        main(["run", "digits", "--models", "vae", "--samples", f"made={tmp_path / 'made'}", "--dry-run"]) == 2
    )
    assert "--samples made=...: name 'made' in --models too, or leave --models out" in capsys.readouterr().err


@pytest.mark.parametrize(
    "statement", ["import benchmarks", "from models.ali import ALI", "import results as r"]
)
def test_a_plug_in_that_imports_a_room_by_its_old_name_is_told_the_new_one(
    statement: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    room = statement.replace(".", " ").split()[1]
    monkeypatch.setattr(sys, "path", [place for place in sys.path if Path(place or ".").resolve() != ROOT])
    with pytest.raises(BadInput, match=rf"mine\.py, line 1: .*: import it as alibench\.{room}$"):
        plugins.load(written(tmp_path, f"{statement}\n"))


@pytest.mark.parametrize("room", plugins.ROOMS)
def test_in_the_checkout_the_old_names_are_refused(room: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", f"import {room}"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith(f"ImportError: import it as alibench.{room}")
