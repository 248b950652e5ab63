"""Runs that several processes train together: `torchrun ... --no-python alibench run ...`.

The first process runs the command, and it alone writes. The others `follow` it: they get a message when a
training begins, take part in it, and wait for the next while the first measures the result.
"""

import functools
import os
import signal
import sys
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any

import torch
import torch.distributed as dist

from alibench.benchmarks.config import compute, plugins
from alibench.benchmarks.running import jobs, worker
from alibench.benchmarks.running.engine import Group, Listener
from alibench.benchmarks.running.execute import execute
from alibench.benchmarks.running.jobs import Job
from alibench.benchmarks.running.outcomes import Outcome, device_failed
from alibench.benchmarks.training.checkpoints import Checkpoints
from alibench.benchmarks.training.loop import train_together
from alibench.benchmarks.training.outcomes import Failed, Member
from alibench.benchmarks.training.peers import Lost, device_of, exchange_group, from_first, join, rank, world
from alibench.benchmarks.training.processes import ALONE
from alibench.benchmarks.training.sharded import Sharded, refusal
from alibench.benchmarks.training.stopping import Request, Stopped
from alibench.evaluation.errors import BadInput


class Together:
    """The first process's engine: one job after another, trainings together with the other processes."""

    size = queued = 1
    # The others are in a training that has not ended; of the process, as they are.
    astray = False

    def __init__(self, device: torch.device) -> None:
        join()
        self.device, self.request, self.group = device, Request(), list[Job]()

    @property
    def where(self) -> str:
        """Say by how many processes runs are trained."""
        return f", trained by {world()} processes"

    def check(self, work: Sequence[Job], planned: Mapping[str, Any]) -> None:
        """Raise BadInput for what these processes cannot train together, and for more of them than GPUs."""
        if str(self.device) not in ("cuda", "cpu"):
            raise BadInput(f"--device {self.device}: several processes take a GPU each: say cuda, or cpu")
        gpus = torch.cuda.device_count()
        if self.device.type == "cuda" and gpus < int(os.environ["LOCAL_WORLD_SIZE"]):
            raise BadInput(
                f"each process needs a GPU of its own, there are {gpus}: torchrun --nproc_per_node {gpus}"
            )

        for job in work:
            # only trainings are shared
            if not job.trains:
                continue
            model, recipe = job.suite.shapes(job.name), job.suite.recipe_of(job.name)
            if reason := refusal(model, recipe, world()):
                raise BadInput(f"suite '{job.suite.name}', model '{job.name}': {reason}")

    def grouped(self, work: Iterable[Job]) -> list[Group]:
        """Return each job as a group."""
        return [[job] for job in work]

    def begin(self, group: Group) -> None:
        """Take a job; `wait` does it."""
        self.group = list(group)

    def wait(self, listener: Listener) -> list[dict[str, Outcome]]:
        """Do the job; return its outcome. Raises Lost where its training fails, or this process's GPU."""
        (job,), loaded = self.group, tuple(plugins.LOADED)

        # Only a training that begins is announced: not one that was finished before
        def announce() -> None:
            Together.astray = True
            from_first((job, loaded))

        before = _stamp(job)
        processes = Sharded(announce) if job.trains else ALONE
        do = functools.partial(execute, processes=processes)
        outcomes = worker.work([job], listener.reach, self.request, loaded, do)

        # A failure after the training leaves the others waiting for the next one, as they should
        outcome = outcomes[job.run_id]
        Together.astray = Together.astray and outcome.failed and _stamp(job) == before
        if Together.astray or device_failed(outcomes):
            raise Lost(_last(job.run_id, str(outcome)))
        return [outcomes]

    def stop(self) -> None:
        """End a training after its step, with a checkpoint; other work at once, by raising Stopped."""
        self.request.take(signal.SIGTERM, None)

    def end(self) -> None:
        """Release nothing: `dismiss` releases the others, after the command's last job."""


def _stamp(job: Job) -> int:
    """Return when a training of this run last ended; 0 if none has."""
    training = job.folder / "training.json"
    return training.stat().st_mtime_ns if training.exists() else 0


def _last(run_id: str, outcome: str) -> str:
    """Return in a line why a training failed; print the whole outcome where that is more."""
    # a mistake in the code comes as a traceback
    *more, last = outcome.strip().splitlines()
    if more:
        print(outcome, file=sys.stderr)
    remedy = "" if last.endswith(worker.RESUME) else "; its last checkpoint is kept, resume it with --resume"
    return f"{run_id} failed, so all processes end: {last.removeprefix('failed: ')}{remedy}"


# -------------------- the other processes


def follow() -> None:
    """Take part in what the first process trains, until it dismisses this one. Raises Lost if that fails."""
    # torchrun sends signals to all; each is handled after a step, together
    request = Request()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, request.take)
    join()
    try:
        while (message := from_first()) is not None:
            job, loaded = message
            # Between trainings the first process alone decides, and dismisses this one.
            request.made = False
            plugins.again(loaded)
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
    member = Member(suite.build(name, seed), seed, compute.labelled_of(suite, name, seed))
    recipe, split = compute.recipe_of(suite, name, seed), suite.load().train
    # the first process reads and writes them: this one needs the request alone
    checkpoints = Checkpoints(job.folder / jobs.CHECKPOINTS, {}, request=request)
    train_together([member], split, recipe, device, checkpoints=checkpoints, processes=Sharded())


def dismiss() -> None:
    """Let the other processes end; torchrun ends those that a failure left in a training."""
    if not Together.astray:
        join()
        with suppress(Failed):
            from_first()
        _leave()


def _leave() -> None:
    dist.destroy_process_group()
    exchange_group.cache_clear()
