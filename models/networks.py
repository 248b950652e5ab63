"""What a family of layer tables is, and how a model's networks are built from one.

Every model of a comparison takes its networks from the same family, so that a comparison compares objectives.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import torch
from torch import Tensor, nn

from alibench.models.layers import Decoder, Discriminator, Encoder, Row, Style, initialise, without_norm

FILLED = -1  # maps that depend on model and data: the encoder's outputs, the decoder's channels
CLIP = 1e-7  # of the mean image, before its log-odds


@dataclass(frozen=True)
class Family:
    """The tables of encoder, decoder and discriminator (towers of x and z, joint tower), and how their
    weights start.
    """

    shape: tuple[int, ...] | None  # of the data; none: images of any size
    encoder: Sequence[Row]
    decoder: Sequence[Row]
    dx: Sequence[Row]
    dz: Sequence[Row]
    dxz: Sequence[Row]
    std: float | None  # of the initial weights; none: uniform by fan-in, biases too
    style: Style = field(default_factory=Style)
    scaled: bool = True  # points are divided by their deviation inside the networks
    centre: float = 0.0  # D sees (x / scale - centre) * gain
    gain: float = 1.0
    encoder_centre: float = 0.0  # and the encoder (x / scale - encoder_centre) * encoder_gain
    encoder_gain: float = 1.0
    encoder_noise: int = 0  # numbers beside x that make the encoder draw z; 0: it gives mean and deviation
    decoder_noise: int = 0  # numbers beside z that make the decoder draw x
    separate: bool = False  # D's batch statistics are those of each kind of pair
    embedding: int = 256  # numbers that a condition is embedded in


@dataclass(frozen=True)
class Networks:
    """Builds a model's networks from one family, for data of one shape and scale, from one seed."""

    family: Family
    shape: tuple[int, ...]
    scale: float  # what x is divided by inside the networks; 1 for images
    latent: int
    rng: torch.Generator  # on the CPU, so that a seed's weights are the same on every device
    prior: Literal["normal", "uniform"] = "normal"  # of z: N(0, I), or uniform on [-1, 1]
    labels: int = 0  # classes, or attributes, of the data
    mean: Tensor | None = None  # image (C, H, W) that an untied output bias starts from

    def __post_init__(self) -> None:
        if not self.family.scaled:
            object.__setattr__(self, "scale", 1.0)

    def encoder(self, kind: Literal["code", "gaussian", "drawn"], conditional: bool = False) -> Encoder:
        """X to a code, or to mean and log sigma of one, or to one drawn as the family does: by its input or
        by those two.
        """
        family = self.family
        noise = family.encoder_noise if kind == "drawn" else 0
        statistics = 1 if kind == "code" or noise else 2
        encoder = Encoder(
            (*family.encoder[:-1], replace(family.encoder[-1], maps=statistics * self.latent)),
            self.shape,
            self.scale,
            family.style,
            noise,
            family.embedding if conditional else 0,
            family.encoder_centre,
            family.encoder_gain,
            squashed=self.prior == "uniform",
        )
        initialise(encoder, self.rng, family.std)
        return encoder

    def decoder(self, conditional: bool = False) -> Decoder:
        """Z to x. An untied output bias starts at the log-odds of the mean image, so that sigmoid(bias) is
        that image.
        """
        family = self.family
        maps = math.prod(self.shape) if family.decoder[-1].op == "dense" else self.shape[0]
        decoder = Decoder(
            (*family.decoder[:-1], replace(family.decoder[-1], maps=maps)),
            self.latent,
            self.shape,
            self.scale,
            family.style,
            family.decoder_noise,
            family.embedding if conditional else 0,
        )
        initialise(decoder, self.rng, family.std)
        bias = decoder.stack.layers[-1].bias
        if isinstance(bias, Tensor) and self.mean is not None:
            with torch.no_grad():
                bias.copy_(torch.logit(self.mean, CLIP))
        return decoder

    def discriminator(
        self,
        *sees: Literal["x", "z"],
        conditional: bool = False,
        plain: bool = False,
        outputs: int = 1,
        name: str = "",
    ) -> Discriminator:
        """Return D of what it sees, the same towers for all; `plain` has neither batch norm nor dropout.

        `outputs` logits stand in for the table's one. A model's second D needs a name, so that it has dropout
        masks of its own.
        """
        family = self.family
        rows = (family.dx, family.dz, (*family.dxz[:-1], replace(family.dxz[-1], maps=outputs)))
        dx, dz, dxz = (without_norm(tower) for tower in rows) if plain else rows
        discriminator = Discriminator(
            (dx, dz, dxz),
            sees,
            self.shape,
            self.latent,
            family.style,
            family.centre * self.scale,
            family.gain / self.scale,
            family.embedding if conditional else 0,
            family.separate,
            name,
        )
        initialise(discriminator, self.rng, family.std)
        return discriminator

    def embedding(self) -> nn.Linear:
        """Return the linear map of labels, one number a class or attribute, that a conditional model's
        networks share.
        """
        embedding = nn.Linear(self.labels, self.family.embedding)
        std = self.labels**-0.5 if self.family.std is None else self.family.std
        nn.init.normal_(embedding.weight, 0.0, std, generator=self.rng)
        nn.init.zeros_(embedding.bias)
        return embedding
