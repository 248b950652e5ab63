"""VEEGAN (Srivastava et al., NeurIPS 2017, arXiv 1705.07761)."""

import math
from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn.functional import softplus

from alibench.models.base import Batch, Model, Terms
from alibench.models.layers import Unfit
from alibench.models.networks import Networks
from alibench.models.noise import Draw


class VEEGAN(Model):
    """A reconstructor F, the encoder, learns z from Gx(z) alone; D sees (x, F's draw) and (Gx(z), z).

    F's draw is N(F(x), I). As in algorithm 1 and in the code, no gradient of D reaches F, though by the
    objective in the text it would. The decoder minimises -l(Gx(z), z), D's logit itself, plus the distance
    |z - F(Gx(z))|^2 / 2, which is -log N(z; F(Gx(z)), I) but for a constant (the code).
    """

    name = "veegan"
    title = "VEEGAN"
    source = "Srivastava et al. 2017, algorithm 1; the code"
    stochastic = True
    players = {"encoder": ("encoder",), "decoder": ("decoder",), "discriminator": ("discriminator",)}

    def __init__(self, networks: Networks) -> None:
        super().__init__(networks)
        # A draw adds a deviation of 1 to each number, so that no narrow code tells where in the plane x is.
        size = math.prod(networks.shape)
        if len(networks.shape) == 1 and networks.latent <= size:
            raise Unfit(
                f"its codes have noise of deviation 1: points of {size} numbers need a latent of more than "
                f"{size} (its code takes 254), not {networks.latent}: set latent"
            )
        self.encoder = networks.encoder("code")
        self.decoder = networks.decoder()
        self.discriminator = networks.discriminator("x", "z")

    def noise(self, n: int) -> dict[str, Draw]:
        """Prior codes, the noise of both networks, and the dropout masks of D on both kinds of pair."""
        return self.draws(n, "z", "eps", "xi") | self.discriminator.noise(2 * n)

    def code_of(self, x: Tensor, eps: Tensor | None = None, y: Tensor | None = None) -> Tensor:
        """Return mean and log sigma (B, 2 latent): F(x), and 0."""
        mean: Tensor = self.encoder(x)
        return torch.cat([mean, torch.zeros_like(mean)], dim=1)

    def forward(self, batch: Batch, learners: tuple[str, ...]) -> Terms:
        """D runs on both kinds of pair; the distance is the encoder's and the decoder's."""
        # F maps samples back to the codes that made them.
        z = batch.noise["z"]
        x_tilde = self.image_of(z, batch.noise.get("xi"))
        distance = (z - self.encoder(x_tilde)).square().sum(1) / 2

        # The game does not teach F.
        z_hat = self.infer(batch.x, batch.noise["eps"]).detach()
        pairs = {"q": (batch.x, z_hat), "p": (x_tilde, z)}
        logits = self.discriminator.compare(pairs, batch.noise)
        return Terms(pairs, logits, {"encoder": distance, "decoder": distance})

    def game(self, logits: Mapping[str, Tensor], y: Tensor | None = None) -> dict[str, Tensor]:
        """Return V for D, and D's logit for the decoder."""
        q, p = logits["q"], logits["p"]
        return {"discriminator": softplus(-q) + softplus(p), "decoder": -p}
