"""VGG16 as an extractor, for precision and recall as published (Kynkäänniemi et al. 2019).

Its file is the one that LPIPS takes, torchvision's, in the same folder. torch-fidelity resizes images to
224x224 (bilinear, as TensorFlow 1 did) and normalises them by ImageNet's mean and deviation.
"""

import torch

from alibench.evaluation import files
from alibench.evaluation.data import Data
from alibench.evaluation.features import perceptual, weight_files
from alibench.evaluation.features.extractor import GREY, Extractor
from alibench.evaluation.settings import Settings

NETWORK = "VGG16"
PUBLISHED = "397923af"  # the first digits of its sha256, by which torchvision names the file


def load(data: Data, settings: Settings, device: torch.device) -> Extractor:
    """Return VGG16 with the weights in LPIPS's folder. Raises BadInput if they are not there, or not its."""
    file, source = perceptual.folder_of(settings) / perceptual.VGG, perceptual.VGG_URL
    remedy = f"put {source} there, or name its folder by evaluation.perceptual"
    raw = weight_files.read(file, NETWORK, remedy)
    weights, sha256 = weight_files.read_weights(file, raw, source), files.sha256_of(raw)

    from alibench.evaluation.features.vgg16 import VGG16  # torch-fidelity takes seconds to import

    try:
        network = VGG16(weights)
    except ValueError as difference:
        raise weight_files.another(file, NETWORK, difference, source) from None

    network.to(device)
    note = GREY if data.shape[0] == 1 else ""
    origin = {"source": source if sha256.startswith(PUBLISHED) else "a file of the user's"}
    return Extractor("vgg16", sha256, network.width, network, device, note, origin)
