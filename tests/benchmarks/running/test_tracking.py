"""Who listens to a training hears its curves, each step once, also of one that stopped and went on."""

import ast
import math
import os
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from PIL import Image

from alibench import benchmarks
from alibench.benchmarks.commands.cli import main
from alibench.benchmarks.commands.options import Effort
from alibench.benchmarks.config import loading
from alibench.benchmarks.running import tracking
from alibench.benchmarks.running.execute import execute
from alibench.benchmarks.running.jobs import Job
from alibench.benchmarks.running.outcomes import OK
from alibench.benchmarks.running.trackers import TRACKERS, Lines, TrackedRun, TrackerName
from alibench.benchmarks.training.checkpoints import Checkpoints
from alibench.benchmarks.training.loop import train, train_together
from alibench.benchmarks.training.outcomes import Diverged, Member, Trained
from alibench.benchmarks.training.recipe import Recipe
from alibench.evaluation.data import Data
from tests.conftest import build, numbers

CPU = torch.device("cpu")
RECIPE = Recipe(steps=6, batch=32)
Record = Mapping[str, float | str]


@pytest.mark.parametrize("name", ["ali", "gan"])  # the second has two phases
def test_a_callback_is_told_the_curves_record_by_record(name: str, digits: Data) -> None:
    told: list[Record] = []
    trained = train(build(name), digits.train, RECIPE, 0, CPU, log=told.append)
    assert told == trained.curves
    assert {record["phase"] for record in told} == {phase.name for phase in build(name).phases}
    assert {"phase", "step", "loss discriminator"} < told[0].keys()


def test_each_of_several_seeds_has_a_callback_of_its_own(digits: Data) -> None:
    told: list[list[Record]] = [[], [], []]
    members = [Member(build("ali", seed), seed, log=told[seed].append) for seed in range(3)]
    trained = train_together(members, digits.train, RECIPE, CPU)
    assert [outcome.curves for outcome in trained if isinstance(outcome, Trained)] == told
    assert told[0] != told[1] != told[2]


def test_the_record_that_ends_a_diverged_training_is_told(digits: Data) -> None:
    model, told = build("vae"), list[Record]()
    with torch.no_grad():
        next(iter(model.decoder.parameters())).fill_(float("nan"))
    with pytest.raises(Diverged):
        train(model, digits.train, RECIPE, 0, CPU, log=told.append)
    assert [math.isnan(float(record["loss autoencoder"])) for record in told] == [True]


# ------------------------------------------------------------------------------------------------ TensorBoard


def events(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """Return what TensorBoard reads: step and value of each scalar."""
    accumulator: Any = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    read = accumulator.EventAccumulator(str(folder), purge_orphaned_data=True)
    read.Reload()
    return {tag: [(event.step, event.value) for event in read.Scalars(tag)] for tag in read.Tags()["scalars"]}


def expected(curves: pd.DataFrame, dtype: str = "float32") -> dict[str, list[tuple[int, float]]]:
    """Return the same of curves, whose steps begin anew in each phase."""
    before = curves.groupby("phase", sort=False).step.max().cumsum().shift(fill_value=0)
    steps = curves.step + curves.phase.map(before)
    values = curves.drop(columns=["phase", "step"]).astype(dtype)
    return {
        name.replace(" ", "/", 1): [
            (int(steps[i]), float(value)) for i, value in values[name].dropna().items()
        ]
        for name in values
    }


def test_a_runs_events_are_its_curves(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    settings = ["steps=6", "model.gan.compute=''", "metrics=['reconstruction']"]
    (suite,) = loading.load("digits", settings, ["gan"], seeds=1)
    job = Job("run", suite, "gan", 0, tmp_path, "cpu", ("test",), track=("tensorboard",))
    assert execute([job], lambda run_id, steps: None) == {job.run_id: OK}
    found = events(tmp_path / "tensorboard" / job.run_id)
    curves = pd.read_csv(job.folder / "curves.csv")
    assert found == expected(curves)
    assert [step for step, _ in found["loss/encoder"]] == [7, 8, 9]  # after the six of the game


class Crash(Exception):
    """Ends a training between two checkpoints."""


@pytest.mark.parametrize("crash", [4, 8])  # in the first phase, and in the second
def test_a_training_that_goes_on_has_each_step_once(crash: int, digits: Data, tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")

    class Thrice(Checkpoints):
        rounds = 0

        def due(self) -> bool:
            self.rounds += 1
            return self.rounds % 3 == 0

    run, starts = TrackedRun(tmp_path, "digits", "gan", {}), tracking.starts(build("gan").phases, RECIPE)
    dying, folder = tracking.Tracking(run, ["tensorboard"], starts), tmp_path / "tensorboard" / "gan"

    def until_the_crash(record: Record) -> None:
        dying(record)
        if starts[str(record["phase"])] + int(record["step"]) == crash:
            raise Crash

    kept = tmp_path / "kept"
    members = [Member(build("gan"), 0, log=until_the_crash)]
    with pytest.raises(Crash):
        train_together(members, digits.train, RECIPE, CPU, checkpoints=Thrice(kept, {}))
    # not closed: what a killed process had told is on the disk all the same
    assert [step for steps in events(folder).values() for step, _ in steps][-1] == crash
    with dying, tracking.Tracking(run, ["tensorboard"], starts) as going_on:
        members = [Member(build("gan"), 0, log=going_on)]
        (outcome,) = train_together(members, digits.train, RECIPE, CPU, checkpoints=Checkpoints(kept, {}))
    assert isinstance(outcome, Trained)
    assert len(outcome.resumed) == 1
    undisturbed = train(build("gan"), digits.train, RECIPE, 0, CPU)
    assert outcome.curves == undisturbed.curves
    assert events(folder) == expected(pd.DataFrame(undisturbed.curves))


# ------------------------------------------------------------------------------------------------ MLflow, W&B

TABLES: dict[str, Lines] = {"digits-quality": [{"model": "ALI", "FID ↓": "0.51"}]}
STARTS = {"game": 0, "regression": 6}


def records(steps: Sequence[int], phase: str = "game") -> list[Record]:
    return [{"phase": phase, "step": step, "loss encoder": step / 3} for step in steps]


def write(run: TrackedRun, name: TrackerName, steps: Sequence[int]) -> None:
    """Write some records, and publish a table and a picture."""
    picture = run.out / "digits-ali.png"
    Image.new("L", (8, 8)).save(picture)
    with tracking.Tracking(run, [name], STARTS) as log:
        for record in records(steps):
            log(record)
        log.publish(TABLES, [picture])


@pytest.fixture
def quiet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Keep the user's logins, places and settings of trackers out of a test."""
    for name in [name for name in os.environ if name.startswith(("WANDB_", "MLFLOW_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
    for name in ("NETRC", "WANDB_CONFIG_DIR", "WANDB_CACHE_DIR"):
        monkeypatch.setenv(name, str(tmp_path / "nobody" / name))
    return monkeypatch


def test_mlflow_reads_a_runs_curves_and_settings(quiet: pytest.MonkeyPatch, tmp_path: Path) -> None:
    mlflow: Any = pytest.importorskip("mlflow")
    settings = ["steps=6", "model.gan.compute=''", "metrics=['reconstruction']"]
    (suite,) = loading.load("digits", settings, ["gan"], seeds=1)
    job = Job("run", suite, "gan", 0, tmp_path / "an out", "cpu", ("test",), track=("mlflow",))
    assert execute([job], lambda run_id, steps: None) == {job.run_id: OK}
    assert "MLFLOW_TRACKING_URI" not in os.environ

    quiet.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    client = mlflow.MlflowClient((job.out / "mlflow").as_uri())
    (run,) = client.search_runs([client.get_experiment_by_name("digits").experiment_id])
    histories = {name: client.get_metric_history(run.info.run_id, name) for name in run.data.metrics}
    curves = pd.read_csv(job.folder / "curves.csv")
    found = {name: [(point.step, point.value) for point in points] for name, points in histories.items()}
    assert found == expected(curves, "float64")
    assert (run.info.run_name, run.info.status) == (job.run_id, "FINISHED")
    asked = {name: run.data.params[name] for name in ("entry", "seed", "recipe.steps", "recipe.lr")}
    recipe = suite.recipe_of("gan")
    assert asked == {"entry": "gan", "seed": "0", "recipe.steps": "6", "recipe.lr": str(recipe.lr)}


def test_mlflow_has_each_step_of_a_resumed_run_once(quiet: pytest.MonkeyPatch, tmp_path: Path) -> None:
    mlflow: Any = pytest.importorskip("mlflow")
    run = TrackedRun(tmp_path, "digits", "digits-ali-seed0", {"recipe": {"lr": 0.1}, "model": {"a+b": 1}})

    def crash() -> None:
        with tracking.Tracking(run, ["mlflow"], STARTS) as log:
            for record in records([2, 4]):
                log(record)
            raise Crash

    with pytest.raises(Crash):
        crash()
    quiet.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    client = mlflow.MlflowClient((tmp_path / "mlflow").as_uri())
    place = client.get_experiment_by_name("digits").experiment_id
    assert [each.info.status for each in client.search_runs([place])] == ["KILLED"]

    write(run, "mlflow", [4, 6])
    (found,) = client.search_runs([place])
    assert [point.step for point in client.get_metric_history(found.info.run_id, "loss/encoder")] == [2, 4, 6]
    assert found.data.params == {"recipe.lr": "0.1", "model.a_b": "1"}
    assert found.info.status == "FINISHED"
    listed = [client.list_artifacts(found.info.run_id, folder) for folder in ("tables", "figures")]
    files = {file.path for folder in listed for file in folder}
    assert files == {"tables/digits-quality.csv", "figures/digits-ali.png"}


def test_a_store_that_leads_elsewhere_is_not_followed(
    quiet: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("mlflow")
    run = TrackedRun(tmp_path / "one", "digits", "digits-tables", {})
    run.out.mkdir()
    write(run, "mlflow", [2])
    shutil.move(run.out, tmp_path / "two")
    moved = TrackedRun(tmp_path / "two", "digits", "digits-tables", {})
    write(moved, "mlflow", [4])
    assert not run.out.exists()
    (line,) = capsys.readouterr().err.splitlines()
    assert f"{moved.out / 'mlflow'} was made to keep files in {run.out}" in line

    (metric,) = moved.out.rglob("loss/encoder")
    metric.unlink()
    metric.symlink_to(tmp_path / "profile")
    write(moved, "mlflow", [6])
    (line,) = capsys.readouterr().err.splitlines()
    assert f"{metric} is a symbolic link" in line
    assert not (tmp_path / "profile").exists()


def test_wandb_keeps_a_run_offline_and_resumes_it(
    quiet: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wandb: Any = pytest.importorskip("wandb")
    tracking.remark(tmp_path, ["wandb"])
    (line,) = capsys.readouterr().err.splitlines()
    assert f"nobody is logged in to wandb here, so runs are kept in {tmp_path / 'wandb'}" in line
    run = TrackedRun(tmp_path, "digits", "digits-ali-seed0", {"recipe": {"lr": 0.1}})
    key = "0123456789abcdef" * 2 + "01234567"
    write(run, "wandb", [2, 4])
    wandb.teardown()
    quiet.setenv("WANDB_MODE", "offline")
    quiet.setenv("WANDB_API_KEY", key)
    write(run, "wandb", [4, 6])
    wandb.teardown()
    assert capsys.readouterr() == ("", "")

    # Two folders of one run: W&B sends them one after another.
    logs = sorted(tmp_path.glob("wandb/offline-run-*/run-*.wandb"))
    assert len(logs) == 2
    assert len({log.name for log in logs}) == 1
    for log in logs:
        content = log.read_bytes()
        assert all(text in content for text in (b"loss/encoder", b"digits-ali-seed0", b"recipe"))
        assert list(log.parent.glob("files/media/table/*.table.json"))
        assert list(log.parent.glob("files/media/images/*.png"))
    kept = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert not [path for path in kept if key.encode() in path.read_bytes()]


def test_each_suite_of_an_output_gets_its_own_tables_and_pictures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown: dict[tuple[str, str], tuple[list[str], list[str]]] = {}

    class Recording:
        def __init__(self, run: TrackedRun, folder: Path) -> None:
            self.run = run

        @staticmethod
        def defaults(run: TrackedRun, folder: Path) -> dict[str, str]:
            return {}

        def publish(self, tables: Mapping[str, Lines], pictures: Sequence[Path]) -> None:
            shown[self.run.project, self.run.name] = list(tables), [picture.name for picture in pictures]

        def close(self, ended: bool) -> None:
            assert ended

    monkeypatch.setitem(TRACKERS, "mlflow", Recording)
    (digits,) = loading.load("digits", only=["ali", "vae"])
    suites = [
        digits,
        replace(digits, name="digits-2", models=("gan",)),
    ]  # the one's name begins as the other's
    (tmp_path / "figures").mkdir()
    for name in ("digits-ali.png", "digits-2-gan.png"):
        (tmp_path / "figures" / name).touch()
    tracking.publish(tmp_path, ["mlflow"], suites, {"digits-quality": [], "digits-2-quality": []})
    assert shown == {
        ("digits", "digits-tables"): (["digits-quality"], ["digits-ali.png"]),
        ("digits-2", "digits-2-tables"): (["digits-2-quality"], ["digits-2-gan.png"]),
    }


# ------------------------------------------------------------------------------------------------ failures


@pytest.mark.parametrize("failing", ["__init__", "log", "publish", "close"])
def test_a_tracker_that_fails_ends_with_a_line_and_changes_no_number(
    failing: str,
    digits: Data,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def fail(*arguments: Any) -> None:
        raise OSError("no answer from https://me:secret@host/api\nafter a minute")

    class Failing:
        def __init__(self, run: TrackedRun, folder: Path) -> None:
            pass

        @staticmethod
        def defaults(run: TrackedRun, folder: Path) -> dict[str, str]:
            return {}

        log = publish = close = lambda self, *arguments: None

    setattr(Failing, failing, fail)
    monkeypatch.setitem(TRACKERS, "wandb", Failing)
    run, starts = TrackedRun(tmp_path, "digits", "a run", {}), tracking.starts(build("gan").phases, RECIPE)
    model, undisturbed = build("gan"), build("gan")
    with tracking.Tracking(run, ["wandb"], starts) as log:
        trained = train(model, digits.train, RECIPE, 0, CPU, log=log)
        log.publish({}, [])
    assert trained.curves == train(undisturbed, digits.train, RECIPE, 0, CPU).curves
    assert torch.equal(numbers(model), numbers(undisturbed))
    reason = "no answer from https://host/api after a minute"
    said = f"alibench: a run is not tracked by wandb any more ({reason}); nothing else changes\n"
    assert capsys.readouterr().err == said


@pytest.mark.parametrize(
    ("command", "option", "package"),
    [
        ("run", "--tensorboard", "tensorboard"),
        ("tune", "--tensorboard", "tensorboard"),
        ("run", "--track tensorboard", "tensorboard"),
        ("run", "--track wandb", "wandb"),
        ("tune", "--track mlflow", "mlflow-skinny"),
    ],
)
def test_without_the_package_nothing_begins(
    command: str,
    option: str,
    package: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setitem(sys.modules, package.removesuffix("-skinny"), None)
    assert main([command, "digits", *option.split(), "--out", str(tmp_path / "out")]) == 2
    line = f"alibench: {option} needs the package {package}: pip install {package}\n"
    assert capsys.readouterr().err == line
    assert not list(tmp_path.iterdir())


def test_a_tracker_that_is_not_there_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "digits", "--track", "comet"]) == 2
    assert "'comet' is not one of 'tensorboard', 'wandb', 'mlflow'" in capsys.readouterr().err


def test_trackers_are_asked_for_once_each() -> None:
    pytest.importorskip("tensorboard")
    assert Effort(0, tensorboard=True, track=("tensorboard",)).trackers == ("tensorboard",)
    assert Effort(0).trackers == ()


def test_a_folder_is_not_a_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """W&B leaves a folder of its own name wherever it was used."""
    name: Any = "tracker_without_a_package"
    monkeypatch.setitem(tracking.PACKAGES, name, "it")
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / name).mkdir()
    assert tracking.missing(name) == "needs the package it: pip install it"


def test_no_tracker_is_imported_unasked_and_the_loop_names_none() -> None:
    folder = Path(benchmarks.__file__).parent
    for path in folder.rglob("*.py"):
        body = ast.parse(path.read_text()).body
        top = [node for node in body if isinstance(node, ast.Import | ast.ImportFrom)]
        assert not [name for name in TRACKERS if name in " ".join(map(ast.unparse, top))], path
    loop = (folder / "training" / "loop.py").read_text().lower()
    assert not [name for name in TRACKERS if name in loop]
