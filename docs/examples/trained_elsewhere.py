"""Something that was trained without alibench, evaluated beside its models: any class with a name and sample
or encode.

To try it:

    alibench run digits --plugin trained_elsewhere.py --models ali pca-gaussian
"""

import torch
from sklearn.decomposition import PCA
from torch import Tensor

from alibench.benchmarks.data import datasets


class GaussianPCA:
    """PCA of the digits, with a Gaussian for the prior of its codes."""

    name = "pca-gaussian"
    title = "PCA, Gaussian codes"

    def __init__(self) -> None:
        x = datasets.load("digits").train.x.flatten(1).numpy() / 255  # yours would read its weights here
        self.pca = PCA(8, random_state=0).fit(x)
        self.std = torch.from_numpy(self.pca.explained_variance_).sqrt()

    def sample(self, n: int, rng: torch.Generator) -> Tensor:
        """Return images (n, 1, 8, 8) in [0, 1]; every random number comes from rng."""
        return self.decode(self.std * torch.randn(n, 8, generator=rng))

    def encode(self, x: Tensor) -> Tensor:
        """Return codes (B, 8) of images (B, 1, 8, 8)."""
        return torch.from_numpy(self.pca.transform(x.flatten(1).numpy()))

    def decode(self, z: Tensor) -> Tensor:
        """Return images of codes."""
        return torch.from_numpy(self.pca.inverse_transform(z.numpy())).clamp(0, 1).view(-1, 1, 8, 8)
