"""torch-fidelity's VGG16. Imported where it is used: it takes seconds."""

import torch
from torch import Tensor
from torch_fidelity.feature_extractor_vgg16 import FeatureExtractorVGG16
from torchvision.models import vgg16

from alibench.evaluation.features import weight_files


class VGG16(FeatureExtractorVGG16):
    """torch-fidelity's VGG16 with weights from memory: the second fully connected layer, after its ReLU.

    Its constructor reads weights in a way that runs code in the file, and fills 138 million numbers first, so
    only what it builds is built here. Raises ValueError naming the first tensor that is another network's.
    """

    width = 4096

    def __init__(self, weights: dict[str, Tensor]) -> None:
        super(FeatureExtractorVGG16, self).__init__("vgg16", ["fc2_relu"])
        self.feature_extractor_internal_dtype = torch.float32
        with torch.device("meta"):
            self.model = vgg16(weights=None)
        weight_files.check(self.model.state_dict(), weights, "VGG16")
        self.model.load_state_dict(weights, assign=True)

        # after the second layer come its ReLU, which torch-fidelity applies itself, and the classes
        del self.model.classifier[4:]
        self.to(torch.float32).requires_grad_(False).eval()

    def forward(self, x: Tensor) -> tuple[Tensor, None]:
        """Return features (B, 4096) of uint8 images (B, 1 or 3, H, W), and no logits."""
        (features,) = super().forward(x.expand(-1, 3, -1, -1))
        return features, None
