"""The noise that a model asks for."""

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor


@dataclass(frozen=True)
class Draw:
    """Random numbers that one update needs.

    Standard normal, uniform on [0, 1), uniform on [-1, 1) ("centred"), or a "mask" of inverted dropout for
    maps (B, C, ...): 0 with probability `rate`, else 1 / (1 - rate).
    """

    kind: Literal["normal", "uniform", "centred", "mask"]
    shape: tuple[int, ...]
    rate: float = 0.0  # of a mask

    def __call__(self, rng: torch.Generator) -> Tensor:
        """Draw them on the generator's device."""
        if self.kind == "normal":
            return torch.randn(self.shape, generator=rng, device=rng.device)
        if self.kind == "mask":
            return self._mask(rng)
        uniform = torch.rand(self.shape, generator=rng, device=rng.device)
        return 2 * uniform - 1 if self.kind == "centred" else uniform

    def _mask(self, rng: torch.Generator) -> Tensor:
        """Draw a mask in channels_last order, which is the order of the maps.

        On a CPU each number takes 16 random bits, a quarter of a draw from the generator, where torch's
        bernoulli_ takes six times as long; so the rate is rounded to 1 / 65,536, and what is kept is scaled
        by the rounded one.
        """
        batch, channels, *size = self.shape
        last = (batch, *size, channels)
        if rng.device.type != "cpu":
            kept = torch.empty(last, device=rng.device).bernoulli_(1 - self.rate, generator=rng)
            return kept.movedim(-1, 1) / (1 - self.rate)

        numbers, levels = math.prod(last), 2**16
        words = torch.empty(math.ceil(numbers / 4), dtype=torch.int64).random_(-(2**63), None, generator=rng)
        dropped = round(self.rate * levels)
        half = levels / (levels - dropped) / 2

        # The sign, -1 or 1, of each distance to the first number that is kept: quicker than to compare and
        # to multiply.
        sign = words.view(torch.int16)[:numbers].float().sub_(dropped - levels // 2 - 0.5).sign_()
        return sign.mul_(half).add_(half).view(last).movedim(-1, 1)
