"""What every metric is given and gives: data, a trained model on them, measurements."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Annotated, Any, Literal, TypeVar

import torch
from msgspec import Meta
from torch import Tensor

from alibench.evaluation.data import BATCH, Count, Data, Split, as_float
from alibench.evaluation.seeds import generator
from alibench.models.base import Model

# raised when a number keeps its name and protocol but means something else: old baselines are refused then
PROTOCOLS = 1
POINTS = 10_000  # samples drawn from a model of points
T = TypeVar("T")


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
    status: Literal["ok", "not applicable", "refused", "diverged"] = (
        "ok"  # refused: what came in cannot be measured
    )
    reason: str = ""
    reference: str = ""  # the name of the row, if it is not the model's own
    note: str = ""  # beside that name
    seed: int | None = None  # the seed of a reference that is random itself


def not_sampled(columns: Iterable["Column"]) -> list[Measurement]:
    """Return the empty cells of a model that draws no samples."""
    reason = "its codes follow no prior, so it draws no samples"
    return [Measurement(column.metric, None, status="not applicable", reason=reason) for column in columns]


@dataclass(frozen=True)
class Settings:
    """How much is measured, and by which of the published protocols; a suite's [evaluation] table."""

    samples: Count | None = (
        None  # drawn from a model; none: 10,000 points, or as many images as the scored split holds
    )
    reference: Literal["", "train", "validation", "test"] = ""  # of fidelity; none: the split that is scored
    extractor: str = (
        "classifier"  # of fidelity: the data set's own, "inception", or one that the user registered
    )
    inception: str = (
        ""  # file of Inception's weights; none: the one in ALIBENCH_DATA, downloaded if it is not there
    )
    perceptual: str = (
        ""  # folder of LPIPS's two files of weights; none: ALIBENCH_DATA/extractors, if they are there
    )
    labels: Count | Literal["all"] = (
        100  # labelled images: of the classifiers on features, and of semi-supervised training
    )
    labels_from: Literal["train", "validation"] = "train"  # the split they are drawn from
    kept_back: Count = (
        10_000  # of that split, its last images, to choose on where labels come from validation
    )
    draws: Count = 10  # of labels
    resamples: Count = 1  # draws of samples and codes from the same weights, for measures that depend on them
    standardise: bool = (
        False  # features, by the labelled images' mean and deviation; ALI's protocol leaves them as they are
    )
    neighbours: Count = 5  # of the k-nearest-neighbour classifier that stands beside 1-NN
    seconds: Annotated[float, Meta(gt=0, le=3600)] = 0.5  # that each speed is measured for


class Shared:
    """What several metrics need is computed by the first that asks for it."""

    shared: dict[str, Any]

    def once(self, name: str, compute: Callable[[], T]) -> T:
        """Return what `compute` gives, from the second time on without computing it."""
        if name not in self.shared:
            self.shared[name] = compute()
        found: T = self.shared[name]
        return found


@dataclass
class Subject(Shared):
    """A trained model under evaluation. What several metrics need is drawn once and shared."""

    model: Model
    data: Data
    settings: Settings
    seed: int
    split: Literal["validation", "test"] = "test"
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    shared: dict[str, Any] = field(default_factory=dict, repr=False, compare=False)
    draw: int = 0  # which draw of samples and codes

    def __post_init__(self) -> None:
        self.model.to(self.device).eval()

    def again(self, draw: int) -> "Subject":
        """Return the same weights with samples and codes drawn anew."""
        return replace(self, draw=draw, shared={})

    def rng(self, purpose: str) -> torch.Generator:
        """Return this seed's stream for one purpose of the evaluation, on the device."""
        return generator(
            self.seed, f"evaluation {purpose}" + f", draw {self.draw}" * bool(self.draw), self.device
        )

    @property
    def held_out(self) -> Split:
        """The split that numbers are computed on."""
        return self.data.test if self.split == "test" else self.data.validation

    def batched(self, function: Callable[..., Tensor], *inputs: Tensor, size: int = BATCH) -> Tensor:
        """Apply a function of the model to inputs in batches on the device, without gradients; the result is
        on the CPU.
        """
        parts = zip(*(tensor.split(size) for tensor in inputs), strict=True)
        with torch.no_grad():
            return torch.cat([function(*(part.to(self.device) for part in row)).cpu() for row in parts])

    @cached_property
    def prior_labels(self) -> Tensor:
        """Labels that samples are drawn for, those of the held-out data in turn; only conditional models look
        at them.
        """
        n = self.settings.samples or (len(self.held_out) if self.data.images else POINTS)
        return self.held_out.y[torch.arange(n) % len(self.held_out)]

    @cached_property
    def _generated(self) -> tuple[Tensor, Tensor]:
        rng, y = self.rng("samples"), self.prior_labels
        codes, samples = [], []
        with torch.no_grad():
            for part in y.split(BATCH if self.data.images else len(y)):
                z, x = self.model.generate(len(part), rng, part.to(self.device))
                codes.append(z.cpu())
                samples.append(x.cpu())
        return torch.cat(codes), torch.cat(samples)

    @property
    def prior_codes(self) -> Tensor:
        """The codes z (n, latent) that samples are decoded from, on the CPU."""
        return self._generated[0]

    @property
    def samples(self) -> Tensor:
        """Samples (n, ...), on the CPU: `settings.samples`, or as many images as the held-out split has."""
        return self._generated[1]

    @cached_property
    def observed_samples(self) -> Tensor:
        """The same samples with the observation noise of a model that has a likelihood."""
        with torch.no_grad():
            return self.model.observe(self.samples.to(self.device), self.rng("observation noise")).cpu()

    @cached_property
    def observed_reconstructions(self) -> Tensor:
        """Reconstructions through mean codes, with that noise too; images are clamped to [0, 1], as pixels
        are.
        """
        with torch.no_grad():
            noisy = self.model.observe(
                self.reconstructions.to(self.device), self.rng("noise on reconstructions")
            ).cpu()
        return noisy.clamp(0, 1) if self.data.images else noisy

    @property
    def observed_name(self) -> str:
        """The name of the row beside the model's that holds numbers with observation noise."""
        return f"{self.model.title}, with observation noise"

    @cached_property
    def codes(self) -> Tensor:
        """Mean codes of the held-out split (N, latent)."""
        return self.batched(
            lambda x, y: self.model.encode(as_float(x), y=y), self.held_out.x, self.held_out.y
        )

    @cached_property
    def drawn_codes(self) -> Tensor:
        """One drawn code for each x of the held-out split (N, latent)."""
        rng = self.rng("codes")
        return self.batched(
            lambda x, y: self.model.encode(as_float(x), draw=True, rng=rng, y=y),
            self.held_out.x,
            self.held_out.y,
        )

    @cached_property
    def reconstructions(self) -> Tensor:
        """Reconstructions of the held-out split through mean codes."""
        return self.batched(lambda z, y: self.model.decode(z, y=y), self.codes, self.held_out.y)

    @cached_property
    def drawn_reconstructions(self) -> Tensor:
        """Reconstructions of the held-out split through drawn codes, and through a decoder's own noise if it
        has any.
        """
        rng = self.rng("reconstructions")
        return self.batched(lambda z, y: self.model.decode(z, rng, y), self.drawn_codes, self.held_out.y)

    @cached_property
    def posterior_deviation(self) -> float | None:
        """Mean deviation of q(z|x) over the held-out split and the code; none of an encoder without one in
        closed form.
        """
        model = self.model
        if not model.stochastic or model.implicit:
            return None

        def sigma(x: Tensor, y: Tensor) -> Tensor:
            log_sigma = model.posterior(as_float(x), y)[1]
            assert log_sigma is not None
            return log_sigma.exp()

        return float(self.batched(sigma, self.held_out.x, self.held_out.y).double().mean())


@dataclass(frozen=True)
class Baseline(Shared):
    """What the reference rows of a metric are computed from; they stand in the same tables as the models."""

    data: Data
    settings: Settings
    latent: int  # of the models they stand beside
    seeds: range  # for references that are random themselves
    untrained: Callable[[int], Model]  # seed -> a model with an encoder as it is before training
    split: Literal["validation", "test"] = "test"
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    shared: dict[str, Any] = field(default_factory=dict, repr=False, compare=False)

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
