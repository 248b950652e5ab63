"""LPIPS, the learned perceptual distance (Zhang et al. 2018), with VGG16, where its weights are there.

Two files, as they were published: VGG16's (torchvision's vgg16-397923af.pth) and the weights of its channels
(weights-vgg16-lpips.pth). Nothing is downloaded for it: `evaluation.perceptual` names the folder that holds
them.
"""

import hashlib
import os
from itertools import pairwise
from pathlib import Path

import torch
from torch import Tensor, nn

from alibench.evaluation import files
from alibench.evaluation.data import Data
from alibench.evaluation.errors import BadInput
from alibench.evaluation.features.extractors import read_weights
from alibench.evaluation.store import home
from alibench.evaluation.subject import Settings

VGG, CHANNELS = "vgg16-397923af.pth", "weights-vgg16-lpips.pth"
TAPS = (
    0,
    4,
    9,
    16,
    23,
    30,
)  # layers of VGG16 between which features are taken: after each ReLU before a pooling
BATCH = 50  # images at once: of 64x64 pixels, VGG's first layers make a megabyte each
SMALLEST = 16  # pixels: four poolings leave one
MEAN, STD = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)  # of images in [-1, 1], as LPIPS was fitted


def _folder(settings: Settings) -> Path:
    return Path(os.path.expanduser(settings.perceptual)) if settings.perceptual else home() / "extractors"


def refuses(data: Data, settings: Settings) -> str:
    """Say why images have no LPIPS: its weights are not there, or they are too small."""
    missing = [name for name in (VGG, CHANNELS) if not os.path.exists(_folder(settings) / name)]
    if missing:
        return f"LPIPS's weights are not in {'the folder' if settings.perceptual else 'ALIBENCH_DATA'}: {', '.join(missing)}"
    return f"images are smaller than LPIPS takes: {SMALLEST} pixels" if min(data.shape[1:]) < SMALLEST else ""


class Distance(nn.Module):
    """Distance (B,) of images x and y (B, 1 or 3, H, W) in [0, 1].

    At five depths of VGG16, the squared difference of features of unit length at each pixel, weighted by
    channel, mean over pixels; summed over the depths (Zhang et al. 2018, eq. 1).
    """

    identity: str
    mean: Tensor
    std: Tensor

    def __init__(self, vgg: dict[str, Tensor], channels: dict[str, Tensor], sha256: str) -> None:
        super().__init__()
        from torchvision.models import vgg16  # takes seconds to import

        features = vgg16(weights=None).features
        features.load_state_dict(
            {name[9:]: tensor for name, tensor in vgg.items() if name.startswith("features.")}
        )
        self.blocks = nn.ModuleList(features[start:end] for start, end in pairwise(TAPS))
        self.weights = nn.ParameterList(
            channels[f"lin{i}.model.1.weight"].flatten() for i in range(len(self.blocks))
        )
        self.register_buffer("mean", torch.tensor(MEAN).view(3, 1, 1))
        self.register_buffer("std", torch.tensor(STD).view(3, 1, 1))
        self.identity = f"lpips-vgg@{sha256[:8]}"
        self.eval().requires_grad_(False)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """Return the distances."""
        h = (2 * torch.cat([x, y]).float().expand(-1, 3, -1, -1) - 1 - self.mean) / self.std
        total = h.new_zeros(len(x))
        for block, weight in zip(self.blocks, self.weights, strict=True):
            h = block(h)
            unit = h / (h.square().sum(1, keepdim=True).sqrt() + 1e-10)
            difference = unit[: len(x)] - unit[len(x) :]
            total = total + torch.einsum("bchw,c->bhw", difference.square(), weight).mean((1, 2))
        return total


def load(settings: Settings) -> Distance:
    """Return the distance with the weights that the settings name. Raises BadInput if they are not LPIPS's."""
    paths = [_folder(settings) / name for name in (VGG, CHANNELS)]
    try:
        raw = [files.read(path, "arrays") for path in paths]
    except OSError as error:
        raise BadInput(
            f"cannot read LPIPS's weights {error.filename} ({error.strerror}): name their folder by "
            "evaluation.perceptual"
        ) from None
    weights = [read_weights(path, content) for path, content in zip(paths, raw, strict=True)]
    try:
        distance = Distance(*weights, hashlib.sha256(b"".join(raw)).hexdigest())  # type: ignore[call-arg, arg-type]
        distance(*torch.zeros(2, 1, 3, SMALLEST, SMALLEST))  # whose channels would show only here
    except (RuntimeError, KeyError) as error:
        line = str(error).splitlines()[0]
        raise BadInput(
            f"{paths[0].parent} holds the weights of another network than LPIPS ({line})"
        ) from None
    return distance
