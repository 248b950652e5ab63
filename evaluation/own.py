"""Evaluation of anything: a model of the suite, or an object of the user's that can sample, encode or decode."""

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
from alibench.evaluation.subject import Settings, Subject
from alibench.models.base import Model, Phase
from alibench.models.networks import Networks

ABLE = ("sample", "encode", "decode", "features")


class Own(Model):
    """An object of the user's, as the metrics take it. What it cannot do is an empty cell with the reason.

    It gets tensors, and gives tensors or numpy arrays:

    sample(n) or sample(n, rng)   n images (n, C, H, W) in [0, 1], or points (n, D)
    encode(x)                     codes (B, latent) of x
    decode(z)                     x (B, ...) for codes
    features(x)                   {layer: (B, F)}, hidden layers in order and the code last; without it the code alone
    """

    name, title, source, players = "own", "own model", "the user's", {}

    def __init__(self, own: Any, shape: tuple[int, ...] | None = None) -> None:
        """Take an object; of what it samples and decodes the `shape` of one x is looked at, if it is known."""
        nn.Module.__init__(self)
        self.shape = shape
        self._own: Callable[[], Any] = lambda: own  # not as a module: its parameters are its owner's
        able = {name for name in ABLE if callable(getattr(own, name, None))}
        if not able & {"sample", "encode"}:
            raise BadInput(f"a {type(own).__name__} has neither sample(n) nor encode(x): give it one of them")
        self.able = able
        self.generative, self.inverts = "sample" in able, "decode" in able  # type: ignore[misc]
        self.inference = "learnt with it" if "encode" in able else "none"  # type: ignore[misc]

    implicit = draws_x = property(lambda self: False)

    def generate(self, n: int, rng: torch.Generator, y: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return no codes, and n samples; by rng if `sample` takes one."""
        draws = len(inspect.signature(self._own().sample).parameters) > 1
        x = self._given("sample", self._own().sample(n, rng) if draws else self._own().sample(n))
        if not isinstance(x, Tensor) or len(x) != n:
            raise BadInput(f"sample({n}) returned {shape_of(x)}: {n} samples as one tensor are needed")
        self._check_shape(f"sample({n})", x)
        return x.new_empty(n, 0), x.float()

    def posterior(self, x: Tensor, y: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """Return the code of x."""
        code = self._ask("encode", x)
        if not isinstance(code, Tensor) or code.dim() != 2 or len(code) != len(x):
            raise BadInput(
                f"encode of {len(x)} images returned {shape_of(code)}: a tensor ({len(x)}, latent) is needed"
            )
        return code.float(), None

    def decode(self, z: Tensor, rng: torch.Generator | None = None, y: Tensor | None = None) -> Tensor:
        """Return x for codes."""
        x = self._ask("decode", z)
        if not isinstance(x, Tensor) or len(x) != len(z):
            raise BadInput(
                f"decode of {len(z)} codes returned {shape_of(x)}: as many x in one tensor are needed"
            )
        self._check_shape(f"decode of {len(z)} codes", x)
        return x.float()

    def features(self, x: Tensor) -> dict[str, Tensor]:
        """Return the object's own layers, or its code."""
        found: Mapping[str, Tensor] = (
            self._ask("features", x) if "features" in self.able else {"code": self.encode(x)}
        )
        return {name: h.flatten(1).float() for name, h in found.items()}

    def _ask(self, what: Literal["encode", "decode", "features"], x: Tensor) -> Any:
        return self._given(what, getattr(self._own(), what)(x))

    def _check_shape(self, what: str, x: Tensor) -> None:
        """Raise BadInput for x (B, ...) of another shape than the data's: colours of grey data, channels
        last.
        """
        if self.shape is not None and tuple(x.shape[1:]) != self.shape:
            raise BadInput(
                f"{what} returned {shape_of(x)}: x of shape {self.shape}, as the data have it, are needed"
            )

    def _given(self, method: str, x: Any) -> Any:
        """Return what a method gave, with tensors in place of arrays. Raises BadInput for images of 0 to 255."""
        if isinstance(x, Mapping):
            return {name: self._given(method, h) for name, h in x.items()}
        x = (
            torch.from_numpy(np.ascontiguousarray(x))
            if isinstance(x, np.ndarray) and x.dtype.kind in "fiub"
            else x
        )
        if method in ("sample", "decode") and isinstance(x, Tensor) and x.dtype == torch.uint8:
            raise BadInput(f"{method} returned uint8: images are floats in [0, 1], divide them by 255")
        return x


class Elsewhere(Own):
    """What was trained elsewhere, as a model of a suite: it stands beside the others in the evaluation, and
    is not trained.

    A subclass says by `make` where the object comes from. An nn.Module moves to the device and gets tensors
    there; any other object gets tensors and generators on the CPU.
    """

    elsewhere = True
    priors = ("normal", "uniform")  # whatever it is drawn from, it is no business of the suite's
    thing: ClassVar[Any]  # what it is made of: the object, or its class
    make: ClassVar[Callable[[tuple[int, ...]], Any]]  # the shape of the data -> the object

    def __init__(self, networks: Networks) -> None:
        own = type(self).make(networks.shape)
        super().__init__(own)
        self.module = own if isinstance(own, nn.Module) else None

    @property
    def phases(self) -> tuple[Phase, ...]:
        """There are none."""
        return ()

    def generate(self, n: int, rng: torch.Generator, y: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return no codes, and n samples."""
        here = rng
        if self.module is None and rng.device.type != "cpu":
            seed = torch.randint(2**62, (), generator=rng, device=rng.device)
            here = torch.Generator().manual_seed(int(seed))
        z, x = super().generate(n, here, y)
        return z.to(rng.device), x.to(rng.device)

    def _ask(self, what: Literal["encode", "decode", "features"], x: Tensor) -> Any:
        found = super()._ask(what, x if self.module is not None else x.cpu())
        if isinstance(found, Mapping):
            return {name: h.to(x.device) for name, h in found.items()}
        return found.to(x.device) if isinstance(found, Tensor) else found


def shape_of(x: object) -> str:
    return f"a tensor {tuple(x.shape)}" if isinstance(x, Tensor) else f"a {type(x).__name__}"


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
    chosen = list(metrics) if metrics is not None else None
    for name in chosen or ():
        check_name(name, METRICS, "unknown metric")
        if reason := METRICS[name].refuses(data, settings):
            raise BadInput(f"metric '{name}' cannot be measured: {reason}")
    if chosen is None:
        chosen = [
            name
            for name, module in METRICS.items()
            if name != "throughput" and not module.refuses(data, settings)
        ]
    was_training = isinstance(model, nn.Module) and model.training
    subject = Subject(
        model if isinstance(model, Model) else Own(model, data.shape),
        data,
        settings,
        seed,
        split,
        torch.device(device),
    )
    if isinstance(model, nn.Module):
        model.eval()
    try:
        return pd.DataFrame([asdict(row) for row in measure(subject, chosen)])
    finally:
        if isinstance(model, nn.Module):
            model.train(was_training)
