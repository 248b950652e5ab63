"""The processes of one training, and what they exchange.

Numbers go by NCCL on CUDA, by gloo on a CPU. NCCL has never been run yet: no machine with two GPUs has been
at hand.
"""

import functools
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from alibench.benchmarks.training.outcomes import Failed

# How long processes wait for one another: the first measures for as long as it takes.
PATIENCE = timedelta(days=365)


class Lost(Exception):
    """A training failed in one process, and the others cannot be brought back into step: the command ends."""


# -------------------- the processes


def world() -> int:
    """Return how many processes there are: one, unless torchrun started this one."""
    # Some builds of torch have no torch.distributed. SLURM sets WORLD_SIZE, too: torchrun's sign is another.
    if dist.is_available() and dist.is_initialized():
        return dist.get_world_size()
    return int(os.environ["WORLD_SIZE"]) if "TORCHELASTIC_RUN_ID" in os.environ else 1


def rank() -> int:
    """Return this process's number; 0, the first, runs the command and writes."""
    if dist.is_available() and dist.is_initialized():
        return dist.get_rank()
    return int(os.environ["RANK"]) if "TORCHELASTIC_RUN_ID" in os.environ else 0


def join() -> None:
    """Meet the other processes that torchrun started, unless that has happened; waits for them."""
    # gloo, for messages: what is on a GPU has another group
    if not dist.is_initialized():
        dist.init_process_group("gloo", timeout=PATIENCE)


def device_of(device: str) -> str:
    """Return this process's own device of a kind."""
    return f"cuda:{os.environ.get('LOCAL_RANK', 0)}" if torch.device(device).type == "cuda" else device


@functools.cache
def exchange_group(kind: str) -> dist.ProcessGroup:
    """Return the group that exchanges tensors on a kind of device; all processes ask for it at once."""
    # NCCL takes the current device
    if kind == "cuda":
        torch.cuda.set_device(device_of(kind))
    group = dist.new_group(backend="nccl" if kind == "cuda" else "gloo")
    assert isinstance(group, dist.ProcessGroup)
    return group


@contextmanager
def reaching() -> Iterator[None]:
    """Exchange something with all others. Raises Failed if one has ended."""
    try:
        yield
    except (torch.OutOfMemoryError, torch.AcceleratorError):
        raise  # the error of this process
    except RuntimeError as error:  # gloo has no class for it
        raise Failed("another process has ended or cannot be reached: its own message says why") from error


def from_first(message: object = None) -> Any:
    """Return the first process's message, in all. Raises Failed."""
    messages = [message]
    with reaching():
        dist.broadcast_object_list(messages, src=0)
    return messages[0]


class _Sum(torch.autograd.Function):
    """The sum over processes; its derivative is such a sum, too, so there are derivatives of every order."""

    @staticmethod
    def forward(h: Tensor, group: dist.ProcessGroup) -> Tensor:
        """Return the sum of all processes' h."""
        # all_reduce works in place, on contiguous memory
        total = h.clone(memory_format=torch.contiguous_format)
        with reaching():
            dist.all_reduce(total, group=group)
        return total

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, dist.ProcessGroup], output: Tensor) -> None:
        """Keep the group."""
        ctx.group = inputs[1]

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        """Return the sum of the gradients, for the losses of all processes depend on each one's h."""
        return _Sum.apply(gradient, ctx.group), None


class Peers:
    """What the processes of a training exchange on a device; all of them call the same methods."""

    def __init__(self, device: torch.device) -> None:
        self.group, self.rank, self.world = exchange_group(device.type), rank(), world()

    def mean(self, h: Tensor) -> Tensor:
        """Return the mean of all processes' h; with derivatives."""
        total: Tensor = _Sum.apply(h, self.group)
        return total / self.world

    def each(self, h: Tensor) -> Tensor:
        """Return every process's h, (W, ...); with derivatives."""
        # A sum of rows that are zero elsewhere is a gather, and has derivatives of every order.
        rows = torch.stack([h if i == self.rank else torch.zeros_like(h) for i in range(self.world)])
        every: Tensor = _Sum.apply(rows, self.group)
        return every

    def average(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        """Return the means of all processes' tensors, from one message for each type of number."""

        def mean(flat: Tensor) -> None:
            with reaching():
                dist.all_reduce(flat, group=self.group)
            flat /= self.world

        return _at_once(tensors, mean)

    @torch.no_grad()
    def follow_first(self, tensors: Sequence[Tensor]) -> None:
        """Give tensors the first process's values, in place."""
        for tensor, value in zip(tensors, _at_once(tensors, self._from_first), strict=True):
            tensor.copy_(value)

    def _from_first(self, flat: Tensor) -> None:
        with reaching():
            dist.broadcast(flat, src=0, group=self.group)


def _at_once(tensors: Sequence[Tensor], change: Callable[[Tensor], None]) -> list[Tensor]:
    """Return what `change` makes of tensors, which it gets as one vector for each type of number."""
    changed: dict[int, Tensor] = {}
    for kind in dict.fromkeys(tensor.dtype for tensor in tensors):
        # one vector, one message
        places = [i for i, tensor in enumerate(tensors) if tensor.dtype == kind]
        flat = torch.cat([tensors[i].detach().reshape(-1) for i in places])
        change(flat)

        # back in place
        parts = flat.split([tensors[i].numel() for i in places])
        changed |= {i: part.view(tensors[i].shape) for i, part in zip(places, parts, strict=True)}
    return [changed[i] for i in range(len(tensors))]
