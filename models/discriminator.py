"""The discriminator from layer tables: one for every game, whatever it sees."""

import math
from collections.abc import Mapping, Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from alibench.models.coders import Scaling, Sizes
from alibench.models.layers import Row, Stack, Style, Unfit, latent_shape
from alibench.models.noise import Draw


def packs(n: int, m: int) -> int:
    """Return how many packs of m samples a batch of n makes. Raises Unfit unless it is a whole number."""
    if n % m:
        raise Unfit(f"a batch of {n} does not divide into packs of {m}: set recipe.batch to a multiple")
    return n // m


def packed(parts: tuple[Tensor, ...], m: int) -> tuple[Tensor, ...]:
    """Return parts (B, ...) as D sees packs of m samples: m slices (B / m, ...) of each part.

    PacGAN (Lin et al. 2018), section 2: D sees several samples of one kind at once.
    """
    # slices, not chunks: each has a gradient of its own, which one backward pass through D needs
    return parts if m == 1 else tuple(part[i::m] for part in parts for i in range(m))


class Discriminator(nn.Module):
    """Logits, (B,) or (B, K), of what it sees: pairs (x, z), x or z alone, pairs (x, x), packs (x, x, z, z).

    One tower for x and one for z, then a joint one on what both give, concatenated with the condition. Where
    the table injects z, z has no tower.
    """

    def __init__(
        self,
        towers: tuple[Sequence[Row], Sequence[Row], Sequence[Row]],  # of x, of z, joint
        sees: tuple[Literal["x", "z"], ...],
        style: Style,
        sizes: Sizes,
        scaling: Scaling,
        # Batch statistics of each kind of pair, rather than of all together.
        separate: bool = False,
        # Before those of its towers, where a model has several.
        name: str = "",
    ) -> None:
        super().__init__()
        self.sees, self.scaling, self.separate = sees, scaling, separate
        dx, dz, dxz = towers
        xs, zs = sees.count("x"), sees.count("z")
        self.injects = "x" in sees and any(row.inject for row in (*dx, *dxz))
        injected = sizes.latent if self.injects and zs else 0

        # The towers of x and of z.
        shape, codes = (xs * sizes.shape[0], *sizes.shape[1:]), latent_shape(dz, zs * sizes.latent)
        self.dx = Stack(f"{name}dx", dx, shape, style, injected) if xs else None
        self.dz = Stack(f"{name}dz", dz, codes, style) if zs and not injected else None

        # A dense joint tower takes flat inputs, a convolutional one maps of one pixel.
        below = [tower for tower in (self.dx, self.dz) if tower is not None]
        flat = sum(math.prod(tower.output) for tower in below) + sizes.condition
        self.dxz = Stack(f"{name}dxz", dxz, latent_shape(dxz, flat), style, injected)

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
        return self.judge_towers(self.towers(*inputs, noise=noise), *inputs, noise=noise, c=c)

    def judge_towers(
        self,
        towers: Mapping[str, Tensor],
        *inputs: Tensor,
        noise: Mapping[str, Tensor] | None = None,
        c: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Return the same from what the towers gave of the inputs."""
        # Side by side, the condition last.
        _, z = self._sides(inputs)
        h = torch.cat([*towers.values(), *([] if c is None else [c])], dim=1)
        *_, last, logits = self.dxz.outputs(h.view(len(h), *self.dxz.shape), noise, z)
        return last.flatten(1).to(inputs[0].dtype), logits.flatten(1).squeeze(1).to(inputs[0].dtype)

    def towers(self, *inputs: Tensor, noise: Mapping[str, Tensor] | None = None) -> dict[str, Tensor]:
        """Return what the towers give of inputs, flat (B, F): of "x", and of "z" where it has a tower."""
        # An injected z enters x's tower, and has none of its own.
        (x, z), towers = self._sides(inputs), dict[str, Tensor]()
        if self.dx is not None:
            assert x is not None
            towers["x"] = self.dx(self.scaling(x), noise, z).flatten(1)
        if self.dz is not None:
            assert z is not None
            towers["z"] = self.dz(z.view(len(z), *self.dz.shape), noise).flatten(1)
        return towers

    @property
    def widths(self) -> dict[str, int]:
        """How many numbers the towers of "x" and of "z" give; a family without layers there has none."""
        towers = {"x": self.dx, "z": self.dz}
        return {side: math.prod(t.output) for side, t in towers.items() if t is not None and len(t.layers)}

    def _sides(self, inputs: tuple[Tensor, ...]) -> tuple[Tensor | None, Tensor | None]:
        """Return all x of the inputs side by side, and all z."""
        xs = [part for part, kind in zip(inputs, self.sees, strict=True) if kind == "x"]
        zs = [part for part, kind in zip(inputs, self.sees, strict=True) if kind == "z"]
        return torch.cat(xs, dim=1) if xs else None, torch.cat(zs, dim=1) if zs else None

    def hidden(self, x: Tensor) -> dict[str, Tensor]:
        """Return the outputs (B, ...) of all layers but the last, without dropout; D sees x alone."""
        assert self.sees == ("x",)
        assert self.dx is not None
        h, *tower = self.dx.outputs(self.scaling(x))
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
        """Return what the last layer sees, and the logits, of each kind of pair, from one pass over all.

        So dropout and batch statistics cover all kinds, as in ALI's released code: with statistics of each
        kind apart D cannot see what a whole batch has in common. BiGAN's code has them apart (`separate`).
        """
        # One pass a kind, each with its share of the masks.
        kinds = len(pairs)
        if self.separate:
            names = [name for name in self.noise(0) if noise and name in noise]
            masks = {name: noise[name].chunk(kinds) for name in names} if noise else {}
            return {
                kind: self.judge(*parts, noise={name: mask[i] for name, mask in masks.items()}, c=c)
                for i, (kind, parts) in enumerate(pairs.items())
            }

        # One pass over all kinds; the condition is the same for each.
        inputs = [torch.cat(parts) for parts in zip(*pairs.values(), strict=True)]
        last, logits = self.judge(*inputs, noise=noise, c=None if c is None else c.repeat(kinds, 1))
        return dict(zip(pairs, zip(last.chunk(kinds), logits.chunk(kinds), strict=True), strict=True))
