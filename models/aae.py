"""Adversarial autoencoder (Makhzani et al. 2015, arXiv 1511.05644)."""

from collections.abc import Mapping

from torch import Tensor

from alibench.models import games
from alibench.models.base import Batch, Model, Terms
from alibench.models.networks import Networks
from alibench.models.noise import Draw


class AAE(Model):
    """A deterministic autoencoder whose codes play a GAN against the prior: D sees z alone.

    The autoencoder's loss is the squared error, summed over x, plus the game's; both at once rather than in
    the paper's two alternating phases.
    """

    name = "aae"
    title = "AAE"
    source = "Makhzani et al. 2015, sec. 2"
    priors = ("normal", "uniform")
    players = {"autoencoder": ("encoder", "decoder"), "discriminator": ("discriminator",)}

    def __init__(self, networks: Networks) -> None:
        super().__init__(networks)
        self.encoder = networks.encoder("code")
        self.decoder = networks.decoder()
        self.discriminator = networks.discriminator("z")

    def noise(self, n: int) -> dict[str, Draw]:
        """Prior codes, and the dropout masks of D on both kinds of code."""
        return self.draws(n, "z", "xi") | self.discriminator.noise(2 * n)

    def forward(self, batch: Batch, learners: tuple[str, ...]) -> Terms:
        """D runs on codes of data ("q") and of the prior ("p")."""
        z_hat = self.encoder(batch.x)
        pairs = {"q": (z_hat,), "p": (batch.noise["z"],)}

        # Summed over x, as in the likelihood of a VAE.
        error = (batch.x - self.image_of(z_hat, batch.noise.get("xi"))).square().flatten(1).sum(1)
        return Terms(pairs, self.discriminator.compare(pairs, batch.noise), {"autoencoder": error})

    def game(self, logits: Mapping[str, Tensor], y: Tensor | None = None) -> dict[str, Tensor]:
        """Return the non-saturating GAN on codes: the prior's are the data, the encoder's generated."""
        losses = games.non_saturating(logits["p"], logits["q"])
        return {"discriminator": losses["discriminator"], "autoencoder": losses["decoder"]}
