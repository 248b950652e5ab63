"""Wasserstein ALI with gradient penalty: ALI's pairs, the critic of Gulrajani et al. (arXiv 1704.00028)."""

from collections.abc import Mapping
from typing import Annotated

import torch
from msgspec import Meta
from torch import Tensor
from torch.func import grad

from alibench.models.ali import ALI
from alibench.models.base import Batch, Phase, Terms, Weight
from alibench.models.networks import Networks
from alibench.models.noise import Draw


class WassersteinALI(ALI):
    """The critic f estimates the Wasserstein distance of encoder pairs and decoder pairs.

    The critic minimises E f(p) - E f(q) + `penalty` * E (||grad f|| - 1)^2 on pairs interpolated between both
    kinds; the generator minimises E f(q) - E f(p). `critic_updates` of the critic to one of the generator.
    The critic has neither batch norm, which the penalty per sample forbids (section 4), nor dropout.
    """

    name = "wali"
    title = "Wasserstein ALI, GP"
    source = "Gulrajani et al. 2017, eq. 3, on the pairs of Dumoulin et al. 2017"
    plain = True
    critic = True

    def __init__(
        self,
        networks: Networks,
        penalty: Weight = 10.0,
        critic_updates: Annotated[int, Meta(ge=1, le=1000)] = 5,
    ) -> None:
        super().__init__(networks)
        self.penalty, self.critic_updates = penalty, critic_updates

    @property
    def phases(self) -> tuple[Phase, ...]:
        """Several updates of the critic, then one of the generator."""
        return (Phase("game", (*(("discriminator",),) * self.critic_updates, ("generator",))),)

    def noise(self, n: int) -> dict[str, Draw]:
        """ALI's, and the places between the pairs where the penalty is taken."""
        return super().noise(n) | {"interpolation": Draw("uniform", (n,))}

    def forward(self, batch: Batch, learners: tuple[str, ...]) -> Terms:
        """ALI's terms; for the critic also the penalty."""
        terms = super().forward(batch, learners)
        if "discriminator" not in learners:
            return terms

        # A pair on the line between two, one place on it for x and z alike.
        share = batch.noise["interpolation"]
        between = [
            q.detach() + share.view(-1, *[1] * (q.dim() - 1)) * (p.detach() - q.detach())
            for q, p in zip(terms.pairs["q"], terms.pairs["p"], strict=True)
        ]

        # The norm is that of the whole pair's gradient.
        slopes = grad(lambda x, z: self.discriminator(x, z).sum(), argnums=(0, 1))(*between)
        squares = torch.cat([slope.flatten(1) for slope in slopes], dim=1).square().sum(1)
        norm = squares.clamp(min=1e-12).sqrt()  # the root has no gradient at 0
        return Terms(terms.pairs, terms.logits, {"discriminator": self.penalty * (norm - 1).square()})

    def game(self, logits: Mapping[str, Tensor], y: Tensor | None = None) -> dict[str, Tensor]:
        """Return the two sides' differences of f."""
        difference = logits["q"] - logits["p"]
        return {"discriminator": -difference, "generator": difference}
