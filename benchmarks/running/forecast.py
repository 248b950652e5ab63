"""What a command would do, and how long it would take on this machine: `--dry-run`. Nothing is written or
downloaded.

Operations are counted. Times are estimates from a short measurement of this machine: each entry's rounds are
timed for a moment, or, where a round has many operations, the suite's networks on a few samples, in seconds
an operation; measurements once, where they are small, on weights that are not trained. The runs are then laid
on the workers in the order in which they would begin. Not counted: tables and pictures at the end, and what
trained weights change in the time of measuring them.

Data are outlines of themselves (outline.py), so that a folder of any size is answered for in seconds.
"""

import heapq
import math
import shutil
import time
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import joblib
import torch
from rich.console import Console
from rich.table import Table

from alibench.benchmarks.config import compute, devices
from alibench.benchmarks.config.schema import Suite
from alibench.benchmarks.data import outline
from alibench.benchmarks.running import jobs, runner
from alibench.benchmarks.running.engine import Engine
from alibench.benchmarks.running.jobs import Job
from alibench.benchmarks.running.outputs import Answer
from alibench.benchmarks.training import counting, tape
from alibench.benchmarks.training.average import Average
from alibench.benchmarks.training.processes import ALONE
from alibench.benchmarks.training.recipe import Recipe, steps_of
from alibench.benchmarks.training.trainer import Trainer
from alibench.evaluation import pictures, store
from alibench.evaluation.features import extractors
from alibench.evaluation.metrics import measure, throughput
from alibench.evaluation.seeds import generator
from alibench.models.base import Phase

MOMENT = 0.3  # seconds that the rounds of a phase are timed for, at least one
TOGETHER = 4.0  # seconds for all phases of a command, where MOMENT for each would be longer
HEAVY = 4e9  # operations of a round; a round with more is not timed itself
SAMPLES = 2  # by which the networks of heavy rounds are timed
LONG = 1e10  # operations of a round that takes longer than what the first one of a process does beside it
SMALL = 0.05  # seconds of a round, in which what recording spares is a part that one sees
IMAGES = 2000  # held-out ones; where there are more, measuring takes minutes and is not tried
NUMBERS = 200_000  # in all held-out images; the same
WORK = 5e9  # operations of a round on as many images as are held out; the same
KINDS = {
    "run": "to train",
    "evaluation": "to measure",
    "references": "of reference rows",
    "throughput": "of speed",
}
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
    to_come: list[str]  # weights that would be made or downloaded first

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
            "first": self.to_come,
        }

    def show(self, console: Console) -> None:
        """Print it."""
        table = Table(title="dry run: nothing is written", title_justify="left", title_style="bold")
        for column in ("suite", "model"):
            table.add_column(column)
        for column in ("seeds", "steps", "GFLOP each", "training each, est.", "evaluation each, est."):
            table.add_column(column, justify="right")
        for entry in self.entries:
            steps, gflop = ("–", "–") if entry.steps is None else (f"{entry.steps:,}", f"{entry.gflop:,.4g}")
            training = "–" if entry.steps is None else spoken(entry.training)
            cells = (
                entry.suite.name,
                entry.name,
                span(entry.seeds),
                steps,
                gflop,
                training,
                spoken(entry.evaluation),
            )
            table.add_row(*cells)
        console.print(table)
        finished = f", {self.finished} of them finished already" if self.finished else ""
        kinds = ", ".join(f"{count} {KINDS[kind]}" for kind, count in self.kinds.items())
        runs = sum(self.kinds.values())
        lines = [f"{runs} runs {self.words}{finished} ({kinds})"]
        lines += [f"of suite '{suite.name}' as it is written: {suite.expect}" for suite in self.suites]
        parts = {"training": self.training, "evaluation": self.evaluation, "speed": self.throughput}
        told = ", ".join(
            f"{name} {spoken(seconds)}"
            for name, seconds in parts.items()
            if seconds is None or seconds >= 0.5
        )
        beyond = "tables and pictures" if self.evaluation is not None else "evaluation, tables and pictures"
        lines.append(
            f"estimate for this machine: about {spoken(self.wall)} (all runs together: "
            f"{told or 'nothing to do'}); "
            f"{beyond} come on top"
        )
        lines += self.to_come
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


@contextmanager
def dry(outlines: bool = True) -> Iterator[None]:
    """Keep and download nothing meanwhile, and let a command plan on `outlines` of its data, or on the data
    themselves.
    """
    with outline.drawn() if outlines else nullcontext(), store.unwritten():
        yield


def answer(work: Sequence[Job], engine: Engine, needed: int, console: Console) -> Answer:
    """Foretell the jobs of a command, and show it. Raises BadInput if this machine lacks the device that they
    need.
    """
    try:
        devices.device(str(engine.device))  # a cluster's need not be here
        with console.status("timing the rounds and measurements of each model"):
            made = foretell(work, engine, needed)
    finally:
        engine.end()
    made.show(console)
    return Answer(facts=made.facts)


def foretell(work: Sequence[Job], engine: Engine, needed: int) -> Forecast:
    """Return what doing all jobs that are not finished would take; `needed` bytes on the disk."""
    is_cpu = engine.device.type == "cpu"
    current = torch.cuda.device(engine.device) if engine.device.type == "cuda" else nullcontext()
    with current, store.unwritten(), _threads(1 if is_cpu else torch.get_num_threads()):  # as workers have it
        return _foretell(work, engine, needed)


@contextmanager
def _threads(count: int) -> Iterator[None]:
    """Let torch compute in so many threads meanwhile."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _foretell(work: Sequence[Job], engine: Engine, needed: int) -> Forecast:
    left = [job for job in work if not job.outcome()]
    together = engine.grouped(job for job in left if job.kind != "throughput")
    alone = [job for job in left if job.kind == "throughput"]
    clock = Clock(engine.device, len({(job.suite.name, job.name) for job in left if job.kind == "run"}))
    entries = dict[tuple[str, str], Entry]()
    started = STARTED + next(
        (clock.first_use(job) for job in left if job.kind == "run" and not job.elsewhere), 0.0
    )
    for job in left:
        if job.kind == "references":
            clock.references(
                job
            )  # first, so that what is imported for measuring counts once, and not for each run
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
        _to_come(left),
    )


def _to_come(work: Iterable[Job]) -> list[str]:
    """Return what weights for measuring would be made or downloaded, in lines."""
    suites = {job.suite.name: job.suite for job in work if "fidelity" in job.suite.metrics}
    lines = (extractors.to_come(suite.load(), suite.evaluation) for suite in suites.values())
    return list(dict.fromkeys(filter(None, lines)))


def _entry(group: Sequence[Job], clock: "Clock") -> Entry:
    """Return what each run of an entry takes, by a group of them that is trained together; its seeds are not
    in it yet.
    """
    job = group[0]
    entry = Entry(job.suite, job.name, evaluation=clock.evaluation(job))
    if job.kind == "run" and not job.elsewhere:
        recipe = compute.recipe_of(job.suite, job.name, job.seed, clock.gflop)
        phases = job.suite.shapes(job.name).phases
        entry.steps = sum(steps_of(p, recipe) for p in phases)
        entry.gflop = clock.gflop(job.suite, job.name, recipe)
        rounds = clock.rounds(group, recipe, phases)
        together = sum(
            steps_of(phase, recipe) * seconds for phase, seconds in zip(phases, rounds, strict=True)
        )
        entry.training = together / len(group)
    return entry


def laid(durations: Sequence[float], count: int) -> float:
    """Return when the last of several jobs ends that `count` workers take in turn, each the next one as it
    gets free.
    """
    free = [0.0] * count
    for seconds in durations:
        heapq.heappush(free, heapq.heappop(free) + seconds)
    return max(free)


class Clock:
    """Times what jobs do; what was timed for an equal one is not timed again."""

    def __init__(self, device: torch.device, entries: int = 1) -> None:
        self.device = device
        self.moment = min(MOMENT, TOGETHER / max(1, entries))
        self.known: dict[Hashable, Any] = {}

    def _once(self, key: Hashable, work: Callable[[], Any]) -> Any:
        if key not in self.known:
            self.known[key] = work()
        return self.known[key]

    def _now(self) -> float:
        if self.device.type != "cpu":
            torch.accelerator.synchronize(self.device)
        return time.perf_counter()

    def operations(self, suite: Suite, name: str, recipe: Recipe) -> list[int]:
        """Return the operations of a round of each phase."""

        def counted() -> list[int]:
            with _threads(joblib.cpu_count()):  # nothing is timed here
                return counting.flops_a_round(
                    suite.shapes(name), recipe, suite.load().train, compute.labelled_of(suite, name, 0)
                )

        return list(self._once(("operations", *_alike(suite, name, recipe)), counted))

    def gflop(self, suite: Suite, name: str, recipe: Recipe) -> float:
        """Return the operations of an entry's whole training, in units of 10^9."""
        return counting.whole(self.operations(suite, name, recipe), suite.shapes(name).phases, recipe)

    def first_use(self, job: Job) -> float:
        """Return the seconds by which the first rounds of a process are slower than others: torch loads parts
        of itself.

        Where a round takes long, they are nothing to it.
        """
        suite, recipe = job.suite, job.suite.recipe_of(job.name, job.seed)
        if self._is_heavy(max(self.operations(suite, job.name, recipe))):
            return 0.0
        recipe = replace(recipe, execution="eager", precision="fp32", compile=False)
        taken = []
        for _ in range(2):
            start = self._now()
            model = suite.build(job.name, job.seed)
            rng, labelled = generator(0, "forecast"), compute.labelled_of(suite, job.name, job.seed)
            for phase in model.phases:
                Trainer(model, phase, recipe, suite.load().train, rng, labelled).round()
            taken.append(self._now() - start)
        return max(0.0, taken[0] - taken[1])

    def rounds(self, group: Sequence[Job], recipe: Recipe, phases: Sequence[Phase]) -> list[float]:
        """Return the seconds of a round of each phase, for all seeds of a group at once."""

        def timed() -> list[float]:
            counts = self.operations(group[0].suite, group[0].name, recipe)
            return [
                count * len(group) * self._pace(group[0], recipe)
                if self._is_heavy(count)
                else self._round(group, phase, recipe)
                for phase, count in zip(phases, counts, strict=True)
            ]

        return list(self._once(("rounds", *_alike(group[0].suite, group[0].name, recipe), len(group)), timed))

    def _is_heavy(self, operations: int) -> bool:
        return self.device.type == "cpu" and operations > HEAVY

    def _pace(self, job: Job, recipe: Recipe) -> float:
        """Return the seconds of an operation in the networks of a suite, from a few samples."""
        suite, name = job.suite, job.name
        few = replace(recipe, batch=min(recipe.batch, SAMPLES), execution="eager", compile=False)

        def timed() -> float:
            shapes, train = suite.shapes(name), suite.load().train
            labelled = compute.labelled_of(suite, name, job.seed)
            trainer = ALONE.trainer(
                [counting.filled(shapes)],
                shapes.phases[0],
                few,
                train,
                [generator(0, "forecast")],
                [labelled],
            )
            operations = self.operations(suite, name, recipe)[0] * few.batch / recipe.batch
            if operations < LONG:  # in a longer round what only the first one does is a small part
                trainer.round()
            start = self._now()
            trainer.round()
            return (self._now() - start) / operations

        found: float = self._once(
            ("pace", *_data(suite), suite.networks, repr(suite.network), few.precision), timed
        )
        return found

    def _round(self, group: Sequence[Job], phase: Phase, recipe: Recipe) -> float:
        suite, name = group[0].suite, group[0].name
        models = [suite.build(name, job.seed).to(self.device) for job in group]
        rngs = [generator(job.seed, "forecast", self.device) for job in group]
        labelled = [compute.labelled_of(suite, name, job.seed) for job in group]
        trainer = ALONE.trainer(models, phase, recipe, suite.load().train, rngs, labelled)
        average = Average(trainer.model, recipe.ema)

        def step() -> None:
            trainer.rate(0.0)
            trainer.round()
            average.update()

        for _ in range(self._warm(step)):
            step()
        start, count = self._now(), 0
        while not count or time.perf_counter() - start < self.moment:
            step()
            count += 1
        return (self._now() - start) / count

    def _warm(self, step: Callable[[], None]) -> int:
        """Return how many rounds are to be made before one is timed: what is recorded has been then, where it
        matters.
        """
        if self.device.type != "cpu":
            return throughput.WARM
        step()
        start = self._now()
        step()
        return tape.WARM + 2 if self._now() - start < SMALL else 0

    def evaluation(self, job: Job) -> float | None:
        """Return the seconds of measuring a model of the suite, one that is not trained; nothing where that
        takes long.
        """
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
        if self._is_large(job):
            return None

        def timed() -> float:
            start = self._now()
            work()
            return self._now() - start

        suite = job.suite
        key = (
            kind,
            *_data(suite),
            suite.networks,
            repr(suite.network),
            suite.evaluation,
            *suite.metrics,
            suite.seeds,
        )
        found: float = self._once(key, timed)
        return found

    def _is_large(self, job: Job) -> bool:
        """Return whether to measure a model takes long, or weights for it are not there: then it is not
        tried.
        """
        suite, loaded = job.suite, job.suite.load()
        if not loaded.images:
            return False
        held = len(loaded.test if job.split == "test" else loaded.validation)
        if held > IMAGES or held * math.prod(loaded.shape) > NUMBERS:
            return True
        if "fidelity" in suite.metrics and (
            suite.evaluation.extractor == "inception" or extractors.to_come(loaded, suite.evaluation)
        ):
            return True
        name = next((name for name in suite.models if not suite.kind(name).elsewhere), "")
        if not name:
            return False
        recipe = suite.recipe_of(name, job.seed)
        return max(self.operations(suite, name, recipe)) / recipe.batch * held > WORK

    def throughput(self, job: Job) -> float:
        """Return the seconds that the speeds of a model are measured for."""
        kind = job.suite.shapes(job.name)
        return job.suite.evaluation.seconds * (1 + kind.generative + (kind.inference != "none"))


def _alike(suite: Suite, name: str, recipe: Recipe) -> tuple[Hashable, ...]:
    """Return what the rounds of an entry depend on: neither the number of steps nor what Adam multiplies by."""
    entry = suite.entry(name)
    same = replace(recipe, steps=1, lr=1.0, beta1=0.0, beta2=0.0, decay=0.0, decay_to=0.0)
    return (*_data(suite), suite.networks, repr(suite.network), entry.of, repr(entry.options), same)


def _data(suite: Suite) -> tuple[Hashable, ...]:
    return suite.dataset, suite.data, suite.latent, suite.prior
