"""Adversarially Learned Inference (Dumoulin et al., ICLR 2017, arXiv 1606.00704)."""

from collections.abc import Mapping
from typing import ClassVar

from torch import Tensor

from alibench.models import games
from alibench.models.base import Batch, Model, Packing, Terms
from alibench.models.discriminator import packed, packs
from alibench.models.networks import Networks
from alibench.models.noise import Draw
from alibench.models.operations import distance


class ALI(Model):
    """One D sees encoder pairs (x, Gz(x)), x from data, and decoder pairs (Gx(z), z), z from the prior.

    `packing` pairs of one kind at once (PacGAN, Lin et al. 2018, here on pairs): B / packing packs a batch.
    """

    name = "ali"
    title = "ALI"
    source = "Dumoulin et al. 2017, eq. 3"
    stochastic = True
    plain: ClassVar[bool] = False  # D without batch norm and dropout
    players: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "generator": ("encoder", "decoder"),
        "discriminator": ("discriminator",),
    }

    def __init__(self, networks: Networks, packing: Packing = 1) -> None:
        super().__init__(networks)
        self.packing = packing
        self.encoder = networks.encoder("drawn" if self.stochastic else "code", self.conditional)
        self.decoder = networks.decoder(self.conditional)
        self.discriminator = networks.discriminator(
            "x", "z", conditional=self.conditional, plain=self.plain, packing=packing
        )

    def noise(self, n: int) -> dict[str, Draw]:
        """Prior codes, the noise of networks that draw, and the dropout masks of D on both kinds of pair."""
        return self.draws(n, "z", "eps", "xi") | self.discriminator.noise(2 * packs(n, self.packing))

    def pairs(self, batch: Batch) -> dict[str, tuple[Tensor, Tensor]]:
        """Return encoder pairs "q" and decoder pairs "p"."""
        # Both sides of the game: q(x) q(z | x), and p(z) p(x | z).
        x, z, c = batch.x, batch.noise["z"], self.condition(batch.y)
        z_hat = self.infer(x, batch.noise.get("eps"), batch.y)
        x_tilde = self.image_of(z, batch.noise.get("xi"), c)
        return {"q": (x, z_hat), "p": (x_tilde, z)}

    def forward(self, batch: Batch, learners: tuple[str, ...]) -> Terms:
        """D runs on both kinds of pair, with the same labels on both sides."""
        # One pass over both kinds, so that batch norm and dropout are shared, as in the released code.
        pairs = {kind: packed(parts, self.packing) for kind, parts in self.pairs(batch).items()}
        return Terms(pairs, self.discriminator.compare(pairs, batch.noise, self.condition(batch.y)))

    def anomaly(self, x: Tensor) -> dict[str, Tensor]:
        """Return the reconstruction's error, and EGBAD's score (Zenati et al. 2018, arXiv 1802.06222).

        That is 0.9 of the absolute error and 0.1 of the distance of D's last features of (x, z) and (x^, z).
        """
        # D of packs sees no single pair.
        scores = super().anomaly(x)
        if scores and self.packing == 1:
            z = self.encode(x)
            x_hat = self.decode(z)
            features = (self.discriminator.judge(part, z)[0] for part in (x, x_hat))
            scores["EGBAD"] = 0.9 * distance(x, x_hat) + 0.1 * distance(*features)
        return scores

    def game(self, logits: Mapping[str, Tensor], y: Tensor | None = None) -> dict[str, Tensor]:
        """Return V for D and V' for encoder and decoder."""
        return games.joint(logits["q"], logits["p"])
