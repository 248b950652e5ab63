"""The classifiers' networks: images in [0, 1] to features, on which the last layer's logits stand."""

from itertools import pairwise

from torch import Tensor, nn

from alibench.evaluation.data import Data


class ClassifierCNN(nn.Module):
    """A body, which gives features (B, width), and a linear head, which gives logits (B, classes)."""

    width: int
    body: nn.Module
    head: nn.Module

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return features (B, width) and logits (B, classes) of x (B, C, H, W) in [0, 1]."""
        features = self.body(x)
        return features, self.head(features)


class DigitsCNN(ClassifierCNN):
    """Grey 8x8 images, 10 classes, 32 features: LeNet-5's pattern, mean pooling and tanh."""

    width = 32

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            *(nn.Conv2d(1, 32, 3, padding=1), nn.Tanh(), nn.AvgPool2d(2)),  # 4x4
            *(nn.Conv2d(32, 64, 3, padding=1), nn.Tanh(), nn.AvgPool2d(2)),  # 2x2
            *(nn.Flatten(), nn.Linear(256, self.width), nn.Tanh()),
        )
        self.head = nn.Linear(self.width, 10)


class MnistCNN(ClassifierCNN):
    """Grey 28x28 images, 10 classes, 64 features: convolutions with batch norm, pooled to 7x7."""

    width = 64

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            *_normed(1, 16, 5),
            nn.MaxPool2d(2),  # 14x14
            *_normed(16, 32, 3),
            nn.MaxPool2d(2),  # 7x7
            *_normed(32, 64, 3),
            *(nn.Flatten(), nn.Linear(64 * 7 * 7, self.width), nn.Tanh()),
        )
        self.head = nn.Linear(self.width, 10)


def _normed(before: int, after: int, kernel: int) -> tuple[nn.Module, ...]:
    convolution = nn.Conv2d(before, after, kernel, padding=kernel // 2, bias=False)
    return convolution, nn.BatchNorm2d(after), nn.ReLU()


class ImageCNN(ClassifierCNN):
    """Images of any size, channels and classes; 64 features."""

    width = 64

    def __init__(self, channels: int, classes: int) -> None:
        super().__init__()
        # Pooled to 2x2 whatever the size: 512 numbers below the features.
        maps = (channels, 32, 64, 128)
        blocks = [
            # halves each side, rounded up, so that a side of 1 stays
            (nn.Conv2d(before, after, 3, padding=1), nn.ReLU(), nn.AvgPool2d(2, ceil_mode=True))
            for before, after in pairwise(maps)
        ]
        self.body = nn.Sequential(
            *(layer for block in blocks for layer in block),
            *(nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(512, self.width), nn.Tanh()),
        )
        self.head = nn.Linear(self.width, classes)


SHIPPED: dict[str, type[DigitsCNN] | type[MnistCNN]] = {
    "digits-cnn": DigitsCNN,
    "mnist-cnn": MnistCNN,
    "fashion_mnist-cnn": MnistCNN,
}


def network_for(data: Data) -> ClassifierCNN:
    """Return the network of the data's classifier, with torch's first weights."""
    return SHIPPED[data.extractor]() if data.extractor in SHIPPED else ImageCNN(data.shape[0], data.classes)
