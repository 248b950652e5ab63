"""DINOv2 and CLIP as extractors: timm's architectures, with weights that the user puts into a file.

DINOv2 sees images as Stein et al. 2023 set it (their code dgm-eval; its appendix was not compared): resized
to 224x224 as Pillow does, normalised by ImageNet's mean and deviation; features are the class token after the
last norm. CLIP sees them as the code of CMMD does (Jayasumana et al. 2024): 336x336 and CLIP's own mean and
deviation; features are the image's embedding after the projection, not yet of unit length. That code crops
the centre of an image that is not square; here it is squashed, and rows say so.

Nothing is downloaded: the files are 0.3 to 1.2 GB. Names and shapes of tensors are those of timm's networks;
no published file was at hand to compare. Its hash stands in every result.
"""

import math
import os
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from alibench.evaluation import files
from alibench.evaluation.data import Data
from alibench.evaluation.errors import BadInput
from alibench.evaluation.features import weight_files
from alibench.evaluation.features.extractor import GREY, Extractor
from alibench.evaluation.protocols import joined
from alibench.evaluation.settings import Settings
from alibench.evaluation.store import home

IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))  # mean and deviation of images in [0, 1]
OPENAI = ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711))
SQUASHED = "squashed to a square"


@dataclass(frozen=True)
class Architecture:
    """A published network: timm's name of it, its weights' repository, and how images are prepared for it."""

    title: str
    name: str  # in timm
    repository: str  # on the Hugging Face hub
    side: int  # pixels
    normalised: tuple[tuple[float, ...], tuple[float, ...]]
    outputs: int = 0  # of its head, which is CLIP's projection; 0: it has none

    @property
    def source(self) -> str:
        """The page of its weights, and the file there."""
        return f"model.safetensors from https://huggingface.co/{self.repository}"


ARCHITECTURES = {
    "dinov2": Architecture(
        "DINOv2", "vit_large_patch14_dinov2", "timm/vit_large_patch14_dinov2.lvd142m", 224, IMAGENET
    ),
    "dinov2-base": Architecture(
        "DINOv2-base", "vit_base_patch14_dinov2", "timm/vit_base_patch14_dinov2.lvd142m", 224, IMAGENET
    ),
    # OpenAI's weights need QuickGELU, which shows neither in the repository's name nor in any shape
    "clip": Architecture(
        "CLIP",
        "vit_large_patch14_clip_quickgelu_336",
        "timm/vit_large_patch14_clip_336.openai",
        336,
        OPENAI,
        outputs=768,
    ),
}


def load(data: Data, settings: Settings, device: torch.device) -> Extractor:
    """Return the network that `evaluation.extractor` names. Raises BadInput without timm or its weights."""
    name = settings.extractor
    architecture = ARCHITECTURES[name]
    if find_spec("timm") is None:
        raise BadInput(f"extractor '{name}' needs the package timm: pip install timm (extra 'extractors')")

    # The file is the user's, so its hash stands in every result.
    named = settings.weights
    file = Path(os.path.expanduser(named)) if named else home() / "extractors" / f"{name}.safetensors"
    if file.suffix != ".safetensors":
        raise BadInput(f"{file} is not a .safetensors file: take {architecture.source}")
    remedy = (
        f"put {architecture.source} there, or name a file by evaluation.weights; its sha256 will stand in "
        "every result"
    )
    raw = weight_files.read(file, architecture.title, remedy)
    weights, sha256 = weight_files.read_weights(file, raw, architecture.source), files.sha256_of(raw)
    try:
        network = VisionTransformer(architecture, weights).to(device)
    except ValueError as difference:
        raise weight_files.another(file, architecture.title, difference, architecture.source) from None

    squashed = SQUASHED if data.shape[1] != data.shape[2] else ""
    note = joined(GREY if data.shape[0] == 1 else "", squashed)
    origin = {"source": "a file of the user's", "architecture": network.made_by}
    return Extractor(name, sha256, network.width, network, device, note, origin)


class VisionTransformer(nn.Module):
    """A network of timm with weights from memory: features (B, width) of uint8 images.

    Raises ValueError naming the first tensor that is another network's.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, architecture: Architecture, weights: dict[str, Tensor]) -> None:
        super().__init__()
        import timm  # an extra, and it takes seconds to import

        # Without numbers, in the size of its training; then in that of the images, if it is another.
        name, side, outputs = architecture.name, architecture.side, architecture.outputs
        with torch.device("meta"):
            network: Any = timm.create_model(name, pretrained=False, num_classes=outputs)
            weight_files.check(network.state_dict(), weights, architecture.title)
            resize = network.patch_embed.img_size != (side, side)
            if resize:
                network = timm.create_model(name, pretrained=False, num_classes=outputs, img_size=side)

        weights = {key: tensor.float() for key, tensor in weights.items()}
        if resize:
            weights["pos_embed"] = positions(weights["pos_embed"], network.patch_embed.grid_size[0])
        network.load_state_dict(weights, assign=True)

        self.network, self.side = network, side
        self.width = outputs or int(network.num_features)
        self.made_by = f"{name} of timm {timm.__version__}"
        for buffer, values in zip(("mean", "std"), architecture.normalised, strict=True):
            self.register_buffer(buffer, torch.tensor(values).view(3, 1, 1))
        self.eval().requires_grad_(False)

    def forward(self, x: Tensor) -> tuple[Tensor, None]:
        """Return features (B, width) of uint8 images (B, 1 or 3, H, W), and no logits."""
        x = (resized(x, self.side) / 255).expand(-1, 3, -1, -1)
        return self.network((x - self.mean) / self.std), None


def resized(x: Tensor, side: int) -> Tensor:
    """Return uint8 images (B, C, H, W) as (B, C, side, side) of whole levels, 0 to 255, in float.

    Bicubic with antialias, as Pillow does it to within a level: each row, rounded and clipped, then each
    column.
    """
    x = x.float()
    for size in ((x.shape[2], side), (side, side)):
        x = F.interpolate(x, size, mode="bicubic", antialias=True).clamp(0, 255).round()
    return x


def positions(embedding: Tensor, side: int) -> Tensor:
    """Return a position embedding (1, 1 + N², D) for a grid of side² patches: (1, 1 + side², D).

    Bicubic without antialias, by the factor (side + 0.1) / N, as DINOv2's code does it; timm's own way, with
    antialias, gives other features.
    """
    token, patches = embedding[:, :1], embedding[:, 1:]
    before = math.isqrt(patches.shape[1])
    grid = patches.mT.unflatten(2, (before, before))
    scaled = F.interpolate(grid, scale_factor=(side + 0.1) / before, mode="bicubic")
    return torch.cat([token, scaled.flatten(2).mT], 1)
