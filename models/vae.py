"""Variational autoencoder (Kingma and Welling, ICLR 2014, arXiv 1312.6114)."""

import math
from collections.abc import Iterable
from typing import ClassVar, Literal

import torch
from torch import Tensor

from alibench.models.base import Batch, Model, Terms
from alibench.models.networks import Networks
from alibench.models.noise import Draw
from alibench.models.operations import batch_mean


def kl_to_prior(mean: Tensor, log_sigma: Tensor) -> Tensor:
    """Return KL(N(mean, sigma^2) || N(0, I)) (B,) in nats (Kingma and Welling 2014, appendix B)."""
    return 0.5 * (mean.square() + (2 * log_sigma).exp() - 1 - 2 * log_sigma).sum(1)


def normal_surprise(squares: Tensor, variance: Tensor) -> Tensor:
    """Return -log N(mean, variance) (B,) in nats at squared distances (B, D) from the mean."""
    return 0.5 * (squares / variance + torch.log(2 * math.pi * variance)).sum(1)


class VAE(Model):
    """Gaussian encoder and Gaussian decoder with one output variance, which follows its optimal value.

    The likelihood is highest at variance = mean squared error (Rybkin, Daniilidis and Levine 2021, eq. 7), so
    nothing is learnt or tuned: a learned scalar barely moves at these learning rates. The variance is the
    running mean of the error over some thousand batches, a constant in the gradient. It starts far below the
    data's own variance: there the code that ignores x is a stationary point, which data alike in all
    directions never leave, and a mean over a hundred batches comes there before the code is of use (one run
    of ten on the easy grid). `conclude` stores the value that is optimal on train.
    """

    name = "vae"
    title = "VAE"
    source = "Kingma and Welling 2014, eq. 10; variance: Rybkin et al. 2021, eq. 7"
    stochastic = True
    likelihood = True
    players = {"autoencoder": ("encoder", "decoder")}
    beta: float = 1.0  # weight of the KL term
    encoder_kind: ClassVar[Literal["gaussian", "drawn"]] = "gaussian"
    variance: Tensor

    def __init__(self, networks: Networks) -> None:
        super().__init__(networks)
        self.encoder = networks.encoder(self.encoder_kind)
        self.decoder = networks.decoder()
        self.register_buffer("variance", torch.tensor(0.01 * networks.scale**2))

    def noise(self, n: int) -> dict[str, Draw]:
        """Return the encoder's noise."""
        return self.draws(n, "eps")

    def forward(self, batch: Batch, learners: tuple[str, ...]) -> Terms:
        """Return the negative evidence bound per sample, in nats."""
        # The code is drawn by reparametrisation, so that the gradient reaches the encoder.
        mean, log_sigma = self.posterior(batch.x)
        assert log_sigma is not None
        x_hat = self.decoder(mean + log_sigma.exp() * batch.noise["eps"])
        loss = self.beta * kl_to_prior(mean, log_sigma) + self.surprise(batch.x, x_hat)
        return Terms(losses={"autoencoder": loss})

    def surprise(self, x: Tensor, x_hat: Tensor) -> Tensor:
        """Return -log p(x | z) (B,) in nats, x_hat the mean; in training, the variance follows the error."""
        # No gradient goes through the variance.
        error = (x - x_hat).square().flatten(1)  # (B, D)
        if self.decoder.training:
            self.variance.mul_(0.999).add_(0.001 * batch_mean(error.detach()))
        # a copy, which autograd keeps while the buffer moves on
        return normal_surprise(error, self.variance.clone())

    def conclude(self, batches: Iterable[Tensor], rng: torch.Generator) -> None:
        """Store the variance that is optimal on the batches: the mean squared error through drawn codes."""
        # In double precision: train has millions of numbers.
        squares, numbers = torch.zeros_like(self.variance, dtype=torch.float64), 0
        for x in batches:
            squares += (x - self.reconstruct(x, draw=True, rng=rng)).square().mean().double() * x.numel()
            numbers += x.numel()
        self.variance.copy_(squares / numbers)

    def observe(self, x: Tensor, rng: torch.Generator) -> Tensor:
        """Draw from N(x, variance)."""
        return x + self.variance.sqrt() * torch.randn(x.shape, generator=rng, device=x.device)

    def log_likelihood(self, x: Tensor, mean: Tensor) -> Tensor:
        """Return log N(x; mean, variance) (B,) in nats."""
        return -normal_surprise((x - mean).square().flatten(1), self.variance)
