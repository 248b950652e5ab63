"""An extractor: a network whose features images are compared by."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from alibench.evaluation.arithmetic import tf32

CPU = torch.device("cpu")
GREY = "grey repeated to 3 channels"  # note of images that a network of colour images sees


@dataclass(frozen=True)
class Extractor:
    """A network, by name and weights.

    It takes uint8 images (B, C, H, W) on its device to features (B, width) and, if it is a classifier, logits
    (B, K).
    """

    name: str
    sha256: str  # of its weights
    width: int
    network: Callable[[Tensor], tuple[Tensor, Tensor | None]]
    device: torch.device = CPU
    # how images are changed that it was not made for; of a classifier, how often it is right
    note: str = ""
    origin: Mapping[str, str] = field(default_factory=dict)  # how its weights were made

    @property
    def identity(self) -> str:
        """The name and the first eight digits of the weights' sha256, as results carry them."""
        return f"{self.name}@{self.sha256[:8]}" + (f", {self.note}" if self.note else "")

    def __call__(self, images: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return features (B, width) and logits (B, K), or None, of uint8 images (B, C, H, W), on the CPU."""
        with torch.no_grad(), tf32(False):  # ten bits are too few
            features, logits = self.network(images.to(self.device))
        return features.cpu(), None if logits is None else logits.cpu()
