"""GAN with adversarial inference learnt afterwards (Dumoulin et al. 2017, section 4.5, "post-hoc")."""

from collections.abc import Mapping

import torch
from torch import Tensor

from alibench.models import games
from alibench.models.base import Batch, Phase, Terms, Weight
from alibench.models.gan import GAN
from alibench.models.networks import Networks
from alibench.models.noise import Draw


class PostHocGAN(GAN):
    """A decoder against D(x); then, with the decoder fixed, an encoder against a new D(x, z) in ALI's game.

    `inference_share` is the second phase's number of rounds as a multiple of the first's.
    """

    name = "gan-posthoc"
    title = "GAN + post-hoc ALI"
    source = "Dumoulin et al. 2017, sec. 4.5"
    stochastic = True
    priors = ("normal",)
    players = {
        "decoder": ("decoder",),
        "discriminator": ("discriminator",),
        "encoder": ("encoder",),
        "pair discriminator": ("pair_discriminator",),
    }

    def __init__(self, networks: Networks, inference_share: Weight = 1.0) -> None:
        super().__init__(networks)
        self.inference_share = inference_share
        self.pair_discriminator = networks.discriminator("x", "z", name="pair ")

    @property
    def phases(self) -> tuple[Phase, ...]:
        """The decoder's game, then the encoder's."""
        return (
            Phase("game", (("decoder", "discriminator"),)),
            Phase("inference", (("encoder", "pair discriminator"),), share=self.inference_share),
        )

    def noise(self, n: int) -> dict[str, Draw]:
        """The noise of both games."""
        return super().noise(n) | self.draws(n, "eps") | self.pair_discriminator.noise(2 * n)

    def forward(self, batch: Batch, learners: tuple[str, ...]) -> Terms:
        """Pairs of the one game or of the other."""
        # First phase: a GAN, which knows nothing of the encoder.
        if "discriminator" in learners or "decoder" in learners:
            return super().forward(batch, learners)

        # The decoder is fixed, so its images need no gradient.
        z = batch.noise["z"]
        with torch.no_grad():
            x_tilde = self.image_of(z, batch.noise.get("xi"))
        z_hat = self.infer(batch.x, batch.noise["eps"])
        pairs = {"q inference": (batch.x, z_hat), "p inference": (x_tilde, z)}
        return Terms(pairs, self.pair_discriminator.compare(pairs, batch.noise))

    def game(self, logits: Mapping[str, Tensor], y: Tensor | None = None) -> dict[str, Tensor]:
        """Return the game of the phase."""
        # The logits say which of the two games this is.
        if "q" in logits:
            return super().game(logits, y)
        losses = games.joint(logits["q inference"], logits["p inference"])
        return {"encoder": losses["generator"], "pair discriminator": losses["discriminator"]}
