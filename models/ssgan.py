"""Semi-supervised GAN with feature matching (Salimans et al., NeurIPS 2016, arXiv 1606.03498)."""

from collections.abc import Mapping
from typing import ClassVar, Literal

from torch import Tensor
from torch.nn.functional import cross_entropy

from alibench.models import games
from alibench.models.base import Batch, Model, Terms
from alibench.models.networks import Networks
from alibench.models.noise import Draw
from alibench.models.operations import batch_mean


def feature_matching(real: Tensor, generated: Tensor) -> Tensor:
    """Return ||E f(x) - E f(Gx(z))||^2 of features (B, F): the batch's, the same (B,) for every sample."""
    return (batch_mean(real, 0) - batch_mean(generated, 0)).square().sum().expand(len(generated))


class SemiSupervisedGAN(Model):
    """D of K+1 classes on images; the decoder matches the mean of D's last hidden layer. There is no encoder.

    D's three terms have weight 1, as in ALI's K+1 game.
    """

    name = "ssgan"
    title = "GAN, K+1, feature matching"
    source = "Salimans et al. 2016, sec. 3.1 and 5"
    inference: ClassVar[Literal["learnt with it", "learnt afterwards", "none"]] = "none"
    semi_supervised = True
    priors = ("normal", "uniform")
    players = {"decoder": ("decoder",), "discriminator": ("discriminator",)}

    def __init__(self, networks: Networks) -> None:
        super().__init__(networks)
        self.decoder = networks.decoder()
        self.discriminator = networks.discriminator("x", outputs=networks.labels)

    def noise(self, n: int) -> dict[str, Draw]:
        """Prior codes, and the dropout masks of D on real, generated and labelled images."""
        return self.draws(n, "z", "xi") | self.discriminator.noise(3 * n)

    def forward(self, batch: Batch, learners: tuple[str, ...]) -> Terms:
        """D runs on three kinds of image at once; the labelled ones' cross-entropy is over the K classes."""
        assert batch.labelled is not None
        x_labelled, y = batch.labelled
        x_tilde = self.image_of(batch.noise["z"], batch.noise.get("xi"))
        pairs = {"q": (batch.x,), "p": (x_tilde,), "labelled": (x_labelled,)}

        # The last hidden layer and the logits of one pass.
        judged = self.discriminator.judge_all(pairs, batch.noise)
        features, logits = ({kind: part[i] for kind, part in judged.items()} for i in (0, 1))
        named = cross_entropy(logits.pop("labelled"), y, reduction="none")
        matched = feature_matching(features["q"], features["p"])
        return Terms(pairs, logits, {"discriminator": named, "decoder": matched})

    def game(self, logits: Mapping[str, Tensor], y: Tensor | None = None) -> dict[str, Tensor]:
        """Return V for D, of "one of K" against K+1; the decoder's loss does not depend on the logits."""
        # The decoder learns from feature matching alone.
        losses = games.non_saturating(games.realness(logits["q"]), games.realness(logits["p"]))
        return {"discriminator": losses["discriminator"]}

    def classify(self, x: Tensor) -> Tensor:
        """Return D's logits (B, K)."""
        logits: Tensor = self.discriminator(x)
        return logits
