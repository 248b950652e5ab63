"""Batches of a split, drawn in a fresh order each epoch, on the device."""

import math
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext

import torch
from torch import Tensor

from alibench.evaluation.data import Split, as_float

CHUNK = 64  # batches that are sent to the device together, where it does not hold all the data


def _fits(x: Tensor, device: torch.device) -> bool:
    """Return whether the device has room for x next to a model; what is not CUDA shares the CPU's memory."""
    return x.device == device or device.type != "cuda" or x.nbytes <= torch.cuda.mem_get_info(device)[0] / 2


def placed(split: Split, device: torch.device) -> Split:
    """Return a split on the device if that has room for it, so that stacked seeds share one copy."""
    return Split(split.x.to(device), split.y.to(device)) if _fits(split.x, device) else split


class Batches:
    """Batches of a split on the device: a fresh permutation every epoch, its remainder dropped.

    Data that fit stay on the device, and nothing here waits for it. Others are streamed in chunks, of which a
    thread gathers the next while one is used; the batches are the same. `resident` chooses; None: what fits.
    """

    def __init__(self, split: Split, size: int, rng: torch.Generator, resident: bool | None = None) -> None:
        # where the data is
        self.split = split
        self.resident = _fits(split.x, rng.device) if resident is None else resident
        self.x, self.y = split.x.to(rng.device) if self.resident else split.x, split.y.to(rng.device)

        # the order of the epoch, and how much of it was picked
        self.size, self.rng = size, rng
        self.order, self.position = torch.empty(0, dtype=torch.long, device=rng.device), 0
        self.streamed: Iterator[Tensor] = iter(())

    def pick(self) -> tuple[Tensor, ...]:
        """Return the next batch's index (size,), and its stored x where the data is streamed."""
        # a new epoch
        if self.position + self.size > len(self.order):
            self.order = torch.randperm(len(self.x), generator=self.rng, device=self.rng.device)
            self.position = 0
            if not self.resident:
                self.streamed = self._stream(self.order.cpu())

        index = self.order[self.position : self.position + self.size]
        self.position += self.size
        return (index,) if self.resident else (index, next(self.streamed))

    def load(self, index: Tensor, streamed: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return x (size, ...) as models see it, and y (size,). Nothing here depends on the host."""
        return as_float(self.x[index] if streamed is None else streamed), self.y[index]

    def resume(self, order: Tensor, position: int) -> None:
        """Continue an epoch after `position` samples of its order."""
        self.order, self.position = order.to(self.rng.device), position
        if not self.resident:
            self.streamed = self._stream(order.cpu()[position:])

    def _stream(self, order: Tensor) -> Iterator[Tensor]:
        """Yield the batches of x of an epoch, or of the rest of one."""
        first, *others = order[: len(order) // self.size * self.size].split(CHUNK * self.size)
        with ThreadPoolExecutor(1) as thread:
            ahead = thread.submit(self._gather, first)
            for following in (*others, None):
                # torch's allocator does not use pinned memory again before the device has its copy
                chunk = ahead.result().to(self.rng.device, non_blocking=True)
                if following is not None:
                    ahead = thread.submit(self._gather, following)
                yield from chunk.split(self.size)

    def _gather(self, index: Tensor) -> Tensor:
        pinned = self.rng.device.type == "cuda"
        # a new thread begins with the first GPU, whichever the training is on
        with torch.cuda.device(self.rng.device) if pinned else nullcontext():
            out = torch.empty(len(index), *self.x.shape[1:], dtype=self.x.dtype, pin_memory=pinned)
        return torch.index_select(self.x, 0, index, out=out)


def repeated(split: Split, size: int) -> Split:
    """Return a split, repeated where it is smaller than a batch."""
    if len(split) >= size:
        return split
    times = math.ceil(size / len(split))
    return Split(split.x.repeat(times, *[1] * (split.x.dim() - 1)), split.y.repeat(times))
