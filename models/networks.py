"""The layer tables, one family for each kind of data. Every model of a comparison takes its networks from one family.

FILLED stands for what depends on model and data: the encoder's outputs and the decoder's channels.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

from models.layers import Decoder, Discriminator, Encoder, Row, initialise

FILLED = -1


@dataclass(frozen=True)
class Family:
    """The tables of encoder, decoder and discriminator, and how their weights start."""

    encoder: Sequence[Row]
    decoder: Sequence[Row]
    dx: Sequence[Row]
    dz: Sequence[Row]
    dxz: Sequence[Row]
    shape: tuple[int, ...]  # of the data
    std: float | None  # of the initial weights; none: uniform by fan-in, biases too
    centre: float = 0.0  # D sees (x / scale - centre) * gain
    gain: float = 1.0


FAMILIES = {
    # ALI's pattern (BN and LeakyReLU in encoder and decoder; dropout, no BN in D) with dense layers, as in BiGAN's
    # permutation-invariant MNIST: on 8x8 images they learn more a second than convolutions do.
    "digits": Family(
        shape=(1, 8, 8),
        std=None,
        centre=0.5,
        gain=2.0,
        encoder=(Row("dense", 128, bn=True, slope=0.1),) * 2 + (Row("dense", FILLED),),
        decoder=(Row("dense", 128, bn=True, slope=0.1),) * 2 + (Row("dense", FILLED),),
        dx=(),
        dz=(),
        dxz=(
            Row("dense", 256, slope=0.1),
            Row("dense", 256, slope=0.1, drop=0.4),
            Row("dense", 1, drop=0.4),
        ),
    ),
    # For points in the plane; ALI's paper gives no architecture for its toy task.
    "plane": Family(
        shape=(2,),
        std=None,
        gain=3.0,
        encoder=(Row("dense", 128, slope=0.2),) * 3 + (Row("dense", FILLED),),
        decoder=(Row("dense", 128, slope=0.2),) * 3 + (Row("dense", FILLED),),
        dx=(),
        dz=(),
        dxz=(Row("dense", 192, slope=0.2),) * 2 + (Row("dense", 1),),
    ),
}


@dataclass(frozen=True)
class Networks:
    """Builds a model's networks from one family, for data of one shape and scale, from one seed."""

    family: Family
    shape: tuple[int, ...]
    scale: float  # what x is divided by inside the networks; 1 for images
    latent: int
    rng: torch.Generator  # on the CPU, so that a seed's weights are the same on every device

    def encoder(self, statistics: int) -> Encoder:
        """X to `statistics` numbers per latent: 1 for a code, 2 for mean and log sigma."""
        rows = (*self.family.encoder[:-1], replace(self.family.encoder[-1], maps=statistics * self.latent))
        encoder = Encoder(rows, self.shape, self.scale)
        initialise(encoder, self.rng, self.family.std)
        return encoder

    def decoder(self) -> Decoder:
        """Z to x."""
        rows = (*self.family.decoder[:-1], replace(self.family.decoder[-1], maps=self._maps(self.family.decoder)))
        decoder = Decoder(rows, self.latent, self.shape, self.scale)
        initialise(decoder, self.rng, self.family.std)
        return decoder

    def _maps(self, decoder: Sequence[Row]) -> int:
        return math.prod(self.shape) if decoder[-1].op == "dense" else self.shape[0]

    def discriminator(self, joint: bool) -> Discriminator:
        """Pairs (x, z) to logits if `joint`, else x to logits: the same towers without z's branch."""
        family = self.family
        latent = self.latent if joint else 0
        towers = (family.dx, family.dz, family.dxz)
        discriminator = Discriminator(*towers, self.shape, latent, family.centre * self.scale, family.gain / self.scale)
        initialise(discriminator, self.rng, family.std)
        return discriminator
