"""Does the jobs of a command by an engine (engine.py), shows how far they are, measures speed with nothing
beside it.

Ctrl-C or SIGTERM lets every training end after its step with a checkpoint; a second one ends all at once,
which loses no more than what came after the last checkpoint.
"""

import signal
import socket
import threading
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from types import FrameType

from rich.console import Console

from alibench.benchmarks.running.display import Display
from alibench.benchmarks.running.engine import Engine, Group
from alibench.benchmarks.running.jobs import Job
from alibench.benchmarks.running.worker import STOPPED

FAILED_ALONE = "failed: its process was asked to end by SIGTERM, the command was not"


class Interrupted(Exception):
    """The command was asked to end, and all its jobs have; `signal` asked for it."""

    def __init__(self, signal: int) -> None:
        super().__init__(signal)
        self.signal = signal


class Asked:
    """Whether the command is asked to end by Ctrl-C or SIGTERM; the engine is told. The second time,
    KeyboardInterrupt.
    """

    def __init__(self, engine: Engine) -> None:
        self.engine, self.signal = engine, 0
        # a signal that another thread of the process took wakes nobody who waits, but writes here
        self.awake, self.bell = socket.socketpair()
        for end in (self.awake, self.bell):
            end.setblocking(False)

    def __call__(self, number: int, frame: FrameType | None) -> None:
        """Take a signal."""
        if self.signal:
            raise KeyboardInterrupt
        self.signal = number
        self.engine.stop()

    def rung(self) -> bool:
        """Return whether the bell has rung since it was last asked for."""
        try:
            return bool(self.awake.recv(64))
        except BlockingIOError:
            return False

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Take signals meanwhile, where that can be: in the main thread."""
        numbers = (
            (signal.SIGINT, signal.SIGTERM) if threading.current_thread() is threading.main_thread() else ()
        )
        before = {number: signal.signal(number, self) for number in numbers}
        bell = signal.set_wakeup_fd(self.bell.fileno()) if numbers else -1
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
            if numbers:
                signal.set_wakeup_fd(bell)
            self.awake.close()
            self.bell.close()


def spoken(engine: Engine, at_once: int) -> str:
    """Return where runs are done, and how many at a time."""
    threads = "single-threaded " if engine.device.type == "cpu" else ""
    return f"on {engine.device}, {at_once} {threads}at a time{engine.where}"


def run(work: Iterable[Job], engine: Engine, console: Console, retries: int = 0) -> dict[str, str]:
    """Do all jobs that are not finished, those of throughput last and alone; return what became of each, "ok"
    or why not.

    One that fails is tried again from its checkpoint, `retries` times. Raises Interrupted when all have ended
    on request.
    """
    work = list(work)
    outcomes = {job.run_id: outcome for job in work if (outcome := job.outcome())}
    left = {job.run_id: job for job in work if job.run_id not in outcomes}
    finished = f", {len(outcomes)} of them finished already" if outcomes else ""
    first = engine.grouped(job for job in left.values() if job.kind != "throughput")
    at_once = max(1, min(engine.size, len(first)))
    console.print(f"{len(work)} runs {spoken(engine, at_once)}{finished}", highlight=False)
    display, asked = Display(console, left), Asked(engine)
    try:
        with display.progress, asked.listening():
            alone = [[job] for job in left.values() if job.kind == "throughput"]
            outcomes |= _do(first, engine, display, asked, retries)
            outcomes |= _do(alone, engine, display, asked, retries, one_by_one=True)
    finally:
        engine.end()
    if asked.signal and (outcomes.keys() != {job.run_id for job in work} or STOPPED in outcomes.values()):
        raise Interrupted(asked.signal)
    return {job.run_id: outcomes[job.run_id] for job in work}


def _do(
    groups: Sequence[Group],
    engine: Engine,
    display: Display,
    asked: Asked,
    retries: int,
    one_by_one: bool = False,
) -> dict[str, str]:
    """Do groups of jobs, as many at a time as the engine takes; return what became of each job."""
    waiting, doing = deque(groups), dict[str, Job]()
    tries: dict[str, int] = {}
    outcomes: dict[str, str] = {}
    while True:
        while waiting and not asked.signal and len(doing) < (1 if one_by_one else engine.queued):
            group = waiting.popleft()
            doing |= {job.run_id: job for job in group}
            engine.begin(group)
        if not doing:
            return outcomes
        ended = engine.wait(display, asked.awake)
        if asked.rung() and asked.signal:
            display.say("ending after the current step, with checkpoints; once more to end at once")
        for told in ended:
            if not asked.signal:
                told = {
                    run_id: FAILED_ALONE if outcome == STOPPED else outcome
                    for run_id, outcome in told.items()
                }
            again = [
                r for r, outcome in told.items() if outcome.startswith("failed") and tries.get(r, 0) < retries
            ]
            for run_id, outcome in told.items():
                display.finish(run_id, outcome, run_id in again)
            for run_id in again:
                tries[run_id] = tries.get(run_id, 0) + 1
            if again:
                waiting.append([doing[run_id] for run_id in again])
            for run_id in told:
                del doing[run_id]
            outcomes |= told
