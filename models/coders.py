"""Encoder and decoder from layer tables, in the ranges of the data and of the prior."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from alibench.models.layers import Row, Stack, Style, latent_shape


@dataclass(frozen=True)
class Sizes:
    """What a network takes: x of a shape, z, noise to draw by, a condition; in numbers each."""

    shape: tuple[int, ...]  # of one x
    latent: int
    noise: int = 0
    condition: int = 0


@dataclass(frozen=True)
class Scaling:
    """x as (x - centre) * gain."""

    centre: float = 0.0
    gain: float = 1.0

    def __call__(self, x: Tensor) -> Tensor:
        """Return x scaled."""
        return (x - self.centre) * self.gain


def _with_noise(h: Tensor, noise: Tensor | None, width: int) -> Tensor:
    """Return h (B, D) and noise (B, width) side by side; zeros in place of noise that is not there."""
    return torch.cat([h, h.new_zeros(len(h), width) if noise is None else noise], dim=1) if width else h


class Encoder(nn.Module):
    """Maps x (B, *shape), seen as scaling(x / scale), to codes (B, outputs).

    In an encoder that draws z by its input, `noise` numbers stand next to x; a condition enters before the
    last layer. An encoder of codes with a uniform prior is squashed to [-1, 1].
    """

    def __init__(
        self,
        rows: Sequence[Row],
        style: Style,
        sizes: Sizes,
        scale: float,
        scaling: Scaling,
        squashed: bool = False,
    ) -> None:
        super().__init__()
        self.scale, self.scaling, self.noise, self.squashed = scale, scaling, sizes.noise, squashed
        shape = (sizes.shape[0] + sizes.noise, *sizes.shape[1:])
        self.stack = Stack("encoder", rows, shape, style, appended=sizes.condition)

    def _input(self, x: Tensor, eps: Tensor | None) -> Tensor:
        return _with_noise(self.scaling(x / self.scale), eps, self.noise)

    def raw(self, x: Tensor, eps: Tensor | None = None, c: Tensor | None = None) -> Tensor:
        """Return the last layer's outputs (B, outputs), before they are squashed."""
        code: Tensor = self.stack(self._input(x, eps), c=c)
        # mixed precision ends here: codes have the type of x
        return code.flatten(1).to(x.dtype)

    def forward(self, x: Tensor, eps: Tensor | None = None, c: Tensor | None = None) -> Tensor:
        """Return codes (B, outputs) for x, noise eps (B, noise) or none, and condition c."""
        raw = self.raw(x, eps, c)
        return 2 * torch.sigmoid(raw) - 1 if self.squashed else raw

    def hidden(self, x: Tensor) -> dict[str, Tensor]:
        """Return the hidden layers' outputs, in order."""
        return self.stack.hidden(self._input(x, None))


class Decoder(nn.Module):
    """Maps z (B, latent) to images (B, C, H, W) in [0, 1] by a sigmoid, or to points (B, D) times `scale`.

    In a decoder that draws x by its input, `noise` numbers stand next to z, and so does the condition.
    """

    def __init__(self, rows: Sequence[Row], style: Style, sizes: Sizes, scale: float) -> None:
        super().__init__()
        self.shape, self.scale, self.noise = sizes.shape, scale, sizes.noise
        inputs = sizes.latent + sizes.noise + sizes.condition
        self.stack = Stack("decoder", rows, latent_shape(rows, inputs), style, injected=sizes.latent)

    def forward(self, z: Tensor, xi: Tensor | None = None, c: Tensor | None = None) -> Tensor:
        """Return (B, *shape) in the data's range, for z, noise xi (B, noise) and condition c."""
        # Codes, noise and condition side by side; injected is z alone.
        h = _with_noise(z, xi, self.noise)
        h = h if c is None else torch.cat([h, c], dim=1)
        x: Tensor = self.stack(h.view(len(h), *self.stack.shape), z=z).view(len(z), *self.shape).to(z.dtype)
        return torch.sigmoid(x) if len(self.shape) == 3 else x * self.scale
