"""What every metric is given and gives: data, a trained model on them, measurements."""

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from models.base import Model

BATCH = 1000  # samples that pass a model at once


class BadInput(Exception):
    """Something the user gave cannot be used; the message is one line with the remedy."""


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
    """A data set in three disjoint splits. Choices are made on validation; test is opened for the table.

    Raises BadInput for integers that are not images: the method needs gradients through x.
    """

    name: str
    train: Split
    validation: Split
    test: Split
    classes: int  # 0: it has none
    mixture: Mixture | None = None
    extractor: str = ""  # the feature extractor of its images
    class_names: tuple[str, ...] = ()  # or those of the attributes
    splits: str = ""  # how they were made, in a line
    content: str = ""  # what sha256 is, where that is known

    def __post_init__(self) -> None:
        for split in (self.train, self.validation, self.test):
            x = split.x
            if not (x.dim() == 4 and x.dtype == torch.uint8) and not (x.dim() == 2 and x.is_floating_point()):
                raise BadInput(
                    f"data set '{self.name}' holds {str(x.dtype).removeprefix('torch.')} of shape {tuple(x.shape[1:])}: "
                    "ALI and its relatives learn from gradients through x, so data must be continuous; "
                    "give uint8 images (N, C, H, W) or float points (N, D)"
                )

    @property
    def images(self) -> bool:
        """Whether x holds images rather than points."""
        return self.train.x.dim() == 4

    @property
    def shape(self) -> tuple[int, ...]:
        """Return the shape of one x."""
        return tuple(self.train.x.shape[1:])

    @property
    def labels(self) -> int:
        """The number of classes, or of attributes where y holds those; 0: no labels."""
        return self.train.y.shape[1] if self.train.y.dim() == 2 else self.classes

    @property
    def scale(self) -> float:
        """What networks divide x by: 1 for images, the deviation of a train coordinate for points."""
        return 1.0 if self.images else round(float(self.train.x.double().std()), 6)

    @cached_property
    def sha256(self) -> str:
        """Return the hash of all contents, in order."""
        if self.content:
            return self.content
        digest = hashlib.sha256()
        for split in (self.train, self.validation, self.test):
            digest.update(split.x.numpy().tobytes())
            digest.update(split.y.numpy().tobytes())
        return digest.hexdigest()


def as_float(x: Tensor) -> Tensor:
    """Return what models see: uint8 images in [0, 1], points as they are."""
    return x.float().div_(255) if x.dtype == torch.uint8 else x


def as_uint8(x: Tensor) -> Tensor:
    """Return images in [0, 1], clamped, as uint8: a fixed map, never the range of the set itself."""
    return (x.clamp(0, 1) * 255).round().to(torch.uint8)


def generator(seed: int, purpose: str, device: torch.device | str = "cpu") -> torch.Generator:
    """Return the random stream of a seed for one purpose; streams of other purposes are independent of it."""
    key = int.from_bytes(hashlib.sha256(purpose.encode()).digest()[:4])
    state = np.random.SeedSequence([seed, key]).generate_state(1, np.uint64)[0]
    return torch.Generator(device).manual_seed(int(state) >> 1)


@dataclass(frozen=True)
class Measurement:
    """One number with what it takes to read it. No value means an empty cell, and `reason` says why."""

    metric: str
    value: float | None
    unit: str = ""
    n: int | None = None  # samples it was computed on
    split: str = ""
    extractor: str = ""
    protocol: str = ""
    labels: int | None = None
    draw: int | None = None  # which draw of labels, where there are several
    kind: Literal["quality", "timing", "budget"] = "quality"
    status: Literal["ok", "not applicable", "diverged"] = "ok"
    reason: str = ""
    reference: str = ""  # the name of the row, if it is not the model's own
    seed: int | None = None  # the seed of a reference that is random itself


def not_sampled(columns: Iterable["Column"]) -> list[Measurement]:
    """Return the empty cells of a model that draws no samples."""
    reason = "its codes follow no prior, so it draws no samples"
    return [Measurement(column.metric, None, status="not applicable", reason=reason) for column in columns]


@dataclass(frozen=True)
class Settings:
    """How much is measured; a suite's [evaluation] table."""

    samples: int = 10_000  # drawn from a model of points; for images as many as the reference split holds
    labels: int = 100  # labelled images of the SVM
    draws: int = 10  # draws of them
    newton_steps: int = 1000  # that the SVM's solver may take
    seconds: float = 0.5  # that each speed is measured for


@dataclass
class Subject:
    """A trained model under evaluation. What several metrics need is drawn once and shared."""

    model: Model
    data: Data
    settings: Settings
    seed: int
    split: Literal["validation", "test"] = "test"
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))

    def __post_init__(self) -> None:
        self.model.to(self.device).eval()

    def rng(self, purpose: str) -> torch.Generator:
        """Return this seed's stream for one purpose of the evaluation, on the device."""
        return generator(self.seed, f"evaluation {purpose}", self.device)

    @property
    def held_out(self) -> Split:
        """The split that numbers are computed on."""
        return self.data.test if self.split == "test" else self.data.validation

    def batched(self, function: Callable[..., Tensor], *inputs: Tensor, size: int = BATCH) -> Tensor:
        """Apply a function of the model to inputs in batches on the device, without gradients; the result is on the CPU."""
        parts = zip(*(tensor.split(size) for tensor in inputs), strict=True)
        with torch.no_grad():
            return torch.cat([function(*(part.to(self.device) for part in row)).cpu() for row in parts])

    @cached_property
    def samples(self) -> Tensor:
        """Samples, on the CPU: as many as the reference split holds for images, `settings.samples` for points.

        A conditional model draws them for the labels of the reference.
        """
        n = len(self.held_out) if self.data.images else self.settings.samples
        y = self.held_out.y[torch.arange(n) % len(self.held_out)]
        rng = self.rng("samples")
        size = BATCH if self.data.images else n
        return self.batched(lambda y: self.model.sample(len(y), rng, y), y, size=size)

    @cached_property
    def observed_samples(self) -> Tensor:
        """The same samples with the observation noise of a model that has a likelihood."""
        with torch.no_grad():
            return self.model.observe(self.samples.to(self.device), self.rng("observation noise")).cpu()

    @property
    def observed_name(self) -> str:
        """The name of the row beside the model's that holds numbers of `observed_samples`."""
        return f"{self.model.title}, with observation noise"

    @cached_property
    def codes(self) -> Tensor:
        """Mean codes of the held-out split (N, latent)."""
        return self.batched(lambda x, y: self.model.encode(as_float(x), y=y), self.held_out.x, self.held_out.y)

    @cached_property
    def drawn_codes(self) -> Tensor:
        """One drawn code for each x of the held-out split (N, latent)."""
        rng = self.rng("codes")
        return self.batched(
            lambda x, y: self.model.encode(as_float(x), draw=True, rng=rng, y=y), self.held_out.x, self.held_out.y
        )

    @cached_property
    def reconstructions(self) -> Tensor:
        """Reconstructions of the held-out split through mean codes."""
        return self.batched(lambda z, y: self.model.decode(z, y=y), self.codes, self.held_out.y)

    @cached_property
    def drawn_reconstructions(self) -> Tensor:
        """Reconstructions of the held-out split through drawn codes, and through a decoder's own noise if it has any."""
        rng = self.rng("reconstructions")
        return self.batched(lambda z, y: self.model.decode(z, rng, y), self.drawn_codes, self.held_out.y)


@dataclass(frozen=True)
class Baseline:
    """What the reference rows of a metric are computed from; they stand in the same tables as the models."""

    data: Data
    settings: Settings
    latent: int  # of the models they stand beside
    seeds: range  # for references that are random themselves
    untrained: Callable[[int], Model]  # seed -> a model with an encoder as it is before training
    split: Literal["validation", "test"] = "test"

    @property
    def held_out(self) -> Split:
        """The split that numbers are computed on."""
        return self.data.test if self.split == "test" else self.data.validation


@dataclass(frozen=True)
class Column:
    """How a measure is read: its title in tables and which direction is better."""

    metric: str
    title: str
    better: Literal["higher", "lower", ""] = ""
    digits: int = 3
    percent: bool = False
