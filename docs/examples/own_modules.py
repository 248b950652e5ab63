"""ALI of the user's own networks: three modules of plain torch, and five lines that make a model of them.

To try it:

    alibench check own_modules.py
    alibench run digits --plugin own_modules.py --models ali my-ali
"""

import math

import torch
from torch import Tensor, nn

from alibench import adversarial_model


def layer(inputs: int) -> tuple[nn.Module, ...]:
    """128 hidden numbers of that many inputs."""
    return nn.Linear(inputs, 128), nn.BatchNorm1d(128), nn.LeakyReLU(0.1)


def my_encoder(shape: tuple[int, ...], latent: int) -> nn.Module:
    """Images (B, C, H, W) to mean and log sigma of the code, side by side (B, 2 latent)."""
    return nn.Sequential(nn.Flatten(), *layer(math.prod(shape)), *layer(128), nn.Linear(128, 2 * latent))


def my_decoder(shape: tuple[int, ...], latent: int) -> nn.Module:
    """Codes (B, latent) to images (B, C, H, W) in [0, 1]."""
    pixels = nn.Linear(128, math.prod(shape))
    return nn.Sequential(*layer(latent), *layer(128), pixels, nn.Sigmoid(), nn.Unflatten(1, shape))


class MyDiscriminator(nn.Module):
    """Pairs of x (B, C, H, W) and z (B, latent) to logits (B, 1): high for the encoder's."""

    def __init__(self, shape: tuple[int, ...], latent: int) -> None:
        super().__init__()
        first = nn.Linear(math.prod(shape) + latent, 256)
        second = (nn.LeakyReLU(0.1), nn.Dropout(0.4), nn.Linear(256, 256), nn.LeakyReLU(0.1))
        self.layers = nn.Sequential(first, *second, nn.Dropout(0.4), nn.Linear(256, 1))

    def forward(self, x: Tensor, z: Tensor) -> Tensor:
        """Return logits."""
        logits: Tensor = self.layers(torch.cat([2 * x.flatten(1) - 1, z], dim=1))
        return logits


model = adversarial_model(
    "my-ali",
    encoder=my_encoder,
    decoder=my_decoder,
    discriminator=MyDiscriminator,
    stochastic=True,  # the encoder gives mean and log sigma; without it, the code (B, latent), as BiGAN's
)
