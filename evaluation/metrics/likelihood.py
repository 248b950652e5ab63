"""Bounds on log p(x) of held-out data, for models whose decoder gives a density of x.

With weights w = p(x|z) p(z) / q(z|x) of K codes z, which the encoder's q(z|x) draws:

    elbo          mean of log w (Kingma and Welling 2014, eq. 2)
    iwae_bound    log of the mean of w (Burda, Grosse and Salakhutdinov 2016, eq. 8), at least the ELBO
    bits_per_dim  8 - iwae_bound / (D log 2), of images of D numbers

The first two are in nats a sample, means over the first 1,000 held-out samples, by the same codes. Points are
measured in their own coordinates. The pixels v of images are whole numbers, on which a density can be as high
as one likes, so it is taken at x = (v + u) / 256, u uniform on [0, 1): then bits per dimension are, in
expectation, at least what the whole pixels cost under the model (Theis, van den Oord and Bethge 2016).

Next to the models stand densities that are known exactly: one Gaussian fitted to train, and the mixture that
points were drawn from.
"""

import math
from typing import Any

import torch
from torch import Tensor

from alibench.evaluation import protocols
from alibench.evaluation.data import BATCH, Data, Mixture
from alibench.evaluation.measurement import Column, Measurement, not_applicable, refused
from alibench.evaluation.metrics.reconstruction import FITTED
from alibench.evaluation.settings import Settings
from alibench.evaluation.subject import ReferenceInput, Subject
from alibench.models.base import Model

COLUMNS = (
    Column("elbo", "ELBO, nats", "higher", 2),
    Column("iwae_bound", "importance-weighted bound, nats", "higher", 2),
    Column("bits_per_dim", "bits per dimension", "lower", 3),
)
DRAWS = 64  # codes of each x
MOST = 1000  # held-out samples; with the draws a quarter of a minute of one core on MNIST
LEVELS = 256  # of a pixel
FEWEST = 4  # train samples for each number of x, from which a covariance is fitted
SINGULAR = 1e-5  # share of a number's deviation that the others leave open: with less, it follows from them


def unsupported_reason(data: Data, settings: Settings) -> str:
    """Any data have a likelihood under a model with a density."""
    return ""


# -------------------- models


def dequantised(x: Tensor, rng: torch.Generator) -> Tensor:
    """Return uint8 images (N, ...) as (x + u) / 256, u uniform on [0, 1); points as they are."""
    if x.dtype != torch.uint8:
        return x
    return (x + torch.rand(x.shape, generator=rng, device=x.device)) / LEVELS


def log_weights(model: Model, x: Tensor, rng: torch.Generator, draws: int = DRAWS) -> Tensor:
    """Return log w (B, draws) in nats of x (B, ...) as the model sees it, w = p(x|z) p(z) / q(z|x).

    One draw of all x at a time, so that memory holds as many decoded codes as x.
    """
    mean, log_sigma = model.posterior(x)
    assert log_sigma is not None
    weights = []
    for _ in range(draws):
        eps = torch.randn(mean.shape, generator=rng, device=x.device)
        z = mean + log_sigma.exp() * eps
        # log p(z) - log q(z|x), both normal: their constants cancel
        ratio = (0.5 * (eps.square() - z.square()) + log_sigma).sum(1)
        weights.append(model.log_likelihood(x, model.decode(z)) + ratio)
    return torch.stack(weights, 1)


def bounds(log_weights: Tensor) -> tuple[Tensor, Tensor]:
    """Return the ELBO and the importance-weighted bound, each (N,), by log weights (N, K)."""
    weights = log_weights.double()
    return weights.mean(1), weights.logsumexp(1) - math.log(weights.shape[1])


def bits_per_dim(nats: float, numbers: int) -> float:
    """Return the bits for each of an image's numbers, whole ones from 0 to 255, from log p(x) on [0, 1]."""
    return math.log2(LEVELS) - nats / (numbers * math.log(2))


def _lacking(model: Model) -> str:
    """Return why a model has no bound; empty if it has."""
    if not model.likelihood:
        return "it has no likelihood"
    if model.inference == "none":
        return "it has no encoder, which the bound draws codes by"
    if not model.stochastic or model.implicit:
        return "q(z|x) has no density, which the bound needs"
    if model.draws_x:
        return "the decoder draws x by its input, so p(x|z) has no density"
    if model.conditional:
        return "its networks are told the labels, so the bound would be on log p(x|y)"
    return "the prior is uniform, and q(z|x) reaches out of it" if model.uniform else ""


def measure(subject: Subject) -> list[Measurement]:
    """Return both bounds, and of images bits per dimension; or why there are none."""
    model, data = subject.model, subject.data
    metrics = COLUMNS if data.images else COLUMNS[:-1]
    if reason := _lacking(model):
        return not_applicable(metrics, reason)

    # Noise on pixels, then the codes.
    rng = subject.rng("likelihood")
    weights = subject.batched(
        lambda x: log_weights(model, dequantised(x, rng), rng), subject.held_out.x[:MOST]
    )
    fields: dict[str, Any] = {"n": len(weights), "split": subject.split}
    fields["protocol"] = _protocol(data, protocols.draws(DRAWS))

    # The mean of weights hides a single bad one.
    if bad := int((~weights.isfinite()).any(1).sum()):
        return refused(metrics, f"log densities of {bad} of {len(weights)} are not finite", **fields)
    elbo, bound = (float(values.mean()) for values in bounds(weights))
    return [Measurement("elbo", elbo, "nats", **fields), *_bounded(data, bound, fields)]


def _protocol(data: Data, way: str) -> str:
    return protocols.joined(way, protocols.DEQUANTISED if data.images else "")


def _bounded(data: Data, nats: float, fields: dict[str, Any]) -> list[Measurement]:
    """Return the rows of a bound, or of an exact value, in nats and of images in bits per dimension."""
    rows = [Measurement("iwae_bound", nats, "nats", **fields)]
    if data.images:
        bits = bits_per_dim(nats, math.prod(data.shape))
        rows.append(Measurement("bits_per_dim", bits, "bits", **fields))
    return rows


# -------------------- densities that are known exactly


def references(source: ReferenceInput) -> list[Measurement]:
    """Return log p(x) under one Gaussian fitted to train and, where the mixture is known, under it."""
    data, x = source.data, source.held_out.x[:MOST]
    fields: dict[str, Any] = {"n": len(x), "split": source.split}
    fields["protocol"] = _protocol(data, protocols.EXACT_DENSITY)

    # The Gaussian sees as much of train as memory allows.
    numbers = math.prod(data.shape)
    train = data.train.x[: FITTED // numbers]
    part = f"of {len(train)} train samples" if len(train) < len(data.train) else ""
    fitted = {**fields, "reference": "one Gaussian", "note": part}
    if len(train) < FEWEST * numbers:
        needed = f"{FEWEST * numbers:,} train samples are needed for the covariance of {numbers:,} numbers"
        rows = refused(
            COLUMNS[1:] if data.images else COLUMNS[1:2], f"{needed}, it sees {len(train):,}", **fitted
        )
    elif (densities := gaussian(train, x)) is None:
        rows = refused(COLUMNS[1:2], "a number of x follows from others: its density has no bound", **fitted)
    else:
        rows = _bounded(data, float(densities.mean()), fitted)

    if data.mixture:
        exact = float(of_mixture(x, data.mixture).mean())
        rows += _bounded(data, exact, {**fields, "reference": "the data's own density"})
    return rows


def gaussian(train: Tensor, x: Tensor) -> Tensor | None:
    """Return log densities (N,) in nats of x under a Gaussian with train's mean and covariance.

    None if a coordinate of train follows from others. Of uint8 images, dequantised: log densities are the
    means over u in closed form, since u adds 1/12 to each pixel's variance.
    """
    noise = 1 / 12 if x.dtype == torch.uint8 else 0.0
    mean, covariance = _moments(train)
    covariance.diagonal().add_(noise)

    # The factor of the correlations says which numbers follow from others, whatever their units.
    deviation = covariance.diagonal().sqrt()
    factor, failed = torch.linalg.cholesky_ex(covariance / deviation / deviation[:, None])
    if bool(failed) or not bool(factor.diagonal().min() > SINGULAR):
        return None
    factor = deviation[:, None] * factor

    standard = torch.linalg.solve_triangular(factor, (x.flatten(1).double() - mean).T, upper=False)
    squares = standard.square().sum(0) + noise * torch.cholesky_inverse(factor).trace()
    # of pixels / 256
    scale = math.log(LEVELS) if noise else 0.0
    constant = len(mean) * (scale - 0.5 * math.log(2 * math.pi)) - factor.diagonal().log().sum()
    return constant - 0.5 * squares


def _moments(x: Tensor) -> tuple[Tensor, Tensor]:
    """Return mean (D,) and covariance (D, D) of x (N, ...), in double precision."""
    mean = sum(part.flatten(1).double().sum(0) for part in x.split(BATCH)) / len(x)
    covariance = torch.zeros(len(mean), len(mean), dtype=torch.float64)
    for part in x.split(BATCH):
        centred = part.flatten(1).double() - mean
        covariance.addmm_(centred.T, centred)
    return mean, covariance / len(x)


def of_mixture(x: Tensor, mixture: Mixture) -> Tensor:
    """Return log densities (N,) in nats of points x (N, D) under a known mixture."""
    squares = torch.cdist(x.double(), mixture.centres.double()).square()
    k, d = mixture.centres.shape
    normaliser = math.log(k) + d * math.log(mixture.std * math.sqrt(2 * math.pi))
    return (-squares / (2 * mixture.std**2)).logsumexp(1) - normaliser
