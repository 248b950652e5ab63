"""What a command would do, and how long it would take on this machine: `--dry-run`.

Times are estimates (timing.py), without tables and pictures at the end. Nothing is written or downloaded, and
data are outlines of themselves (outline.py), so that a folder of any size takes seconds.
"""

import shutil
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from rich.console import Console
from rich.filesize import decimal
from rich.table import Table

from alibench.benchmarks.config import compute, devices
from alibench.benchmarks.data import outline
from alibench.benchmarks.running import runner, trained
from alibench.benchmarks.running.answers import Answer
from alibench.benchmarks.running.engine import Engine
from alibench.benchmarks.running.jobs import Job
from alibench.benchmarks.running.timing import Clock, threads
from alibench.benchmarks.training.recipe import steps_of
from alibench.evaluation import store
from alibench.evaluation.features import extractors
from alibench.evaluation.messages import listed

EntryFacts = dict[str, Any]  # a row of a suite's tables, as `--json` prints it
STARTED = time.process_time()  # seconds that importing all this took, which a worker has to do, too
KINDS = {
    "run": "to train",
    "evaluation": "to measure",
    "references": "of reference rows",
    "throughput": "of speed",
}


@contextmanager
def dry(outlines: bool = True) -> Iterator[None]:
    """Keep and download nothing meanwhile, and load outlines of data instead of the data, if so wanted."""
    with outline.drawn() if outlines else nullcontext(), store.unwritten():
        yield


def answer(work: Sequence[Job], engine: Engine, needed: int, console: Console) -> Answer:
    """Estimate the jobs of a command, and print that; they need `needed` bytes on the disk.

    Raises BadInput if this machine lacks the device.
    """
    try:
        devices.device(str(engine.device))  # a cluster's need not be here
        with console.status("timing the rounds and measurements of each model"):
            facts = foretell(work, engine, needed)
    finally:
        engine.end()
    show(facts, runner.spoken(engine, facts["workers"]), console)
    return Answer(facts=facts)


# -------------------- estimating


def foretell(work: Sequence[Job], engine: Engine, needed: int) -> dict[str, Any]:
    """Return what doing all jobs that are not finished would take, as `--json` prints it."""
    # As workers compute.
    current = torch.cuda.device(engine.device) if engine.device.type == "cuda" else nullcontext()
    count = 1 if engine.device.type == "cpu" else torch.get_num_threads()
    with current, store.unwritten(), threads(count):
        return _foretell(work, engine, needed)


def _foretell(work: Sequence[Job], engine: Engine, needed: int) -> dict[str, Any]:
    left = [job for job in work if not job.outcome()]
    groups = engine.grouped(job for job in left if job.kind != "throughput")
    workers = max(1, min(engine.size, len(groups)))
    clock = Clock(engine.device)

    # References first: what is imported for measuring then counts once, and not for each run.
    entries, durations = dict[tuple[str, str], EntryFacts](), list[tuple[float, float | None]]()
    for group in sorted(groups, key=lambda group: group[0].kind != "references"):
        job = group[0]
        if job.kind == "references":
            durations.append((0.0, clock.references(job)))
            continue
        key = job.suite.name, job.name
        entry = entries[key] = entries.get(key) or _entry(group, clock)
        entry["seeds"] += [one.seed for one in group]
        untrained = sum(not (one.folder / trained.TRAINING).exists() for one in group)
        each = entry["evaluation_seconds"]
        durations.append((untrained * entry["training_seconds"], each and each * len(group)))

    # The command starts, then its workers; speed is measured last.
    training, evaluation = sum(t for t, _ in durations), sum(e or 0.0 for _, e in durations)
    longest = max((t + (e or 0.0) for t, e in durations), default=0.0)
    speed = sum(clock.throughput(job) for job in left if job.kind == "throughput")
    runs = STARTED + max(longest, (training + evaluation) / workers) + speed if left else 0.0

    # The trials of a suite share its words, which are printed once.
    words = {job.suite.expect: job.suite.name for job in reversed(work)}
    out = work[0].out
    there = next(parent for parent in (out, *out.absolute().parents) if parent.is_dir())
    return {
        "dry_run": True,
        "out": out,
        "device": str(engine.device),
        "runs": len(work),
        "kinds": Counter(job.kind for job in work),
        "finished": len(work) - len(left),
        "workers": workers,
        "entries": list(entries.values()),
        "expect": {name: expect for expect, name in reversed(words.items())},
        "seconds": {
            "training": training,
            "evaluation": None if any(e is None for _, e in durations) else evaluation,
            "throughput": speed,
            "wall": STARTED + runs,  # until all is measured
        },
        "bytes": needed,
        "free_bytes": shutil.disk_usage(there).free,
        "first": _extractors(left),
    }


def _entry(group: Sequence[Job], clock: Clock) -> EntryFacts:
    """Return what each run of an entry takes, by a group that is trained together; without its seeds."""
    job, suite = group[0], group[0].suite
    entry: EntryFacts = {
        "suite": suite.name,
        "model": job.name,
        "title": suite.entry(job.name).title,
        "seeds": [],
        "steps": None,
        "gflop": None,
        "training_seconds": 0.0,
        "evaluation_seconds": clock.evaluation(job),
    }
    if not job.trains:
        return entry

    # stacked seeds share the time of their rounds
    recipe = compute.recipe_of(suite, job.name, job.seed)
    phases = suite.shapes(job.name).phases
    steps, rounds = [steps_of(phase, recipe) for phase in phases], clock.rounds(group, recipe, phases)
    together = sum(count * seconds for count, seconds in zip(steps, rounds, strict=True))
    return {
        **entry,
        "steps": sum(steps),
        "gflop": compute.gflop(suite, job.name, recipe),
        "training_seconds": together / len(group),
    }


def _extractors(work: Iterable[Job]) -> list[str]:
    """Return a line for each extractor that would be made or downloaded first."""
    suites = {job.suite.name: job.suite for job in work if "fidelity" in job.suite.metrics}
    lines = (extractors.to_come(suite.load(), suite.evaluation) for suite in suites.values())
    return list(dict.fromkeys(filter(None, lines)))


# -------------------- printing


def show(facts: Mapping[str, Any], where: str, console: Console) -> None:
    """Print a forecast: a table of entries, then lines. `where` says where runs are done."""
    table = Table(title="dry run: nothing is written", title_justify="left", title_style="bold")
    for column in ("suite", "model"):
        table.add_column(column)
    for column in ("seeds", "steps", "GFLOP each", "training each, est.", "evaluation each, est."):
        table.add_column(column, justify="right")

    # A model that was trained elsewhere has dashes.
    for entry in facts["entries"]:
        training = ("–", "–", "–")
        if entry["steps"] is not None:
            training = (f"{entry['steps']:,}", f"{entry['gflop']:,.4g}", spoken(entry["training_seconds"]))
        evaluation = spoken(entry["evaluation_seconds"])
        table.add_row(
            entry["suite"], entry["model"], listed(list(map(str, entry["seeds"]))), *training, evaluation
        )

    console.print(table)
    for line in _lines(facts, where):
        console.print(line, markup=False, highlight=False, soft_wrap=True)


def _lines(facts: Mapping[str, Any], where: str) -> Iterator[str]:
    finished = f", {facts['finished']} of them finished already" if facts["finished"] else ""
    kinds = ", ".join(f"{count} {KINDS[kind]}" for kind, count in facts["kinds"].items())
    yield f"{facts['runs']} runs {where}{finished} ({kinds})"
    for name, words in facts["expect"].items():
        yield f"of suite '{name}' as it is written: {words}"

    seconds = facts["seconds"]
    parts = {"training": "training", "evaluation": "evaluation", "speed": "throughput"}
    shown = {
        title: seconds[part] for title, part in parts.items() if seconds[part] is None or seconds[part] >= 0.5
    }
    together = ", ".join(f"{title} {spoken(taken)}" for title, taken in shown.items()) or "nothing to do"
    on_top = "tables" if seconds["evaluation"] is not None else "evaluation, tables"
    yield (
        f"estimate for this machine: about {spoken(seconds['wall'])} (all runs together: {together}); "
        f"{on_top} and pictures come on top"
    )

    yield from facts["first"]
    needed, free = decimal(facts["bytes"]), decimal(facts["free_bytes"])
    yield f"{facts['out']} would hold about {needed}; {free} are free"


def spoken(seconds: float | None) -> str:
    """Return a duration in the unit that reads best."""
    if seconds is None:
        return "not timed"
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.1f} s"
