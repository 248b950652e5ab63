"""`alibench evaluate`: measure trained models again, without training."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from alibench.benchmarks.checkup import checkup
from alibench.benchmarks.commands import options
from alibench.benchmarks.commands.carrying import Task, carry_out
from alibench.benchmarks.commands.command import Command
from alibench.benchmarks.commands.declaring import DIR, among, grouped, option
from alibench.benchmarks.commands.options import Effort, Location
from alibench.benchmarks.config import loading, parsing, plugins
from alibench.benchmarks.config.schema import Suite
from alibench.benchmarks.data import datasets
from alibench.benchmarks.running import outputs, space, trained
from alibench.benchmarks.running.answers import Answer
from alibench.benchmarks.running.jobs import Job, Workplace
from alibench.benchmarks.running.outputs import Destination
from alibench.benchmarks.running.trained import TrainedRun
from alibench.evaluation.errors import BadInput
from alibench.evaluation.metrics import METRICS

ABOUT = "DIR is a folder that --out named, or one run of it (DIR/runs/RUN)."
EXAMPLES = (
    "alibench evaluate out --metrics svm neighbours",
    "alibench evaluate out/runs/digits-ali-seed0 --set evaluation.labels=200",
    "alibench evaluate out --metrics reconstruction --per-image",
    "alibench evaluate from-a-colleague --data folder:pictures",
)


@dataclass(frozen=True)
class EvaluationChanges:
    """What is different from the evaluation that the runs had."""

    metrics: tuple[str, ...]
    overrides: tuple[str, ...]
    data: str | None
    per_image: bool


@click.command("evaluate", cls=Command, about=ABOUT, examples=EXAMPLES)
@click.argument("folder", type=DIR, metavar="DIR")
@grouped(
    "changes",
    EvaluationChanges,
    option("--metrics METRIC ...", "default: those of the suite", shell_complete=among(*METRICS)),
    option("--set KEY=VALUE", "evaluation.KEY=VALUE; may be repeated", "overrides", multiple=True),
    option(
        "--data NAME",
        "where the data lie now, if they moved since training: folder:PATH or npz:PATH",
        shell_complete=options.DATA,
    ),
    option("--per-image", "keep the reconstruction error of each held-out sample: per_image.csv of a run"),
)
@options.destination
@options.all_tables
@options.machine()
@grouped("effort", Effort, options.retries)
@options.plugins
@options.samples
def command(
    console: Console,
    folder: Path,
    changes: EvaluationChanges,
    destination: Destination,
    machine: Location,
    effort: Effort,
    samples: list[tuple[str, str]],
) -> Answer:
    """Carry out the command. Raises BadInput before anything is written."""
    runs = trained.find(folder)
    suites = {suite.name: suite for suite in _suites(runs, changes)}
    engine = machine.engine(list(suites.values()))

    def jobs(place: Workplace) -> list[Job]:
        measured = place.evaluations(suites, runs, changes.per_image)
        return [*measured, *place.references(suites.values())]

    # finished runs would not get what a resumed command asks for
    weights = {run.origin["run_id"]: run.origin["weights_sha256"] for run in runs}
    asked: dict[str, Any] = {"weights": weights, **({"per_image": True} if changes.per_image else {})}
    plan = outputs.plan(suites.values(), engine.device, **asked, plugins=plugins.contents())
    needed = sum(space.evaluation(suites[run.origin["suite"]], changes.per_image) for run in runs)
    task = Task("evaluation", plan, jobs, needed)
    return carry_out(task, engine, destination, effort, console)


def _suites(runs: Sequence[TrainedRun], changes: EvaluationChanges) -> list[Suite]:
    """Return the suites of runs as they are evaluated now, with the models of the user's. Raises BadInput."""
    _check_splits(runs)
    places = _moved(runs, changes.data) if changes.data else {}
    suites, checked = dict[str, Suite](), dict[str, Any]()
    for run in runs:
        name, origin = run.origin["suite"], run.origin
        # a suite is checked with all of its models, so once for all runs of the same settings; their data
        # are the same
        if checked.get(name) == origin["config"]:
            continue
        checked[name] = origin["config"]
        if name not in places:
            datasets.check_known(origin)
        suites[name] = loading.stored(origin, changes.metrics, changes.overrides, places.get(name))

        # These are the data that they were trained on.
        loaded = suites[name].load()
        if loaded.sha256 != origin["data_sha256"]:
            other = f"its model was trained on other data than '{loaded.name}' holds now"
            raise BadInput(f"{run.weights.parent}: {other}: name those by --data")

    # Models that were trained elsewhere stand in the same tables.
    together = checkup.beside(list(suites.values()), plugins.names(elsewhere=True))
    checkup.remark(together)
    return together


def _check_splits(runs: Sequence[TrainedRun]) -> None:
    """Raise BadInput for runs of a suite on different splits: a model knows test samples of another's."""
    data: dict[str, set[str]] = {}
    for run in runs:
        data.setdefault(run.origin["suite"], set()).add(run.origin["data_sha256"])
    for name, hashes in data.items():
        if len(hashes) > 1:
            raise BadInput(
                f"suite '{name}': its runs have {len(hashes)} different splits (data.resplit), which one "
                "evaluation cannot measure: add the metric to the suite, which measures each run on its own"
            )


def _moved(runs: Sequence[TrainedRun], dataset: str) -> dict[str, str]:
    """Return the suites that were trained on these data, with the place where they lie now.

    Raises BadInput if none was.
    """
    moved, others = dict[str, str](), list[str]()
    for name, origin in {run.origin["suite"]: run.origin for run in runs}.items():
        table = origin["config"].get("data", {})
        options = parsing.parse(table, datasets.Options, f"suite '{name}', data")
        if datasets.load(dataset, options).sha256 == origin["data_sha256"]:
            moved[name] = dataset
        else:
            others.append(f"suite '{name}' was trained on {origin['dataset']}")
    if not moved:
        raise BadInput(f"--data {dataset} holds other data: {'; '.join(others)}")
    return moved
