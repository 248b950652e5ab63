"""Who listens to a training hears its curves, each step once, also of one that stopped and went on."""

import ast
import math
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

from alibench import benchmarks
from alibench.benchmarks.commands.cli import main
from alibench.benchmarks.config import loading
from alibench.benchmarks.running import tracking
from alibench.benchmarks.running.execute import execute
from alibench.benchmarks.running.jobs import Job
from alibench.benchmarks.running.outcomes import OK
from alibench.benchmarks.training.checkpoints import Checkpoints
from alibench.benchmarks.training.loop import train, train_together
from alibench.benchmarks.training.outcomes import Diverged, Member, Trained
from alibench.benchmarks.training.recipe import Recipe
from alibench.evaluation.data import Data
from tests.conftest import build

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


def expected(curves: pd.DataFrame) -> dict[str, list[tuple[int, float]]]:
    """Return the same of curves, whose steps begin anew in each phase."""
    before = curves.groupby("phase", sort=False).step.max().cumsum().shift(fill_value=0)
    steps = curves.step + curves.phase.map(before)
    values = curves.drop(columns=["phase", "step"]).astype("float32")
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
    job = Job("run", suite, "gan", 0, tmp_path, "cpu", ("test",), tensorboard=True)
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

    folder, starts = tmp_path / "events", tracking.starts(build("gan").phases, RECIPE)
    dying = tracking.TensorBoard(folder, starts)

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
    going_on = tracking.TensorBoard(folder, starts)
    members = [Member(build("gan"), 0, log=going_on)]
    (outcome,) = train_together(members, digits.train, RECIPE, CPU, checkpoints=Checkpoints(kept, {}))
    going_on.close()
    dying.close()
    assert isinstance(outcome, Trained)
    assert len(outcome.resumed) == 1
    undisturbed = train(build("gan"), digits.train, RECIPE, 0, CPU)
    assert outcome.curves == undisturbed.curves
    assert events(folder) == expected(pd.DataFrame(undisturbed.curves))


@pytest.mark.parametrize("command", [["run", "digits"], ["tune", "digits"]])
def test_without_the_package_nothing_begins(
    command: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    assert main([*command, "--tensorboard", "--out", str(tmp_path / "out")]) == 2
    line = "alibench: --tensorboard needs the package tensorboard: pip install tensorboard\n"
    assert capsys.readouterr().err == line
    assert not list(tmp_path.iterdir())


def test_no_tracker_is_imported_unasked_and_the_loop_names_none() -> None:
    folder = Path(benchmarks.__file__).parent
    for path in folder.rglob("*.py"):
        top = [
            node for node in ast.parse(path.read_text()).body if isinstance(node, ast.Import | ast.ImportFrom)
        ]
        assert "tensorboard" not in " ".join(map(ast.unparse, top)).replace(
            "alibench.benchmarks.running.tracking", ""
        ), path
    assert "tensorboard" not in (folder / "training" / "loop.py").read_text().lower()
