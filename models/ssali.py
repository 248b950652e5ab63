"""Semi-supervised ALI (Dumoulin et al., ICLR 2017, section 4.3): a discriminator of K+1 classes on pairs."""

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from alibench.models import games
from alibench.models.ali import ALI
from alibench.models.base import Batch, Terms
from alibench.models.networks import Networks
from alibench.models.noise import Draw


class SemiSupervisedALI(ALI):
    """D names the class of labelled encoder pairs, calls the others one of K and decoder pairs class K+1.

    Encoder and decoder play ALI's game against "one of K"; no feature matching. The paper published neither
    code nor the weights of the terms. Here each has weight 1, and labelled images enter D's classification
    alone.
    """

    name = "ssali"
    title = "ALI, K+1 classes"
    source = "Dumoulin et al. 2017, sec. 4.3; D of Salimans et al. 2016, sec. 5"
    semi_supervised = True

    def __init__(self, networks: Networks) -> None:
        super().__init__(networks)
        self.discriminator = networks.discriminator("x", "z", outputs=networks.labels)

    def noise(self, n: int) -> dict[str, Draw]:
        """ALI's, with the encoder's noise for labelled images too, and D's masks on three kinds of pair."""
        return self.draws(n, "z", "xi") | self.draws(2 * n, "eps") | self.discriminator.noise(3 * n)

    def pairs(self, batch: Batch) -> dict[str, tuple[Tensor, Tensor]]:
        """Return ALI's pairs, and encoder pairs "labelled".

        One pass encodes both batches. Labelled images are drawn from the same classes as the others, so
        statistics over both estimate the same thing; with those of each batch apart, the labelled few would
        be known by theirs.
        """
        assert batch.labelled is not None
        z, x = batch.noise["z"], torch.cat([batch.x, batch.labelled[0]])

        # Twice the batch: the labelled images come second.
        z_hat = self.infer(x, batch.noise.get("eps"))
        q, labelled = zip(x.chunk(2), z_hat.chunk(2), strict=True)
        return {"q": q, "p": (self.image_of(z, batch.noise.get("xi")), z), "labelled": labelled}

    def forward(self, batch: Batch, learners: tuple[str, ...]) -> Terms:
        """D runs on three kinds of pair at once; the labelled ones' cross-entropy is over the K classes."""
        assert batch.labelled is not None
        pairs = self.pairs(batch)
        logits = self.discriminator.compare(pairs, batch.noise)
        named = cross_entropy(logits.pop("labelled"), batch.labelled[1], reduction="none")
        return Terms(pairs, logits, {"discriminator": named})

    def game(self, logits: Mapping[str, Tensor], y: Tensor | None = None) -> dict[str, Tensor]:
        """Return ALI's game, of "one of K" against K+1."""
        return games.joint(games.realness(logits["q"]), games.realness(logits["p"]))

    def classify(self, x: Tensor) -> Tensor:
        """Return the logits (B, K) of the pair of x and its mean code."""
        logits: Tensor = self.discriminator(x, self.encode(x))
        return logits
