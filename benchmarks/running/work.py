"""The jobs of a command: all of them are made here, and differ in nothing but what they train or measure."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from alibench.benchmarks.config.schema import Suite
from alibench.benchmarks.running.jobs import Job, Split
from alibench.benchmarks.running.trained import TrainedRun
from alibench.benchmarks.training import checkpoints


@dataclass(frozen=True)
class Workplace:
    """Where all jobs of a command are done, and how: what they have in common."""

    out: Path
    device: str
    command: tuple[str, ...] = ()  # that began the folder
    every: float = checkpoints.EVERY  # seconds between checkpoints
    tensorboard: bool = False

    def _job(self, kind: str, suite: Suite, name: str, seed: int, **more: Any) -> Job:
        shared = {"every": self.every, "tensorboard": self.tensorboard}
        return Job(kind, suite, name, seed, self.out, self.device, self.command, **shared, **more)  # type: ignore[arg-type]

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

    def evaluations(self, suites: dict[str, Suite], runs: Iterable[TrainedRun]) -> list[Job]:
        """Return the job of each trained run, then those of models that were trained elsewhere."""
        # Weights are named by absolute paths: an engine may work in another folder.
        jobs = []
        for run in runs:
            suite, name, seed, step = (run.origin[key] for key in ("suite", "model", "seed", "step"))
            kept = {"weights": run.weights.absolute(), "step": step}
            jobs.append(self._job("evaluation", suites[suite], name, seed, **kept))
        return jobs + [
            self._job("evaluation", suite, name, suite.first_seed)
            for suite in suites.values()
            for name in suite.models
            if suite.kind(name).elsewhere
        ]
