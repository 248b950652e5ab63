"""Evaluation of anything: a model of the suite, or an object that can sample, encode or decode."""

import inspect
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict
from typing import Any, ClassVar, Literal

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from alibench.evaluation.data import Data
from alibench.evaluation.errors import BadInput, check_name
from alibench.evaluation.metrics import METRICS, measure
from alibench.evaluation.settings import Settings
from alibench.evaluation.subject import Subject
from alibench.models.base import Model, Phase, shape_of
from alibench.models.networks import Networks

ABLE = ("sample", "encode", "decode", "features")


class ObjectModel(Model):
    """A user's object, as the metrics take it. What it cannot do is an empty cell with the reason.

    It gets tensors, and gives tensors or numpy arrays:

    sample(n) or sample(n, rng)   n images (n, C, H, W) in [0, 1], or points (n, D)
    encode(x)                     codes (B, latent) of x
    decode(z)                     x (B, ...) for codes
    features(x)                   {layer: (B, F)}, hidden layers in order, the code last; else the code alone
    """

    name, title, source, players = "own", "own model", "the user's", {}

    def __init__(self, thing: Any, shape: tuple[int, ...] | None = None) -> None:
        """Take an object; its samples and decoded codes must have the `shape` of one x, if it is known."""
        nn.Module.__init__(self)
        self.shape = shape
        self._object: Callable[[], Any] = lambda: thing  # not as a module: its parameters are its owner's

        # What it has decides which cells are filled.
        able = {name for name in ABLE if callable(getattr(thing, name, None))}
        if not able & {"sample", "encode"}:
            kind = type(thing).__name__
            raise BadInput(f"a {kind} has neither sample(n) nor encode(x): give it one of them")
        self.able = able
        self.generative, self.inverts = "sample" in able, "decode" in able  # type: ignore[misc]
        self.inference = "learnt with it" if "encode" in able else "none"  # type: ignore[misc]

    implicit = draws_x = property(lambda self: False)

    def generate(self, n: int, rng: torch.Generator, y: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return no codes, and n samples; by rng if `sample` takes one."""
        # by the number of parameters: a user's function may call its generator anything
        sample = self._object().sample
        takes_rng = len(inspect.signature(sample).parameters) > 1
        x = self._as_tensors("sample", sample(n, rng) if takes_rng else sample(n))

        if not isinstance(x, Tensor) or len(x) != n:
            raise BadInput(f"sample({n}) returned {shape_of(x)}: {n} samples as one tensor are needed")
        self._check_shape(f"sample({n})", x)
        return x.new_empty(n, 0), x.float()

    def posterior(self, x: Tensor, y: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """Return the code of x."""
        code = self._call("encode", x)
        if not isinstance(code, Tensor) or code.dim() != 2 or len(code) != len(x):
            returned = f"encode of {len(x)} images returned {shape_of(code)}"
            raise BadInput(f"{returned}: a tensor ({len(x)}, latent) is needed")
        return code.float(), None

    def decode(self, z: Tensor, rng: torch.Generator | None = None, y: Tensor | None = None) -> Tensor:
        """Return x for codes."""
        x = self._call("decode", z)
        if not isinstance(x, Tensor) or len(x) != len(z):
            returned = f"decode of {len(z)} codes returned {shape_of(x)}"
            raise BadInput(f"{returned}: as many x in one tensor are needed")
        self._check_shape(f"decode of {len(z)} codes", x)
        return x.float()

    def features(self, x: Tensor) -> dict[str, Tensor]:
        """Return the object's layers, or its code."""
        layers: Mapping[str, Tensor] = {}
        layers = self._call("features", x) if "features" in self.able else {"code": self.encode(x)}
        return {name: h.flatten(1).float() for name, h in layers.items()}

    def _call(self, method: Literal["encode", "decode", "features"], x: Tensor) -> Any:
        return self._as_tensors(method, getattr(self._object(), method)(x))

    def _check_shape(self, what: str, x: Tensor) -> None:
        """Raise BadInput for x (B, ...) that is not of the data's shape: colours, channels last."""
        if self.shape is not None and tuple(x.shape[1:]) != self.shape:
            needed = f"x of shape {self.shape}, as the data have it, are needed"
            raise BadInput(f"{what} returned {shape_of(x)}: {needed}")

    def _as_tensors(self, method: str, x: Any) -> Any:
        """Return a method's output with tensors in place of arrays. Raises BadInput for uint8 images."""
        if isinstance(x, Mapping):
            return {name: self._as_tensors(method, h) for name, h in x.items()}
        if isinstance(x, np.ndarray) and x.dtype.kind in "fiub":
            x = torch.from_numpy(np.ascontiguousarray(x))
        if method in ("sample", "decode") and isinstance(x, Tensor) and x.dtype == torch.uint8:
            raise BadInput(f"{method} returned uint8: images are floats in [0, 1], divide them by 255")
        return x


class ExternalModel(ObjectModel):
    """An object trained elsewhere, as a model of a suite: evaluated like the others, and never trained.

    A subclass says by `make` where the object comes from. An nn.Module moves to the device and gets tensors
    there; any other object gets tensors and generators on the CPU.
    """

    elsewhere = True
    # It is drawn from the user's prior, whatever the suite's.
    priors = ("normal", "uniform")
    thing: ClassVar[Any]  # the object, or its class
    make: ClassVar[Callable[[tuple[int, ...]], Any]]  # the shape of the data -> the object

    def __init__(self, networks: Networks) -> None:
        thing = type(self).make(networks.shape)
        super().__init__(thing)
        self.module = thing if isinstance(thing, nn.Module) else None

    @property
    def phases(self) -> tuple[Phase, ...]:
        """No phases."""
        return ()

    def generate(self, n: int, rng: torch.Generator, y: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return no codes, and n samples."""
        # Its generator is on the CPU, seeded by the device's.
        own_rng = rng
        if self.module is None and rng.device.type != "cpu":
            seed = torch.randint(2**62, (), generator=rng, device=rng.device)
            own_rng = torch.Generator().manual_seed(int(seed))
        z, x = super().generate(n, own_rng, y)
        return z.to(rng.device), x.to(rng.device)

    def _call(self, method: Literal["encode", "decode", "features"], x: Tensor) -> Any:
        output = super()._call(method, x if self.module is not None else x.cpu())
        if isinstance(output, Mapping):
            return {name: h.to(x.device) for name, h in output.items()}
        return output.to(x.device) if isinstance(output, Tensor) else output


def _chosen(metrics: Iterable[str] | None, data: Data, settings: Settings) -> list[str]:
    """Return the metrics' names; without any, all that the data allow, but speed. Raises BadInput."""
    if metrics is None:
        others = (name for name in METRICS if name != "throughput")
        return [name for name in others if not METRICS[name].unsupported_reason(data, settings)]

    names = list(metrics)
    for name in names:
        check_name(name, METRICS, "unknown metric")
        if reason := METRICS[name].unsupported_reason(data, settings):
            raise BadInput(f"metric '{name}' cannot be measured: {reason}")
    return names


def evaluate(
    model: object,
    data: Data,
    metrics: Iterable[str] | None = None,
    settings: Settings | None = None,
    seed: int = 0,
    split: Literal["validation", "test"] = "test",
    device: str | torch.device = "cpu",
) -> pd.DataFrame:
    """Return a table of measurements of a trained model, a line each, with what it takes to read them.

    `metrics` are names from METRICS; none: all that the data allow, but speed. Every draw of noise, samples
    and labels comes from `seed`. A module is evaluated in evaluation mode and left in the mode that it was
    in. Raises BadInput for an unknown metric, one that the data do not allow, or a model that can do nothing.
    """
    settings = settings or Settings()
    names = _chosen(metrics, data, settings)

    # The caller's module is left as it came.
    was_training = isinstance(model, nn.Module) and model.training
    evaluated = model if isinstance(model, Model) else ObjectModel(model, data.shape)
    subject = Subject(evaluated, data, settings, seed, split, torch.device(device))
    if isinstance(model, nn.Module):
        model.eval()
    try:
        return pd.DataFrame([asdict(row) for row in measure(subject, names)])
    finally:
        if isinstance(model, nn.Module):
            model.train(was_training)
