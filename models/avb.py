"""Adversarial variational Bayes (Mescheder, Nowozin and Geiger, ICML 2017, arXiv 1701.04722)."""

from collections.abc import Mapping

from torch import Tensor
from torch.nn.functional import softplus

from alibench.models.base import Batch, Terms
from alibench.models.networks import Networks
from alibench.models.noise import Draw
from alibench.models.vae import VAE


class AdversarialVAE(VAE):
    """The VAE's bound with D in the place of the KL term: ALI's three networks, and D sees other pairs.

    D compares (x, z^), z^ the encoder's draw, with (x, z), z from the prior: the same data on both sides, so
    at its optimum its logit is log q(z | x) - log p(z). Likelihood and output variance are the VAE's. The
    paper's adaptive contrast is left out.
    """

    name = "avb"
    title = "AVB"
    source = "Mescheder et al. 2017, the code; variance: Rybkin et al. 2021, eq. 7"
    encoder_kind = "drawn"  # by the family's way: its density need not be known
    players = {"autoencoder": ("encoder", "decoder"), "discriminator": ("discriminator",)}

    def __init__(self, networks: Networks) -> None:
        super().__init__(networks)
        self.discriminator = networks.discriminator("x", "z")

    def noise(self, n: int) -> dict[str, Draw]:
        """Prior codes, the encoder's noise, and the dropout masks of D on both kinds of pair."""
        return self.draws(n, "z", "eps") | self.discriminator.noise(2 * n)

    def forward(self, batch: Batch, learners: tuple[str, ...]) -> Terms:
        """D runs on drawn and prior codes of the same data; the likelihood is the autoencoder's."""
        # The decoder sees drawn codes of data alone, as a VAE's does.
        z_hat = self.infer(batch.x, batch.noise["eps"])
        pairs = {"q": (batch.x, z_hat), "p": (batch.x, batch.noise["z"])}
        surprise = self.surprise(batch.x, self.decoder(z_hat))
        return Terms(pairs, self.discriminator.compare(pairs, batch.noise), {"autoencoder": surprise})

    def game(self, logits: Mapping[str, Tensor], y: Tensor | None = None) -> dict[str, Tensor]:
        """Return D's logistic loss, and its logit of the drawn codes in the place of KL(q(z | x) || p(z))."""
        q, p = logits["q"], logits["p"]
        return {"discriminator": softplus(-q) + softplus(p), "autoencoder": q}
