"""ALI's pairs in the relativistic game, as R3GAN plays it (Huang et al., NeurIPS 2024, arXiv 2501.05441)."""

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.func import grad

from alibench.models import games
from alibench.models.ali import ALI
from alibench.models.base import Batch, Packing, Phase, Terms, Weight
from alibench.models.networks import Networks


class RelativisticALI(ALI):
    """D tells which of two pairs is the encoder's, by the difference of their logits."""

    name = "ali-relativistic"
    title = "ALI, relativistic"
    source = "Huang et al. 2024, the code, on the pairs of Dumoulin et al. 2017"
    critic = True

    def __init__(self, networks: Networks, packing: Packing = 1) -> None:
        super().__init__(networks, packing)
        # What all logits share cancels: its gradient is rounding alone, which Adam would make steps of.
        last = dict(self.discriminator.dxz.layers[-1].named_parameters())
        if "op.bias" in last:
            last["op.bias"].requires_grad_(False)

    def game(self, logits: Mapping[str, Tensor], y: Tensor | None = None) -> dict[str, Tensor]:
        """Return the two sides' losses of the difference."""
        return games.relativistic(logits["q"], logits["p"])


class PenalisedRelativisticALI(RelativisticALI):
    """The relativistic game with both gradient penalties: R3GAN's, on pairs.

    D pays `penalty` / 2 times the squared gradient of its logit, by x and z, at encoder pairs (R1) and at
    decoder pairs (R2). D and generator learn in turn, each on a batch of its own. D has neither batch norm,
    which a gradient per sample forbids, nor dropout. The paper's schedules of penalty and beta2 are left out.
    """

    name = "ali-r3"
    title = "ALI, relativistic, R1 + R2"
    source = "Huang et al. 2024, the code, on the pairs of Dumoulin et al. 2017"
    plain = True

    def __init__(self, networks: Networks, penalty: Weight = 1.0) -> None:
        super().__init__(networks)
        self.penalty = penalty

    @property
    def phases(self) -> tuple[Phase, ...]:
        """D, then encoder and decoder."""
        return (Phase("game", (("discriminator",), ("generator",))),)

    def forward(self, batch: Batch, learners: tuple[str, ...]) -> Terms:
        """ALI's terms; for D also the penalties."""
        terms = super().forward(batch, learners)
        if "discriminator" not in learners:
            return terms

        # At both kinds of pair, of the logit by the whole pair.
        slope = grad(lambda x, z: self.discriminator(x, z).sum(), argnums=(0, 1))
        squares = torch.zeros_like(terms.logits["q"])
        for pair in terms.pairs.values():
            for part in slope(*(side.detach() for side in pair)):
                squares = squares + part.flatten(1).square().sum(1)
        return Terms(terms.pairs, terms.logits, {"discriminator": self.penalty / 2 * squares})
