"""torch-fidelity's Inception. Imported where it is used: it takes seconds."""

import io
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

from alibench.evaluation.features import weight_files


class Inception(FeatureExtractorInceptionV3):
    """torch-fidelity's InceptionV3 with weights from memory: 2,048 features and unbiased logits.

    Its constructor reads weights in a way that runs code in the file, so it gets a copy made here, of tensors
    alone. Raises ValueError naming the first tensor that is another network's.
    """

    width = 2048

    def __init__(self, weights: dict[str, Tensor]) -> None:
        copy = io.BytesIO()
        torch.save(weights, copy)
        copy.seek(0)

        with torch.random.fork_rng(devices=[]):  # the first weights that it draws are replaced
            super().__init__("inception", ["2048", "logits_unbiased"], feature_extractor_weights_path=copy)

    def load_state_dict(
        self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False
    ) -> Any:
        """Load the weights once their names and shapes are known to be this network's."""
        weight_files.check(self.state_dict(), state_dict, "Inception")
        return super().load_state_dict(state_dict, strict, assign)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return features (B, 2048) and logits (B, 1008) of uint8 images (B, 1 or 3, H, W)."""
        features, logits = super().forward(x.expand(-1, 3, -1, -1))
        return features, logits
