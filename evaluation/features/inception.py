"""torch-fidelity's Inception. Imported where it is used: it takes seconds."""

import io
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3


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
        # torch lists all differences, hundreds of lines for another network: the first is enough
        expected = self.state_dict()
        for name in (*expected, *state_dict):
            if name not in state_dict:
                raise ValueError(f"it has no tensor '{name}'")
            if name not in expected:
                raise ValueError(f"its tensor '{name}' is not Inception's")

            shape, wanted = tuple(state_dict[name].shape), tuple(expected[name].shape)
            if shape != wanted:
                raise ValueError(f"its tensor '{name}' has shape {shape}, Inception's {wanted}")
        return super().load_state_dict(state_dict, strict, assign)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return features (B, 2048) and logits (B, 1008) of uint8 images (B, 1 or 3, H, W)."""
        features, logits = super().forward(x.expand(-1, 3, -1, -1))
        return features, logits
