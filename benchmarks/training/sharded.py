"""One training on several processes, each on its share of every batch."""

import functools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import MethodType
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from alibench.benchmarks.training.checkpoints import Checkpoints
from alibench.benchmarks.training.gradients import BatchNorm, Learners, leave
from alibench.benchmarks.training.peers import Peers, from_first, rank, reaching, world
from alibench.benchmarks.training.recipe import Recipe
from alibench.benchmarks.training.stopping import Request, Stopped
from alibench.benchmarks.training.trainer import Trainer
from alibench.evaluation.data import Split
from alibench.evaluation.errors import BadInput
from alibench.models import operations
from alibench.models.base import Batch, Model, Phase

DUE, ENDING = 1, 2  # what a process says of a checkpoint: it is time for one, or it is asked to end


# -------------------- the training


def normalise(norm: BatchNorm, h: Tensor, peers: Peers) -> Tensor:
    """Return what batch norm in training makes of a share h (B / W, C, ...) of a batch, by the statistics of
    the whole.

    Running statistics move as torch's do. torch's own SyncBatchNorm refuses a CPU, and has no second
    derivative.
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
            f"batch {recipe.batch} has no {processes} equal shares: use {fitting} "
            f"process{'es' * (fitting > 1)}, or "
            f"--set batch={larger}, which changes the result"
        )
    return ""


class ShardedTrainer(Trainer):
    """Makes a phase's rounds together with its like in the other processes. Raises BadInput for what they
    cannot share.
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
        recipe = recipe.on(rng.device, alone=False)
        if reason := refusal(recipe, world()):
            raise BadInput(reason)
        super().__init__(model, phase, recipe, split, rng, labelled)
        self.peers = Peers(self.rng.device)
        self.size = recipe.batch // self.peers.world
        self.kinds = {name: self._kinds(name) for name in self.draws}
        together = recipe.batch_norm == "synchronised"
        modules = list(model.modules())
        self.norms = [
            module for module in modules if isinstance(module, BatchNorm) and module.training and together
        ]
        # what else a round may change beside the parameters
        self.own = [
            buffer
            for module in modules
            if not (isinstance(module, BatchNorm) and together)
            for buffer in module.buffers(recurse=False)
        ]
        self.peers.follow_first(list(model.state_dict().values()))
        self.judges = from_first(self.judges)

    def _kinds(self, name: str) -> int:
        """Return of how many kinds of sample some noise is, (kinds * B, ...); 0 if it does not grow with the
        batch.
        """
        whole, share = self.draws[name].shape, self.model.noise(self.size)[name].shape
        kinds = whole[0] // self.recipe.batch
        if whole == share:
            return 0
        if (kinds * self.recipe.batch, *share[1:]) != whole or kinds * self.size != share[0]:
            raise BadInput(
                f"model '{self.model.name}' cannot be shared by several processes: its noise '{name}' has "
                f"shape {whole}, "
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
        """Leave the whole batch's gradients in the learners' parameters; return what was monitored, of all
        processes.
        """
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
    """Those of a training that several processes share: all agree when there is one, the first writes and
    reads it.
    """

    def __init__(self, kept: Checkpoints) -> None:
        agreed = Request()  # by all: nobody ends alone, whenever it is asked to
        super().__init__(kept.folder, kept.belongs, kept.every, agreed)
        self.asked = kept.request

    def due(self) -> bool:
        """Return whether one should be written after this step: the first's time has come, or any is asked to
        end.
        """
        says = torch.tensor(ENDING if self.asked.made else DUE if rank() == 0 and super().due() else 0)
        with reaching():
            dist.all_reduce(says, dist.ReduceOp.MAX)
        self.request.made = int(says) == ENDING
        return bool(says)

    def write(self, rounds: int, tensors: Mapping[str, Tensor], about: Mapping[str, Any]) -> None:
        """Keep a state, in the first process. Raises OSError there, and Stopped in all of them if they are
        asked to end.
        """
        if rank() == 0:
            super().write(rounds, tensors, about)
        elif self.request.made:
            raise Stopped

    def newest(self) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
        """Return the first process's newest state."""
        found: tuple[dict[str, Tensor], dict[str, Any]] | None = from_first(
            super().newest() if rank() == 0 else None
        )
        return found
