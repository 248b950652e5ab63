"""Models from outside the project stand beside the others; those that were trained elsewhere, in the
evaluation alone.
"""

import hashlib
import io
import json
import subprocess
import sys
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
from alibench.benchmarks.config import checks, definitions, loading, plugins
from alibench.benchmarks.data import datasets
from alibench.benchmarks.running import local
from alibench.benchmarks.running.execute import execute
from alibench.benchmarks.running.jobs import Job
from alibench.benchmarks.running.outcomes import OK
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
        **{"lsali": {"0", "1"}, "pca-gaussian": {"0"}, "made": {"0"}}
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
    assert beside <= set(definitions.REFERENCES)


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
    for given in ((), GIVEN[:-2], GIVEN[-2:]):
        assert main(["evaluate", run, *given, *options]) == 2
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
        assert execute([job], lambda run, steps: None) == {job.run_id: OK}
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
    # a plug-in is always run from its text: bytecode could be of an older one
    assert not list(tmp_path.rglob("mine*.pyc"))


def test_objects_and_classes_that_are_no_models_take_part_in_the_evaluation(tmp_path: Path) -> None:
    text = """
from types import SimpleNamespace
import torch

class Sampler:
    def __init__(self, name): self.name = name
    def sample(self, n): return torch.rand(n, 1, 8, 8)

first = Sampler("first")
second = SimpleNamespace(name="second", title="A title", encode=lambda x: x.flatten(1))
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
