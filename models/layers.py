"""Networks from layer tables, in the terms of the papers' appendices: operation, maps, kernel/stride, BN, dropout, act.

The conventions are those of ALI's released code: no padding anywhere, so a convolution maps size s to (s - k) / stride + 1
and a transposed one to stride * (s - 1) + k; no bias beside batch norm; dropout on the input of the named operation.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from models.base import Draw

# Blocks, the original's library: running statistics move by 5 % a batch, epsilon inside the root.
EPSILON, MOMENTUM = 1e-4, 0.05


@dataclass(frozen=True)
class Row:
    """One line of a layer table. `slope` is LeakyReLU's; 0 is ReLU, None is linear."""

    op: Literal["conv", "convT", "dense"]
    maps: int
    kernel: int = 1
    stride: int = 1
    bn: bool = False
    drop: float = 0.0
    slope: float | None = None


class Layer(nn.Module):
    """Dropout on the input, operation, batch norm, nonlinearity."""

    def __init__(self, row: Row, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.row = row
        self.shape = shape  # of the input, without the batch
        maps, kernel, stride, bias = row.maps, row.kernel, row.stride, not row.bn
        self.op: nn.Module
        self.output: tuple[int, ...]
        if row.op == "dense":
            self.op = nn.Linear(math.prod(shape), maps, bias=bias)
            self.output = (maps,)
        elif row.op == "conv":
            self.op = nn.Conv2d(shape[0], maps, kernel, stride, bias=bias)
            self.output = (maps, *((s - kernel) // stride + 1 for s in shape[1:]))
        else:
            self.op = nn.ConvTranspose2d(shape[0], maps, kernel, stride, bias=bias)
            self.output = (maps, *(stride * (s - 1) + kernel for s in shape[1:]))
        self.bn: nn.Module | None = None
        if row.bn:
            self.bn = (nn.BatchNorm1d if row.op == "dense" else nn.BatchNorm2d)(maps, EPSILON, MOMENTUM)

    def forward(self, h: Tensor, uniform: Tensor | None) -> Tensor:
        """Apply the layer to h (B, *shape); `uniform`, of h's shape, makes the dropout mask, none means no dropout."""
        if self.row.drop and uniform is not None:
            h = h * ((uniform >= self.row.drop) / (1 - self.row.drop))
        h = self.op(h.flatten(1) if self.row.op == "dense" else h)
        if self.bn is not None:
            h = self.bn(h)
        return h if self.row.slope is None else functional.leaky_relu(h, self.row.slope)


class Stack(nn.Module):
    """A table of layers, applied in order. `name` keys its dropout masks in the batch's noise."""

    def __init__(self, name: str, rows: Sequence[Row], shape: tuple[int, ...]) -> None:
        super().__init__()
        self.name, self.shape = name, shape
        layers: list[Layer] = []
        for row in rows:
            layers.append(Layer(row, shape))
            shape = layers[-1].output
        self.layers, self.output = nn.ModuleList(layers), shape
        self.masks = {f"{name}.{i}": layer.shape for i, layer in enumerate(layers) if layer.row.drop}

    def noise(self, n: int) -> dict[str, Draw]:
        """Return the dropout masks that a training pass over n samples needs."""
        return {name: Draw("uniform", (n, *shape)) for name, shape in self.masks.items()}

    def forward(self, h: Tensor, noise: Mapping[str, Tensor] | None = None) -> Tensor:
        """Map h (B, *shape) to (B, *output); without noise there is no dropout."""
        for i, layer in enumerate(self.layers):
            h = layer(h, noise.get(f"{self.name}.{i}") if noise else None)
        return h

    def hidden(self, h: Tensor) -> dict[str, Tensor]:
        """Return the output of every layer but the last, without dropout."""
        outputs = {}
        for i, layer in enumerate(self.layers[:-1], start=1):
            h = outputs[f"layer{i}"] = layer(h, None)
        return outputs


def _latent_shape(rows: Sequence[Row], latent: int) -> tuple[int, ...]:
    """Return codes as a table takes them: flat for dense layers, one pixel for convolutions."""
    return (latent,) if not rows or rows[0].op == "dense" else (latent, 1, 1)


class Encoder(nn.Module):
    """x (B, *shape), divided by its scale, to codes (B, outputs)."""

    def __init__(self, rows: Sequence[Row], shape: tuple[int, ...], scale: float) -> None:
        super().__init__()
        self.scale = scale
        self.stack = Stack("encoder", rows, shape)

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, outputs)."""
        code: Tensor = self.stack(x / self.scale)
        return code.flatten(1)

    def hidden(self, x: Tensor) -> dict[str, Tensor]:
        """Return the hidden layers' outputs, in order."""
        return self.stack.hidden(x / self.scale)


class Decoder(nn.Module):
    """z (B, latent) to images (B, C, H, W) in [0, 1] through a sigmoid, or to points (B, D) times their scale."""

    def __init__(self, rows: Sequence[Row], latent: int, shape: tuple[int, ...], scale: float) -> None:
        super().__init__()
        self.shape, self.scale = shape, scale
        self.stack = Stack("decoder", rows, _latent_shape(rows, latent))

    def forward(self, z: Tensor) -> Tensor:
        """Return (B, *shape) in the data's range."""
        x: Tensor = self.stack(z.view(len(z), *self.stack.shape)).view(len(z), *self.shape)
        return torch.sigmoid(x) if len(self.shape) == 3 else x * self.scale


class Discriminator(nn.Module):
    """Logits (B,) of x, or of pairs (x, z): one tower each, then a joint one on what both give, concatenated."""

    def __init__(
        self,
        dx: Sequence[Row],
        dz: Sequence[Row],
        dxz: Sequence[Row],
        shape: tuple[int, ...],
        latent: int,  # 0: D sees x alone
        centre: float,
        gain: float,  # D sees (x - centre) * gain
    ) -> None:
        super().__init__()
        self.centre, self.gain = centre, gain
        self.dx = Stack("dx", dx, shape)
        self.dz = Stack("dz", dz, _latent_shape(dz, latent)) if latent else None
        towers = [tower.output for tower in (self.dx, self.dz) if tower is not None]
        # a dense joint tower takes flat inputs, a convolutional one maps of one pixel, either concatenated
        flat = sum(math.prod(output) for output in towers)
        self.dxz = Stack("dxz", dxz, (flat,) if dxz[0].op == "dense" else (flat, 1, 1))

    def noise(self, n: int) -> dict[str, Draw]:
        """Return the dropout masks for a training pass over n pairs."""
        towers = [stack for stack in (self.dx, self.dz, self.dxz) if stack is not None]
        return {name: draw for stack in towers for name, draw in stack.noise(n).items()}

    def forward(self, x: Tensor, z: Tensor | None, noise: Mapping[str, Tensor] | None = None) -> Tensor:
        """Return logits (B,); without noise there is no dropout."""
        h = self.dx((x - self.centre) * self.gain, noise).flatten(1)
        if self.dz is not None:
            assert z is not None
            h = torch.cat([h, self.dz(z.view(len(z), *self.dz.shape), noise).flatten(1)], dim=1)
        logits: Tensor = self.dxz(h.view(len(h), *self.dxz.shape), noise)
        return logits.flatten(1).squeeze(1)


def initialise(module: nn.Module, rng: torch.Generator, std: float | None) -> None:
    """Draw all weights from rng: N(0, std^2) with biases zero, as ALI's; where std is none, both uniform by fan-in.

    Uniform on +-1/sqrt(fan-in) is torch's default. In the plane its biases matter: with all of them zero, every unit of a
    first layer bends on a line through the origin, far from most modes.
    """
    for layer in module.modules():
        if isinstance(layer, nn.Linear | nn.Conv2d | nn.ConvTranspose2d):
            if std is None:
                # a unit of a transposed convolution sees in * k * k / stride^2 inputs
                fan = layer.weight[0].numel()
                if isinstance(layer, nn.ConvTranspose2d):
                    fan = layer.weight.numel() // layer.out_channels // layer.stride[0] ** 2
                for parameter in (p for p in (layer.weight, layer.bias) if p is not None):
                    nn.init.uniform_(parameter, -(fan**-0.5), fan**-0.5, generator=rng)
            else:
                nn.init.normal_(layer.weight, 0.0, std, generator=rng)
                if layer.bias is not None:
                    nn.init.zeros_(layer.bias)
