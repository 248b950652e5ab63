"""One training on several processes, each on its share of every batch: `torchrun ... --no-python alibench run ...`.

All have the same model, generators and order of data. Each draws a batch whole, as one process would, and learns on its
share of it; gradients and losses are averaged over all in one message an update. So the weights are everywhere the same, an
update is that of one process with the whole batch but for rounding, and a checkpoint is what one process leaves: either goes
on from the other's. For that all devices must draw the same numbers from a seed: GPUs of one kind do.

What a batch has in common is exchanged: batch norm's statistics, unless the recipe says "local", and `batch_mean`
(models/operations.py). The first process runs the command, and it alone writes. The others `follow` it: they are told of a
training when it begins, take part in it, and wait for the next while the first measures what came out.

Numbers go by NCCL on CUDA, by gloo on a CPU. NCCL has never been run yet: no machine with two GPUs has been at hand.
"""

import functools
import os
import signal
import socket
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, suppress
from datetime import timedelta
from types import MethodType
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from benchmarks import cost, jobs, plugins, worker
from benchmarks.checkpoints import Checkpoints
from benchmarks.engine import Group, Listener
from benchmarks.gradients import BatchNorm, Learners, leave
from benchmarks.jobs import Failed, Job
from benchmarks.loop import Recipe, Trainer, train_together
from benchmarks.stopping import Request, Stopped
from evaluation.base import BadInput, Split
from models import operations
from models.base import Batch, Model, Phase

PATIENCE = timedelta(days=365)  # with which processes wait for one another: the first measures for as long as it takes
DUE, ENDING = 1, 2  # what a process says of a checkpoint: it is time for one, or it is asked to end


class Lost(Exception):
    """A training failed in one process, and the others cannot be brought back into step: the command must end."""


# ------------------------------------------------------------------------------------------------ the processes


def world() -> int:
    """Return how many processes there are: one, unless torchrun started this one."""
    if dist.is_available() and dist.is_initialized():
        return dist.get_world_size()
    return int(os.environ["WORLD_SIZE"]) if "TORCHELASTIC_RUN_ID" in os.environ else 1


def rank() -> int:
    """Return which of them this one is; 0, the first, runs the command and writes."""
    if dist.is_available() and dist.is_initialized():
        return dist.get_rank()
    return int(os.environ["RANK"]) if "TORCHELASTIC_RUN_ID" in os.environ else 0


def join() -> None:
    """Meet the other processes that torchrun started, if that has not happened; waits for them."""
    if not dist.is_initialized():
        dist.init_process_group("gloo", timeout=PATIENCE)


def device_of(device: str) -> str:
    """Return this process's own device of a kind."""
    return f"cuda:{os.environ.get('LOCAL_RANK', 0)}" if torch.device(device).type == "cuda" else device


@functools.cache
def _exchange(kind: str) -> dist.ProcessGroup:
    """Return the group in which tensors on a kind of device are exchanged; all processes ask for it at the same moment."""
    if kind == "cuda":
        torch.cuda.set_device(device_of(kind))
    group = dist.new_group(backend="nccl" if kind == "cuda" else "gloo")
    assert isinstance(group, dist.ProcessGroup)
    return group


@contextmanager
def _reaching() -> Iterator[None]:
    """Talk to all others. Raises Failed if one has ended."""
    try:
        yield
    except (torch.OutOfMemoryError, torch.AcceleratorError):
        raise  # it is this process's own
    except RuntimeError as error:  # gloo has no name for it
        raise Failed("another process has ended or cannot be reached: its own message says why") from error


def _tell(message: object = None) -> Any:
    """Return what the first process says to all. Raises Failed."""
    held = [message]
    with _reaching():
        dist.broadcast_object_list(held, src=0)
    return held[0]


class _Sum(torch.autograd.Function):
    """The sum over processes; its derivative is one, too, so there are derivatives of every order."""

    @staticmethod
    def forward(h: Tensor, group: dist.ProcessGroup) -> Tensor:
        """Return the sum of all processes' h."""
        total = h.clone(memory_format=torch.contiguous_format)
        with _reaching():
            dist.all_reduce(total, group=group)
        return total

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, dist.ProcessGroup], output: Tensor) -> None:
        """Keep among whom it is."""
        ctx.group = inputs[1]

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        """Return the sum of the gradients, for the losses of all processes depend on each one's h."""
        return _Sum.apply(gradient, ctx.group), None


class Peers:
    """The processes of a training as one of them sees them, with what they exchange; all of them ask for the same."""

    def __init__(self, device: torch.device) -> None:
        self.group, self.rank, self.world = _exchange(device.type), rank(), world()

    def mean(self, h: Tensor) -> Tensor:
        """Return the mean of all processes' h; with derivatives."""
        total: Tensor = _Sum.apply(h, self.group)
        return total / self.world

    def each(self, h: Tensor) -> Tensor:
        """Return every process's h, (W, ...); with derivatives."""
        rows = torch.stack([h if i == self.rank else torch.zeros_like(h) for i in range(self.world)])
        every: Tensor = _Sum.apply(rows, self.group)
        return every

    def average(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        """Return the means of all processes' tensors, from one message for each type of number."""

        def mean(flat: Tensor) -> None:
            with _reaching():
                dist.all_reduce(flat, group=self.group)
            flat /= self.world

        return _at_once(tensors, mean)

    @torch.no_grad()
    def follow_first(self, tensors: Sequence[Tensor]) -> None:
        """Give tensors the first process's values."""
        for tensor, value in zip(tensors, _at_once(tensors, self._from_first), strict=True):
            tensor.copy_(value)

    def _from_first(self, flat: Tensor) -> None:
        with _reaching():
            dist.broadcast(flat, src=0, group=self.group)


def _at_once(tensors: Sequence[Tensor], change: Callable[[Tensor], None]) -> list[Tensor]:
    """Return tensors as `change` leaves their numbers, those of a type side by side."""
    changed: dict[int, Tensor] = {}
    for kind in {tensor.dtype: None for tensor in tensors}:
        places = [i for i, tensor in enumerate(tensors) if tensor.dtype == kind]
        flat = torch.cat([tensors[i].detach().reshape(-1) for i in places])
        change(flat)
        parts = flat.split([tensors[i].numel() for i in places])
        changed |= {i: part.view(tensors[i].shape) for i, part in zip(places, parts, strict=True)}
    return [changed[i] for i in range(len(tensors))]


# ------------------------------------------------------------------------------------------------ the training


def normalise(norm: BatchNorm, h: Tensor, peers: Peers) -> Tensor:
    """Return what batch norm in training makes of a share h (B / W, C, ...) of a batch, by the statistics of the whole.

    Running statistics move as torch's do. torch's own SyncBatchNorm refuses a CPU, and has no second derivative.
    """
    norm._check_input_dim(h)
    x = h.to(torch.promote_types(h.dtype, torch.float32))
    variance, mean = torch.var_mean(x, [dim for dim in range(x.dim()) if dim != 1], correction=0)
    means, variances = peers.each(torch.stack([mean, variance])).unbind(1)  # (W, C); shares are of one size
    mean = means.mean(0)
    variance = (variances + (means - mean).square()).mean(0)
    if norm.track_running_stats:
        _track(norm, mean.detach(), variance.detach(), peers.world * x.numel() // x.shape[1])
    shape = (1, -1, *[1] * (x.dim() - 2))
    scale = (variance + norm.eps).rsqrt()
    scale = scale if norm.weight is None else scale * norm.weight
    out = (x - mean.view(shape)) * scale.view(shape)
    out = out if norm.bias is None else out + norm.bias.view(shape)
    return out.to(h.dtype)


@torch.no_grad()
def _track(norm: BatchNorm, mean: Tensor, variance: Tensor, n: int) -> None:
    """Move running statistics by those (C,) of n numbers; without a momentum they are plain means."""
    assert norm.num_batches_tracked is not None
    assert norm.running_mean is not None
    assert norm.running_var is not None
    norm.num_batches_tracked += 1
    moved = 1 / float(norm.num_batches_tracked) if norm.momentum is None else norm.momentum
    norm.running_mean.mul_(1 - moved).add_(moved * mean)
    norm.running_var.mul_(1 - moved).add_(moved * n / (n - 1) * variance)


@contextmanager
def synchronised(norms: Iterable[BatchNorm], peers: Peers) -> Iterator[None]:
    """Have modules of batch norm, which stay as they are, see the whole batch meanwhile."""
    norms = list(norms)
    for norm in norms:
        vars(norm)["forward"] = MethodType(functools.partial(normalise, peers=peers), norm)
    try:
        yield
    finally:
        for norm in norms:
            del vars(norm)["forward"]


def refusal(recipe: Recipe, processes: int) -> str:
    """Say why so many processes cannot share a training; nothing if they can."""
    if recipe.execution == "graphs":
        return "execution 'graphs' has not been tried with several processes: use --set execution=eager"
    if recipe.batch % processes:
        fitting = max(n for n in range(1, processes + 1) if recipe.batch % n == 0)
        larger = processes * (recipe.batch // processes + 1)
        return (
            f"batch {recipe.batch} has no {processes} equal shares: use {fitting} process{'es' * (fitting > 1)}, or "
            f"--set batch={larger}, which changes the result"
        )
    return ""


class ShardedTrainer(Trainer):
    """Makes a phase's rounds together with its like in the other processes. Raises BadInput for what they cannot share."""

    def __init__(
        self, model: Model, phase: Phase, recipe: Recipe, split: Split, rng: torch.Generator, labelled: Split | None = None
    ) -> None:
        recipe = recipe.on(rng.device, alone=False)
        if reason := refusal(recipe, world()):
            raise BadInput(reason)
        super().__init__(model, phase, recipe, split, rng, labelled)
        self.peers = Peers(self.rng.device)
        self.size = recipe.batch // self.peers.world
        self.kinds = {name: self._kinds(name) for name in self.draws}
        together = recipe.batch_norm == "synchronised"
        modules = list(model.modules())
        self.norms = [module for module in modules if isinstance(module, BatchNorm) and module.training and together]
        # what else a round may change beside the parameters
        self.own = [
            buffer
            for module in modules
            if not (isinstance(module, BatchNorm) and together)
            for buffer in module.buffers(recurse=False)
        ]
        self.peers.follow_first(list(model.state_dict().values()))
        self.judges = _tell(self.judges)

    def _kinds(self, name: str) -> int:
        """Return of how many kinds of sample some noise is, (kinds * B, ...); 0 if it does not grow with the batch."""
        whole, share = self.draws[name].shape, self.model.noise(self.size)[name].shape
        kinds = whole[0] // self.recipe.batch
        if whole == share:
            return 0
        if (kinds * self.recipe.batch, *share[1:]) != whole or kinds * self.size != share[0]:
            raise BadInput(
                f"model '{self.model.name}' cannot be shared by several processes: its noise '{name}' has shape {whole}, "
                f"not some numbers for each of {self.recipe.batch} samples, or of as many of each kind"
            )
        return kinds

    def share(self, batch: Batch) -> Batch:
        """Return this process's share of a batch; of noise, a share of each kind of sample."""
        start = self.peers.rank * self.size

        def part(tensor: Tensor) -> Tensor:
            return tensor[start : start + self.size]

        def of_each(name: str, drawn: Tensor) -> Tensor:
            kinds = self.kinds[name]
            return torch.cat([part(kind) for kind in drawn.chunk(kinds)]) if kinds else drawn

        noise = {name: of_each(name, drawn) for name, drawn in batch.noise.items()}
        labelled = (part(batch.labelled[0]), part(batch.labelled[1])) if batch.labelled else None
        return Batch(part(batch.x), noise, None if batch.y is None else part(batch.y), labelled)

    def learn(self, batch: Batch, learners: Learners) -> dict[str, Tensor]:
        """Leave the whole batch's gradients in the learners' parameters; return what was monitored, of all processes."""
        with synchronised(self.norms, self.peers), operations.shared(self.peers.mean):
            monitored = super().learn(self.share(batch), learners)
        own = [p for player in learners.values() for p in player]
        found = self.peers.average([*(p.grad for p in own if p.grad is not None), *monitored.values()])
        leave(own, found[: len(own)])
        return dict(zip(monitored, found[len(own) :], strict=True))

    def advance(self, batches: Sequence[Batch]) -> dict[str, Tensor]:
        """Let all groups of a round learn; what else it changed is the first process's."""
        monitored = super().advance(batches)
        if self.own:
            self.peers.follow_first(self.own)
        return monitored


class SharedCheckpoints(Checkpoints):
    """Those of a training that several processes share: all agree when there is one, the first writes and reads it."""

    def __init__(self, kept: Checkpoints) -> None:
        agreed = Request()  # by all: nobody ends alone, whenever it is asked to
        super().__init__(kept.folder, kept.belongs, kept.every, agreed)
        self.asked = kept.request

    def due(self) -> bool:
        """Return whether one should be written after this step: the first's time has come, or any is asked to end."""
        says = torch.tensor(ENDING if self.asked.made else DUE if rank() == 0 and super().due() else 0)
        with _reaching():
            dist.all_reduce(says, dist.ReduceOp.MAX)
        self.request.made = int(says) == ENDING
        return bool(says)

    def write(self, rounds: int, tensors: Mapping[str, Tensor], about: Mapping[str, Any]) -> None:
        """Keep a state, in the first process. Raises OSError there, and Stopped in all of them if they are asked to end."""
        if rank() == 0:
            super().write(rounds, tensors, about)
        elif self.request.made:
            raise Stopped

    def newest(self) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
        """Return the first process's newest state."""
        found: tuple[dict[str, Tensor], dict[str, Any]] | None = _tell(super().newest() if rank() == 0 else None)
        return found


# ------------------------------------------------------------------------------------------------ who begins one


class _Now:
    """What this process is doing."""

    sharing = False  # what is trained now is trained by all
    announced: object = None  # what the first is to tell the others when it begins
    astray = False  # the others were told of a training that has not come to its end


@contextmanager
def sharing(announced: object = None) -> Iterator[None]:
    """Train meanwhile together with all other processes; they `follow` and are told what is `announced`, or do the same."""
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
        _tell(_Now.announced)
    return SharedCheckpoints(kept) if kept else None


class Together:
    """The first process's engine: one job after another, here, and what is to be trained with those that follow it."""

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
            raise BadInput(f"--device {self.device}: several processes take a GPU each, so say {self.device.type}")
        if self.device.type == "cuda" and (there := torch.cuda.device_count()) < int(os.environ["LOCAL_WORLD_SIZE"]):
            raise BadInput(f"each process needs a GPU of its own, there are {there}: torchrun --nproc_per_node {there}")
        for job in work:
            if _is_shared(job) and (reason := refusal(job.suite.recipe_of(job.name), world())):
                raise BadInput(f"suite '{job.suite.name}', model '{job.name}': {reason}")

    def grouped(self, work: Iterable[Job]) -> list[Group]:
        """Each by itself."""
        return [[job] for job in work]

    def begin(self, group: Group) -> None:
        """Take a job; `wait` does it."""
        self.group = list(group)

    def wait(self, listener: Listener, bell: socket.socket) -> list[dict[str, str]]:
        """Do the job; return what became of it. Raises Lost where its training fails, or this process's GPU."""
        (job,), given = self.group, tuple(plugins.LOADED)
        before = _stamp(job)
        with sharing((job, given)) if _is_shared(job) else nullcontext():
            outcome = worker.work([job], listener.reach, self.request, given)
        _Now.astray = _Now.astray and outcome[job.run_id].startswith("failed") and _stamp(job) == before
        if _Now.astray or worker.is_lost(outcome):
            raise Lost(_last(job.run_id, outcome[job.run_id]))
        return [outcome]

    def stop(self) -> None:
        """End what is done after its step, with a checkpoint, or at once where nothing is lost by it. Raises Stopped."""
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
        while (message := _tell()) is not None:
            job, given = message
            request.made = False  # who is asked to end while nothing is trained, is dismissed if the first is asked, too
            plugins.again(given)
            with suppress(Stopped):
                _take_part(job, torch.device(device_of(job.device)), request)
    except (BadInput, Failed) as problem:
        raise Lost(f"process {rank()} ends: {problem}") from None
    except torch.AcceleratorError as error:
        raise Lost(f"process {rank()} ends: {worker.lost(error).removeprefix('failed: ')}") from None
    _leave()


def _take_part(job: Job, device: torch.device, request: Request) -> None:
    """Train what the first process trains, from its checkpoint, and keep nothing."""
    worker.prepare(device)
    suite, name, seed = job.suite, job.name, job.seed
    model, recipe, data = suite.build(name, seed), cost.recipe_of(suite, name, seed), suite.load().train
    kept = Checkpoints(job.folder / jobs.CHECKPOINTS, {}, request=request)
    with sharing():
        train_together(
            [model], data, recipe, [seed], device, labelled=[cost.labelled_of(suite, name, seed)], checkpoints=kept
        )


def dismiss() -> None:
    """Let the others end, whether or not anything was trained. Those that a failure left in a training, torchrun ends."""
    if not _Now.astray:
        join()
        with suppress(Failed):
            _tell()
        _leave()


def _leave() -> None:
    dist.destroy_process_group()
    _exchange.cache_clear()
