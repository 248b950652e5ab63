"""What a command would do, and how long it would take on this machine: `--dry-run`. Nothing is written.

Each entry's rounds are timed for a moment, its measurements once on weights that are not trained; the runs are then laid on
the workers in the order in which they would begin. Not counted: tables and pictures at the end, and what the weights that
training finds change in the time of measuring them.
"""

import heapq
import shutil
import time
from collections import Counter
from collections.abc import Callable, Hashable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from benchmarks import config, cost, jobs, runner, tape
from benchmarks.config import Suite
from benchmarks.engine import Engine
from benchmarks.jobs import Job
from benchmarks.loop import Average, Recipe, steps_of, trainer_of
from benchmarks.outputs import Answer
from evaluation import pictures, store, throughput
from evaluation.base import generator
from evaluation.metrics import measure
from models.base import Phase

MOMENT = 0.3  # seconds that the rounds of a phase are timed for, at least one
SMALL = 0.05  # seconds of a round, in which what recording spares is a part that one sees
IMAGES = 2000  # held-out ones; where there are more, measuring takes minutes and is not tried
KINDS = {"run": "to train", "evaluation": "to measure", "references": "of reference rows", "throughput": "of speed"}
STARTED = time.process_time()  # seconds that importing all this took, which a worker has to do, too


@dataclass
class Entry:
    """The runs of one row of a suite's tables."""

    suite: Suite
    name: str
    seeds: list[int] = field(default_factory=list)
    steps: int | None = None  # of each; none where nothing is trained
    gflop: float | None = None  # of each
    training: float = 0.0  # seconds of each
    evaluation: float | None = None  # seconds of each; none where it is not timed

    @property
    def facts(self) -> dict[str, Any]:
        """Return all of it for a program."""
        return {
            "suite": self.suite.name,
            "model": self.name,
            "title": self.suite.entry(self.name).title,
            "seeds": self.seeds,
            "steps": self.steps,
            "gflop": self.gflop,
            "training_seconds": self.training,
            "evaluation_seconds": self.evaluation,
        }


@dataclass(frozen=True)
class Forecast:
    """What would be done; seconds are of all runs together, `wall` those until all is measured."""

    out: Path
    device: torch.device
    words: str  # of how many at a time, and where
    kinds: dict[str, int]  # how many jobs of each
    finished: int
    workers: int
    entries: list[Entry]
    suites: list[Suite]
    training: float
    evaluation: float | None  # references included; none where it is not timed
    throughput: float
    wall: float
    needed: int  # bytes
    free: int  # bytes

    @property
    def facts(self) -> dict[str, Any]:
        """Return all of it for a program."""
        return {
            "dry_run": True,
            "out": self.out,
            "device": str(self.device),
            "runs": sum(self.kinds.values()),
            "kinds": self.kinds,
            "finished": self.finished,
            "workers": self.workers,
            "entries": [entry.facts for entry in self.entries],
            "expect": {suite.name: suite.expect for suite in self.suites},
            "seconds": {
                "training": self.training,
                "evaluation": self.evaluation,
                "throughput": self.throughput,
                "wall": self.wall,
            },
            "bytes": self.needed,
            "free_bytes": self.free,
        }

    def show(self, console: Console) -> None:
        """Print it."""
        table = Table(title="dry run: nothing is written", title_justify="left", title_style="bold")
        for column in ("suite", "model"):
            table.add_column(column)
        for column in ("seeds", "steps", "GFLOP each", "training each", "evaluation each"):
            table.add_column(column, justify="right")
        for entry in self.entries:
            steps, gflop = ("–", "–") if entry.steps is None else (f"{entry.steps:,}", f"{entry.gflop:,.4g}")
            training = "–" if entry.steps is None else spoken(entry.training)
            cells = (entry.suite.name, entry.name, span(entry.seeds), steps, gflop, training, spoken(entry.evaluation))
            table.add_row(*cells)
        console.print(table)
        finished = f", {self.finished} of them finished already" if self.finished else ""
        kinds = ", ".join(f"{count} {KINDS[kind]}" for kind, count in self.kinds.items())
        runs = sum(self.kinds.values())
        lines = [f"{runs} runs {self.words}{finished} ({kinds})"]
        lines += [f"of suite '{suite.name}' as it is written: {suite.expect}" for suite in self.suites]
        parts = {"training": self.training, "evaluation": self.evaluation, "speed": self.throughput}
        told = ", ".join(f"{name} {spoken(seconds)}" for name, seconds in parts.items() if seconds is None or seconds >= 0.5)
        beyond = "tables and pictures" if self.evaluation is not None else "evaluation, tables and pictures"
        lines.append(
            f"on this machine about {spoken(self.wall)} (all runs together: {told or 'nothing to do'}); {beyond} come on top"
        )
        lines.append(f"{self.out} would hold about {_size(self.needed)}; {_size(self.free)} are free")
        for line in lines:
            console.print(line, markup=False, highlight=False, soft_wrap=True)


def spoken(seconds: float | None) -> str:
    """Return a duration in the unit that reads best."""
    if seconds is None:
        return "not timed"
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.1f} s"


def span(seeds: Sequence[int]) -> str:
    """Return seeds as they are read: 0–2, or 0, 5."""
    whole = list(seeds) == list(range(seeds[0], seeds[0] + len(seeds)))
    return f"{seeds[0]}–{seeds[-1]}" if whole and len(seeds) > 1 else ", ".join(map(str, seeds))


def _size(count: int) -> str:
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.0f} MB"


def answer(work: Sequence[Job], engine: Engine, needed: int, console: Console) -> Answer:
    """Foretell the jobs of a command, and show it. Raises BadInput if this machine lacks the device that they need."""
    try:
        config.device(str(engine.device))  # a cluster's need not be here
        with console.status("timing the rounds and measurements of each model"):
            made = foretell(work, engine, needed)
    finally:
        engine.end()
    made.show(console)
    return Answer(facts=made.facts)


def foretell(work: Sequence[Job], engine: Engine, needed: int) -> Forecast:
    """Return what doing all jobs that are not finished would take; `needed` bytes on the disk."""
    threads = torch.get_num_threads()
    if engine.device.type == "cpu":
        torch.set_num_threads(1)  # as workers have it
    current = torch.cuda.device(engine.device) if engine.device.type == "cuda" else nullcontext()
    try:
        with current, store.unwritten():
            return _foretell(work, engine, needed)
    finally:
        torch.set_num_threads(threads)


def _foretell(work: Sequence[Job], engine: Engine, needed: int) -> Forecast:
    left = [job for job in work if not job.outcome()]
    together = engine.grouped(job for job in left if job.kind != "throughput")
    alone = [job for job in left if job.kind == "throughput"]
    clock, entries = Clock(engine.device), dict[tuple[str, str], Entry]()
    started = STARTED + next((clock.first_use(job) for job in left if job.kind == "run" and not job.elsewhere), 0.0)
    for job in left:
        if job.kind == "references":
            clock.references(job)  # first, so that what is imported for measuring counts once, and not for each run
    training, evaluation, measured = 0.0, 0.0, True
    durations = []
    for group in together:
        job = group[0]
        if job.kind == "references":
            trains, measures = 0.0, clock.references(job)
        else:
            key = (job.suite.name, job.name)
            entry = entries[key] = entries.get(key) or _entry(group, clock)
            entry.seeds += [one.seed for one in group]
            trains = entry.training * sum(not (one.folder / "training.json").exists() for one in group)
            measures = entry.evaluation
        training += trains
        evaluation += (measures or 0.0) * len(group)
        measured = measured and measures is not None
        durations.append(trains + (measures or 0.0) * len(group))
    speed = sum(clock.throughput(job) for job in alone)
    out, count = work[0].out, max(1, min(engine.size, len(together)))
    return Forecast(
        out,
        engine.device,
        runner.spoken(engine, count),
        dict(Counter(job.kind for job in work)),
        len(work) - len(left),
        count,
        list(entries.values()),
        list({job.suite.expect: job.suite for job in reversed(work)}.values())[::-1],
        training,
        evaluation if measured else None,
        speed,
        # the command starts, then its workers
        STARTED + (started + laid(durations, count) + speed if left else 0.0),
        needed,
        shutil.disk_usage(next(parent for parent in (out, *out.absolute().parents) if parent.is_dir())).free,
    )


def _entry(group: Sequence[Job], clock: "Clock") -> Entry:
    """Return what each run of an entry takes, by a group of them that is trained together; its seeds are not in it yet."""
    job = group[0]
    entry = Entry(job.suite, job.name, evaluation=clock.evaluation(job))
    if job.kind == "run" and not job.elsewhere:
        recipe = cost.recipe_of(job.suite, job.name, job.seed)
        phases = job.suite.build(job.name, job.seed).phases
        entry.steps, entry.gflop = sum(steps_of(p, recipe) for p in phases), cost.gflop(job.suite, job.name, recipe)
        rounds = clock.rounds(group, recipe, phases)
        together = sum(steps_of(phase, recipe) * seconds for phase, seconds in zip(phases, rounds, strict=True))
        entry.training = together / len(group)
    return entry


def laid(durations: Sequence[float], count: int) -> float:
    """Return when the last of several jobs ends that `count` workers take in turn, each the next one as it gets free."""
    free = [0.0] * count
    for seconds in durations:
        heapq.heappush(free, heapq.heappop(free) + seconds)
    return max(free)


class Clock:
    """Times what jobs do; what was timed for an equal one is not timed again."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.known: dict[Hashable, Any] = {}

    def _once(self, key: Hashable, work: Callable[[], Any]) -> Any:
        if key not in self.known:
            self.known[key] = work()
        return self.known[key]

    def _now(self) -> float:
        if self.device.type != "cpu":
            torch.accelerator.synchronize(self.device)
        return time.perf_counter()

    def first_use(self, job: Job) -> float:
        """Return the seconds by which the first rounds of a process are slower than others: torch loads parts of itself."""
        model, recipe = job.suite.build(job.name, job.seed), job.suite.recipe_of(job.name, job.seed)
        labelled = cost.labelled_of(job.suite, job.name, job.seed)
        taken = []
        for _ in range(2):
            start = self._now()
            cost.flops_a_round(model, recipe, job.suite.load().train, labelled)
            taken.append(self._now() - start)
        return max(0.0, taken[0] - taken[1])

    def rounds(self, group: Sequence[Job], recipe: Recipe, phases: Sequence[Phase]) -> list[float]:
        """Return the seconds of a round of each phase, for all seeds of a group at once."""
        suite, name = group[0].suite, group[0].name
        entry = suite.entry(name)
        # neither the number of steps nor what Adam multiplies by changes how long one takes
        alike = replace(recipe, steps=1, lr=1.0, beta1=0.0, beta2=0.0, decay=0.0, decay_to=0.0)
        key = (*_data(suite), suite.networks, repr(suite.network), entry.of, repr(entry.options), alike, len(group))
        return list(self._once(("rounds", *key), lambda: [self._round(group, phase, recipe) for phase in phases]))

    def _round(self, group: Sequence[Job], phase: Phase, recipe: Recipe) -> float:
        suite, name = group[0].suite, group[0].name
        models = [suite.build(name, job.seed).to(self.device) for job in group]
        rngs = [generator(job.seed, "forecast", self.device) for job in group]
        labelled = [cost.labelled_of(suite, name, job.seed) for job in group]
        trainer = trainer_of(models, phase, recipe, suite.load().train, rngs, labelled)
        average = Average(trainer.model, recipe.ema)

        def step() -> None:
            trainer.rate(0.0)
            trainer.round()
            average.update()

        for _ in range(self._warm(step)):
            step()
        start, count = self._now(), 0
        while not count or time.perf_counter() - start < MOMENT:
            step()
            count += 1
        return (self._now() - start) / count

    def _warm(self, step: Callable[[], None]) -> int:
        """Return how many rounds are to be made before one is timed: what is recorded has been then, where it matters."""
        if self.device.type != "cpu":
            return throughput.WARM
        step()
        start = self._now()
        step()
        return tape.WARM + 2 if self._now() - start < SMALL else 0

    def evaluation(self, job: Job) -> float | None:
        """Return the seconds of measuring a model of the suite, one that is not trained; nothing where that takes long."""
        names = [name for name in job.suite.metrics if name != "throughput"]

        def work() -> None:
            subject = job.subject(job.suite.build(job.suite.models[0], 0))
            measure(subject, names)
            pictures.arrays(subject)

        return self._measured("evaluation", job, work)

    def references(self, job: Job) -> float | None:
        """Return the seconds of measuring the reference rows of the suite; nothing where that takes long."""
        return self._measured("references", job, lambda: jobs.references(job))

    def _measured(self, kind: str, job: Job, work: Callable[[], object]) -> float | None:
        loaded = job.suite.load()
        if loaded.images and len(loaded.test if job.split == "test" else loaded.validation) > IMAGES:
            return None

        def timed() -> float:
            start = self._now()
            work()
            return self._now() - start

        suite = job.suite
        key = (kind, *_data(suite), suite.networks, repr(suite.network), suite.evaluation, *suite.metrics, suite.seeds)
        found: float = self._once(key, timed)
        return found

    def throughput(self, job: Job) -> float:
        """Return the seconds that the speeds of a model are measured for."""
        kind = job.suite.build(job.name, job.seed)
        return job.suite.evaluation.seconds * (1 + kind.generative + (kind.inference != "none"))


def _data(suite: Suite) -> tuple[Hashable, ...]:
    return suite.dataset, suite.data, suite.latent, suite.prior
