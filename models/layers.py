"""Networks from layer tables, in the terms and the order of the papers' appendices.

The conventions are those of ALI's released code: no padding unless a table says so, hence a convolution maps
size s to (s - k) / stride + 1 and a transposed one to stride * (s - 1) + k; no bias next to batch norm;
dropout on the input of the named operation; maxout over consecutive maps. `maps` counts filters, so maxout
leaves `maps / pieces`.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from alibench.models.noise import Draw
from alibench.models.operations import convolve, maxout

MOST = 10**8  # weights of a layer; with gradients and Adam's moments they take 1.6 GB


class Unfit(Exception):
    """A model cannot be built or trained as it is asked to; the message names the remedy."""


class TooLarge(Exception):
    """A layer would have more than MOST weights; raised before it takes memory."""


@dataclass(frozen=True)
class Row:
    """One line of a layer table."""

    op: Literal["conv", "convT", "dense", "pool"]  # pool: the maximum
    kernel: int
    stride: int
    maps: int
    bn: bool = False
    drop: float = 0.0  # dropout on the operation's input
    act: Literal["linear", "leaky", "relu", "maxout"] = "linear"
    # untied: one a map and pixel; auto: tied, none next to BN
    bias: Literal["auto", "tied", "untied", "none"] = "auto"
    # A linear map of z is added to the operation's output (BiGAN).
    inject: bool = False
    padding: int = 0
    groups: int = 1
    # Of the first weights, where it is not the table's.
    std: float | None = None
    drop_inside: float = 0.0  # dropout between operation and nonlinearity


@dataclass(frozen=True)
class Style:
    """What a paper says once for all layers. Defaults: Blocks, the library of ALI's code."""

    slope: float = 0.2  # of the leaky ReLU
    pieces: int = 2  # of maxout
    epsilon: float = 1e-4  # of batch norm, inside the root
    momentum: float = 0.05  # by which its running statistics move in a batch
    affine: bool = True  # it has scale and shift


def _operation(row: Row, shape: tuple[int, ...], bias: bool) -> tuple[nn.Module, tuple[int, ...]]:
    """Return a row's operation on inputs (B, *shape), and the shape of its output without the batch."""
    maps, kernel, stride, padding = row.maps, row.kernel, row.stride, row.padding

    if row.op == "dense":
        return nn.Linear(math.prod(shape), maps, bias=bias), (maps,)

    if row.op == "conv":
        sides = ((s + 2 * padding - kernel) // stride + 1 for s in shape[1:])
        return nn.Conv2d(shape[0], maps, kernel, stride, padding, groups=row.groups, bias=bias), (
            maps,
            *sides,
        )

    if row.op == "convT":
        # with padding the output is exactly `stride` times as large
        extra = stride + 2 * padding - kernel if padding else 0
        sides = (stride * (s - 1) + kernel - 2 * padding + extra for s in shape[1:])
        return nn.ConvTranspose2d(shape[0], maps, kernel, stride, padding, extra, bias=bias), (maps, *sides)

    return nn.MaxPool2d(kernel, stride), (maps, *((s - kernel) // stride + 1 for s in shape[1:]))


class Layer(nn.Module):
    """Dropout on the input, operation, z's injection, batch norm, nonlinearity.

    Shapes without the batch: `shape` of its input, `inner` before the nonlinearity, `output` after it.
    Raises TooLarge for more than MOST weights.
    """

    bn: nn.Module | None
    injection: nn.Linear | None

    def __init__(self, row: Row, shape: tuple[int, ...], style: Style, injected: int) -> None:
        super().__init__()
        self.row, self.style, self.shape = row, style, shape

        inputs = math.prod(shape) if row.op == "dense" else shape[0] // row.groups * row.kernel**2
        if row.op != "pool" and row.maps * inputs > MOST:
            raise TooLarge(f"a layer would have {row.maps * inputs:,} weights, {MOST:,} are the most")

        tied = row.bias == "tied" or (row.bias == "auto" and not row.bn)
        self.op, self.inner = _operation(row, shape, tied)
        # faster on CPUs and on GPUs; dense layers have no such format
        self.op.to(memory_format=torch.channels_last)
        self.bias = nn.Parameter(torch.zeros(self.inner)) if row.bias == "untied" else None
        self.injection = nn.Linear(injected, row.maps, bias=False) if row.inject and injected else None

        norm = nn.BatchNorm1d if row.op == "dense" else nn.BatchNorm2d
        self.bn = norm(row.maps, style.epsilon, style.momentum, affine=style.affine) if row.bn else None
        self.output = (row.maps // style.pieces, *self.inner[1:]) if row.act == "maxout" else self.inner

    def forward(self, h: Tensor, mask: Tensor | None, inside: Tensor | None, z: Tensor | None) -> Tensor:
        """Apply the layer to h (B, *shape), with z (B, D) where it is injected.

        `mask`, of h's shape, and `inside`, of the operation's output's, are dropout masks; none, no dropout.
        """
        # Dropout and operation.
        if mask is not None:
            h = h * mask.to(h.dtype)
        if isinstance(self.op, (nn.Conv2d, nn.ConvTranspose2d)):  # no union: torch 2.9 cannot export one
            h = convolve(self.op, h)
        else:
            h = self.op(h.flatten(1) if self.row.op == "dense" else h)

        # What is added before batch norm.
        if self.bias is not None:
            h = h + self.bias
        if self.injection is not None:
            assert z is not None
            h = h + self.injection(z).view(len(h), -1, *[1] * (h.dim() - 2))

        # Batch norm and nonlinearity.
        if self.bn is not None:
            h = self.bn(h)
        if inside is not None:
            h = h * inside.to(h.dtype)
        if self.row.act == "maxout":
            return maxout(h, self.style.pieces)
        if self.row.act == "linear":
            return h
        return functional.leaky_relu(h, self.style.slope if self.row.act == "leaky" else 0.0, inplace=True)


class Stack(nn.Module):
    """A table of layers, applied in order. `name` keys its dropout masks in the batch's noise."""

    def __init__(
        self,
        name: str,
        rows: Sequence[Row],
        shape: tuple[int, ...],
        style: Style,
        injected: int = 0,  # numbers in the z that is injected
        # Maps that the last layer gets with those of the layer before.
        appended: int = 0,
    ) -> None:
        super().__init__()
        self.name, self.shape = name, shape
        self.flat_end = bool(rows) and rows[-1].op == "dense"

        layers: list[Layer] = []
        for i, row in enumerate(rows, start=1):
            if appended and i == len(rows):
                flat = (math.prod(shape) + appended,)
                shape = flat if row.op == "dense" else (shape[0] + appended, *shape[1:])
            layers.append(Layer(row, shape, style, injected))
            shape = layers[-1].output
        self.layers, self.output = nn.ModuleList(layers), shape

        # The order is that in which masks are drawn: all before the operations, then all inside.
        numbered = list(enumerate(layers))
        before = {f"{name}.{i}": (layer.shape, layer.row.drop) for i, layer in numbered}
        inside = {f"{name}.{i}.inside": (layer.inner, layer.row.drop_inside) for i, layer in numbered}
        self.masks = {key: (size, rate) for key, (size, rate) in (before | inside).items() if rate}

    def noise(self, n: int) -> dict[str, Draw]:
        """Return the dropout masks that a training pass over n samples needs."""
        return {name: Draw("mask", (n, *shape), rate) for name, (shape, rate) in self.masks.items()}

    def outputs(
        self,
        h: Tensor,
        noise: Mapping[str, Tensor] | None = None,
        z: Tensor | None = None,
        c: Tensor | None = None,
    ) -> Iterator[Tensor]:
        """Yield h (B, *shape) itself, then the output of each layer, as `forward` computes them."""
        noise = noise or {}
        yield h

        for i, layer in enumerate(self.layers):
            if c is not None and i == len(self.layers) - 1:
                h = h.flatten(1) if self.flat_end else h
                h = torch.cat([h, c.view(*c.shape, *[1] * (h.dim() - 2))], dim=1)  # maps of one pixel, if any
            h = layer(h, noise.get(f"{self.name}.{i}"), noise.get(f"{self.name}.{i}.inside"), z)
            yield h

    def forward(
        self,
        h: Tensor,
        noise: Mapping[str, Tensor] | None = None,
        z: Tensor | None = None,
        c: Tensor | None = None,
    ) -> Tensor:
        """Map h (B, *shape) to (B, *output), with z injected and c appended; no noise, no dropout."""
        # one at a time: where nothing learns, memory holds no more
        for output in self.outputs(h, noise, z, c):
            h = output
        return h

    def hidden(self, h: Tensor) -> dict[str, Tensor]:
        """Return the output of every layer but the last, without dropout."""
        outputs = islice(self.outputs(h), 1, len(self.layers))
        return {f"layer{i}": output for i, output in enumerate(outputs, start=1)}


def latent_shape(rows: Sequence[Row], latent: int) -> tuple[int, ...]:
    """Return the shape of codes as a table takes them: flat for dense layers, one pixel for convolutions."""
    return (latent,) if not rows or rows[0].op == "dense" else (latent, 1, 1)


def without_norm(rows: Sequence[Row]) -> tuple[Row, ...]:
    """Return a table without batch norm and dropout."""
    return tuple(replace(row, bn=False, drop=0.0, drop_inside=0.0) for row in rows)


def initialise(module: nn.Module, rng: torch.Generator, std: float | None) -> None:
    """Draw all weights from rng: N(0, std^2), biases zero, as ALI's; without std both uniform by fan-in.

    Uniform on +-1/sqrt(fan-in) is torch's default. In the plane its biases matter: with all of them zero,
    every unit of a first layer bends on a line through the origin, far from most modes. A layer's own std
    wins; an injection of z into a convolution with kernel k starts k * k times as wide (BiGAN's code). Untied
    biases start at zero.
    """
    for layer in module.modules():
        if not isinstance(layer, Layer) or isinstance(layer.op, nn.MaxPool2d):
            continue

        operations = [(layer.op, std if layer.row.std is None else layer.row.std)]
        if layer.injection is not None:
            operations.append((layer.injection, None if std is None else std * layer.row.kernel**2))
        for op, deviation in operations:
            if not op.weight.is_meta:  # which has a shape and no contents
                _initialise(op, rng, deviation)


def _initialise(op: nn.Module, rng: torch.Generator, std: float | None) -> None:
    assert isinstance(op, nn.Linear | nn.Conv2d | nn.ConvTranspose2d)

    if std is not None:
        nn.init.normal_(op.weight, 0.0, std, generator=rng)
        if op.bias is not None:
            nn.init.zeros_(op.bias)
        return

    fan = op.weight[0].numel()
    if isinstance(op, nn.ConvTranspose2d):
        # a unit of a transposed convolution sees in * k * k / stride^2 inputs
        fan = op.weight.numel() // op.out_channels // op.stride[0] ** 2
    for parameter in (p for p in (op.weight, op.bias) if p is not None):
        nn.init.uniform_(parameter, -(fan**-0.5), fan**-0.5, generator=rng)
