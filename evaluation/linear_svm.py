"""The linear SVM with squared hinge and L2 penalty, one class against the rest, solved to its exact optimum.

scikit-learn's LinearSVC has the same problem (Fan et al. 2008): minimise |w|^2 / 2 + C * sum_i max(0, 1 -
y_i w.x_i)^2, with a 1 appended to every x, whose weight (the intercept) is penalised too. Its solution lies
in the span of the images, so they are first written in coordinates of that span (`Span`): n images take at
most n numbers each, whatever the number of features, and every C and every fold is solved there.

Where A are the images inside the margin (y_i w.x_i < 1), the optimum is the ridge regression of y_A on x_A,
and the other images play no part. Newton's method solves this for a guess of A and corrects the guess
(Keerthi and DeCoste 2005; Chapelle 2007); it has converged, exactly, when a guess confirms itself: usually
after three to six steps, and one where the A of a similar C is known. LinearSVC's own solver may take
thousands of steps where C just begins to separate the images.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from scipy.optimize import brentq

STEPS = 100  # a hundred guesses, and the optimum is reported as missed
CHUNK = 500  # features at a time that are held in double precision
NEAR = 1.0  # C up to which a guess from nothing leads to the optimum


@dataclass(frozen=True)
class Span:
    """Images with the intercept's 1, in coordinates of their span."""

    rows: np.ndarray  # (N, R), in double precision, R <= N
    gram: np.ndarray  # (N, N), their inner products
    # (N, R): coordinate r is along sum_i basis[i, r] x_i; none: coordinates are features
    basis: np.ndarray | None

    @classmethod
    def of(cls, x: np.ndarray) -> "Span":
        """Return the span of images x (N, F)."""
        if x.shape[1] < len(x):
            rows = np.concatenate([x.astype(np.float64), np.ones((len(x), 1))], axis=1)
            return cls(rows, rows @ rows.T, None)

        gram = np.ones((len(x), len(x)))
        for start in range(0, x.shape[1], CHUNK):
            part = x[:, start : start + CHUNK].astype(np.float64)
            gram += part @ part.T

        # directions that rounding alone gives a length are left out
        values, vectors = np.linalg.eigh(gram)
        known = values > len(x) * np.finfo(np.float64).eps * values[-1]
        scale = np.sqrt(values[known])
        return cls(vectors[:, known] * scale, gram, vectors[:, known] / scale)

    def part(self, index: np.ndarray) -> "Span":
        """Return some of the images, in the same coordinates."""
        return Span(self.rows[index], self.gram[np.ix_(index, index)], self.basis)

    def primal(self, weights: np.ndarray, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return features' weights (F, classes) and intercepts (classes,), for the span's images x (N, F)."""
        if self.basis is None:
            return weights[:-1].astype(x.dtype), weights[-1]
        shares = self.basis @ weights  # of each image
        return x.T @ shares.astype(x.dtype), shares.sum(0)


@dataclass(frozen=True)
class Solution:
    """One C's optimum: weights (R, classes) in the span, and the number of classes that missed it."""

    c: float
    weights: np.ndarray
    unconverged: int


def _solve(system: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Solve a positive definite system (N, N) by Cholesky."""
    # torch's lets other threads run meanwhile, scipy's does not
    factor = torch.linalg.cholesky_ex(torch.from_numpy(system)).L
    return torch.cholesky_solve(torch.from_numpy(right)[:, None], factor)[:, 0].numpy()


def _ridge(span: Span, y: np.ndarray, c: float, inside: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the optimum's weights (R,) if `inside` is A, and each image's share in them (N,).

    In A a share has y's sign, outside it is 0.
    """
    index = np.flatnonzero(inside)
    rows, shares = span.rows[index], np.zeros(len(y))

    # The smaller of the two systems: as many equations as images, or as coordinates.
    if len(index) <= span.rows.shape[1]:
        system = span.gram[np.ix_(index, index)]
        system[np.diag_indices(len(index))] += 0.5 / c
        shares[index] = _solve(system, y[index])
        return rows.T @ shares[index], shares

    system = rows.T @ rows
    system[np.diag_indices(len(system))] += 0.5 / c
    weights = _solve(system, rows.T @ y[index])
    shares[index] = 2 * c * (y[index] - rows @ weights)
    return weights, shares


def _slope(
    w: np.ndarray, dw: np.ndarray, f: np.ndarray, df: np.ndarray, y: np.ndarray, c: float, t: float
) -> float:
    """Return the derivative of the objective along w + t dw, whose outputs are f + t df."""
    slack = np.maximum(0.0, 1.0 - y * (f + t * df))
    return float((w + t * dw) @ dw - 2 * c * (slack * y) @ df)


def _binary(span: Span, y: np.ndarray, c: float, inside: np.ndarray) -> tuple[np.ndarray, np.ndarray, bool]:
    """Solve for one class, y (N,) of +-1, from a guess of A; return weights (R,), last guess and success."""
    w, f = np.zeros(span.rows.shape[1]), np.zeros(len(y))
    for step in range(STEPS):
        target, shares = _ridge(span, y, c, inside)
        outputs = span.rows @ target
        # in A y f < 1 is the same as y times the share > 0, whose sign survives rounding at a large C
        confirmed = np.where(inside, y * shares > 0, y * outputs < 1 - 1e-9)
        if np.array_equal(confirmed, inside):
            return target, inside, True

        # A whole step, or to the minimum along it where the whole one goes too far.
        dw, df = target - w, outputs - f
        if step and _slope(w, dw, f, df, y, c, 1.0) > 0:
            t = brentq(lambda t: _slope(w, dw, f, df, y, c, t), 0.0, 1.0)  # noqa: B023 used at once
            w, f = w + t * dw, f + t * df
            inside = y * f < 1
        else:
            w, f, inside = target, outputs, confirmed
    return w, inside, False


def path(span: Span, y: np.ndarray, classes: int, grid: Iterable[float]) -> Iterator[Solution]:
    """Yield the solutions for classes y (N,) of 0 to `classes` - 1 at each C of an ascending grid.

    Each C starts from the last one's guess.
    """
    signs = np.where(y[:, None] == np.arange(classes), 1.0, -1.0)
    guesses = [np.ones(len(y), dtype=bool) for _ in range(classes)]

    for c in grid:
        weights, unconverged = np.empty((span.rows.shape[1], classes)), 0
        for j in range(classes):
            weights[:, j], guesses[j], converged = _binary(span, signs[:, j], c, guesses[j])
            unconverged += not converged
        yield Solution(c, weights, unconverged)


def solve(span: Span, y: np.ndarray, classes: int, c: float) -> Solution:
    """Solve for one C; a large one by way of smaller ones, since a guess from nothing may not lead there."""
    # Up to C by steps of at most ten, each from the last one's guess.
    grid = [c] if c <= NEAR else [*np.geomspace(NEAR, c, 1 + math.ceil(math.log10(c / NEAR)))]
    *_, solution = path(span, y, classes, grid)
    return solution


def cross_validate(
    span: Span, y: np.ndarray, classes: int, grid: np.ndarray, folds: Sequence[np.ndarray]
) -> float:
    """Return the C of an ascending grid with the highest accuracy over held-out folds (indices).

    Of equals it is the smallest.
    """
    hits = np.zeros(len(grid))

    for held_out in folds:
        rest = np.setdiff1d(np.arange(len(y)), held_out)
        for i, solution in enumerate(path(span.part(rest), y[rest], classes, grid)):
            hits[i] += ((span.rows[held_out] @ solution.weights).argmax(1) == y[held_out]).sum()
    return float(grid[int(hits.argmax())])
