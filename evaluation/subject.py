"""What a metric gets: a trained model on data, or the data alone for its reference rows."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Literal, TypeVar

import torch
from torch import Tensor

from alibench.evaluation.data import BATCH, Data, Split, as_float
from alibench.evaluation.seeds import generator
from alibench.evaluation.settings import Settings
from alibench.models.base import Model

POINTS = 10_000  # samples drawn from a model of points
T = TypeVar("T")


class MetricInput:
    """What several metrics need: the scored split, and results that the first of them computes for all."""

    data: Data
    split: Literal["validation", "test"]
    shared: dict[str, Any]

    @property
    def held_out(self) -> Split:
        """The split that numbers are computed on."""
        return self.data.test if self.split == "test" else self.data.validation

    def once(self, name: str, compute: Callable[[], T]) -> T:
        """Return the result of `compute`, which is called once for each name."""
        if name not in self.shared:
            self.shared[name] = compute()
        result: T = self.shared[name]
        return result


@dataclass(frozen=True)
class ReferenceInput(MetricInput):
    """What a metric's reference rows are computed from; they stand in the same tables as the models."""

    data: Data
    settings: Settings
    latent: int  # of the models in the table
    seeds: range  # for references that are random themselves
    # Seed -> a model with an encoder as it is before training.
    untrained: Callable[[int], Model]
    split: Literal["validation", "test"] = "test"
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    shared: dict[str, Any] = field(default_factory=dict, repr=False, compare=False)


@dataclass
class Subject(MetricInput):
    """A trained model under evaluation. What several metrics need is drawn once and shared."""

    model: Model
    data: Data
    settings: Settings
    seed: int
    split: Literal["validation", "test"] = "test"
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    shared: dict[str, Any] = field(default_factory=dict, repr=False, compare=False)
    draw: int = 0  # which draw of samples and codes

    # without dropout, with the running statistics of batch norm
    def __post_init__(self) -> None:
        self.model.to(self.device).eval()

    def again(self, draw: int) -> "Subject":
        """Return the same weights with samples and codes drawn anew."""
        return replace(self, draw=draw, shared={})

    def rng(self, purpose: str) -> torch.Generator:
        """Return this seed's stream for one purpose of the evaluation, on the device."""
        which = f", draw {self.draw}" if self.draw else ""
        return generator(self.seed, f"evaluation {purpose}{which}", self.device)

    def batched(self, function: Callable[..., Tensor], *inputs: Tensor, size: int = BATCH) -> Tensor:
        """Apply a function of the model to inputs, in batches on the device, without gradients.

        The result is on the CPU.
        """
        # Batches, since all of a split at once may not fit on the device.
        parts = zip(*(tensor.split(size) for tensor in inputs), strict=True)
        with torch.no_grad():
            return torch.cat([function(*(part.to(self.device) for part in row)).cpu() for row in parts])

    # -------------------------------------------------------------------------------------------- samples

    @cached_property
    def prior_labels(self) -> Tensor:
        """The held-out data's labels in turn, for samples; only conditional models look at them."""
        n = self.settings.samples or (len(self.held_out) if self.data.images else POINTS)
        return self.held_out.y[torch.arange(n) % len(self.held_out)]

    @cached_property
    def _generated(self) -> tuple[Tensor, Tensor]:
        rng, y = self.rng("samples"), self.prior_labels
        codes, samples = [], []

        # points are small: all at once
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
        return self._observed(self.samples, "observation noise")

    @property
    def observed_name(self) -> str:
        """The name of the row, next to the model's, that holds numbers with observation noise."""
        return f"{self.model.title}, with observation noise"

    def _observed(self, x: Tensor, purpose: str) -> Tensor:
        with torch.no_grad():
            return self.model.observe(x.to(self.device), self.rng(purpose)).cpu()

    # -------------------------------------------------------------------------- codes and reconstructions

    @cached_property
    def codes(self) -> Tensor:
        """Mean codes of the held-out split (N, latent)."""
        return self._encoded(lambda x, y: self.model.encode(x, y=y))

    @cached_property
    def drawn_codes(self) -> Tensor:
        """One drawn code for each x of the held-out split (N, latent)."""
        rng = self.rng("codes")
        return self._encoded(lambda x, y: self.model.encode(x, draw=True, rng=rng, y=y))

    def _encoded(self, encode: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
        return self.batched(lambda x, y: encode(as_float(x), y), self.held_out.x, self.held_out.y)

    @cached_property
    def reconstructions(self) -> Tensor:
        """Reconstructions of the held-out split through mean codes."""
        return self.batched(lambda z, y: self.model.decode(z, y=y), self.codes, self.held_out.y)

    @cached_property
    def drawn_reconstructions(self) -> Tensor:
        """Reconstructions of the held-out split through drawn codes and, if any, the decoder's own noise."""
        rng = self.rng("reconstructions")
        return self.batched(lambda z, y: self.model.decode(z, rng, y), self.drawn_codes, self.held_out.y)

    @cached_property
    def observed_reconstructions(self) -> Tensor:
        """Reconstructions through mean codes with observation noise; images are clamped to [0, 1]."""
        noisy = self._observed(self.reconstructions, "noise on reconstructions")
        return noisy.clamp(0, 1) if self.data.images else noisy

    @cached_property
    def posterior_deviation(self) -> float | None:
        """Mean deviation of q(z|x) over held-out split and code; none where it has no closed form."""
        model = self.model
        if not model.stochastic or model.implicit:
            return None

        def sigma(x: Tensor, y: Tensor) -> Tensor:
            log_sigma = model.posterior(x, y)[1]
            assert log_sigma is not None
            return log_sigma.exp()

        return float(self._encoded(sigma).double().mean())
