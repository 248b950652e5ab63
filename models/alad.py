"""Adversarially learned anomaly detection (Zenati et al., ICDM 2018, arXiv 1812.02288)."""

from collections.abc import Mapping

from torch import Tensor

from alibench.models import games
from alibench.models.ali import ALI
from alibench.models.alice_adversarial import AdversarialALICE
from alibench.models.base import Weight
from alibench.models.networks import Networks
from alibench.models.operations import distance


class ALAD(AdversarialALICE):
    """BiGAN's game and two more, on (x, x) against (x, Gx(Gz(x))) and (z, z) against (z, Gz(Gx(z))).

    Encoder and decoder pay for both labels in each of the three, as in the code. Its score of anomalies is
    the distance of the last features that D of (x, x) has of (x, x) and (x, Gx(Gz(x))).
    """

    name = "alad"
    title = "ALAD"
    source = "Zenati et al. 2018 (ALAD); the code"
    stochastic = False

    def __init__(self, networks: Networks, weight: Weight = 1.0) -> None:
        super().__init__(networks, weight)

    def game(self, logits: Mapping[str, Tensor], y: Tensor | None = None) -> dict[str, Tensor]:
        """Return the sum of the three games, the cycles' weighted for the generator."""
        total = ALI.game(self, logits, y)
        for kind in ("xx", "zz"):
            losses = games.joint(logits[kind], logits[f"{kind} cycle"])
            total["discriminator"] = total["discriminator"] + losses["discriminator"]
            total["generator"] = total["generator"] + self.weight * losses["generator"]
        return total

    def anomaly(self, x: Tensor) -> dict[str, Tensor]:
        """Return its own score, then BiGAN's."""
        features = (self.cycle_x.judge(x, part)[0] for part in (x, self.reconstruct(x)))
        return {"ALAD": distance(*features), **super().anomaly(x)}
