"""How long jobs would take on this machine, from counted operations and short measurements.

Each entry's rounds are timed for a moment; where a round has many operations, it is timed on a few samples.
Measuring is timed once, where it is quick, on weights that are not trained.
"""

import time
from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import TypeVar

import torch

from alibench.benchmarks.config import compute
from alibench.benchmarks.running import measuring
from alibench.benchmarks.running.jobs import Job
from alibench.benchmarks.training import tape
from alibench.benchmarks.training.average import Average
from alibench.benchmarks.training.processes import ALONE
from alibench.benchmarks.training.recipe import Recipe
from alibench.evaluation import pictures
from alibench.evaluation.features import extractors
from alibench.evaluation.metrics import measure, throughput
from alibench.evaluation.seeds import generator
from alibench.models.base import Phase

MOMENT = 0.2  # seconds that the rounds of a phase are timed for, at least one round
WARMING = 1.0  # seconds of rounds on a CPU before one is timed, at most
HEAVY = 4e9  # operations of a round; on a CPU, one with more is timed on SAMPLES
SAMPLES = 2
LARGE = 200_000  # numbers in all held-out images; with more, measuring takes minutes and is not timed

T = TypeVar("T")


@contextmanager
def threads(count: int) -> Iterator[None]:
    """Let torch compute in so many threads meanwhile."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


class Clock:
    """Times the parts of jobs on a device; what is alike is timed once."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.known: dict[Hashable, object] = {}

    def _once(self, key: Hashable, work: Callable[[], T]) -> T:
        if key not in self.known:
            self.known[key] = work()
        return self.known[key]  # type: ignore[return-value]

    def _now(self) -> float:
        if self.device.type != "cpu":
            torch.accelerator.synchronize(self.device)
        return time.perf_counter()

    def rounds(self, group: Sequence[Job], recipe: Recipe, phases: Sequence[Phase]) -> list[float]:
        """Return the seconds of a round of each phase, of all seeds of a group together."""
        suite, name = group[0].suite, group[0].name

        # A round's time grows with its batch, on a CPU that has much to compute.
        def timed() -> list[float]:
            counts = compute.operations(suite, name, recipe)
            heavy = self.device.type == "cpu" and max(counts) > HEAVY
            few = replace(recipe, batch=min(recipe.batch, SAMPLES)) if heavy else recipe
            return [self._round(group, phase, few) * recipe.batch / few.batch for phase in phases]

        return self._once(("rounds", *compute.alike(suite, name, recipe), len(group)), timed)

    def _round(self, group: Sequence[Job], phase: Phase, recipe: Recipe) -> float:
        """Return the seconds of a round, timed for a moment."""
        suite, name = group[0].suite, group[0].name
        models = [suite.build(name, job.seed).to(self.device) for job in group]
        rngs = [generator(job.seed, "forecast", self.device) for job in group]
        labelled = [compute.labelled_of(suite, name, job.seed) for job in group]
        trainer = ALONE.trainer(models, phase, recipe, suite.load().train, rngs, labelled)
        average = Average(trainer.model, recipe.ema)

        def step() -> None:
            trainer.set_rate(0.0)
            trainer.round()
            average.update()

        # The first rounds are slower than all others, until small networks are recorded. Of large ones
        # recording spares little.
        start, on_cpu = self._now(), self.device.type == "cpu"
        for _ in range(tape.WARM + 2 if on_cpu else throughput.WARM):
            step()
            if on_cpu and time.perf_counter() - start > WARMING:
                break

        # A device is waited for at the beginning and the end alone. On a CPU the fastest round counts: one
        # that is recorded takes as long as ten.
        start, rounds = self._now(), list[float]()
        while not rounds or time.perf_counter() - start < MOMENT:
            begun = time.perf_counter()
            step()
            rounds.append(time.perf_counter() - begun)
        mean = (self._now() - start) / len(rounds)
        return min(rounds) if on_cpu else mean

    def evaluation(self, job: Job) -> float | None:
        """Return the seconds of measuring a model of a suite; None where that takes long."""

        def work() -> None:
            subject = measuring.subject(job, job.suite.build(job.suite.models[0], 0))
            measure(subject, measuring.quality(job))
            pictures.arrays(subject)

        return self._measuring("evaluation", job, work)

    def references(self, job: Job) -> float | None:
        """Return the seconds of measuring the reference rows of a suite; None where that takes long."""
        return self._measuring("references", job, lambda: measuring.references(job))

    def throughput(self, job: Job) -> float:
        """Return the seconds that the speeds of a model are measured for."""
        kind = job.suite.shapes(job.name)
        return job.suite.evaluation.seconds * (1 + kind.generative + (kind.inference != "none"))

    def _measuring(self, kind: str, job: Job, work: Callable[[], object]) -> float | None:
        suite, loaded = job.suite, job.suite.load()

        # Nothing is timed that takes long, or needs weights that are not there.
        if loaded.images:
            held_out = loaded.test if job.split == "test" else loaded.validation
            published = suite.evaluation.extractor in extractors.PUBLISHED
            slow = published or extractors.to_come(loaded, suite.evaluation)
            if held_out.x.numel() > LARGE or (slow and "fidelity" in suite.metrics):
                return None

        def timed() -> float:
            start = self._now()
            work()
            return self._now() - start

        key = (kind, *compute.networks(suite), suite.evaluation, *suite.metrics, suite.seeds)
        return self._once(key, timed)
