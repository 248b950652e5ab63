"""GAN with joint latent regression (Donahue et al. 2017, section 4, baseline "JLR")."""

from alibench.models.base import Batch, Phase, Terms, Weight
from alibench.models.gan import GAN
from alibench.models.networks import Networks


class JointRegressionGAN(GAN):
    """GAN whose encoder learns z from Gx(z) during the game, the decoder by `weight` times its loss.

    By the code's own comment the game degenerates at weight 1; 0.25 is the code's value.
    """

    name = "gan-jlr"
    title = "GAN + joint regression"
    source = "Donahue et al. 2017, sec. 4 (JLR); weight from the code"
    inference = "learnt with it"
    players = {"decoder": ("decoder",), "discriminator": ("discriminator",), "encoder": ("encoder",)}

    def __init__(self, networks: Networks, weight: Weight = 0.25) -> None:
        super().__init__(networks)
        self.weight = weight

    @property
    def phases(self) -> tuple[Phase, ...]:
        """All at once."""
        return (Phase("game", (tuple(self.players),)),)

    def forward(self, batch: Batch, learners: tuple[str, ...]) -> Terms:
        """The game, and the distance of z to the code of Gx(z) for encoder and decoder."""
        terms = super().forward(batch, ("decoder", "discriminator"))
        # Its gradient reaches the decoder through Gx(z).
        distance = self.distance(batch.noise["z"], terms.pairs["p"][0])
        return Terms(terms.pairs, terms.logits, {"encoder": distance, "decoder": self.weight * distance})
