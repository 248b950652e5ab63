"""ALICE (Li et al., NeurIPS 2017, arXiv 1709.01215): ALI with a bound on H(x|z), by a cycle term."""

from collections.abc import Mapping

from torch import Tensor

from alibench.models.ali import ALI
from alibench.models.base import Batch, Phase, Terms, Updates, Weight
from alibench.models.networks import Networks


class ALICE(ALI):
    """ALI plus `weight` (the paper's lambda) times an explicit cycle term; at weight 0 it is ALI.

    The term is the squared error of x against Gx(Gz(x)), mean over pixels or coordinates, plus that of z
    against Gz(Gx(z)), mean over the code (the toy's script). `generator_updates`, if any, follow one update
    of D in every round (five in the toy); 0: both at once, as ALI does.
    """

    name = "alice"
    title = "ALICE"
    source = "Li et al. 2017, explicit cycle; the code"

    def __init__(self, networks: Networks, weight: Weight = 1.0, generator_updates: Updates = 0) -> None:
        super().__init__(networks)
        self.weight, self.generator_updates = weight, generator_updates

    @property
    def phases(self) -> tuple[Phase, ...]:
        """One phase: all at once, or D, then the generator `generator_updates` times."""
        alternating = (("discriminator",), *(("generator",),) * self.generator_updates)
        return (Phase("game", alternating if self.generator_updates else (tuple(self.players),)),)

    def cycles(self, pairs: Mapping[str, tuple[Tensor, ...]], batch: Batch) -> tuple[Tensor, Tensor]:
        """Return Gx(Gz(x)) and Gz(Gx(z)), by the noise that made the pairs."""
        (_, z_hat), (x_tilde, _) = pairs["q"], pairs["p"]
        # The noise of the pairs again: a new draw would measure the noise, not the cycle.
        x_hat = self.image_of(z_hat, batch.noise.get("xi"), self.condition(batch.y))
        return x_hat, self.infer(x_tilde, batch.noise.get("eps"), batch.y)

    def forward(self, batch: Batch, learners: tuple[str, ...]) -> Terms:
        """ALI's terms; for the generator also the cycles' errors."""
        terms = super().forward(batch, learners)
        if "generator" not in learners or not self.weight:
            return terms

        # Means, so that the weight does not depend on the sizes of x and z.
        (x, _), (_, z) = terms.pairs["q"], terms.pairs["p"]
        x_hat, z_cycle = self.cycles(terms.pairs, batch)
        error = (x - x_hat).square().flatten(1).mean(1) + (z - z_cycle).square().mean(1)
        return Terms(terms.pairs, terms.logits, {"generator": self.weight * error})
