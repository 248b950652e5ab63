"""Does the jobs of a command by an engine (engine.py), and shows how far they are.

Ctrl-C or SIGTERM lets every training end after its step with a checkpoint; a second one ends all at once,
which loses no more than the steps after the last checkpoint.
"""

import signal
import threading
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from types import FrameType

from rich.console import Console

from alibench.benchmarks.running.display import Display
from alibench.benchmarks.running.engine import Engine, Group
from alibench.benchmarks.running.jobs import Job
from alibench.benchmarks.running.outcomes import STOPPED, Outcome, failed

STOPPED_ALONE = failed("its process was asked to end by SIGTERM, the command was not")
ENDING = "ending after the current step, with checkpoints; once more to end at once"


class Interrupted(Exception):
    """The command was asked to end by `signal`, and all its jobs have ended."""

    def __init__(self, signal: int) -> None:
        super().__init__(signal)
        self.signal = signal


class StopSignals:
    """Whether Ctrl-C or SIGTERM came: the first stops the engine, the second raises KeyboardInterrupt."""

    def __init__(self, engine: Engine) -> None:
        self.engine, self.signal = engine, 0

    def __call__(self, number: int, frame: FrameType | None) -> None:
        """Take a signal."""
        if self.signal:
            raise KeyboardInterrupt
        self.signal = number
        self.engine.stop()

    @contextmanager
    def taken(self) -> Iterator[None]:
        """Take signals meanwhile. Only the main thread can; elsewhere nothing changes."""
        is_main = threading.current_thread() is threading.main_thread()
        numbers = (signal.SIGINT, signal.SIGTERM) if is_main else ()
        before = {number: signal.signal(number, self) for number in numbers}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def spoken(engine: Engine, at_once: int) -> str:
    """Return where runs are done, and how many at a time."""
    threads = "single-threaded " if engine.device.type == "cpu" else ""
    return f"on {engine.device}, {at_once} {threads}at a time{engine.where}"


def run(work: Iterable[Job], engine: Engine, console: Console, retries: int = 0) -> dict[str, Outcome]:
    """Do all jobs that are not finished; return the outcomes of all by run id.

    A job that fails is tried again from its checkpoint, `retries` times. Raises Interrupted when all have
    ended on request.
    """
    work = list(work)
    outcomes = {job.run_id: outcome for job in work if (outcome := job.outcome())}
    left = {job.run_id: job for job in work if job.run_id not in outcomes}
    first = engine.grouped(job for job in left.values() if job.kind != "throughput")
    at_once = max(1, min(engine.size, len(first)))

    finished = f", {len(outcomes)} of them finished already" if outcomes else ""
    console.print(f"{len(work)} runs {spoken(engine, at_once)}{finished}", highlight=False)
    display, signals = Display(console, left), StopSignals(engine)
    try:
        with display.progress, signals.taken():
            outcomes |= _do(first, engine, display, signals, retries)
            # Speed is measured last and alone.
            alone = [[job] for job in left.values() if job.kind == "throughput"]
            outcomes |= _do(alone, engine, display, signals, retries, one_by_one=True)
    finally:
        engine.end()

    # All may have been done by the time that a signal came.
    unfinished = STOPPED in outcomes.values() or any(job.run_id not in outcomes for job in work)
    if signals.signal and unfinished:
        raise Interrupted(signals.signal)
    return {job.run_id: outcomes[job.run_id] for job in work}


def _do(
    groups: Sequence[Group],
    engine: Engine,
    display: Display,
    signals: StopSignals,
    retries: int,
    one_by_one: bool = False,
) -> dict[str, Outcome]:
    """Do groups of jobs, as many at a time as the engine takes; return the outcomes of the jobs begun."""
    waiting, doing, outcomes = deque(groups), dict[str, Job](), dict[str, Outcome]()
    tries, announced = Counter[str](), False
    while True:
        # The engine takes more when a cluster grows.
        while waiting and not signals.signal and len(doing) < (1 if one_by_one else engine.queued):
            group = waiting.popleft()
            doing |= {job.run_id: job for job in group}
            engine.begin(group)
        if not doing:
            return outcomes

        ended = engine.wait(display)
        if signals.signal and not announced:
            display.say(ENDING)
            announced = True

        for group_outcomes in ended:
            again = list[Job]()
            for run_id, outcome in group_outcomes.items():
                if outcome == STOPPED and not signals.signal:
                    outcome = STOPPED_ALONE
                outcomes[run_id], job = outcome, doing.pop(run_id)

                # A diverged run would diverge again.
                tried_again = outcome.failed and tries[run_id] < retries
                if tried_again:
                    tries[run_id] += 1
                    again.append(job)
                display.finish(run_id, outcome, tried_again)
            if again:
                waiting.append(again)
