"""ALICE with an adversarial cycle (Li et al., NeurIPS 2017, arXiv 1709.01215)."""

from collections.abc import Mapping

from torch import Tensor

from alibench.models import games
from alibench.models.ali import ALI
from alibench.models.alice import ALICE
from alibench.models.base import Batch, Terms, Updates, Weight
from alibench.models.networks import Networks
from alibench.models.noise import Draw


class AdversarialALICE(ALICE):
    """ALICE with the implicit cycle term: one D tells (x, x) from (x, Gx(Gz(x))), one (z, z)."""

    name = "alice-adversarial"
    title = "ALICE, adversarial cycle"
    source = "Li et al. 2017, implicit cycle; weight from the code"
    players = {"generator": ("encoder", "decoder"), "discriminator": ("discriminator", "cycle_x", "cycle_z")}

    def __init__(self, networks: Networks, weight: Weight = 0.1, generator_updates: Updates = 0) -> None:
        super().__init__(networks, weight, generator_updates)
        self.cycle_x = networks.discriminator("x", "x", name="xx ")
        self.cycle_z = networks.discriminator("z", "z", name="zz ")

    def noise(self, n: int) -> dict[str, Draw]:
        """ALI's, and the dropout masks of the cycles' discriminators."""
        return super().noise(n) | self.cycle_x.noise(2 * n) | self.cycle_z.noise(2 * n)

    def forward(self, batch: Batch, learners: tuple[str, ...]) -> Terms:
        """ALI's pairs, and the cycles' as two games more."""
        terms = ALI.forward(self, batch, learners)
        (x, _), (_, z) = terms.pairs["q"], terms.pairs["p"]
        x_hat, z_cycle = self.cycles(terms.pairs, batch)

        xx, zz = {"xx": (x, x), "xx cycle": (x, x_hat)}, {"zz": (z, z), "zz cycle": (z, z_cycle)}
        logits = self.cycle_x.compare(xx, batch.noise) | self.cycle_z.compare(zz, batch.noise)
        return Terms({**terms.pairs, **xx, **zz}, {**terms.logits, **logits})

    def game(self, logits: Mapping[str, Tensor], y: Tensor | None = None) -> dict[str, Tensor]:
        """Return ALI's game and the cycles', weighted for the generator; D's three parts count alike."""
        total = super().game(logits, y)
        for kind in ("xx", "zz"):
            losses = games.non_saturating(logits[kind], logits[f"{kind} cycle"])
            total["discriminator"] = total["discriminator"] + losses["discriminator"]
            total["generator"] = total["generator"] + self.weight * losses["decoder"]
        return total
