"""Trackers are called with the curves of a training while it runs. The loop knows only their type, `Log`.

Any function of a record will do, so that curves go wherever one has them:

    train(model, split, recipe, seed, device, log=lambda record: mine.append(record["loss discriminator"]))

A tracker that fails ends with a line, and the training goes on.
"""

import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict
from importlib.util import find_spec
from itertools import accumulate
from pathlib import Path
from typing import Any

from alibench.benchmarks.config import compute
from alibench.benchmarks.config.schema import Suite
from alibench.benchmarks.running.interpreters import inherited
from alibench.benchmarks.running.jobs import Job
from alibench.benchmarks.running.trackers import (
    TRACKERS,
    Lines,
    TrackedRun,
    Tracker,
    TrackerName,
    WeightsAndBiases,
)
from alibench.benchmarks.training.recipe import Recipe, steps_of
from alibench.evaluation import files
from alibench.evaluation.messages import say
from alibench.models.base import Phase

PACKAGES: dict[TrackerName, str] = {"tensorboard": "tensorboard", "wandb": "wandb", "mlflow": "mlflow-skinny"}
LONGEST = 300  # characters of a library's message


def missing(name: TrackerName) -> str:
    """Return the package that a tracker needs and that is not installed, with its remedy; "" if it is."""
    # A folder of that name in the working directory has no origin.
    found = find_spec(name)
    if found is not None and found.origin is not None:
        return ""
    return f"needs the package {PACKAGES[name]}: pip install {PACKAGES[name]}"


def starts(phases: Sequence[Phase], recipe: Recipe) -> dict[str, int]:
    """Return how many rounds of other phases come before each phase, by its name."""
    lengths = [steps_of(phase, recipe) for phase in phases]
    return dict(zip((phase.name for phase in phases), accumulate([0, *lengths]), strict=False))


def tracked(job: Job) -> TrackedRun:
    """Return a training as trackers show it: its suite, with what its own entry changes."""
    own = asdict(job.suite)["model"].get(job.name, {})
    recipe = asdict(compute.recipe_of(job.suite, job.name, job.seed))
    settings = {**asdict(job.suite), "model": own, "recipe": recipe, "entry": job.name, "seed": job.seed}
    return TrackedRun(job.out, job.suite.name, job.run_id, json.loads(json.dumps(settings)))


class Tracking:
    """Some trackers of one run, a `Log`: writes records at steps that grow over the phases of a training.

    Whatever a tracker raises ends it, with a line that names it, the run and the reason.
    """

    def __init__(self, run: TrackedRun, names: Iterable[TrackerName], starts: Mapping[str, int]) -> None:
        self.run, self.starts, self.trackers = run, starts, dict[TrackerName, Tracker]()
        for name in names:
            with self._asked(name) as folder:
                self.trackers[name] = TRACKERS[name](run, files.subfolder(folder.parent, name))

    def __enter__(self) -> "Tracking":
        return self

    def __exit__(self, kind: type[BaseException] | None, *more: Any) -> None:
        while self.trackers:
            name, tracker = self.trackers.popitem()
            with self._asked(name):
                tracker.close(kind is None)

    def __call__(self, record: Mapping[str, float | str]) -> None:
        """Write a record: "loss encoder" as loss/encoder, and so on."""
        # Steps grow over phases.
        step = self.starts[str(record["phase"])] + int(record["step"])
        curves = {name: value for name, value in record.items() if name not in ("phase", "step")}
        values = {name.replace(" ", "/", 1): float(value) for name, value in curves.items()}
        for name, tracker in list(self.trackers.items()):
            with self._asked(name):
                tracker.log(values, step)

    def publish(self, tables: Mapping[str, Lines], pictures: Sequence[Path]) -> None:
        """Write tables and pictures."""
        for name, tracker in list(self.trackers.items()):
            with self._asked(name):
                tracker.publish(tables, pictures)

    @contextmanager
    def _asked(self, name: TrackerName) -> Iterator[Path]:
        """Call a tracker meanwhile, with the environment of its library; end it if it raises.

        Yields its folder.
        """
        try:
            with _environment(self.run, name) as folder:
                yield folder
        except Exception as error:
            say(f"{self.run.name} is not tracked by {name} any more ({_reason(error)}); nothing else changes")

            # Its own end may fail for the same reason.
            if tracker := self.trackers.pop(name, None):
                with suppress(Exception):
                    tracker.close(False)


@contextmanager
def _environment(run: TrackedRun, name: TrackerName) -> Iterator[Path]:
    """Set what a tracker's library is to find in the environment meanwhile; yield the tracker's folder."""
    folder = run.out / name
    defaults = TRACKERS[name].defaults(run, folder)
    with inherited({key: value for key, value in defaults.items() if key not in os.environ}):
        yield folder


def _reason(error: Exception) -> str:
    """Return an error in a line, without the password that an address may have in it."""
    text = files.one_line(str(error)) or type(error).__name__
    return re.sub(r"(?<=://)[^/\s]*@", "", text)[:LONGEST]


# -------------------- around the trainings of a command


def remark(out: Path, names: Sequence[TrackerName]) -> None:
    """Print a line where runs are kept for W&B and not sent."""
    if "wandb" not in names:
        return
    # What fails here fails for each run again, with a line.
    with suppress(Exception), _environment(TrackedRun(out, "", "", {}), "wandb") as folder:
        if WeightsAndBiases.lacks_login():
            remedy = "'wandb login' and 'wandb sync' send them"
            say(f"nobody is logged in to wandb here, so runs are kept in {folder}: {remedy}")


def publish(
    out: Path, names: Sequence[TrackerName], suites: Sequence[Suite], tables: Mapping[str, Lines]
) -> None:
    """Write the tables and pictures of an output to trackers: those of each suite as its run SUITE-tables."""
    # A suite's name may begin another's: the longest owns the table.
    owner = {
        table: max((s.name for s in suites if table.startswith(f"{s.name}-")), key=len, default="")
        for table in tables
    }
    for suite in suites if names else ():
        own = {table: lines for table, lines in tables.items() if owner[table] == suite.name}
        places = [out / "figures" / f"{suite.name}-{model}.png" for model in suite.models]
        settings = json.loads(json.dumps(asdict(suite)))
        with Tracking(TrackedRun(out, suite.name, f"{suite.name}-tables", settings), names, {}) as tracking:
            tracking.publish(own, [place for place in places if place.exists()])
