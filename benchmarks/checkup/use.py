"""Can a model be measured after training? Its samples, codes, reconstructions, features, weights.

Each check takes a case and returns a fact to print, or None where it does not apply. It raises Missing, or
whatever the model raises.
"""

import math
from typing import Any

import torch
from torch import Tensor

from alibench.benchmarks.checkup.case import Case, Missing
from alibench.benchmarks.config import plugins
from alibench.evaluation import pictures
from alibench.evaluation.data import as_float, unfit
from alibench.evaluation.metrics import health, throughput
from alibench.evaluation.objects import shape_of
from alibench.evaluation.representation import CODE_ALONE, encoder_layers
from alibench.evaluation.seeds import generator
from alibench.models.base import Model

FLAT = 1e-6  # of their size, by which numbers may differ that are all the same
DRAWN = 20_000  # numbers of x that a density is compared on, at least
APART = 0.1  # share by which draws may differ from it: ten standard errors of a normal density


def samples(case: Case) -> str | None:
    """Samples are like the data, and come again from the same generator."""
    if not case.model.generative:
        return None
    # Shape and range; two subjects draw from equal generators.
    subject, again = case.subject(case.model), case.subject(case.model)
    x = subject.samples
    _check_like_data(case, x, len(subject.prior_labels), "samples")
    with torch.no_grad():
        sampled = case.model.sample(len(x), again.rng("samples"), again.prior_labels)
    if not case.is_thorough:
        return ""

    # Repeatable, and not all one.
    if not torch.equal(x, again.samples):
        raise Missing(
            "the same generator gives other samples: draw all random numbers by the rng of sample(n, rng)"
        )
    if not torch.equal(x, sampled.cpu()):
        raise Missing("sample gives others than generate, which is what is measured: override generate")
    if _is_constant(x):
        raise Missing("all samples are the same")
    return _range(x)


def codes(case: Case) -> str | None:
    """Codes tell one x from another, and are the same when asked for again."""
    if case.model.inference == "none":
        return None
    # The code, and where it is random, a draw of it.
    subject, again = case.subject(case.model), case.subject(case.model)
    n = len(case.few.test)
    for attribute in ("codes", "drawn_codes") if case.model.stochastic else ("codes",):
        z, what = getattr(subject, attribute), attribute.replace("_", " ")
        _check_shape(z, (n, z.shape[-1] if case.kind.elsewhere else case.suite.latent_of(case.name)), what)
        if not bool(z.isfinite().all()):
            raise Missing(f"{what} are not finite")
        if case.is_thorough and not torch.equal(z, getattr(again, attribute)):
            raise Missing(
                f"the same x has other {what} when asked again: draw random numbers by rng alone; dropout "
                "ends with training as nn.Dropout, or as F.dropout(..., training=self.training)"
            )

    if case.is_thorough and _is_constant(subject.codes):
        raise Missing("every x has the same code: the encoder ignores x")
    return f"{subject.codes.shape[1]} numbers"


def reconstructions(case: Case) -> str | None:
    """Decoded codes are like the data."""
    if case.model.inference == "none" or not case.model.inverts:
        return None
    subject, n = case.subject(case.model), len(case.few.test)
    _check_like_data(case, subject.reconstructions, n, "reconstructions")
    if case.model.stochastic or case.model.draws_x:
        _check_like_data(case, subject.drawn_reconstructions, n, "reconstructions of drawn codes")
    return _range(subject.reconstructions) if case.is_thorough else ""


def measures(case: Case) -> str:
    """Everything that metrics and pictures ask for is there."""
    # What every run draws.
    subject, fact = case.subject(case.model), ""
    pictures.arrays(subject)
    with torch.no_grad():
        if case.model.inference != "none" and not case.model.conditional:
            fact = _features(case)
        _check_outputs(case)

    # Metrics that call the model in ways of their own; stored samples have no speed.
    if "health" in case.suite.metrics:
        health.measure(subject)
    if "throughput" in case.suite.metrics and not plugins.is_folder(case.kind):
        for work, _ in throughput.works(subject, len(case.few.test)).values():
            work()
    return fact if case.is_thorough and case.data.images else ""


def _features(case: Case) -> str:
    """Return which layers classifiers get, with their widths."""
    x = as_float(case.few.test.x)
    layers = encoder_layers(case.model.features)(x)
    for name, h in layers.items():
        if not isinstance(h, Tensor) or h.dim() != 2 or len(h) != len(x):
            raise Missing(f"features '{name}' come as {shape_of(h)}: ({len(x)}, F) is expected")

    fact = f"classifiers get {', '.join(f'{name} ({h.shape[1]})' for name, h in layers.items())}"
    method = "features(x)" if case.kind.elsewhere else "hidden(x) of its encoder"
    return f"{fact}: a method {method} would give hidden layers" if CODE_ALONE in layers else fact


def _check_outputs(case: Case) -> None:
    """Raise Missing for draws of x or logits of classes, where the model has them, of another shape."""
    model, x = case.model, as_float(case.few.test.x)
    if model.likelihood:
        _check_shape(model.observe(x, generator(0, "checkup")), tuple(x.shape), "draws of x", "observe")
        if case.is_thorough or "likelihood" in case.suite.metrics:
            _check_density(model, x)
    if model.semi_supervised:
        _check_shape(model.classify(x), (len(x), case.data.classes), "logits", "classify")


def _check_density(model: Model, x: Tensor) -> None:
    """Raise Missing for a density around x (B, ...) that draws of x do not follow.

    For draws m + e from p, the derivative of log p(m + t e) by t at t = 1 is -D on average, D the numbers of
    one x, whatever p is on all of x's space (integration by parts).
    """
    mean = x.repeat(math.ceil(DRAWN / x.numel()), *[1] * (x.dim() - 1))
    noise = model.observe(mean, generator(0, "checkup")) - mean
    nearer, farther = (model.log_likelihood(mean + t * noise, mean) for t in (0.9, 1.1))
    _check_shape(nearer, (len(mean),), "log densities", "log_likelihood")

    ratio = float((nearer - farther).double().sum()) / (0.2 * mean.numel())
    if not abs(ratio - 1) < APART:
        raise Missing(
            "observe does not draw from the density that log_likelihood gives: if that is normal, the draws' "
            f"variance is {ratio:.3g} times its own",
            "observe",
        )


def weights(case: Case) -> str:
    """A new object with its weights is the same model."""
    other = case.suite.build(case.name, 1)
    other.load_state_dict(case.model.state_dict())
    one, two = case.subject(case.model), case.subject(other)
    same = not case.model.generative or torch.equal(one.samples, two.samples)
    if not same or not (case.model.inference == "none" or torch.equal(one.codes, two.codes)):
        raise Missing(
            "a new object with these weights gives other samples or codes: keep all that it needs in "
            "parameters or by register_buffer"
        )
    return ""


def _check_shape(x: Any, shape: tuple[int, ...], what: str, *methods: str) -> None:
    if not isinstance(x, Tensor) or tuple(x.shape) != shape:
        raise Missing(f"{what} come as {shape_of(x)}: {shape} is expected", *methods)


def _check_like_data(case: Case, x: Any, n: int, what: str) -> None:
    """Raise Missing unless x is n samples like the data."""
    _check_shape(x, (n, *case.data.shape), what)
    if reason := unfit(x, case.data.images):
        remedy = "; a sigmoid at its end keeps a decoder in [0, 1]" if "outside" in reason else ""
        raise Missing(f"{what}: {reason}{remedy}")


def _is_constant(x: Tensor) -> bool:
    """Return whether all of x (N, ...) are the same, but for rounding."""
    return bool((x.amax(0) - x.amin(0)).max() <= FLAT * x.abs().max())


def _range(x: Tensor) -> str:
    return f"from {float(x.min()):.3g} to {float(x.max()):.3g}"
