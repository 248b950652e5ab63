"""Bidirectional GAN (Donahue, Krähenbühl and Darrell, ICLR 2017, arXiv 1605.09782)."""

from alibench.models.ali import ALI


class BiGAN(ALI):
    """ALI's game with a deterministic encoder, z = E(x). Nothing else differs."""

    name = "bigan"
    title = "BiGAN"
    source = "Donahue et al. 2017, eq. 3"
    stochastic = False
    priors = ("normal", "uniform")
