"""BigBiGAN's objective (Donahue and Simonyan, NeurIPS 2019, arXiv 1907.02544) on the suite's networks."""

from collections.abc import Mapping
from typing import Annotated

import torch
from msgspec import Meta
from torch import Tensor

from alibench.models import games
from alibench.models.ali import ALI
from alibench.models.base import Batch, Phase, Terms
from alibench.models.discriminator import Discriminator
from alibench.models.networks import Networks
from alibench.models.noise import Draw

SCORES = ("", " x", " z")  # of the pair, of x alone, of z alone


class BigBiGAN(ALI):
    """ALI's pairs with three scores: of the pair, of x alone and of z alone; D's loss of each is a hinge.

    The scores of x and z are linear in what D's towers give, as in the paper. Where a family has no towers,
    x and z have a D of their own each: more weights. `discriminator_updates` of D to one of the generator,
    each on a batch of its own. The paper's rates differ by player: `recipe.lr_of` sets them.
    """

    name = "bigbigan"
    title = "BigBiGAN's objective"
    source = "Donahue and Simonyan 2019; losses from an unofficial code"
    critic = True
    players = {
        "generator": ("encoder", "decoder"),
        "discriminator": ("discriminator", "unary_x", "unary_z"),
    }

    def __init__(
        self, networks: Networks, discriminator_updates: Annotated[int, Meta(ge=1, le=1000)] = 2
    ) -> None:
        super().__init__(networks)
        self.discriminator_updates = discriminator_updates

        # heads on D's towers, where it has any
        widths = self.discriminator.widths
        self.has_heads = widths.keys() == {"x", "z"}
        self.unary_x, self.unary_z = (
            networks.linear(widths[side], 1)
            if self.has_heads
            else networks.discriminator(side, name=f"{side} ")
            for side in ("x", "z")
        )

    @property
    def phases(self) -> tuple[Phase, ...]:
        """Several updates of D, then one of the generator."""
        return (Phase("game", (*(("discriminator",),) * self.discriminator_updates, ("generator",))),)

    def noise(self, n: int) -> dict[str, Draw]:
        """ALI's, and the dropout masks of the Ds of x and of z alone."""
        unary = [d for d in (self.unary_x, self.unary_z) if isinstance(d, Discriminator)]
        return super().noise(n) | {name: draw for d in unary for name, draw in d.noise(2 * n).items()}

    def scores(self, x: Tensor, z: Tensor, noise: Mapping[str, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        """Return the scores (B,) of pairs, of x and of z."""
        # A D each.
        if not self.has_heads:
            of_x, of_z = self.unary_x(x, noise=noise), self.unary_z(z, noise=noise)
            return self.discriminator(x, z, noise=noise), of_x, of_z

        # Or the towers of one.
        towers = self.discriminator.towers(x, z, noise=noise)
        _, joint = self.discriminator.judge_towers(towers, x, z, noise=noise)
        of_x, of_z = self.unary_x(towers["x"]), self.unary_z(towers["z"])
        return joint, of_x.squeeze(1).to(joint.dtype), of_z.squeeze(1).to(joint.dtype)

    def forward(self, batch: Batch, learners: tuple[str, ...]) -> Terms:
        """All three scores of both kinds of pair, from one pass over both."""
        # Both kinds side by side: what layers see of a batch is the same for both.
        pairs = self.pairs(batch)
        x, z = (torch.cat(sides) for sides in zip(*pairs.values(), strict=True))
        logits = {}
        for score, values in zip(SCORES, self.scores(x, z, batch.noise), strict=True):
            logits[f"q{score}"], logits[f"p{score}"] = values.chunk(2)
        return Terms(pairs, logits)

    def game(self, logits: Mapping[str, Tensor], y: Tensor | None = None) -> dict[str, Tensor]:
        """Return the sums of the three games."""
        played = [games.hinge(logits[f"q{score}"], logits[f"p{score}"]) for score in SCORES]
        return {player: torch.stack([game[player] for game in played]).sum(0) for player in played[0]}
