"""Soft-IntroVAE (Daniel and Tamar, CVPR 2021, arXiv 2012.13253)."""

import torch
from torch import Tensor

from alibench.models.base import Batch, Model, Phase, Terms, Weight
from alibench.models.networks import Networks
from alibench.models.noise import Draw
from alibench.models.vae import kl_to_prior


class SoftIntroVAE(Model):
    """A VAE whose encoder lowers the bound of generated images, like a D, and whose decoder lifts it.

    With r the squared error summed over x, s one over the numbers of x, and fakes f of two kinds, Gx(z) and
    the reconstruction of x:

        encoder    s (rec r(x) + kl KL(x)) + the sum over f of exp(-2 s (rec r(f) + negative KL(f))) / 4
        decoder    s (rec r(x) + kl (KL of Gz(Gx(z)) + KL of Gz(x_hat)) / 2)

    The code's term of the decoder with the weight 1e-8 is left out. A VAE for the first `warm_up` of the
    rounds, then encoder and decoder in turn, each on a batch of its own. The code's weights are 1, 1, 256 on
    images, of 3,072 numbers and more; .2, .3, .9 in the plane. The codes of smaller images collapse with
    them: their `kl` and `negative` are smaller by as much.
    """

    name = "soft-introvae"
    title = "Soft-IntroVAE"
    source = "Daniel and Tamar 2021; losses, weights and warm-up from the code"
    stochastic = True
    whole_groups = True
    players = {"encoder": ("encoder",), "decoder": ("decoder",)}

    def __init__(
        self,
        networks: Networks,
        rec: Weight = 1.0,
        kl: Weight = 1.0,
        negative: Weight = 256.0,
        warm_up: Weight = 0.05,
    ) -> None:
        super().__init__(networks)
        self.rec, self.kl, self.negative, self.warm_up = rec, kl, negative, warm_up
        self.encoder = networks.encoder("gaussian")
        self.decoder = networks.decoder()

    @property
    def phases(self) -> tuple[Phase, ...]:
        """The VAE, then encoder and decoder in turn: the suite's rounds in all."""
        return (
            Phase("warm-up", (("encoder", "decoder"),), share=self.warm_up),
            Phase("game", (("encoder",), ("decoder",)), share=max(0.0, 1 - self.warm_up)),
        )

    def noise(self, n: int) -> dict[str, Draw]:
        """Prior codes, and the encoder's noise on data and on both kinds of fakes."""
        return self.draws(n, "z", "eps") | {"eps fake": Draw("normal", (2 * n, self.latent))}

    def parts(self, x: Tensor, eps: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return x_hat, by a drawn code, and the two parts of the bound (B,): r(x) and KL(x)."""
        mean, log_sigma = self.posterior(x)
        assert log_sigma is not None
        x_hat = self.decoder(mean + log_sigma.exp() * eps)
        return x_hat, (x - x_hat).square().flatten(1).sum(1), kl_to_prior(mean, log_sigma)

    def forward(self, batch: Batch, learners: tuple[str, ...]) -> Terms:
        """Return the losses of the phase: the VAE's, the encoder's, or the decoder's."""
        # The bound of data, a VAE's loss.
        x, scale = batch.x, 1 / batch.x[0].numel()
        x_hat, error, kl = self.parts(x, batch.noise["eps"])
        bound = scale * (self.rec * error + self.kl * kl)
        if len(learners) == 2:
            return Terms(losses={"encoder": bound, "decoder": bound})

        # The encoder pushes the bound of fakes down.
        x_tilde, eps = self.decoder(batch.noise["z"]), batch.noise["eps fake"]
        if "encoder" in learners:
            _, error, kl = self.parts(torch.cat([x_tilde, x_hat]).detach(), eps)
            pushed = torch.exp(-2 * scale * (self.rec * error + self.negative * kl)) / 4
            return Terms(losses={"encoder": bound + sum(pushed.chunk(2))})

        # The decoder pulls the KL part of it up, through an encoder that stays.
        mean, log_sigma = self.posterior(torch.cat([x_tilde, x_hat]))
        assert log_sigma is not None
        pulled = scale * self.kl * kl_to_prior(mean, log_sigma) / 2
        return Terms(losses={"decoder": scale * self.rec * error + sum(pulled.chunk(2))})
