"""Networks from layer tables, in the terms and the order of the papers' appendices.

The conventions are those of ALI's released code: no padding unless a table says so, hence a convolution maps
size s to (s - k) / stride + 1 and a transposed one to stride * (s - 1) + k; no bias beside batch norm;
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

MOST = 10**8  # weights of a layer; beside gradients and Adam's moments they take 1.6 GB


class TooLarge(Exception):
    """A layer would have more than MOST weights; said before it takes memory."""


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
    bias: Literal["auto", "tied", "untied", "none"] = (
        "auto"  # untied: one a map and pixel; auto: tied, none beside BN
    )
    inject: bool = False  # a linear map of z is added to the operation's output (BiGAN)
    padding: int = 0
    groups: int = 1
    std: float | None = None  # of the first weights, where it is not the table's
    drop_inside: float = 0.0  # dropout between operation and nonlinearity


@dataclass(frozen=True)
class Style:
    """What a paper says once for all layers. Defaults: Blocks, the library of ALI's code."""

    slope: float = 0.2  # of the leaky ReLU
    pieces: int = 2  # of maxout
    epsilon: float = 1e-4  # of batch norm, inside the root
    momentum: float = 0.05  # by which its running statistics move in a batch
    affine: bool = True  # it has scale and shift


class Layer(nn.Module):
    """Dropout on the input, operation, z's injection, batch norm, nonlinearity."""

    injection: nn.Linear | None

    def __init__(self, row: Row, shape: tuple[int, ...], style: Style, injected: int) -> None:
        super().__init__()
        self.row, self.style = row, style
        self.shape = shape  # of the input, without the batch
        maps, kernel, stride, padding = row.maps, row.kernel, row.stride, row.padding
        tied = row.bias == "tied" or (row.bias == "auto" and not row.bn)
        weights = maps * (math.prod(shape) if row.op == "dense" else shape[0] // row.groups * kernel**2)
        if row.op != "pool" and weights > MOST:
            raise TooLarge(f"a layer would have {weights:,} weights, {MOST:,} are the most")
        self.op: nn.Module
        if row.op == "dense":
            self.op = nn.Linear(math.prod(shape), maps, bias=tied)
            self.inner: tuple[int, ...] = (maps,)  # shape before the nonlinearity
        elif row.op == "conv":
            self.op = nn.Conv2d(shape[0], maps, kernel, stride, padding, groups=row.groups, bias=tied)
            self.inner = (maps, *((s + 2 * padding - kernel) // stride + 1 for s in shape[1:]))
        elif row.op == "convT":
            # with padding the output is exactly `stride` times as large
            extra = stride + 2 * padding - kernel if padding else 0
            self.op = nn.ConvTranspose2d(shape[0], maps, kernel, stride, padding, extra, bias=tied)
            self.inner = (maps, *(stride * (s - 1) + kernel - 2 * padding + extra for s in shape[1:]))
        else:
            self.op = nn.MaxPool2d(kernel, stride)
            self.inner = (maps, *((s - kernel) // stride + 1 for s in shape[1:]))
        self.op.to(
            memory_format=torch.channels_last
        )  # faster on CPUs and on GPUs; dense layers have no such format
        self.bias = nn.Parameter(torch.zeros(self.inner)) if row.bias == "untied" else None
        self.injection = nn.Linear(injected, maps, bias=False) if row.inject and injected else None
        self.bn: nn.Module | None = None
        if row.bn:
            norm = nn.BatchNorm1d if row.op == "dense" else nn.BatchNorm2d
            self.bn = norm(maps, style.epsilon, style.momentum, affine=style.affine)
        self.output = (maps // style.pieces, *self.inner[1:]) if row.act == "maxout" else self.inner

    def forward(self, h: Tensor, mask: Tensor | None, inside: Tensor | None, z: Tensor | None) -> Tensor:
        """Apply the layer to h (B, *shape), with z (B, D) where it is injected.

        `mask`, of h's shape, and `inside`, of the operation's output's, are dropout masks; none, no dropout.
        """
        if mask is not None:
            h = h * mask.to(h.dtype)
        if isinstance(self.op, nn.Conv2d | nn.ConvTranspose2d):
            h = convolve(self.op, h)
        else:
            h = self.op(h.flatten(1) if self.row.op == "dense" else h)
        if self.bias is not None:
            h = h + self.bias
        if self.injection is not None:
            assert z is not None
            h = h + self.injection(z).view(len(h), -1, *[1] * (h.dim() - 2))
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
        appended: int = 0,  # maps that the last layer gets beside those of the layer before
    ) -> None:
        super().__init__()
        self.name, self.shape = name, shape
        layers: list[Layer] = []
        for i, row in enumerate(rows, start=1):
            if appended and i == len(rows):
                shape = (
                    (math.prod(shape) + appended,) if row.op == "dense" else (shape[0] + appended, *shape[1:])
                )
            layers.append(Layer(row, shape, style, injected))
            shape = layers[-1].output
        self.layers, self.output = nn.ModuleList(layers), shape
        self.flat_end = bool(rows) and rows[-1].op == "dense"
        self.masks = {
            f"{name}.{i}": (layer.shape, layer.row.drop) for i, layer in enumerate(layers) if layer.row.drop
        }
        self.masks |= {
            f"{name}.{i}.inside": (layer.inner, layer.row.drop_inside)
            for i, layer in enumerate(layers)
            if layer.row.drop_inside
        }

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
        """Map h (B, *shape) to (B, *output), with z injected and c appended; without noise there is no
        dropout.
        """
        for output in self.outputs(
            h, noise, z, c
        ):  # one at a time: where nothing learns, memory holds no more
            h = output
        return h

    def hidden(self, h: Tensor) -> dict[str, Tensor]:
        """Return the output of every layer but the last, without dropout."""
        outputs = islice(self.outputs(h), 1, len(self.layers))
        return {f"layer{i}": output for i, output in enumerate(outputs, start=1)}


def _latent_shape(rows: Sequence[Row], latent: int) -> tuple[int, ...]:
    """Return codes as a table takes them: flat for dense layers, one pixel for convolutions."""
    return (latent,) if not rows or rows[0].op == "dense" else (latent, 1, 1)


def _beside(h: Tensor, noise: Tensor | None, width: int) -> Tensor:
    """Return h (B, D) with noise (B, width) beside it; without noise, with zeros."""
    return torch.cat([h, h.new_zeros(len(h), width) if noise is None else noise], dim=1) if width else h


class Encoder(nn.Module):
    """x (B, *shape) as (x / scale - centre) * gain, to codes (B, outputs).

    `noise` numbers stand beside x in an encoder that draws z by its input; a condition enters before the last
    layer. An encoder of codes with a uniform prior is squashed to [-1, 1].
    """

    def __init__(
        self,
        rows: Sequence[Row],
        shape: tuple[int, ...],
        scale: float,
        style: Style,
        noise: int = 0,
        condition: int = 0,
        centre: float = 0.0,
        gain: float = 1.0,
        squashed: bool = False,
    ) -> None:
        super().__init__()
        self.scale, self.centre, self.gain, self.noise, self.squashed = scale, centre, gain, noise, squashed
        shape = (shape[0] + noise, *shape[1:])
        self.stack = Stack("encoder", rows, shape, style, appended=condition)

    def _input(self, x: Tensor, eps: Tensor | None) -> Tensor:
        return _beside((x / self.scale - self.centre) * self.gain, eps, self.noise)

    def raw(self, x: Tensor, eps: Tensor | None = None, c: Tensor | None = None) -> Tensor:
        """Return the last layer's outputs (B, outputs), before they are squashed."""
        code: Tensor = self.stack(self._input(x, eps), c=c)
        return code.flatten(1).to(x.dtype)

    def forward(self, x: Tensor, eps: Tensor | None = None, c: Tensor | None = None) -> Tensor:
        """Return codes (B, outputs) for x, noise eps (B, noise) and condition c; without eps at zero noise."""
        raw = self.raw(x, eps, c)
        return 2 * torch.sigmoid(raw) - 1 if self.squashed else raw

    def hidden(self, x: Tensor) -> dict[str, Tensor]:
        """Return the hidden layers' outputs, in order."""
        return self.stack.hidden(self._input(x, None))


class Decoder(nn.Module):
    """z (B, latent) to images (B, C, H, W) in [0, 1] through a sigmoid, or to points (B, D) times their
    scale.

    Beside z stand `noise` numbers in a decoder that draws x by its input, and the condition.
    """

    def __init__(
        self,
        rows: Sequence[Row],
        latent: int,
        shape: tuple[int, ...],
        scale: float,
        style: Style,
        noise: int = 0,
        condition: int = 0,
    ) -> None:
        super().__init__()
        self.shape, self.scale, self.noise = shape, scale, noise
        self.stack = Stack(
            "decoder", rows, _latent_shape(rows, latent + noise + condition), style, injected=latent
        )

    def forward(self, z: Tensor, xi: Tensor | None = None, c: Tensor | None = None) -> Tensor:
        """Return (B, *shape) in the data's range, for z, noise xi (B, noise) and condition c."""
        h = _beside(z, xi, self.noise)
        h = h if c is None else torch.cat([h, c], dim=1)
        x: Tensor = self.stack(h.view(len(h), *self.stack.shape), z=z).view(len(z), *self.shape).to(z.dtype)
        return torch.sigmoid(x) if len(self.shape) == 3 else x * self.scale


class Discriminator(nn.Module):
    """Logits, (B,) or (B, K), of what it sees: pairs (x, z), x alone, z alone, or pairs (x, x) and (z, z).

    One tower for x and one for z, then a joint one on what both give, concatenated with the condition. Where
    the table injects z, z has no tower.
    """

    def __init__(
        self,
        towers: tuple[Sequence[Row], Sequence[Row], Sequence[Row]],  # of x, of z, joint
        sees: tuple[Literal["x", "z"], ...],
        shape: tuple[int, ...],
        latent: int,
        style: Style,
        centre: float,
        gain: float,  # D sees (x - centre) * gain
        condition: int = 0,
        separate: bool = False,  # batch statistics of each kind of pair, rather than of all together
        name: str = "",  # before those of its towers, where a model has several
    ) -> None:
        super().__init__()
        self.sees, self.centre, self.gain, self.separate = sees, centre, gain, separate
        dx, dz, dxz = towers
        xs, zs = sees.count("x"), sees.count("z")
        self.injects = "x" in sees and any(row.inject for row in (*dx, *dxz))
        injected = latent if self.injects and zs else 0
        self.dx = Stack(f"{name}dx", dx, (xs * shape[0], *shape[1:]), style, injected) if xs else None
        self.dz = (
            Stack(f"{name}dz", dz, _latent_shape(dz, zs * latent), style) if zs and not injected else None
        )
        flat = sum(math.prod(tower.output) for tower in (self.dx, self.dz) if tower is not None) + condition
        # a dense joint tower takes flat inputs, a convolutional one maps of one pixel, either concatenated
        self.dxz = Stack(
            f"{name}dxz", dxz, (flat,) if dxz[0].op == "dense" else (flat, 1, 1), style, injected
        )

    def noise(self, n: int) -> dict[str, Draw]:
        """Return the dropout masks for a training pass over n samples of what it sees."""
        towers = [stack for stack in (self.dx, self.dz, self.dxz) if stack is not None]
        return {name: draw for stack in towers for name, draw in stack.noise(n).items()}

    def forward(
        self, *inputs: Tensor, noise: Mapping[str, Tensor] | None = None, c: Tensor | None = None
    ) -> Tensor:
        """Return logits of inputs in the order of `sees`; without noise there is no dropout."""
        return self.judge(*inputs, noise=noise, c=c)[1]

    def judge(
        self, *inputs: Tensor, noise: Mapping[str, Tensor] | None = None, c: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Return what the last layer sees (B, F), before its dropout, and the logits, from one pass."""
        xs = [part for part, kind in zip(inputs, self.sees, strict=True) if kind == "x"]
        zs = [part for part, kind in zip(inputs, self.sees, strict=True) if kind == "z"]
        z = torch.cat(zs, dim=1) if zs else None
        parts = []
        if self.dx is not None:
            parts.append(self.dx(self._scaled(torch.cat(xs, dim=1)), noise, z).flatten(1))
        if self.dz is not None:
            assert z is not None
            parts.append(self.dz(z.view(len(z), *self.dz.shape), noise).flatten(1))
        h = torch.cat(parts if c is None else [*parts, c], dim=1)
        *_, last, logits = self.dxz.outputs(h.view(len(h), *self.dxz.shape), noise, z)
        return last.flatten(1).to(inputs[0].dtype), logits.flatten(1).squeeze(1).to(inputs[0].dtype)

    def _scaled(self, x: Tensor) -> Tensor:
        return (x - self.centre) * self.gain

    def hidden(self, x: Tensor) -> dict[str, Tensor]:
        """Return the outputs (B, ...) of every layer but the last, in order, of a D that sees x alone;
        without dropout.
        """
        assert self.sees == ("x",)
        assert self.dx is not None
        h, *tower = self.dx.outputs(self._scaled(x))
        h = tower[-1] if tower else h
        _, *joint, _ = self.dxz.outputs(h.reshape(len(h), *self.dxz.shape))
        return {f"layer{i}": output for i, output in enumerate([*tower, *joint], start=1)}

    def compare(
        self,
        pairs: Mapping[str, tuple[Tensor, ...]],
        noise: Mapping[str, Tensor] | None = None,
        c: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """Return the logits of each kind of pair (each B, ...), from one pass over all of them."""
        return {kind: logits for kind, (_, logits) in self.judge_all(pairs, noise, c).items()}

    def judge_all(
        self,
        pairs: Mapping[str, tuple[Tensor, ...]],
        noise: Mapping[str, Tensor] | None = None,
        c: Tensor | None = None,
    ) -> dict[str, tuple[Tensor, Tensor]]:
        """Return what the last layer sees, and the logits, of each kind of pair, from one pass over all of
        them.

        So dropout and batch statistics cover all kinds, as in ALI's released code: with statistics of each
        kind apart D cannot see what a whole batch has in common. BiGAN's code has them apart (`separate`).
        """
        kinds = len(pairs)
        if self.separate:
            masks = (
                {name: noise[name].chunk(kinds) for name in self.noise(0) if name in noise} if noise else {}
            )
            return {
                kind: self.judge(*parts, noise={name: mask[i] for name, mask in masks.items()}, c=c)
                for i, (kind, parts) in enumerate(pairs.items())
            }
        inputs = [torch.cat(parts) for parts in zip(*pairs.values(), strict=True)]
        last, logits = self.judge(*inputs, noise=noise, c=None if c is None else c.repeat(kinds, 1))
        return dict(zip(pairs, zip(last.chunk(kinds), logits.chunk(kinds), strict=True), strict=True))


def without_norm(rows: Sequence[Row]) -> tuple[Row, ...]:
    """Return a table without batch norm and dropout."""
    return tuple(replace(row, bn=False, drop=0.0, drop_inside=0.0) for row in rows)


def initialise(module: nn.Module, rng: torch.Generator, std: float | None) -> None:
    """Draw all weights from rng: N(0, std^2) with biases zero, as ALI's; where std is none, both uniform by
    fan-in.

    Uniform on +-1/sqrt(fan-in) is torch's default. In the plane its biases matter: with all of them zero,
    every unit of a first layer bends on a line through the origin, far from most modes. A layer's own std
    wins; an injection of z into a convolution with kernel k starts k * k times as wide (BiGAN's code). Untied
    biases start at zero.
    """
    for layer in module.modules():
        if not isinstance(layer, Layer) or isinstance(layer.op, nn.MaxPool2d):
            continue
        deviation = std if layer.row.std is None else layer.row.std
        operations = [(layer.op, deviation)]
        if layer.injection is not None:
            operations.append((layer.injection, None if std is None else std * layer.row.kernel**2))
        for op, width in operations:
            if not op.weight.is_meta:  # which has a shape and no contents
                _initialise(op, rng, width)


def _initialise(op: nn.Module, rng: torch.Generator, std: float | None) -> None:
    assert isinstance(op, nn.Linear | nn.Conv2d | nn.ConvTranspose2d)
    if std is None:
        # a unit of a transposed convolution sees in * k * k / stride^2 inputs
        fan = op.weight[0].numel()
        if isinstance(op, nn.ConvTranspose2d):
            fan = op.weight.numel() // op.out_channels // op.stride[0] ** 2
        for parameter in (p for p in (op.weight, op.bias) if p is not None):
            nn.init.uniform_(parameter, -(fan**-0.5), fan**-0.5, generator=rng)
    else:
        nn.init.normal_(op.weight, 0.0, std, generator=rng)
        if op.bias is not None:
            nn.init.zeros_(op.bias)
