"""Statistics over training seeds: what a mean is worth, and which models of a table differ.

Equal seed numbers of two models are not pairs: the seed drives other draws in other networks. So models are
compared by Welch's test, and intervals are Student's: a percentile bootstrap of three to five seeds covers
far less than its level.
"""

from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
from scipy import stats

TESTED_FROM = 5  # seeds; with fewer nothing is called better
LEVEL = 0.05  # of a table's tests, and of its intervals


def interval(values: Sequence[float] | np.ndarray, level: float = LEVEL) -> tuple[float, float]:
    """Return Student's (1 - level) confidence interval of the mean; NaN for fewer than two values."""
    n = len(values)
    if n < 2:
        return float("nan"), float("nan")
    half = stats.t.ppf(1 - level / 2, n - 1) * np.std(values, ddof=1) / np.sqrt(n)
    mean = float(np.mean(values))
    return mean - float(half), mean + float(half)


def welch(a: Sequence[float] | np.ndarray, b: Sequence[float] | np.ndarray) -> float:
    """Return the two-sided p of Welch's t-test; for samples without spread 1 if they are equal, else 0."""
    # there is no t without spread
    if np.ptp(a) == 0 and np.ptp(b) == 0:
        return float(a[0] == b[0])  # means of equal numbers are rounded by how many they are
    (mean_a, std_a, n_a), (mean_b, std_b, n_b) = (
        (float(np.mean(x)), float(np.std(x, ddof=1)), len(x)) for x in (a, b)
    )
    return float(stats.ttest_ind_from_stats(mean_a, std_a, n_a, mean_b, std_b, n_b, equal_var=False).pvalue)


def welch_interval(
    a: Sequence[float] | np.ndarray, b: Sequence[float] | np.ndarray, level: float = LEVEL
) -> tuple[float, float]:
    """Return Welch's (1 - level) confidence interval of the mean of b less the mean of a.

    NaN for fewer than two values in a sample; for samples without spread the difference itself, twice.
    """
    a, b = np.asarray(a, dtype=float), np.asarray(b, dtype=float)
    if min(len(a), len(b)) < 2:
        return float("nan"), float("nan")
    if np.ptp(a) == 0 and np.ptp(b) == 0:
        return float(b[0] - a[0]), float(b[0] - a[0])

    # Welch and Satterthwaite's degrees of freedom: each sample has a spread of its own.
    shares = np.array([a.var(ddof=1) / len(a), b.var(ddof=1) / len(b)])
    freedom = shares.sum() ** 2 / (shares**2 / (len(a) - 1, len(b) - 1)).sum()
    half = float(stats.t.ppf(1 - level / 2, freedom) * np.sqrt(shares.sum()))
    difference = float(b.mean() - a.mean())
    return difference - half, difference + half


def equivalence(a: Sequence[float] | np.ndarray, b: Sequence[float] | np.ndarray, margin: float) -> float:
    """Return the p of two one-sided Welch's tests that the means differ by `margin` or more.

    A small p shows equivalence. Samples without spread have p 0 if their means differ by less, else 1.
    """
    a, b = np.asarray(a, dtype=float), np.asarray(b, dtype=float)
    if np.ptp(a) == 0 and np.ptp(b) == 0:
        return float(abs(a[0] - b[0]) >= margin)
    # not below the margin, and not above it
    below = stats.ttest_ind(a, b + margin, equal_var=False, alternative="less").pvalue
    above = stats.ttest_ind(a, b - margin, equal_var=False, alternative="greater").pvalue
    return float(max(below, above))


def equivalence_power(
    a: Sequence[float] | np.ndarray, b: Sequence[float] | np.ndarray, margin: float
) -> float:
    """Return how likely `equivalence` is to be shown at LEVEL if the means do not differ, at the samples'
    spread.

    By the normal approximation: the difference has to fall as far inside the margin as the tests' critical
    value.
    """
    a, b = np.asarray(a, dtype=float), np.asarray(b, dtype=float)
    error = float(np.sqrt(a.var(ddof=1) / len(a) + b.var(ddof=1) / len(b)))
    if error == 0:
        return 1.0
    inside = margin / error - stats.t.ppf(1 - LEVEL, len(a) + len(b) - 2)
    return max(0.0, 2 * float(stats.norm.cdf(inside)) - 1)


def holm(p: Sequence[float] | np.ndarray) -> np.ndarray:
    """Return p-values adjusted for their number by Holm's step-down method (1979).

    Rejecting those under a level errs in any of them at most at that level, whatever their dependence.
    """
    p = np.asarray(p, dtype=float)
    order = np.argsort(p)
    # the smallest p counts n times, the next n - 1 times, and never less than the one before
    stepped = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1))
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(stepped, 1.0)
    return adjusted


def against_best(samples: Mapping[str, np.ndarray], better: Literal["higher", "lower"]) -> dict[str, float]:
    """Return each model's p of "none of the others has a better mean", adjusted for their number.

    The models whose p is LEVEL or more have the best among them with a confidence of 1 - LEVEL: it is left
    out only if one of the tests of the best itself errs. So the correction counts the other models, not all
    pairs (multiple comparisons with the best: Hsu, Annals of Statistics 12, 1984; here by one-sided Welch's
    tests and Bonferroni's correction, since spreads differ).
    """
    sign = 1 if better == "lower" else -1
    means = {name: sign * float(np.mean(values)) for name, values in samples.items()}

    def p_of(name: str) -> float:
        # half of a two-sided p is the one-sided p of the side that the means lie on
        ahead = [other for other in samples if means[other] < means[name]]
        smallest = min((welch(samples[name], samples[other]) / 2 for other in ahead), default=1.0)
        return min(1.0, (len(samples) - 1) * smallest)

    return {name: p_of(name) for name in samples} if len(samples) > 1 else {}
