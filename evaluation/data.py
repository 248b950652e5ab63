"""Data in three splits, images as uint8 or points as floats."""

from dataclasses import dataclass
from functools import cached_property
from typing import Annotated

import torch
from msgspec import Meta
from torch import Tensor

from alibench.evaluation import files
from alibench.evaluation.errors import BadInput

BATCH = 1000  # samples that pass a model at once
TOLERANCE = 1e-4  # by which rounding may carry an image out of [0, 1]

Amount = Annotated[int, Meta(ge=1, le=10**6)]  # a number of things that memory holds at once


@dataclass(frozen=True)
class Split:
    """x: uint8 images (N, C, H, W), or float points (N, D) in their own coordinates.

    y: classes (N,), all -1 where there are none; or binary attributes (N, A), uint8.
    """

    x: Tensor
    y: Tensor

    def __len__(self) -> int:
        return len(self.x)


@dataclass(frozen=True)
class Mixture:
    """A known density: equal isotropic Gaussians around `centres` (K, D), each of deviation `std`."""

    centres: Tensor
    std: float


@dataclass(frozen=True)
class Data:
    """A dataset in three disjoint splits. Choices are made on validation; test is opened for the table.

    Each split is in random order: metrics take the first n of it for a random draw.
    Raises BadInput for integers that are not images: the method needs gradients through x.
    """

    name: str
    train: Split
    validation: Split
    test: Split
    classes: int  # 0: it has none
    mixture: Mixture | None = None
    extractor: str = ""  # the feature extractor of its images
    class_names: tuple[str, ...] = ()  # or of attributes
    splits: str = ""  # how they were made, in a line
    anomaly: int = -1  # the class that train does not hold; none
    content: str = ""  # the sha256, where it is known

    def __post_init__(self) -> None:
        for split in (self.train, self.validation, self.test):
            x = split.x
            if not (x.dim() == 4 and x.dtype == torch.uint8) and not (x.dim() == 2 and x.is_floating_point()):
                contents = f"{str(x.dtype).removeprefix('torch.')} of shape {tuple(x.shape[1:])}"
                raise BadInput(
                    f"dataset '{self.name}' holds {contents}: models learn from gradients through x, so data "
                    "must be continuous; give uint8 images (N, C, H, W) or float points (N, D)"
                )

    @property
    def images(self) -> bool:
        """Whether x holds images rather than points."""
        return self.train.x.dim() == 4

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of one x."""
        return tuple(self.train.x.shape[1:])

    @property
    def labels(self) -> int:
        """The number of classes, or of attributes where y holds those; 0: no labels."""
        return self.train.y.shape[1] if self.train.y.dim() == 2 else self.classes

    @cached_property
    def scale(self) -> float:
        """The number that networks divide x by: 1 for images, a train coordinate's deviation for points."""
        return 1.0 if self.images else round(float(self.train.x.double().std()), 6)

    @cached_property
    def sha256(self) -> str:
        """The hash of all contents, in order."""
        tensors = (part for split in (self.train, self.validation, self.test) for part in (split.x, split.y))
        return self.content or files.sha256_of(
            *(part.contiguous().reshape(-1).numpy().data for part in tensors)
        )


def as_float(x: Tensor) -> Tensor:
    """Return x as models see it: uint8 images in [0, 1], points as they are."""
    return x.float().div_(255) if x.dtype == torch.uint8 else x


def as_uint8(x: Tensor) -> Tensor:
    """Return images in [0, 1], clamped, as uint8: a fixed map, whatever the range of the images."""
    return (x.clamp(0, 1) * 255).round().to(torch.uint8)


def unfit(x: Tensor, images: bool) -> str:
    """Say why a model's output (N, ...) cannot be measured, if so: not finite, or images outside [0, 1]."""
    finite = x.isfinite()

    # Counted by sample: one bad pixel spoils an image.
    if not bool(finite.all()):
        return f"{int((~finite).flatten(1).any(1).sum())} of {len(x)} are not finite"
    low, high = float(x.min()), float(x.max())
    if images and (low < -TOLERANCE or high > 1 + TOLERANCE):
        return f"images lie outside [0, 1]: from {low:.3g} to {high:.3g}"
    return ""
