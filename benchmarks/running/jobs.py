"""A job: what is to be done for one folder of results; execute.py does it. All are made by a Workplace.

There are four kinds: a run (train, evaluate), an evaluation alone, reference rows, and a model's speed.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch

from alibench.benchmarks.config import blame, compute
from alibench.benchmarks.config.schema import Suite
from alibench.benchmarks.running import trained
from alibench.benchmarks.running.outcomes import OK, Outcome, Status
from alibench.benchmarks.running.trackers import TrackerName
from alibench.benchmarks.training import checkpoints
from alibench.benchmarks.training.recipe import steps_of
from alibench.evaluation import files
from alibench.evaluation.messages import say
from alibench.results import rows

Kind = Literal["run", "evaluation", "references", "throughput"]
Split = Literal["validation", "test"]
LOCK, CHECKPOINTS = ".lock", "checkpoints"  # in a run's folder
# Operations of a round below which seeds are stacked: a fifth of ALI's on CIFAR-10. A guess: no GPU has been
# measured yet.
STACKED_BELOW = 2e10


@dataclass(frozen=True)
class Job:
    """What is to be done for one folder below `out`."""

    kind: Kind
    suite: Suite
    name: str  # of the entry
    seed: int
    out: Path
    device: str
    command: tuple[str, ...]
    split: Split = "test"
    # Of an earlier run, for an evaluation of a model that was trained here.
    weights: Path | None = None
    step: int | None = None  # that they were trained to
    every: float = checkpoints.EVERY  # seconds between checkpoints
    track: tuple[TrackerName, ...] = ()  # which trackers get its curves
    per_image: bool = False  # whether errors of single images are kept, of an evaluation

    @property
    def run_id(self) -> str:
        """The folder's name."""
        if self.kind == "references":
            return f"{self.suite.name}-references"
        ending = "throughput" if self.kind == "throughput" else f"seed{self.seed}"
        return f"{self.suite.name}-{self.name}-{ending}"

    @property
    def folder(self) -> Path:
        """Where this job writes, and no other."""
        return self.out / "runs" / self.run_id

    @property
    def steps(self) -> int:
        """How many steps it will report."""
        if not self.trains:
            return 0
        recipe = compute.recipe_of(self.suite, self.name, self.seed)
        return sum(steps_of(phase, recipe) for phase in self.suite.shapes(self.name).phases)

    @property
    def elsewhere(self) -> bool:
        """Whether its model was trained elsewhere."""
        return self.suite.kind(self.name).elsewhere

    @property
    def trains(self) -> bool:
        """Whether there is something to train."""
        return self.kind == "run" and not self.elsewhere

    def outcome(self) -> Outcome | None:
        """Return how the job ended, None as long as it is not finished.

        Damaged rows are reported, and count as not finished.
        """
        # Rows are written last.
        if not (self.folder / "rows.json").exists():
            return None
        try:
            rows.read_origin(self.folder)
            measured = rows.read_run(self.folder)
            if self.trains and trained.kept(self.folder) is None:
                return None
            # noise and untrained encoders have a row for each seed, and the suite may have got more
            seeds = {row["seed"] for row in measured} - {None}
            if self.kind == "references" and seeds and not seeds.issuperset(self.suite.training_seeds):
                return None
        except files.Damaged as damage:
            say(str(damage))
            return None

        reasons = [row["reason"] for row in measured if row["status"] == "diverged"]
        return Outcome(Status.DIVERGED, reasons[0]) if reasons else OK


@dataclass(frozen=True)
class Workplace:
    """Where all jobs of a command are done, and how: what they have in common."""

    out: Path
    device: str
    command: tuple[str, ...] = ()  # that began the folder
    every: float = checkpoints.EVERY  # seconds between checkpoints
    track: tuple[TrackerName, ...] = ()

    def _job(self, kind: str, suite: Suite, name: str, seed: int, **more: Any) -> Job:
        how = {"every": self.every, "track": self.track, **more}
        suite = suite if kind == "references" else suite.of_seed(seed)
        return Job(kind, suite, name, seed, self.out, self.device, self.command, **how)  # type: ignore[arg-type]

    def trainings(self, suite: Suite, seeds: Sequence[int] | None = None, split: Split = "test") -> list[Job]:
        """Return a job for each model and seed of a suite, or for each of other `seeds`."""
        return [
            self._job("run", suite, name, seed, split=split)
            for name in suite.models
            for seed in (suite.seeds_of(name) if seeds is None else seeds)
        ]

    def references(self, suites: Iterable[Suite]) -> list[Job]:
        """Return the job of each suite's reference rows."""
        return [self._job("references", suite, suite.models[0], 0) for suite in suites]

    def timings(self, suites: Iterable[Suite]) -> list[Job]:
        """Return a job of speed for each model of the suites that measure it."""
        timed = [suite for suite in suites if "throughput" in suite.metrics]
        return [self._job("throughput", suite, name, 0) for suite in timed for name in suite.models]

    def evaluations(
        self, suites: dict[str, Suite], runs: Iterable[trained.TrainedRun], per_image: bool = False
    ) -> list[Job]:
        """Return the job of each trained run, then those of models that were trained elsewhere."""
        # Weights are named by absolute paths: an engine may work in another folder.
        jobs = []
        for run in runs:
            suite, name, seed, step = (run.origin[key] for key in ("suite", "model", "seed", "step"))
            kept = {"weights": run.weights.absolute(), "step": step, "per_image": per_image}
            jobs.append(self._job("evaluation", suites[suite], name, seed, **kept))
        return jobs + [
            self._job("evaluation", suite, name, suite.first_seed, per_image=per_image)
            for suite in suites.values()
            for name in suite.models
            if suite.kind(name).elsewhere
        ]


def grouped(work: Iterable[Job], device: torch.device) -> list[Sequence[Job]]:
    """Return the jobs that one worker does together: on an accelerator, seeds of an entry with small updates.

    On a CPU each job is alone: it fills its thread.
    """
    groups: dict[tuple[object, ...], list[Job]] = {}
    for job in work:
        stacked = device.type != "cpu" and job.kind == "run" and _can_be_stacked(job)
        key = (job.suite.name, job.suite.data, job.name) if stacked else (job.run_id,)
        groups.setdefault(key, []).append(job)
    return list(groups.values())


def _can_be_stacked(job: Job) -> bool:
    suite, recipe = job.suite, job.suite.recipe_of(job.name)

    # Settings that are drawn for each seed differ between seeds. torch.vmap refuses batch norm of bf16
    # numbers with fp32 statistics, and does not see through what is compiled.
    if suite.draw is not None or recipe.precision == "bf16" or recipe.compile:
        return False

    # Nobody has compared a user's model when stacked with each of its seeds alone.
    if suite.kind(job.name) in blame.PLACES:
        return False

    return max(compute.operations(suite, job.name, recipe)) < STACKED_BELOW
