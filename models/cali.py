"""Conditional ALI (Dumoulin et al. 2017, section 4.4): p(x, z | y) against q(x, z | y)."""

from typing import Literal

import torch
from torch import Tensor

from alibench.models.ali import ALI
from alibench.models.networks import Networks


class ConditionalALI(ALI):
    """ALI whose three networks get the labels by one linear map that they share.

    `embedding`: by the paper labels are linearly embedded; in the code no optimiser gets the map, so it stays
    at its first random values ("frozen"). Here the generator learns it ("trained").
    """

    name = "cali"
    title = "conditional ALI"
    source = "Dumoulin et al. 2017, sec. 4.4; the code"
    conditional = True
    players = {"generator": ("encoder", "decoder", "embedding"), "discriminator": ("discriminator",)}

    def __init__(self, networks: Networks, embedding: Literal["trained", "frozen"] = "trained") -> None:
        super().__init__(networks)
        self.labels = networks.labels
        self.embedding = networks.embedding().requires_grad_(embedding == "trained")

    def condition(self, y: Tensor | None) -> Tensor:
        """Return the embedding (B, E) of classes (B,), one-hot, or of attributes (B, A) as 0 and 1."""
        if y is None:
            raise ValueError(f"{self.name} needs labels: pass y")
        # one number a class or attribute, 0 or 1
        known = y if y.dim() == 2 else y[:, None] == torch.arange(self.labels, device=y.device)
        embedded: Tensor = self.embedding(known.float())
        return embedded
