"""Operations quicker than torch's own, with the same values; and the mean of a batch that processes share."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional


class _Maxout(torch.autograd.Function):
    """The larger of two consecutive maps; where they are equal, the first has the gradient.

    The gradient of torch's own maximum over a dimension takes four times as long, for channels_last tensors
    on a CPU.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(h: Tensor) -> tuple[Tensor, Tensor]:
        """Return the maxima (B, maps / 2, ...) of h (B, maps, ...), and where it is the first."""
        first, second = h.movedim(1, -1).unflatten(-1, (-1, 2)).unbind(-1)
        return torch.maximum(first, second).movedim(-1, 1), first >= second

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor], output: tuple[Tensor, Tensor]) -> None:
        """Keep for the gradient where the first is the larger."""
        ctx.mark_non_differentiable(output[1])
        ctx.save_for_backward(output[1])

    @staticmethod
    def backward(ctx: Any, gradient: Tensor, _: Tensor) -> Tensor:
        """Hand the gradient to the larger map."""
        (is_first,) = ctx.saved_tensors
        gradient = gradient.movedim(1, -1)
        first = gradient * is_first
        return torch.stack([first, gradient - first], dim=-1).flatten(-2).movedim(-1, 1)


def maxout(h: Tensor, pieces: int) -> Tensor:
    """Return the maxima (B, maps / pieces, ...) over consecutive maps of h (B, maps, ...)."""
    if pieces == 2:
        maxima: Tensor = _Maxout.apply(h)[0]
        return maxima
    return h.unflatten(1, (-1, pieces)).amax(2)


def convolve(op: nn.Conv2d | nn.ConvTranspose2d, h: Tensor) -> Tensor:
    """Return op(h), by a matrix product where it is one.

    On a CPU libraries of convolutions are two to four times slower at these. In channels_last the products
    work on views.
    """
    weight, size = op.weight, tuple(h.shape[2:])
    plain = not any(op.padding) and op.groups == 1

    # From a single pixel.
    if isinstance(op, nn.ConvTranspose2d):
        if not plain or size != (1, 1):
            return op(h)
        pixels = (h.flatten(1) @ weight.movedim(1, -1).flatten(1)).view(len(h), *op.kernel_size, -1)
        return (pixels if op.bias is None else pixels + op.bias).movedim(-1, 1)

    # To a single pixel.
    if plain and size == op.kernel_size:
        flat = functional.linear(h.movedim(1, -1).flatten(1), weight.movedim(1, -1).flatten(1), op.bias)
        return flat.view(*flat.shape, 1, 1)

    # Each pixel by itself.
    if plain and op.kernel_size == op.stride == (1, 1):
        return functional.linear(h.movedim(1, -1), weight.flatten(1), op.bias).movedim(-1, 1)
    return op(h)


def distance(a: Tensor, b: Tensor) -> Tensor:
    """Return the sum (B,) of the absolute differences of a and b (B, ...)."""
    return (a - b).flatten(1).abs().sum(1)


_over_processes: list[Callable[[Tensor], Tensor]] = []


def batch_mean(h: Tensor, *dims: int) -> Tensor:
    """Return the mean of h (B, ...) over `dims`, the batch among them, or over all of h.

    A loss that is a function of the batch's means, rather than a mean of losses per sample, takes them by
    this, and so does a buffer that follows them: where processes share a batch, it is the whole batch's mean.
    """
    # shares are of one size, so that the mean of means is the whole batch's
    mean = h.mean(*dims)
    return _over_processes[-1](mean) if _over_processes else mean


@contextmanager
def shared(average: Callable[[Tensor], Tensor]) -> Iterator[None]:
    """Average by `average`, over processes, meanwhile: each of them sees a share of every batch."""
    _over_processes.append(average)
    try:
        yield
    finally:
        _over_processes.pop()
