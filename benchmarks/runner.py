"""Runs jobs side by side in worker processes, shows how far they are, then measures speed with nothing beside it.

On a CPU every worker is single-threaded and there is one a core: small networks run fastest so, and a run's numbers do not
depend on how many run beside it. On an accelerator runs follow one another, the seeds of a small network stacked.

A worker that dies takes its own run with it and no other. Ctrl-C or SIGTERM lets every training end after its step with a
checkpoint; a second one ends all at once, which loses no more than what came after the last checkpoint.
"""

import errno
import importlib
import multiprocessing
import os
import signal
import socket
import threading
import time
import traceback
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection, wait
from types import FrameType
from typing import Any

import torch
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from benchmarks import jobs, plugins
from benchmarks.jobs import Failed, Job
from benchmarks.stopping import Request, Stopped
from evaluation.base import BadInput
from evaluation.files import Busy

MEMORY_A_WORKER = 1.0e9  # bytes, libraries included; on a CPU there are no more workers than fit
# Blocks of memory that a training step frees and takes again stay with the process: a third more speed for small nets.
ALLOCATOR = {"MALLOC_MMAP_THRESHOLD_": "2000000000", "MALLOC_TRIM_THRESHOLD_": "8000000000"}
PATIENCE = 10.0  # seconds for an idle worker to end
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
STOPPED = "stopped"  # the outcome of a job that ended with the whole command, on request
FAILED_ALONE = "failed: its process was asked to end by SIGTERM, the command was not"


class Interrupted(Exception):
    """The command was asked to end, and all its jobs have; `signal` asked for it."""

    def __init__(self, signal: int) -> None:
        super().__init__(signal)
        self.signal = signal


def workers(device: torch.device) -> int:
    """Return how many runs go side by side: one a core, as memory allows; one on an accelerator."""
    if device.type != "cpu":
        return 1
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        memory = float(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    except (ValueError, OSError, AttributeError):
        memory = cores * MEMORY_A_WORKER
    return max(1, min(cores, int(memory / MEMORY_A_WORKER)))


# ------------------------------------------------------------------------------------------------ in a worker's process


def _serve(commands: Connection, single_threaded: bool, given: Sequence[plugins.Source]) -> None:
    """Do groups of jobs as they come, until there are no more; with the models that the command was `given`."""
    request = Request()
    signal.signal(signal.SIGTERM, request.take)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    if single_threaded:
        torch.set_num_threads(1)
    importlib.import_module("torch._dynamo")  # the first optimiser would, within the time of the first training
    while (group := commands.recv()) is not None:
        commands.send(_work(group, commands, request, given))


def _end_with_parent() -> None:
    """A killed command leaves no worker behind that goes on writing."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _work(group: Sequence[Job], commands: Connection, request: Request, given: Sequence[plugins.Source]) -> dict[str, str]:
    """Do jobs. A failure is theirs alone and comes back as text: one line, if it is no mistake of ours."""

    def report(run_id: str, steps: int) -> None:
        commands.send((run_id, steps))

    try:
        plugins.again(given)
        return jobs.execute(group, report, request)
    except Stopped:
        reason = STOPPED
    except (Failed, Busy, BadInput) as problem:
        reason = f"failed: {problem}"
    except OSError as error:
        if error.errno not in FULL:
            reason = f"failed: {plugins.blame(error) or traceback.format_exc()}"
        else:
            reason = (
                f"failed: nothing more can be written ({error.strerror}); its last checkpoint is kept: make room, resume"
            )
    except Exception as error:
        reason = f"failed: {plugins.blame(error) or traceback.format_exc()}"
    return {job.run_id: reason for job in group}


# ------------------------------------------------------------------------------------------------ in the command's


class Display:
    """Bars with the time left on a terminal; elsewhere a line when a job ends."""

    def __init__(self, console: Console, total: int) -> None:
        self.console, self.started, self.done, self.total = console, time.monotonic(), 0, total
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        self.progress = Progress(*columns, TimeRemainingColumn(), console=console, disable=not console.is_terminal)
        self.all = self.progress.add_task("all runs", total=total)
        self.bars: dict[str, TaskID] = {}

    def advance(self, job: Job, steps: int) -> None:
        """Move a run's bar, which appears with its first steps."""
        run_id = job.run_id
        if run_id not in self.bars:
            self.bars[run_id] = self.progress.add_task(f"  {run_id}", total=job.steps)
        self.progress.advance(self.bars[run_id], steps)

    def finish(self, job: Job, outcome: str, again: bool) -> None:
        """Say that a job is done, or is tried again."""
        if job.run_id in self.bars:
            self.progress.remove_task(self.bars.pop(job.run_id))
        if again:
            self.say(f"{job.run_id}: {outcome}; it is tried again")
            return
        self.done += 1
        self.progress.advance(self.all)
        elapsed = time.monotonic() - self.started
        left = elapsed / self.done * (self.total - self.done)
        text = "done" if outcome == "ok" else outcome
        if not self.console.is_terminal or outcome != "ok":
            clock = f"{elapsed:5.0f} s, about {left:.0f} s left"
            self.say(f"[{self.done}/{self.total}] {job.run_id}: {text} ({clock})")

    def say(self, line: str) -> None:
        """Print a line above the bars."""
        self.console.print(line, markup=False, highlight=False)


@contextmanager
def _inherited(environment: Mapping[str, str]) -> Iterator[None]:
    """Give processes that start meanwhile an environment, and no ear for Ctrl-C: it reaches the whole group of processes,
    and the command itself ends its workers.
    """
    before, main = dict(os.environ), threading.current_thread() is threading.main_thread()
    handler = signal.signal(signal.SIGINT, signal.SIG_IGN) if main else None
    os.environ.update(environment)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)
        if main:
            signal.signal(signal.SIGINT, handler)


class Worker:
    """A fresh process that does one group of jobs after another."""

    def __init__(self, single_threaded: bool) -> None:
        context = multiprocessing.get_context("spawn")
        self.connection, theirs = context.Pipe()
        given = tuple(plugins.LOADED)
        self.process = context.Process(target=_serve, args=(theirs, single_threaded, given), daemon=True)
        with _inherited({"OMP_NUM_THREADS": "1", **ALLOCATOR} if single_threaded else {}):
            self.process.start()
        theirs.close()
        self.group: Sequence[Job] = ()

    def begin(self, group: Sequence[Job]) -> None:
        """Give it jobs."""
        self.group = group
        self.connection.send(group)

    def messages(self) -> Iterator[Any]:
        """Yield what it says: (run, steps) as it goes, then what became of its jobs; also if it dies."""
        try:
            while self.connection.poll():
                yield self.connection.recv()
        except (EOFError, OSError):
            self.process.join()
            code = self.process.exitcode or 0
            how = f"killed by signal {-code}" if code < 0 else f"exit code {code}"
            memory = ", as by a system out of memory" if code == -signal.SIGKILL else ""
            reason = STOPPED if code == -signal.SIGTERM else f"failed: its process died ({how}{memory})"
            yield {job.run_id: reason for job in self.group}

    def stop(self) -> None:
        """Ask it to end what it does."""
        self.process.terminate()

    def end(self) -> None:
        """End it: at once if it works, else as it wants to."""
        if not self.group:
            with suppress(OSError):
                self.connection.send(None)
            self.process.join(PATIENCE)
        self.process.kill()
        self.process.join()
        self.connection.close()


class Asked:
    """Whether the command is asked to end by Ctrl-C or SIGTERM; the workers are told. The second time, KeyboardInterrupt."""

    def __init__(self, team: list[Worker]) -> None:
        self.team, self.signal = team, 0
        # a signal that another thread of the process took wakes nobody who waits, but writes here
        self.awake, self.bell = socket.socketpair()
        for end in (self.awake, self.bell):
            end.setblocking(False)

    def __call__(self, number: int, frame: FrameType | None) -> None:
        """Take a signal."""
        if self.signal:
            raise KeyboardInterrupt
        self.signal = number
        for worker in self.team:
            worker.stop()

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Take signals meanwhile, where that can be: in the main thread."""
        numbers = (signal.SIGINT, signal.SIGTERM) if threading.current_thread() is threading.main_thread() else ()
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


def run(work: Iterable[Job], device: torch.device, console: Console, retries: int = 0) -> dict[str, str]:
    """Do all jobs that are not finished, those of throughput last and alone; return what became of each, "ok" or why not.

    One that fails is tried again from its checkpoint, `retries` times. Raises Interrupted when all have ended on request.
    """
    work = list(work)
    outcomes = {job.run_id: outcome for job in work if (outcome := job.outcome())}
    left = [job for job in work if job.run_id not in outcomes]
    finished = f", {len(outcomes)} of them finished already" if outcomes else ""
    threads = "single-threaded " if device.type == "cpu" else ""
    count = min(workers(device), len(left))
    console.print(f"{len(work)} runs on {device}, {max(1, count)} {threads}at a time{finished}", highlight=False)
    display, team = Display(console, len(left)), list[Worker]()
    asked = Asked(team)
    try:
        with display.progress, asked.listening():
            first = jobs.grouped((job for job in left if job.kind != "throughput"), device)
            alone = [[job] for job in left if job.kind == "throughput"]
            for groups, size in ((first, count), (alone, 1)):
                outcomes |= _do(groups, size, device, team, display, asked, retries)
    finally:
        for worker in team:
            worker.end()
    if asked.signal and (outcomes.keys() != {job.run_id for job in work} or STOPPED in outcomes.values()):
        raise Interrupted(asked.signal)
    return {job.run_id: outcomes[job.run_id] for job in work}


def _do(
    groups: Sequence[Sequence[Job]],
    size: int,
    device: torch.device,
    team: list[Worker],
    display: Display,
    asked: Asked,
    retries: int,
) -> dict[str, str]:
    """Do groups of jobs, `size` at a time; return what became of each job."""
    by_id = {job.run_id: job for group in groups for job in group}
    waiting, tries = deque(groups), dict.fromkeys(by_id, 0)
    outcomes: dict[str, str] = {}
    while True:
        while waiting and not asked.signal and sum(bool(worker.group) for worker in team) < size:
            free = next((worker for worker in team if not worker.group), None)
            if free is None:
                free = Worker(device.type == "cpu")
                team.append(free)
            free.begin(waiting.popleft())
        busy = [worker for worker in team if worker.group]
        if not busy:
            return outcomes
        ready = wait([*(worker.connection for worker in busy), asked.awake])
        if asked.awake in ready and asked.awake.recv(64) and asked.signal:
            display.say("ending after the current step, with checkpoints; once more to end at once")
        for worker in (worker for worker in busy if worker.connection in ready):
            for message in worker.messages():
                if isinstance(message, tuple):
                    display.advance(by_id[message[0]], message[1])
                    continue
                group, worker.group = worker.group, ()
                if not worker.process.is_alive() or STOPPED in message.values():
                    team.remove(worker)
                    worker.end()
                if not asked.signal:
                    message = {run_id: FAILED_ALONE if told == STOPPED else told for run_id, told in message.items()}
                again = [job for job in group if message[job.run_id].startswith("failed") and tries[job.run_id] < retries]
                for job in group:
                    display.finish(job, message[job.run_id], job in again)
                for job in again:
                    tries[job.run_id] += 1
                if again:
                    waiting.append(again)
                outcomes |= message
                break  # it says no more before it is given more
