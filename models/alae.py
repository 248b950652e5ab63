"""Adversarial latent autoencoder (Pidhorskyi, Adjeroh and Doretto, CVPR 2020, arXiv 2004.04467)."""

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.func import grad
from torch.nn.functional import softplus

from alibench.models.base import Batch, Model, Phase, Terms, Weight
from alibench.models.networks import Networks
from alibench.models.noise import Draw

DEPTH = 6  # layers of the mapping (the code)


class ALAE(Model):
    """D sees codes alone: of data, Gz(x), and of samples, Gz(Gx(F(z))), F a mapping of z to the codes.

    Each round has three updates, each on a batch of its own: encoder and D by the game, with `penalty` / 2
    times the squared gradient of D(Gz(x)) by x; mapping and decoder by the game; encoder and decoder by the
    squared error of F(z) against Gz(Gx(F(z))). So the encoder has no batch norm. In the code the third update
    moves the mapping, too; here, as in the paper, it does not. Codes are those that F gives, not z.
    """

    name = "alae"
    title = "ALAE"
    source = "Pidhorskyi et al. 2020; the code"
    whole_groups = True
    players = {
        "encoder": ("encoder",),
        "discriminator": ("discriminator",),
        "mapping": ("mapping",),
        "decoder": ("decoder",),
    }

    def __init__(self, networks: Networks, penalty: Weight = 10.0) -> None:
        super().__init__(networks)
        self.penalty = penalty
        self.encoder = networks.encoder("code", plain=True)
        self.mapping = networks.mapping(DEPTH)
        self.decoder = networks.decoder()
        self.discriminator = networks.discriminator("z", plain=True)

    @property
    def phases(self) -> tuple[Phase, ...]:
        """The three updates."""
        return (
            Phase("game", (("encoder", "discriminator"), ("mapping", "decoder"), ("encoder", "decoder"))),
        )

    def noise(self, n: int) -> dict[str, Draw]:
        """Draws of z, and the decoder's noise."""
        return self.draws(n, "z", "xi")

    def codes(self, z: Tensor) -> Tensor:
        """Return F(z) (B, latent), of z with a mean square of 1 (the code's pixel norm)."""
        w: Tensor = self.mapping(z * (z.square().mean(1, keepdim=True) + 1e-8).rsqrt())
        return w.to(z.dtype)  # mixed precision ends here

    def prior(self, n: int, rng: torch.Generator) -> Tensor:
        """Draw codes F(z) (n, latent)."""
        return self.codes(super().prior(n, rng))

    def forward(self, batch: Batch, learners: tuple[str, ...]) -> Terms:
        """Return what one of the three updates needs."""
        w = self.codes(batch.noise["z"])
        w = w if "mapping" in learners else w.detach()
        x_tilde = self.image_of(w, batch.noise.get("xi"))

        # Codes of data against codes of samples.
        if "discriminator" in learners:
            pairs = {"q": (self.encoder(batch.x),), "p": (self.encoder(x_tilde.detach()),)}
            slope = grad(lambda x: self.discriminator(self.encoder(x)).sum())(batch.x)
            penalty = self.penalty / 2 * slope.flatten(1).square().sum(1)
            return Terms(pairs, self.discriminator.compare(pairs), dict.fromkeys(learners, penalty))

        # Samples whose codes pass for those of data.
        z_cycle = self.encoder(x_tilde)
        if "mapping" in learners:
            return Terms({"p": (z_cycle,)}, {"p": self.discriminator(z_cycle)})

        # Codes that come back.
        return Terms(losses=dict.fromkeys(learners, (z_cycle - w).square().mean(1)))

    def game(self, logits: Mapping[str, Tensor], y: Tensor | None = None) -> dict[str, Tensor]:
        """Return the game of encoder and D, or of mapping and decoder, where samples are judged alone."""
        if "q" not in logits:
            return dict.fromkeys(("mapping", "decoder"), softplus(-logits["p"]))
        return dict.fromkeys(("encoder", "discriminator"), softplus(-logits["q"]) + softplus(logits["p"]))
