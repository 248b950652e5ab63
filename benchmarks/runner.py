"""Runs jobs side by side in worker processes, shows how far they are, then measures speed with nothing beside it.

On a CPU every worker is single-threaded and there is one a core: small networks run fastest so, and a run's numbers do not
depend on how many run beside it. On an accelerator runs follow one another, the seeds of a small network stacked.
"""

import multiprocessing
import os
import signal
import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from threading import Thread
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

from benchmarks import jobs
from benchmarks.jobs import Job

MEMORY_A_WORKER = 1.0e9  # bytes, libraries included; on a CPU there are no more workers than fit
# Blocks of memory that a training step frees and takes again stay with the process: a third more speed for small nets.
ALLOCATOR = {"MALLOC_MMAP_THRESHOLD_": "2000000000", "MALLOC_TRIM_THRESHOLD_": "8000000000"}

_reports: Any = None  # a worker's end of the queue of progress


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


def _start_worker(reports: Any, single_threaded: bool) -> None:
    global _reports
    _reports = reports
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the command itself ends its workers
    Thread(target=_end_with_parent, daemon=True).start()
    if single_threaded:
        torch.set_num_threads(1)


def _end_with_parent() -> None:
    """A killed command leaves no worker behind that goes on writing."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _work(group: Sequence[Job]) -> dict[str, str]:
    """Do jobs in a worker. A failure is theirs alone and comes back as text."""
    try:
        return jobs.execute(group, lambda run_id, steps: _reports.put((run_id, steps)))
    except Exception:
        return {job.run_id: f"failed: {traceback.format_exc()}" for job in group}


class Display:
    """Bars with the time left on a terminal; elsewhere a line when a job ends."""

    def __init__(self, console: Console, total: int) -> None:
        self.console, self.started, self.done, self.total = console, time.monotonic(), 0, total
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        self.progress = Progress(*columns, TimeRemainingColumn(), console=console, disable=not console.is_terminal)
        self.all = self.progress.add_task("all runs", total=total)
        self.bars: dict[str, TaskID] = {}
        self.ended: set[str] = set()

    def advance(self, job: Job, steps: int) -> None:
        """Move a run's bar, which appears with its first steps; a late report of a finished run is dropped."""
        run_id = job.run_id
        if run_id in self.ended:
            return
        if run_id not in self.bars:
            self.bars[run_id] = self.progress.add_task(f"  {run_id}", total=job.steps)
        self.progress.advance(self.bars[run_id], steps)

    def finish(self, job: Job, outcome: str) -> None:
        """Say that a job is done."""
        self.done += 1
        self.ended.add(job.run_id)
        self.progress.advance(self.all)
        if job.run_id in self.bars:
            self.progress.remove_task(self.bars.pop(job.run_id))
        elapsed = time.monotonic() - self.started
        left = elapsed / self.done * (self.total - self.done)
        text = "done" if outcome == "ok" else outcome
        if not self.console.is_terminal or outcome != "ok":
            clock = f"{elapsed:5.0f} s, about {left:.0f} s left"
            self.console.print(f"[{self.done}/{self.total}] {job.run_id}: {text} ({clock})", markup=False, highlight=False)


@contextmanager
def _pool(count: int, single_threaded: bool, on_report: Callable[[str, int], None]) -> Iterator[ProcessPoolExecutor]:
    """A pool of fresh processes and a thread that passes on what they report."""
    context = multiprocessing.get_context("spawn")
    reports = context.Queue()

    def listen() -> None:
        while (message := reports.get()) is not None:
            on_report(*message)

    listener = Thread(target=listen, daemon=True)
    listener.start()
    environment = dict(os.environ)
    if single_threaded:
        os.environ.update({"OMP_NUM_THREADS": "1", **ALLOCATOR})
    pool = ProcessPoolExecutor(count, context, _start_worker, (reports, single_threaded))
    try:
        yield pool
    except BaseException:
        for process in list((pool._processes or {}).values()):
            process.terminate()
        raise
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
        os.environ.clear()
        os.environ.update(environment)
        reports.put(None)
        listener.join()


def run(work: Iterable[Job], device: torch.device, console: Console) -> dict[str, str]:
    """Do all jobs, those of throughput last and alone; return what became of each, "ok" or why not."""
    work = list(work)
    by_id = {job.run_id: job for job in work}
    count = min(workers(device), len(work))
    threads = "single-threaded " if device.type == "cpu" else ""
    console.print(f"{len(work)} runs on {device}, {count} {threads}at a time", highlight=False)
    display = Display(console, len(work))
    outcomes: dict[str, str] = {}
    with (
        display.progress,
        _pool(count, device.type == "cpu", lambda run_id, steps: display.advance(by_id[run_id], steps)) as pool,
    ):
        first = jobs.grouped((job for job in work if job.kind != "throughput"), device)
        futures = {_submit(pool, group): group for group in first}
        for future in as_completed(futures):
            outcomes |= _outcome(future, futures[future])
            for job in futures[future]:
                display.finish(job, outcomes[job.run_id])
        for job in (job for job in work if job.kind == "throughput"):
            outcomes |= _outcome(_submit(pool, [job]), [job])
            display.finish(job, outcomes[job.run_id])
    return outcomes


def _submit(pool: ProcessPoolExecutor, group: Sequence[Job]) -> "Future[dict[str, str]]":
    try:
        return pool.submit(_work, group)
    except BrokenProcessPool as broken:
        future: Future[dict[str, str]] = Future()
        future.set_exception(broken)
        return future


def _outcome(future: "Future[dict[str, str]]", group: Sequence[Job]) -> dict[str, str]:
    try:
        return future.result()
    except BrokenProcessPool:
        return {job.run_id: "failed: its process died, killed or out of memory" for job in group}
