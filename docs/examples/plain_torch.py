"""A VAE in plain torch: the user's own networks, with dropout, hidden layers for the classifiers, and noise.

To try it:

    alibench check plain_torch.py
    alibench run digits --plugin plain_torch.py --models vae plain-vae
"""

import math

import torch
from torch import Tensor, nn

from alibench.models.base import Batch, Model, Terms
from alibench.models.networks import Networks
from alibench.models.noise import Draw


class Encoder(nn.Module):
    """Images (B, C, H, W) to mean and log sigma of the code, side by side (B, 2 latent)."""

    def __init__(self, pixels: int, latent: int) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.Flatten(), nn.Linear(pixels, 256), nn.ReLU(), nn.Dropout(0.1))
        self.second = nn.Sequential(nn.Linear(256, 128), nn.ReLU())
        self.mean, self.log_sigma = nn.Linear(128, latent), nn.Linear(128, latent)

    def forward(self, x: Tensor) -> Tensor:
        """Return mean and log sigma (B, 2 latent)."""
        h = self.second(self.first(x))
        return torch.cat([self.mean(h), self.log_sigma(h)], dim=1)

    def hidden(self, x: Tensor) -> dict[str, Tensor]:
        """Return the hidden layers in order; SVM, neighbours and probe stand on them. Without it they get the
        code alone.
        """
        first = self.first(x)
        return {"first": first, "second": self.second(first)}


class Decoder(nn.Module):
    """Codes (B, latent) to images (B, C, H, W) in [0, 1]."""

    def __init__(self, latent: int, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            *(nn.Linear(latent, 256), nn.ReLU(), nn.Dropout(0.1)),
            *(nn.Linear(256, math.prod(shape)), nn.Sigmoid(), nn.Unflatten(1, shape)),
        )

    def forward(self, z: Tensor) -> Tensor:
        """Return images."""
        x: Tensor = self.layers(z)
        return x


class PlainVAE(Model):
    """KL to the prior and the squared error, weighted as by a Gaussian of deviation 0.1."""

    name = "plain-vae"
    title = "VAE, plain torch"
    source = "Kingma and Welling 2014, eq. 10"
    stochastic = True  # the encoder gives mean and log sigma, and infer(x, eps) draws z
    players = {"autoencoder": ("encoder", "decoder")}  # player -> the attributes that hold its networks

    def __init__(self, networks: Networks) -> None:
        super().__init__(networks)
        self.encoder = Encoder(math.prod(networks.shape), networks.latent)  # networks.shape is that of one x
        self.decoder = Decoder(networks.latent, networks.shape)

    def noise(self, n: int) -> dict[str, Draw]:
        """Return what an update draws beside dropout: the encoder's noise, batch.noise["eps"]."""
        return self.draws(n, "eps")

    def forward(self, batch: Batch, learners: tuple[str, ...]) -> Terms:
        """Return the player's loss (B,), one number a sample; the loop takes its mean."""
        mean, log_sigma = self.posterior(batch.x)
        x = self.decoder(mean + log_sigma.exp() * batch.noise["eps"])
        error = (x - batch.x).square().flatten(1).sum(1) / (2 * 0.1**2)
        kl = 0.5 * (mean.square() + (2 * log_sigma).exp() - 1 - 2 * log_sigma).sum(1)
        return Terms(losses={"autoencoder": error + kl})
