"""What the processes of one training exchange."""

import functools
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from alibench.benchmarks.running.jobs import Failed

PATIENCE = timedelta(
    days=365
)  # with which processes wait for one another: the first measures for as long as it takes


class Lost(Exception):
    """A training failed in one process, and the others cannot be brought back into step: the command must
    end.
    """


# -------------------- the processes


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
def exchange_group(kind: str) -> dist.ProcessGroup:
    """Return the group in which tensors on a kind of device are exchanged; all processes ask for it at the
    same moment.
    """
    if kind == "cuda":
        torch.cuda.set_device(device_of(kind))
    group = dist.new_group(backend="nccl" if kind == "cuda" else "gloo")
    assert isinstance(group, dist.ProcessGroup)
    return group


@contextmanager
def reaching() -> Iterator[None]:
    """Talk to all others. Raises Failed if one has ended."""
    try:
        yield
    except (torch.OutOfMemoryError, torch.AcceleratorError):
        raise  # it is this process's own
    except RuntimeError as error:  # gloo has no name for it
        raise Failed("another process has ended or cannot be reached: its own message says why") from error


def from_first(message: object = None) -> Any:
    """Return what the first process says to all. Raises Failed."""
    held = [message]
    with reaching():
        dist.broadcast_object_list(held, src=0)
    return held[0]


class _Sum(torch.autograd.Function):
    """The sum over processes; its derivative is one, too, so there are derivatives of every order."""

    @staticmethod
    def forward(h: Tensor, group: dist.ProcessGroup) -> Tensor:
        """Return the sum of all processes' h."""
        total = h.clone(memory_format=torch.contiguous_format)
        with reaching():
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
    """The processes of a training as one of them sees them, with what they exchange; all of them ask for the
    same.
    """

    def __init__(self, device: torch.device) -> None:
        self.group, self.rank, self.world = exchange_group(device.type), rank(), world()

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
            with reaching():
                dist.all_reduce(flat, group=self.group)
            flat /= self.world

        return _at_once(tensors, mean)

    @torch.no_grad()
    def follow_first(self, tensors: Sequence[Tensor]) -> None:
        """Give tensors the first process's values."""
        for tensor, value in zip(tensors, _at_once(tensors, self._from_first), strict=True):
            tensor.copy_(value)

    def _from_first(self, flat: Tensor) -> None:
        with reaching():
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
