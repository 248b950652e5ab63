"""GAN (Goodfellow et al., NeurIPS 2014, arXiv 1406.2661), and the encoder that the papers' baseline learns afterwards."""

from collections.abc import Mapping

import torch
from torch import Tensor

from models import games
from models.base import Batch, Draw, Model, Phase, Terms
from models.networks import Networks


class GAN(Model):
    """A decoder against D(x), then, with the decoder fixed, an encoder by latent regression.

    The second phase minimises E_z ||z - Gz(Gx(z))||^2 (Dumoulin et al. 2017, section 4.5, "learning the inverse
    mapping"; Donahue et al. 2017, "latent regressor") on generated pairs only. `regression` is its number of rounds as a
    multiple of the game's: extra updates, which the tables report.
    """

    name = "gan"
    title = "GAN + regression"
    source = "Goodfellow et al. 2014, eq. 1; encoder: Dumoulin et al. 2017, sec. 4.5"
    players = {"decoder": ("decoder",), "discriminator": ("discriminator",), "encoder": ("encoder",)}

    def __init__(self, networks: Networks, regression: float = 0.5) -> None:
        super().__init__()
        self.latent = networks.latent
        self.regression = regression
        self.encoder = networks.encoder(1)
        self.decoder = networks.decoder()
        self.discriminator = networks.discriminator(joint=False)

    @property
    def phases(self) -> tuple[Phase, ...]:
        """The game, then the regression."""
        return (
            Phase("game", (("decoder", "discriminator"),)),
            Phase("regression", (("encoder",),), share=self.regression),
        )

    def noise(self, n: int) -> dict[str, Draw]:
        """Prior codes, and the dropout masks of D on real and generated images."""
        return {"z": Draw("normal", (n, self.latent))} | self.discriminator.noise(2 * n)

    def forward(self, batch: Batch, learners: tuple[str, ...]) -> Terms:
        """D runs once on [x; Gx(z)]; the regression leaves D and the data aside."""
        x, z = batch.x, batch.noise["z"]
        if "encoder" in learners:
            with torch.no_grad():
                x_tilde = self.decoder(z)
            return Terms(losses={"encoder": (z - self.encoder(x_tilde)).square().sum(1)})
        x_tilde = self.decoder(z)
        q, p = self.discriminator(torch.cat([x, x_tilde]), None, batch.noise).chunk(2)
        return Terms(pairs={"q": (x,), "p": (x_tilde,)}, logits={"q": q, "p": p})

    def game(self, logits: Mapping[str, Tensor], y: Tensor | None = None) -> dict[str, Tensor]:
        """Return V for D and the non-saturating loss for the decoder."""
        return games.non_saturating(logits["q"], logits["p"])
