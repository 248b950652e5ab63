"""One training on several processes, each on its share of every batch: `torchrun ... --no-python alibench run
...`.

All have the same model, generators and order of data. Each draws a batch whole, as one process would, and
learns on its share of it; gradients and losses are averaged over all in one message an update. So the weights
are everywhere the same, an update is that of one process with the whole batch but for rounding, and a
checkpoint is what one process leaves: either goes on from the other's. For that all devices must draw the
same numbers from a seed: GPUs of one kind do.

What a batch has in common is exchanged: batch norm's statistics, unless the recipe says "local", and
`batch_mean` (models/operations.py). The first process runs the command, and it alone writes. The others
`follow` it: they are told of a training when it begins, take part in it, and wait for the next while the
first measures what came out.

Numbers go by NCCL on CUDA, by gloo on a CPU. NCCL has never been run yet: no machine with two GPUs has been
at hand.
"""

import os
import signal
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, suppress
from typing import Any

import torch
import torch.distributed as dist

from alibench.benchmarks.config import compute, plugins
from alibench.benchmarks.running import jobs, worker
from alibench.benchmarks.running.engine import Group, Listener
from alibench.benchmarks.running.jobs import Failed, Job
from alibench.benchmarks.running.outcomes import Outcome, device_failed
from alibench.benchmarks.training.checkpoints import Checkpoints
from alibench.benchmarks.training.loop import train_together
from alibench.benchmarks.training.peers import Lost, device_of, exchange_group, from_first, join, rank, world
from alibench.benchmarks.training.sharded import SharedCheckpoints, refusal
from alibench.benchmarks.training.stopping import Request, Stopped
from alibench.evaluation.errors import BadInput

# -------------------- who begins one


class _Now:
    """What this process is doing."""

    sharing = False  # what is trained now is trained by all
    announced: object = None  # what the first is to tell the others when it begins
    astray = False  # the others were told of a training that has not come to its end


@contextmanager
def sharing(announced: object = None) -> Iterator[None]:
    """Train meanwhile together with all other processes; they `follow` and are told what is `announced`, or
    do the same.
    """
    join()
    _Now.sharing, _Now.announced = True, announced
    try:
        yield
    finally:
        _Now.sharing, _Now.announced = False, None


def shares() -> bool:
    """Return whether what is trained now is trained by several processes."""
    return _Now.sharing and world() > 1


def begin(kept: Checkpoints | None) -> Checkpoints | None:
    """Begin a training that all processes share; return its checkpoints."""
    if _Now.announced is not None:
        _Now.astray = True
        from_first(_Now.announced)
    return SharedCheckpoints(kept) if kept else None


class Together:
    """The first process's engine: one job after another, here, and what is to be trained with those that
    follow it.
    """

    size = queued = 1

    def __init__(self, device: torch.device) -> None:
        join()
        self.device, self.request, self.group = device, Request(), list[Job]()

    @property
    def where(self) -> str:
        """By how many."""
        return f", trained by {world()} processes"

    def check(self, work: Sequence[Job], planned: Mapping[str, Any]) -> None:
        """Refuse what these processes cannot train together, and more of them than GPUs."""
        if self.device.type not in ("cuda", "cpu"):
            raise BadInput(f"several processes cannot share '{self.device}': use --device cpu")
        if self.device.index is not None:
            raise BadInput(
                f"--device {self.device}: several processes take a GPU each, so say {self.device.type}"
            )
        if self.device.type == "cuda" and (there := torch.cuda.device_count()) < int(
            os.environ["LOCAL_WORLD_SIZE"]
        ):
            raise BadInput(
                f"each process needs a GPU of its own, there are {there}: torchrun --nproc_per_node {there}"
            )
        for job in work:
            if _is_shared(job) and (reason := refusal(job.suite.recipe_of(job.name), world())):
                raise BadInput(f"suite '{job.suite.name}', model '{job.name}': {reason}")

    def grouped(self, work: Iterable[Job]) -> list[Group]:
        """Each by itself."""
        return [[job] for job in work]

    def begin(self, group: Group) -> None:
        """Take a job; `wait` does it."""
        self.group = list(group)

    def wait(self, listener: Listener) -> list[dict[str, Outcome]]:
        """Do the job; return what became of it. Raises Lost where its training fails, or this process's GPU."""
        (job,), given = self.group, tuple(plugins.LOADED)
        before = _stamp(job)
        with sharing((job, given)) if _is_shared(job) else nullcontext():
            outcome = worker.work([job], listener.reach, self.request, given)
        _Now.astray = _Now.astray and outcome[job.run_id].failed and _stamp(job) == before
        if _Now.astray or device_failed(outcome):
            raise Lost(_last(job.run_id, str(outcome[job.run_id])))
        return [outcome]

    def stop(self) -> None:
        """End what is done after its step, with a checkpoint, or at once where nothing is lost by it. Raises
        Stopped.
        """
        self.request.take(signal.SIGTERM, None)

    def end(self) -> None:
        """There is nothing to let go of: `dismiss` does, after the command's last job."""


def _is_shared(job: Job) -> bool:
    """Return whether a job trains something."""
    return job.kind == "run" and not job.elsewhere


def _stamp(job: Job) -> int:
    """Return when a training of this run last came to its end."""
    left = job.folder / "training.json"
    return left.stat().st_mtime_ns if left.exists() else 0


def _last(run_id: str, outcome: str) -> str:
    """Return in a line what a training failed by; print it whole where that is more."""
    *more, last = outcome.strip().splitlines()
    if more:
        print(outcome, file=sys.stderr)
    remedy = "" if last.endswith(worker.RESUME) else "; what was kept till then is, go on by --resume"
    return f"{run_id} failed, so all processes end: {last.removeprefix('failed: ')}{remedy}"


def follow() -> None:
    """Take part in what the first process trains, until it dismisses this one. Raises Lost if it cannot."""
    request = Request()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, request.take)
    join()
    try:
        while (message := from_first()) is not None:
            job, given = message
            request.made = (
                False  # who is asked to end while nothing is trained, is dismissed if the first is asked, too
            )
            plugins.again(given)
            with suppress(Stopped):
                _take_part(job, torch.device(device_of(job.device)), request)
    except (BadInput, Failed) as problem:
        raise Lost(f"process {rank()} ends: {problem}") from None
    except torch.AcceleratorError as error:
        raise Lost(f"process {rank()} ends: the device failed: {worker.device_failure(error)}") from None
    _leave()


def _take_part(job: Job, device: torch.device, request: Request) -> None:
    """Train what the first process trains, from its checkpoint, and keep nothing."""
    worker.prepare(device)
    suite, name, seed = job.suite, job.name, job.seed
    model, recipe, data = suite.build(name, seed), compute.recipe_of(suite, name, seed), suite.load().train
    kept = Checkpoints(job.folder / jobs.CHECKPOINTS, {}, request=request)
    with sharing():
        train_together(
            [model],
            data,
            recipe,
            [seed],
            device,
            labelled=[compute.labelled_of(suite, name, seed)],
            checkpoints=kept,
        )


def dismiss() -> None:
    """Let the others end, whether or not anything was trained. Those that a failure left in a training,
    torchrun ends.
    """
    if not _Now.astray:
        join()
        with suppress(Failed):
            from_first()
        _leave()


def _leave() -> None:
    dist.destroy_process_group()
    exchange_group.cache_clear()
