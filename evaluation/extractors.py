"""Feature extractors for the fidelity metrics: small classifiers fitted to a data set's train labels.

They stand in for Inception where images are too small or too different for it, and are named in every result
("digits-cnn@<hash>") so that nobody compares such a number with an Inception score or a published FID.
Weights are safetensors files with the command that made them; `alibench fit-extractor DATASET` makes them again.
"""

import hashlib
from functools import cache
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch_fidelity import FeatureExtractorBase, register_feature_extractor

from evaluation.base import Data, as_float, generator

WEIGHTS = Path(__file__).parent / "weights"
WIDTH = 32  # features; at most a quarter of the images that FID is computed on


class DigitsCNN(nn.Module):
    """Grey 8x8 images in [0, 1] to features (B, 32) and logits (B, 10): LeNet-5's pattern, mean pooling and tanh."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            *(nn.Conv2d(1, 32, 3, padding=1), nn.Tanh(), nn.AvgPool2d(2)),  # 4x4
            *(nn.Conv2d(32, 64, 3, padding=1), nn.Tanh(), nn.AvgPool2d(2)),  # 2x2
            *(nn.Flatten(), nn.Linear(256, WIDTH), nn.Tanh()),
        )
        self.head = nn.Linear(WIDTH, 10)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return features (B, 32) and logits (B, 10)."""
        features = self.body(x)
        return features, self.head(features)


NETWORKS: dict[str, type[nn.Module]] = {"digits-cnn": DigitsCNN}


def path(name: str) -> Path:
    """Return where an extractor's weights are."""
    return WEIGHTS / f"{name}.safetensors"


@cache
def identity(name: str) -> str:
    """Return the extractor's name and the first eight digits of its weights' sha256, as results carry it."""
    return f"{name}@{hashlib.sha256(path(name).read_bytes()).hexdigest()[:8]}"


def provenance(name: str) -> dict[str, str]:
    """Return what is written in the weights' file about how they were made."""
    with safe_open(path(name), "pt") as file:
        return dict(file.metadata())


def load(name: str) -> nn.Module:
    """Return the extractor, in evaluation mode."""
    network = NETWORKS[name]()
    network.load_state_dict(load_file(path(name)))
    return network.eval()


def accuracy(network: nn.Module, x: Tensor, y: Tensor) -> float:
    """Return the percentage of images x (uint8) that the extractor's classifier gets right."""
    with torch.no_grad():
        return 100 * float((network(as_float(x))[1].argmax(1) == y).double().mean())


def fit(data: Data, epochs: int = 40, batch: int = 50, seed: int = 0) -> nn.Module:
    """Fit the extractor that `data` names to its train labels: AdamW, 3e-3 falling linearly to zero, weight decay 1e-4."""
    x, y, rng = as_float(data.train.x), data.train.y, generator(seed, "extractor")
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = NETWORKS[data.extractor]()
    steps = epochs * (len(x) // batch)
    optimiser = torch.optim.AdamW(network.parameters(), lr=3e-3, weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.LinearLR(optimiser, 1.0, 0.0, total_iters=steps)
    for _ in range(epochs):
        for index in torch.randperm(len(x), generator=rng)[: len(x) // batch * batch].split(batch):
            optimiser.zero_grad()
            nn.functional.cross_entropy(network(x[index])[1], y[index]).backward()
            optimiser.step()
            schedule.step()
    return network.eval()


def save(network: nn.Module, data: Data, command: str) -> Path:
    """Write the weights with the command that made them, the data's hash and the held-out accuracy; return the path."""
    metadata = {
        "command": command,
        "data": f"{data.name} train, sha256 {data.sha256}",
        "torch": torch.__version__,
        "accuracy": f"{accuracy(network, data.validation.x, data.validation.y):.2f} % on validation",
    }
    save_file(network.state_dict(), path(data.extractor), metadata)
    return path(data.extractor)


class _Extractor(FeatureExtractorBase):
    """An extractor as torch-fidelity wants it: uint8 images in, a tuple of what is asked for out, in double precision."""

    def __init__(self, name: str, features_list: list[str], **kwargs: Any) -> None:
        super().__init__(name, features_list)
        self.network = load(name)

    @staticmethod
    def get_provided_features_list() -> tuple[str, ...]:
        return ("features", "logits")

    @staticmethod
    def get_default_feature_layer_for_metric(metric: str) -> str:
        return "logits" if metric == "isc" else "features"  # torch-fidelity applies the softmax itself

    @staticmethod
    def can_be_compiled() -> bool:
        return False

    @staticmethod
    def get_dummy_input_for_compile() -> Tensor:
        raise NotImplementedError

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        features, logits = self.network(as_float(x))
        outputs = {"features": features.double(), "logits": logits.double()}
        return tuple(outputs[name] for name in self.features_list)


for _name in NETWORKS:
    register_feature_extractor(_name, _Extractor)
