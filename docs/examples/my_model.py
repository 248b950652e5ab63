"""ALI with another game, least squares, and a term beside it that brings every code back to its image.

To try it:

    alibench check my_model.py
    alibench run digits --plugin my_model.py --models ali lsali
"""

from collections.abc import Mapping

from torch import Tensor

from alibench.models.ali import ALI
from alibench.models.base import Batch, Terms, Weight
from alibench.models.networks import Networks


class LeastSquaresALI(ALI):
    """ALI with the least-squares game (Mao et al. 2017, eq. 2), and `cycle` times the error of Gx(Gz(x))."""

    name = "lsali"  # in suites and on the command line
    title = "ALI, least squares"  # in tables
    source = "Mao et al. 2017, eq. 2, on ALI's pairs"

    def __init__(self, networks: Networks, cycle: Weight = 1.0) -> None:
        super().__init__(networks)  # encoder, decoder and discriminator, from the suite's layer tables
        self.cycle = cycle  # an option: --set model.lsali.options.cycle=0.1

    def forward(self, batch: Batch, learners: tuple[str, ...]) -> Terms:
        """ALI's pairs and logits, and the generator's direct loss (B,)."""
        terms = super().forward(batch, learners)
        x, z_hat = terms.pairs["q"]
        error = (x - self.image_of(z_hat, batch.noise.get("xi"))).square().flatten(1).mean(1)
        return Terms(
            terms.pairs, terms.logits, {"generator": self.cycle * error} if "generator" in learners else {}
        )

    def game(self, logits: Mapping[str, Tensor], y: Tensor | None = None) -> dict[str, Tensor]:
        """What each player minimises as a function of D's logits alone, (B,): D calls pairs of data 1, the
        others 0.
        """
        q, p = logits["q"], logits["p"]
        return {"discriminator": (q - 1) ** 2 + p**2, "generator": q**2 + (p - 1) ** 2}
