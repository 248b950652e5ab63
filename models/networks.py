"""Families of layer tables, and a model's networks built from one.

Every model of a comparison takes its networks from the same family, so that a comparison compares objectives.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import torch
from torch import Tensor, nn

from alibench.models.coders import Decoder, Encoder, Scaling, Sizes
from alibench.models.discriminator import Discriminator
from alibench.models.layers import Row, Stack, Style, initialise, without_norm

FILLED = -1  # maps that depend on model and data: the encoder's outputs, the decoder's channels
CLIP = 1e-7  # of the mean image, before its log-odds


@dataclass(frozen=True)
class Family:
    """The tables of encoder, decoder and discriminator (towers of x and z, joint); how weights start."""

    shape: tuple[int, ...] | None  # of the data; none: images of any size; (0,): any points
    encoder: Sequence[Row]
    decoder: Sequence[Row]
    dx: Sequence[Row]
    dz: Sequence[Row]
    dxz: Sequence[Row]
    # Of the initial weights; none: uniform by fan-in, biases too.
    std: float | None
    style: Style = field(default_factory=Style)
    # Points are divided by their deviation inside the networks.
    scaled: bool = True
    centre: float = 0.0  # D sees (x / scale - centre) * gain
    gain: float = 1.0
    # And the encoder (x / scale - encoder_centre) * encoder_gain.
    encoder_centre: float = 0.0
    encoder_gain: float = 1.0
    # Numbers next to x by which the encoder draws z; 0: it gives mean and deviation.
    encoder_noise: int = 0
    decoder_noise: int = 0  # numbers next to z by which the decoder draws x
    # D has batch statistics of each kind of pair apart.
    separate: bool = False
    embedding: int = 256  # numbers that a condition is embedded in


@dataclass(frozen=True)
class Networks:
    """Builds a model's networks from one family, for data of one shape and scale, from one seed."""

    family: Family
    shape: tuple[int, ...]
    # What x is divided by inside the networks; 1 for images.
    scale: float
    latent: int
    # On the CPU, so that a seed's weights are the same on every device.
    rng: torch.Generator
    prior: Literal["normal", "uniform"] = "normal"  # of z: N(0, I), or uniform on [-1, 1]
    labels: int = 0  # classes, or attributes, of the data
    # Image (C, H, W) that an untied output bias starts from.
    mean: Tensor | None = None

    def __post_init__(self) -> None:
        if not self.family.scaled:
            object.__setattr__(self, "scale", 1.0)  # the dataclass is frozen

    def encoder(
        self, kind: Literal["code", "gaussian", "drawn"], conditional: bool = False, plain: bool = False
    ) -> Encoder:
        """Return a map of x to a code, to mean and log sigma, or to a code drawn by the family's way.

        `plain` has no batch norm, so that a gradient per sample can go through it.
        """
        family = self.family
        noise = family.encoder_noise if kind == "drawn" else 0
        statistics = 1 if kind == "code" or noise else 2

        # the last row's maps are the code's numbers, or twice as many
        rows = (*family.encoder[:-1], replace(family.encoder[-1], maps=statistics * self.latent))
        encoder = Encoder(
            without_norm(rows) if plain else rows,
            family.style,
            self._sizes(conditional, noise),
            self.scale,
            Scaling(family.encoder_centre, family.encoder_gain),
            squashed=self.prior == "uniform",
        )
        initialise(encoder, self.rng, family.std)
        return encoder

    def decoder(self, conditional: bool = False) -> Decoder:
        """Return a map of z to x; an untied output bias starts at the log-odds of the mean image."""
        # a dense table gives all numbers of x, a convolutional one its channels
        family = self.family
        maps = math.prod(self.shape) if family.decoder[-1].op == "dense" else self.shape[0]
        rows = (*family.decoder[:-1], replace(family.decoder[-1], maps=maps))
        decoder = Decoder(rows, family.style, self._sizes(conditional, family.decoder_noise), self.scale)
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
        packing: int = 1,
        name: str = "",
    ) -> Discriminator:
        """Return D of what it sees, the same towers for all; `plain` has neither batch norm nor dropout.

        It sees `packing` samples at once, side by side as `discriminator.packed` makes them.
        `outputs` logits stand in for the table's one. A model's second D needs a name, so that it has dropout
        masks of its own.
        """
        family = self.family
        rows = (family.dx, family.dz, (*family.dxz[:-1], replace(family.dxz[-1], maps=outputs)))
        dx, dz, dxz = (without_norm(tower) for tower in rows) if plain else rows

        # (x / scale - centre) * gain, with one operation less
        scaling = Scaling(family.centre * self.scale, family.gain / self.scale)
        sizes = self._sizes(conditional)
        parts = tuple(side for side in sees for _ in range(packing))
        discriminator = Discriminator(
            (dx, dz, dxz), parts, family.style, sizes, scaling, family.separate, name
        )
        initialise(discriminator, self.rng, family.std)
        return discriminator

    def _sizes(self, conditional: bool, noise: int = 0) -> Sizes:
        return Sizes(self.shape, self.latent, noise, self.family.embedding if conditional else 0)

    def embedding(self) -> nn.Linear:
        """Return the linear map of labels, a number per class or attribute, that a model's networks share."""
        return self.linear(self.labels, self.family.embedding)

    def linear(self, inputs: int, outputs: int) -> nn.Linear:
        """Return a linear map of (B, inputs) to (B, outputs), with biases that start at zero."""
        linear = nn.Linear(inputs, outputs)
        std = inputs**-0.5 if self.family.std is None else self.family.std
        nn.init.normal_(linear.weight, 0.0, std, generator=self.rng)
        nn.init.zeros_(linear.bias)
        return linear

    def mapping(self, layers: int) -> Stack:
        """Return ALAE's map of z (B, latent) to codes (B, latent): dense layers with leaky ReLU."""
        row = Row("dense", 1, 1, self.latent, act="leaky")
        mapping = Stack("mapping", (row,) * layers, (self.latent,), self.family.style)
        initialise(
            mapping, self.rng, (2 / self.latent) ** 0.5
        )  # so that codes vary as z does, as in its code
        return mapping
