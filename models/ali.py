"""Adversarially Learned Inference (Dumoulin et al., ICLR 2017, arXiv 1606.00704)."""

from collections.abc import Mapping

import torch
from torch import Tensor

from models import games
from models.base import Batch, Draw, Model, Terms
from models.networks import Networks


class ALI(Model):
    """One discriminator sees encoder pairs (x, Gz(x)), x from data, and decoder pairs (Gx(z), z), z from the prior."""

    name = "ali"
    title = "ALI"
    source = "Dumoulin et al. 2017, eq. 3"
    stochastic = True
    players = {"generator": ("encoder", "decoder"), "discriminator": ("discriminator",)}

    def __init__(self, networks: Networks) -> None:
        super().__init__()
        self.latent = networks.latent
        self.encoder = networks.encoder(2 if self.stochastic else 1)
        self.decoder = networks.decoder()
        self.discriminator = networks.discriminator(joint=True)

    def noise(self, n: int) -> dict[str, Draw]:
        """Prior codes, the encoder's noise where it draws, and the dropout masks of D on both kinds of pair."""
        eps = {"eps": Draw("normal", (n, self.latent))} if self.stochastic else {}
        return {"z": Draw("normal", (n, self.latent))} | eps | self.discriminator.noise(2 * n)

    def forward(self, batch: Batch, learners: tuple[str, ...]) -> Terms:
        """D runs once on [x; Gx(z)] and [Gz(x); z], as in the released code: dropout and statistics cover both kinds."""
        x, z = batch.x, batch.noise["z"]
        z_hat = self.infer(x, batch.noise.get("eps"))
        x_tilde = self.decoder(z)
        logits = self.discriminator(torch.cat([x, x_tilde]), torch.cat([z_hat, z]), batch.noise)
        q, p = logits.chunk(2)
        return Terms(pairs={"q": (x, z_hat), "p": (x_tilde, z)}, logits={"q": q, "p": p})

    def game(self, logits: Mapping[str, Tensor], y: Tensor | None = None) -> dict[str, Tensor]:
        """Return V for D and V' for encoder and decoder."""
        return games.joint(logits["q"], logits["p"])
