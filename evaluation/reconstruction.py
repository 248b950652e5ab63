"""Reconstruction error on held-out data, beside what needs no learning: the mean, the class mean, PCA.

Images: mean squared error per pixel, in [0, 1] units. Points: squared distance, summed over the coordinates, in the data's
own units. Through the mean code, and through one drawn from q(z|x) where the encoder draws (ALI's figures use drawn codes).
"""

from collections.abc import Callable

import numpy as np
import torch
from sklearn.decomposition import PCA
from torch import Tensor

from evaluation.base import BATCH, Baseline, Column, Data, Measurement, Subject, as_float

FITTED = 2**26  # numbers at most, in train samples, that a trivial reconstructor is fitted on

COLUMNS = (
    Column("reconstruction_error", "reconstruction error", "lower", 4),
    Column("posterior_sigma", "posterior σ", "", 3),
)


def refuses(data: Data) -> str:
    """Any data can be reconstructed."""
    return ""


def error(x: Tensor, x_hat: Tensor, images: bool) -> float:
    """Mean squared error per pixel, or mean squared distance of points; (N, ...) each, x as the data hold it."""
    parts = zip(x.split(BATCH), x_hat.split(BATCH), strict=True)
    squares = ((as_float(part).double() - part_hat.double()).square().flatten(1) for part, part_hat in parts)
    return float(torch.cat([s.mean(1) if images else s.sum(1) for s in squares]).mean())


def _measurement(data: Data, split: str, x: Tensor, x_hat: Tensor | None, protocol: str, **options: str) -> Measurement:
    unit = "per pixel, [0, 1]" if data.images else "squared distance"
    value = None if x_hat is None else error(x, x_hat, data.images)
    return Measurement("reconstruction_error", value, unit, len(x), split, protocol=protocol, **options)  # type: ignore[arg-type]


def measure(subject: Subject) -> list[Measurement]:
    """Return errors through mean and drawn codes, and the mean posterior deviation: zero means that the noise is lost."""
    data, model = subject.data, subject.model
    x, y = subject.held_out.x, subject.held_out.y
    implicit = model.stochastic and bool(model.encoder.noise)
    deterministic = "" if model.stochastic or model.decoder.noise else "encoder and decoder are deterministic"
    no_mean = "the encoder draws by its input, so its mean code has no closed form" if implicit else ""

    def row(x_hat: Callable[[], Tensor], protocol: str, reason: str) -> Measurement:
        if reason:
            return _measurement(data, subject.split, x, None, protocol, status="not applicable", reason=reason)
        return _measurement(data, subject.split, x, x_hat(), protocol)

    def sigma(part: Tensor, y: Tensor) -> Tensor:
        log_sigma = model.posterior(as_float(part), y)[1]
        assert log_sigma is not None
        return log_sigma.exp()

    rows = [
        row(lambda: subject.reconstructions, "mean code", no_mean),
        row(lambda: subject.drawn_reconstructions, "drawn code", deterministic),
    ]
    if no_mean or not model.stochastic:
        reason = (no_mean and "the encoder draws by its input") or "the encoder is deterministic"
        return [*rows, Measurement("posterior_sigma", None, status="not applicable", reason=reason)]
    value = float(subject.batched(sigma, x, y).double().mean())
    return [*rows, Measurement("posterior_sigma", value, n=len(x), split=subject.split)]


def references(baseline: Baseline) -> list[Measurement]:
    """Return the trivial reconstructors: train mean, train mean of the true class, PCA at the models' latent size.

    Of a train split with more than FITTED numbers they see a fixed draw, and say so.
    """
    data, held_out, split = baseline.data, baseline.held_out, baseline.split
    seen, drawn = FITTED // data.train.x[0].numel(), torch.arange(len(data.train))
    part = ""
    if len(drawn) > seen:
        drawn = torch.from_numpy(np.random.RandomState(0).permutation(len(drawn))[:seen])
        part = f"of {seen} train images"
    x, x_train, y_train = as_float(held_out.x), as_float(data.train.x[drawn]), data.train.y[drawn]
    flat = x_train.flatten(1).double().numpy()
    pca = PCA(min(baseline.latent, *flat.shape), random_state=0).fit(flat)
    projected = pca.inverse_transform(pca.transform(x.flatten(1).double().numpy()))
    candidates = {"mean": x_train.mean(0).expand_as(x), "PCA": x.new_tensor(np.asarray(projected)).view_as(x)}
    notes = {"mean": [part], "class mean": ["told the true class", part], "PCA": [f"{pca.n_components_} components", part]}
    if data.classes:
        by_class = x.new_empty(x.shape)
        for c in range(data.classes):
            by_class[held_out.y == c] = x_train[y_train == c].mean(0)
        candidates = {"mean": candidates["mean"], "class mean": by_class, "PCA": candidates["PCA"]}
    return [
        _measurement(
            data, split, held_out.x, x_hat, "mean code", reference=name, reason=", ".join(filter(None, notes[name]))
        )
        for name, x_hat in candidates.items()
    ]
