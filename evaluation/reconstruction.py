"""Reconstruction error on held-out data, beside what needs no learning: the mean, the class mean, PCA.

Images: mean squared error per pixel, in [0, 1] units. Points: squared distance, summed over the coordinates, in the data's
own units. Through the mean code, and through one drawn from q(z|x) where the encoder draws (ALI's figures use drawn codes).
"""

import numpy as np
from sklearn.decomposition import PCA
from torch import Tensor

from evaluation.base import Baseline, Column, Data, Measurement, Subject, as_float

COLUMNS = (
    Column("reconstruction_error", "reconstruction error", "lower", 4),
    Column("posterior_sigma", "posterior σ", "", 3),
)


def refuses(data: Data) -> str:
    """Any data can be reconstructed."""
    return ""


def error(x: Tensor, x_hat: Tensor, images: bool) -> float:
    """Mean squared error per pixel, or mean squared distance of points; (N, ...) each."""
    squares = (x.double() - x_hat.double()).square().flatten(1)
    return float((squares.mean(1) if images else squares.sum(1)).mean())


def _measurement(data: Data, split: str, x: Tensor, x_hat: Tensor | None, protocol: str, **options: str) -> Measurement:
    unit = "per pixel, [0, 1]" if data.images else "squared distance"
    value = None if x_hat is None else error(x, x_hat, data.images)
    return Measurement("reconstruction_error", value, unit, len(x), split, protocol=protocol, **options)  # type: ignore[arg-type]


def measure(subject: Subject) -> list[Measurement]:
    """Return errors through mean and drawn codes, and the mean posterior deviation: zero means that the noise is lost."""
    data, model = subject.data, subject.model
    x = as_float(subject.held_out.x)
    rows = [_measurement(data, subject.split, x, subject.reconstructions, "mean code")]
    if not model.stochastic:
        nothing = {"status": "not applicable", "reason": "the encoder is deterministic"}
        return [
            *rows,
            _measurement(data, subject.split, x, None, "drawn code", **nothing),
            Measurement("posterior_sigma", None, **nothing),  # type: ignore[arg-type]
        ]
    drawn = subject.batched(model.decode, subject.drawn_codes)
    sigma = subject.batched(lambda part: model.posterior(part)[1].exp(), x)  # type: ignore[union-attr]
    return [
        *rows,
        _measurement(data, subject.split, x, drawn, "drawn code"),
        Measurement("posterior_sigma", float(sigma.double().mean()), n=len(x), split=subject.split),
    ]


def references(baseline: Baseline) -> list[Measurement]:
    """Return the trivial reconstructors: train mean, train mean of the true class, PCA at the models' latent size."""
    data, held_out, split = baseline.data, baseline.held_out, baseline.split
    x, x_train = as_float(held_out.x), as_float(data.train.x)
    class_means = [x_train[data.train.y == c].mean(0) for c in range(data.classes)]
    by_class = x.new_empty(x.shape)
    for c, mean in enumerate(class_means):
        by_class[held_out.y == c] = mean
    pca = PCA(min(baseline.latent, x_train[0].numel()), svd_solver="full").fit(x_train.flatten(1).double().numpy())
    projected = pca.inverse_transform(pca.transform(x.flatten(1).double().numpy()))
    candidates = {
        "mean": x_train.mean(0).expand_as(x),
        "class mean": by_class,
        "PCA": x.new_tensor(np.asarray(projected)).view_as(x),
    }
    notes = {
        "mean": "",
        "class mean": "told the true class",
        "PCA": f"{pca.n_components_} components",
    }
    return [
        _measurement(data, split, x, x_hat, "mean code", reference=name, reason=notes[name])
        for name, x_hat in candidates.items()
    ]
