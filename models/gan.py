"""GAN (Goodfellow et al., NeurIPS 2014, arXiv 1406.2661), with an encoder learnt afterwards."""

from collections.abc import Mapping
from typing import ClassVar, Literal

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from alibench.models import games
from alibench.models.base import Batch, Model, Packing, Phase, Terms, Weight
from alibench.models.discriminator import packed, packs
from alibench.models.networks import Networks
from alibench.models.noise import Draw


class GAN(Model):
    """A decoder against D(x), then, with the decoder fixed, an encoder by latent regression.

    The second phase minimises the distance of z to Gz(Gx(z)) on generated pairs only (Dumoulin et al. 2017,
    section 4.5, "learning the inverse mapping"; Donahue et al. 2017, "latent regressor"). `regression` is its
    number of rounds as a multiple of the game's: extra updates, which the tables report. D sees `packing`
    images at once (PacGAN, Lin et al. 2018): B / packing packs a batch.
    """

    name = "gan"
    title = "GAN + regression"
    source = "Goodfellow et al. 2014, eq. 1; encoder: Dumoulin et al. 2017, sec. 4.5"
    inference: ClassVar[Literal["learnt with it", "learnt afterwards"]] = "learnt afterwards"
    priors: ClassVar[tuple[str, ...]] = ("normal", "uniform")
    players = {"decoder": ("decoder",), "discriminator": ("discriminator",), "encoder": ("encoder",)}

    def __init__(self, networks: Networks, regression: Weight = 0.5, packing: Packing = 1) -> None:
        super().__init__(networks)
        self.regression, self.packing = regression, packing
        self.encoder = networks.encoder("drawn" if self.stochastic else "code")
        self.decoder = networks.decoder()
        self.discriminator = networks.discriminator("x", packing=packing)

    @property
    def phases(self) -> tuple[Phase, ...]:
        """The game, then the regression."""
        return (
            Phase("game", (("decoder", "discriminator"),)),
            Phase("regression", (("encoder",),), share=self.regression),
        )

    def noise(self, n: int) -> dict[str, Draw]:
        """Prior codes, and the dropout masks of D on real and generated images."""
        return self.draws(n, "z", "xi") | self.discriminator.noise(2 * packs(n, self.packing))

    def distance(self, z: Tensor, x_tilde: Tensor) -> Tensor:
        """Return how far z is from the code of x_tilde = Gx(z), per sample (B,).

        The squared distance of a normal prior's codes (ALI); of a uniform one's the cross-entropy between the
        encoder's sigmoid and (z + 1) / 2, mean over the code (BiGAN's code).
        """
        # by the encoder's outputs before they are squashed to [-1, 1]
        if self.uniform:
            logits = self.encoder.raw(x_tilde)
            return binary_cross_entropy_with_logits(logits, (z + 1) / 2, reduction="none").mean(1)
        return (z - self.encoder(x_tilde)).square().sum(1)

    def forward(self, batch: Batch, learners: tuple[str, ...]) -> Terms:
        """D runs on data and generated images; the regression leaves D and the data aside."""
        z, xi = batch.noise["z"], batch.noise.get("xi")

        # The regression.
        if "encoder" in learners:
            with torch.no_grad():
                x_tilde = self.image_of(z, xi)
            return Terms(losses={"encoder": self.distance(z, x_tilde)})

        # The game.
        pairs = {"q": packed((batch.x,), self.packing), "p": packed((self.image_of(z, xi),), self.packing)}
        return Terms(pairs, self.discriminator.compare(pairs, batch.noise))

    def game(self, logits: Mapping[str, Tensor], y: Tensor | None = None) -> dict[str, Tensor]:
        """Return V for D and the non-saturating loss for the decoder."""
        return games.non_saturating(logits["q"], logits["p"])
