"""One training on several processes, each on its share of every batch.

All have the same model, generators and order of data. Each draws a batch whole, as one process would, and
learns on its share of it; gradients and losses are averaged over all in one message an update. So the weights
are everywhere the same, an update is that of one process with the whole batch but for rounding, and a
checkpoint is the one that one process writes: either resumes from the other's. For that all devices must draw
the same numbers from a seed: GPUs of one kind do.

What a batch has in common is exchanged: batch norm's statistics, unless the recipe says "local", and
`batch_mean` (models/operations.py).
"""

import functools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import MethodType
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from alibench.benchmarks.training.checkpoints import Checkpoints
from alibench.benchmarks.training.gradients import BatchNorm, Learners, set_gradients
from alibench.benchmarks.training.history import History
from alibench.benchmarks.training.peers import Peers, from_first, rank, reaching, world
from alibench.benchmarks.training.processes import Alone
from alibench.benchmarks.training.recipe import Recipe
from alibench.benchmarks.training.stopping import Request, Stopped
from alibench.benchmarks.training.trainer import Trainer
from alibench.evaluation.data import Split
from alibench.evaluation.errors import BadInput
from alibench.models import operations
from alibench.models.base import Batch, Model, Phase

DUE, ENDING = 1, 2  # what a process says of a checkpoint: it is time for one, or it is asked to end


def refusal(model: Model, recipe: Recipe, processes: int) -> str:
    """Return why so many processes cannot share a training; empty if they can."""
    if recipe.execution == "graphs":
        return "execution 'graphs' has not been tried with several processes: use --set execution=eager"
    if recipe.batch % processes:
        fitting = max(n for n in range(1, processes + 1) if recipe.batch % n == 0)
        larger = processes * (recipe.batch // processes + 1)
        return (
            f"batch {recipe.batch} has no {processes} equal shares: use {fitting} "
            f"process{'es' * (fitting > 1)}, or --set batch={larger}, which changes the result"
        )
    if model.pairwise or model.packing > 1:
        return (
            "its loss compares samples of a batch with one another, so that no process has a share: use one"
        )
    return ""


# -------------------- rounds


class ShardedTrainer(Trainer):
    """Makes a phase's rounds together with the trainers of the other processes.

    Raises BadInput for what they cannot share.
    """

    def __init__(
        self,
        model: Model,
        phase: Phase,
        recipe: Recipe,
        split: Split,
        rng: torch.Generator,
        labelled: Split | None = None,
    ) -> None:
        # refused here too: not every caller has asked `refusal` before
        recipe = recipe.on(rng.device, alone=False)
        if reason := refusal(model, recipe, world()):
            raise BadInput(reason)
        super().__init__(model, phase, recipe, split, rng, labelled)
        self.peers = Peers(self.rng.device)
        self.size = recipe.batch // self.peers.world
        self.kinds = {name: self._kinds(name) for name in self.draws}

        # which batch norm sees the whole batch, and what else a round may change
        whole = recipe.batch_norm == "synchronised"
        norms = [module for module in model.modules() if isinstance(module, BatchNorm) and whole]
        self.norms = [norm for norm in norms if norm.training]
        others = [module for module in model.modules() if module not in norms]
        self.buffers = [buffer for module in others for buffer in module.buffers(recurse=False)]

        # all begin with the first process's weights, and take gradients as it does
        self.peers.follow_first(list(model.state_dict().values()))
        self.judges = from_first(self.judges)

    def _kinds(self, name: str) -> int:
        """Return how many kinds of sample a noise is drawn for; 0 if it does not grow with the batch.

        Its shape is (kinds * B, ...). Raises BadInput for any other.
        """
        whole, share = self.draws[name].shape, self.model.noise(self.size)[name].shape
        kinds = whole[0] // self.recipe.batch
        if whole == share:
            return 0
        if (kinds * self.recipe.batch, *share[1:]) != whole or kinds * self.size != share[0]:
            raise BadInput(
                f"model '{self.model.name}' cannot be shared by several processes: its noise '{name}' has "
                f"shape {whole}, not some numbers for each of {self.recipe.batch} samples, or of as many of "
                "each kind"
            )
        return kinds

    def share(self, batch: Batch) -> Batch:
        """Return this process's share of a batch; of noise, a share of each kind of sample."""
        start = self.peers.rank * self.size

        def part(tensor: Tensor) -> Tensor:
            return tensor[start : start + self.size]

        noise = dict(batch.noise)
        for name, kinds in self.kinds.items():
            if kinds:
                noise[name] = torch.cat([part(kind) for kind in noise[name].chunk(kinds)])
        labelled = (part(batch.labelled[0]), part(batch.labelled[1])) if batch.labelled else None
        return Batch(part(batch.x), noise, None if batch.y is None else part(batch.y), labelled)

    def backward(self, batch: Batch, learners: Learners) -> dict[str, Tensor]:
        """Set the whole batch's gradients of the learners' parameters; return means over all processes."""
        with synchronised(self.norms, self.peers), operations.shared(self.peers.mean):
            monitored = super().backward(self.share(batch), learners)

        # one message for the gradients and what is monitored
        parameters = [p for player in learners.values() for p in player]
        gradients = [p.grad for p in parameters if p.grad is not None]
        means = self.peers.average([*gradients, *monitored.values()])
        set_gradients(parameters, means[: len(parameters)])
        return dict(zip(monitored, means[len(parameters) :], strict=True))

    def make_updates(self, batches: Sequence[Batch]) -> dict[str, Tensor]:
        """Let all groups of a round learn; whatever else it changes is the first process's."""
        monitored = super().make_updates(batches)
        if self.buffers:
            self.peers.follow_first(self.buffers)
        return monitored


# -------------------- batch norm


@contextmanager
def synchronised(norms: Iterable[BatchNorm], peers: Peers) -> Iterator[None]:
    """Have modules of batch norm, which stay as they are, see the whole batch meanwhile."""
    # an instance's attribute comes before its class's method
    norms = list(norms)
    for norm in norms:
        vars(norm)["forward"] = MethodType(functools.partial(normalise, peers=peers), norm)
    try:
        yield
    finally:
        for norm in norms:
            del vars(norm)["forward"]


def normalise(norm: BatchNorm, h: Tensor, peers: Peers) -> Tensor:
    """Return batch norm of a share h (B / W, C, ...) of a batch, by the statistics of the whole.

    Running statistics move as torch's do. torch's own SyncBatchNorm refuses a CPU, and has no second
    derivative.
    """
    # the whole batch's statistics, from those of shares of one size: (W, C)
    x = h.to(torch.promote_types(h.dtype, torch.float32))
    variance, mean = torch.var_mean(x, [dim for dim in range(x.dim()) if dim != 1], correction=0)
    means, variances = peers.each(torch.stack([mean, variance])).unbind(1)
    mean = means.mean(0)
    variance = (variances + (means - mean).square()).mean(0)
    if norm.track_running_stats:
        _track(norm, mean.detach(), variance.detach(), peers.world * x.numel() // x.shape[1])

    # scale and shift
    shape = (1, -1, *[1] * (x.dim() - 2))
    scale = (variance + norm.eps).rsqrt()
    scale = scale if norm.weight is None else scale * norm.weight
    out = (x - mean.view(shape)) * scale.view(shape)
    out = out if norm.bias is None else out + norm.bias.view(shape)
    return out.to(h.dtype)


@torch.no_grad()
def _track(norm: BatchNorm, mean: Tensor, variance: Tensor, n: int) -> None:
    """Move running statistics by the mean and variance (C,) of n numbers; without a momentum, plain means."""
    # the variance of the n numbers is biased, the running one is not
    count = norm.get_buffer("num_batches_tracked").add_(1)
    moved = 1 / float(count) if norm.momentum is None else norm.momentum
    norm.get_buffer("running_mean").mul_(1 - moved).add_(moved * mean)
    norm.get_buffer("running_var").mul_(1 - moved).add_(moved * n / (n - 1) * variance)


# -------------------- checkpoints


class SharedCheckpoints(Checkpoints):
    """Checkpoints of a shared training: all agree on when, the first process writes and reads them."""

    def __init__(self, checkpoints: Checkpoints) -> None:
        agreed = Request()  # by all: nobody ends alone, whenever it is asked to
        super().__init__(checkpoints.folder, checkpoints.belongs, checkpoints.every, agreed)
        self.asked = checkpoints.request

    def due(self) -> bool:
        """Return whether the first process's time has come, or any process is asked to end."""
        # the largest wish of all is what all do
        says = torch.tensor(ENDING if self.asked.made else DUE if rank() == 0 and super().due() else 0)
        with reaching():
            dist.all_reduce(says, dist.ReduceOp.MAX)
        self.request.made = int(says) == ENDING
        return bool(says)

    def write(self, rounds: int, tensors: Mapping[str, Tensor], history: Mapping[str, Any]) -> None:
        """Write a state in the first process, which raises OSError; all raise Stopped if asked to end."""
        if rank() == 0:
            super().write(rounds, tensors, history)
        elif self.request.made:
            raise Stopped

    def newest(self) -> tuple[dict[str, Tensor], History] | None:
        """Return the first process's newest state, in all."""
        state: tuple[dict[str, Tensor], History] | None
        state = from_first(super().newest() if rank() == 0 else None)
        return state


class Sharded(Alone):
    """Several processes make every round of one model together; `announce` is called as a training begins."""

    kind = ShardedTrainer

    def __init__(self, announce: Callable[[], None] = lambda: None) -> None:
        self.announce = announce

    def begin(self, checkpoints: Checkpoints | None) -> Checkpoints | None:
        """Begin a training in all processes; return its checkpoints, which the first process writes."""
        self.announce()
        return SharedCheckpoints(checkpoints) if checkpoints else None
