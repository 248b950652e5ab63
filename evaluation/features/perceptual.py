"""LPIPS, the learned perceptual distance (Zhang et al. 2018), with VGG16.

Two files, as they were published: VGG16's (torchvision's vgg16-397923af.pth) and the weights of its channels
(weights-vgg16-lpips.pth). Nothing is downloaded for it: `evaluation.perceptual` names the folder that holds
them.
"""

import os
from itertools import pairwise
from pathlib import Path

import torch
from torch import Tensor, nn

from alibench.evaluation import files
from alibench.evaluation.data import Data
from alibench.evaluation.errors import BadInput
from alibench.evaluation.features.weight_files import read_weights
from alibench.evaluation.settings import Settings
from alibench.evaluation.store import home

VGG, CHANNELS = "vgg16-397923af.pth", "weights-vgg16-lpips.pth"
VGG_URL = f"https://download.pytorch.org/models/{VGG}"
CHANNELS_URL = f"https://github.com/toshas/torch-fidelity/releases/download/v0.2.0/{CHANNELS}"
# layers of VGG16 between which features are taken: after each ReLU before a pooling
TAPS = (0, 4, 9, 16, 23, 30)
BATCH = 50  # images at once: of 64x64 pixels, VGG's first layers make a megabyte each
SMALLEST = 16  # pixels: four poolings leave one
MEAN, STD = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)  # of images in [-1, 1], as LPIPS was fitted


def folder_of(settings: Settings) -> Path:
    """Return where the files of weights are, or would be."""
    return Path(os.path.expanduser(settings.perceptual)) if settings.perceptual else home() / "extractors"


def unsupported_reason(data: Data, settings: Settings) -> str:
    """Say why images have no LPIPS, if so: its weights are not there, or they are too small."""
    missing = [name for name in (VGG, CHANNELS) if not os.path.exists(folder_of(settings) / name)]
    if missing:
        place = "the folder" if settings.perceptual else "ALIBENCH_DATA"
        return f"LPIPS's weights are not in {place}: {', '.join(missing)}"
    return f"images are smaller than LPIPS takes: {SMALLEST} pixels" if min(data.shape[1:]) < SMALLEST else ""


class Distance(nn.Module):
    """The distance (B,) of images x and y (B, 1 or 3, H, W) in [0, 1].

    At five depths of VGG16, the squared difference of features of unit length at each pixel, weighted by
    channel, mean over pixels; summed over the depths (Zhang et al. 2018, eq. 1).
    """

    identity: str
    mean: Tensor
    std: Tensor

    def __init__(self, vgg: dict[str, Tensor], channels: dict[str, Tensor], sha256: str) -> None:
        super().__init__()
        from torchvision.models import vgg16  # takes seconds to import

        prefix = "features."
        named = {name.removeprefix(prefix): h for name, h in vgg.items() if name.startswith(prefix)}
        features = vgg16(weights=None).features
        features.load_state_dict(named)
        self.blocks = nn.ModuleList(features[start:end] for start, end in pairwise(TAPS))

        weights = (channels[f"lin{i}.model.1.weight"] for i in range(len(self.blocks)))
        self.weights = nn.ParameterList(weight.flatten() for weight in weights)
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
            # as the authors' code: a length of 0 stays 0
            unit = h / (h.square().sum(1, keepdim=True).sqrt() + 1e-10)
            difference = unit[: len(x)] - unit[len(x) :]
            total = total + torch.einsum("bchw,c->bhw", difference.square(), weight).mean((1, 2))
        return total


def load(settings: Settings) -> Distance:
    """Return the distance with the settings' weights. Raises BadInput if they are not LPIPS's."""
    paths = [folder_of(settings) / name for name in (VGG, CHANNELS)]
    try:
        raw = [files.read(path, "arrays") for path in paths]
    except OSError as error:
        problem = f"cannot read LPIPS's weights {error.filename} ({error.strerror})"
        raise BadInput(f"{problem}: name their folder by evaluation.perceptual") from None

    # Another network's tensors show when they are put in, or when images pass.
    named = zip(paths, raw, (VGG_URL, CHANNELS_URL), strict=True)
    vgg, channels = (read_weights(path, content, source) for path, content, source in named)
    try:
        distance = Distance(vgg, channels, files.sha256_of(*raw))
        distance(*torch.zeros(2, 1, 3, SMALLEST, SMALLEST))  # whose channels would show only here
    except (RuntimeError, KeyError) as error:
        line = str(error).splitlines()[0]
        folder = paths[0].parent
        raise BadInput(f"{folder} holds the weights of another network than LPIPS ({line})") from None
    return distance
