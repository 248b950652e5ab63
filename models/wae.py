"""Wasserstein autoencoder with MMD (Tolstikhin et al., ICLR 2018, arXiv 1711.01558)."""

import torch
from torch import Tensor

from alibench.models.ae import Autoencoder
from alibench.models.base import Batch, Terms, Weight
from alibench.models.networks import Networks
from alibench.models.noise import Draw


def mmd(z_hat: Tensor, z: Tensor) -> Tensor:
    """Return the unbiased estimate of MMD^2 (scalar) of codes and draws of N(0, I), each (B, latent).

    Kernel C / (C + d^2) with C = 2 latent (section 4); the cross term is over all B^2 pairs.
    """
    n, c = len(z), 2.0 * z.shape[1]

    def kernel(a: Tensor, b: Tensor) -> Tensor:
        return c / (c + (a[:, None] - b[None]).square().sum(2))

    # within a set a sample and itself are not a pair
    off_diagonal = 1 - torch.eye(n, device=z.device)
    within = sum(((kernel(a, a) * off_diagonal).sum() for a in (z_hat, z)), torch.zeros((), device=z.device))
    return within / (n * (n - 1)) - 2 * kernel(z_hat, z).mean()


class WassersteinAutoencoder(Autoencoder):
    """A deterministic autoencoder with `weight` times the MMD of a batch's codes from draws of the prior."""

    name = "wae-mmd"
    title = "WAE-MMD"
    source = "Tolstikhin et al. 2018, algorithm 2"
    generative = True
    pairwise = True
    priors = ("normal",)

    def __init__(self, networks: Networks, weight: Weight = 10.0) -> None:
        super().__init__(networks)
        self.weight = weight

    def noise(self, n: int) -> dict[str, Draw]:
        """Prior codes, and the decoder's noise."""
        return self.draws(n, "z", "xi")

    def forward(self, batch: Batch, learners: tuple[str, ...]) -> Terms:
        """Return the reconstruction error per sample, summed over x, and the batch's MMD."""
        # The batch's MMD is the same for each of its samples.
        z_hat = self.encoder(batch.x)
        error = self.error((batch.x - self.image_of(z_hat, batch.noise.get("xi"))).flatten(1))
        return Terms(losses={"autoencoder": error + self.weight * mmd(z_hat, batch.noise["z"])})
