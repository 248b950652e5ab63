"""Autoencoders with squared and absolute error: the baselines of Donahue et al. 2017 (table 1)."""

from typing import ClassVar

from torch import Tensor

from alibench.models.base import Batch, Model, Terms
from alibench.models.networks import Networks
from alibench.models.noise import Draw


class Autoencoder(Model):
    """Encoder and decoder minimise ||x - Gx(Gz(x))||^2. Codes follow no prior: no samples."""

    name = "ae"
    title = "autoencoder, l2"
    source = "Donahue et al. 2017, sec. 4 and table 1"
    generative = False
    priors: ClassVar[tuple[str, ...]] = ("normal", "uniform")  # makes no use of it
    players = {"autoencoder": ("encoder", "decoder")}

    def __init__(self, networks: Networks) -> None:
        super().__init__(networks)
        self.encoder = networks.encoder("code")
        self.decoder = networks.decoder()

    def noise(self, n: int) -> dict[str, Draw]:
        """Return the decoder's noise, if it draws."""
        return self.draws(n, "xi")

    def error(self, difference: Tensor) -> Tensor:
        """Return the loss (B,) of x - x_hat (B, D)."""
        return difference.square().sum(1)

    def forward(self, batch: Batch, learners: tuple[str, ...]) -> Terms:
        """Return the reconstruction error per sample, summed over x."""
        x_hat = self.image_of(self.encoder(batch.x), batch.noise.get("xi"))
        return Terms(losses={"autoencoder": self.error((batch.x - x_hat).flatten(1))})


class AbsoluteAutoencoder(Autoencoder):
    """The autoencoder that minimises ||x - Gx(Gz(x))||_1."""

    name = "ae-l1"
    title = "autoencoder, l1"

    def error(self, difference: Tensor) -> Tensor:
        """Return the loss (B,) of x - x_hat (B, D)."""
        return difference.abs().sum(1)
