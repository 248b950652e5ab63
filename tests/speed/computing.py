"""A run that takes a given time of a processor, and leaves nothing."""

import time
from collections.abc import Callable

from alibench.benchmarks.running.engine import Group
from alibench.benchmarks.running.outcomes import OK, Outcome
from alibench.benchmarks.training.stopping import Request

TICKS = 50  # times that a training says how far it is


def compute(
    group: Group, report: Callable[[str, int], None], request: Request, seconds: float
) -> dict[str, Outcome]:
    """Keep a core busy for so many seconds of its own time with each job, whatever others take of it."""
    for job in group:
        start = time.thread_time()
        for tick in range(TICKS):
            report(job.run_id, job.steps * tick // TICKS)
            while time.thread_time() - start < seconds * (tick + 1) / TICKS:
                sum(range(10_000))
    return {job.run_id: OK for job in group}
