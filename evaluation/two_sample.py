"""How far apart two sets of vectors are: distances of distributions, and a classifier that tells them apart.

Rows are samples. The distances have a known value on Gaussians, and about 0 on two sets from one
distribution; the unbiased one may be below it.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch
from scipy.stats import binomtest, ks_2samp
from sklearn.ensemble import HistGradientBoostingClassifier
from torch import Tensor

from alibench.evaluation.seeds import generator

BANDWIDTHS = (0.25, 1.0, 4.0)  # of the kernels, in the mean squared distance of two reference vectors
DIRECTIONS = 256
CHUNK = 1000  # rows of a kernel that are held at once
LEAST = 40  # vectors on each side that the classifier needs
TREES = 100  # of the classifier


def mmd(x: Tensor, reference: Tensor) -> float:
    """Return the unbiased squared MMD of x (N, D) from a reference (M, D) (Gretton et al. 2012, eq. 3).

    The kernel is the mean of three Gaussian ones, exp(-|a - b|² / (s v)), where s is each of BANDWIDTHS and v
    twice the reference's total variance: the mean squared distance of two of its vectors.
    """
    x, reference = x.double(), reference.double()
    unit = 2 * float(reference.var(0).sum())

    def total(a: Tensor, b: Tensor) -> float:
        # Rows by parts: all distances of 10,000 vectors take 800 MB.
        squared = (torch.cdist(part, b).square() / unit for part in a.split(CHUNK))
        return sum(float((-part / s).exp().sum()) for part in squared for s in BANDWIDTHS) / len(BANDWIDTHS)

    # A vector's kernel with itself, 1, is left out.
    n, m = len(x), len(reference)
    within = (total(x, x) - n) / (n * (n - 1)) + (total(reference, reference) - m) / (m * (m - 1))
    return within - 2 * total(x, reference) / (n * m)


def sliced_wasserstein(x: Tensor, reference: Tensor) -> float:
    """Return the sliced 2-Wasserstein distance of x from a reference, both (N, D), by 256 directions.

    It is the root of the mean square over directions (Bonneel et al. 2015), in the vectors' own units.
    """
    # the same directions for every model
    directions = torch.randn(x.shape[1], DIRECTIONS, generator=generator(0, "directions"), dtype=torch.double)
    directions /= directions.norm(dim=0)
    projected, other = ((part.double() @ directions).sort(0).values for part in (x, reference))
    return float((projected - other).square().mean().sqrt())


def worst_dimension(x: Tensor, reference: Tensor) -> float:
    """Return the largest Kolmogorov-Smirnov distance (0 to 1) of a coordinate of x (N, D) from its own in a
    reference (M, D).
    """
    # the distance alone is wanted, not its p-value, which takes long
    columns = zip(x.numpy().T, reference.numpy().T, strict=True)
    return max(float(ks_2samp(a, b, method="asymp").statistic) for a, b in columns)


def total_correlation(x: Tensor) -> float:
    """Return the total correlation of a Gaussian with the correlations of x (N, D), in nats.

    That is -1/2 log det of the correlation matrix, 0 for independent coordinates; infinite where one is a
    linear function of others, not a number where one is constant.
    """
    # torch.corrcoef makes a number of a single row
    if x.shape[1] == 1:
        return 0.0
    correlations = torch.corrcoef(x.double().T)
    if not bool(correlations.isfinite().all()):
        return math.nan
    return max(0.0, -0.5 * float(torch.logdet(correlations)))


@dataclass(frozen=True)
class Told:
    """How often a classifier was right on pairs that it had not seen, half of them of either kind."""

    right: int
    n: int

    @property
    def accuracy(self) -> float:
        """The share of right answers in per cent; 50 is chance."""
        return 100 * self.right / self.n

    @property
    def interval(self) -> tuple[float, float]:
        """The exact 95 % interval of that share (Clopper and Pearson 1934), in per cent."""
        low, high = binomtest(self.right, self.n).proportion_ci(0.95, "exact")
        return 100 * float(low), 100 * float(high)


def told_apart(q: np.ndarray, p: np.ndarray) -> Told:
    """Return how well a classifier tells rows of q from rows of p, both (N, D) with N >= 40.

    The classifier two-sample test of Lopez-Paz and Oquab 2017: boosted trees learn from the first half of
    each and are tested on the second. Rows must be in random order.
    """
    # Trees, since they see modes that are narrow beside the whole: a small network on points of the grid
    # takes uniform noise for data.
    half = len(q) // 2  # an odd one in the middle is left out
    kinds = np.repeat([0, 1], half)
    classifier = HistGradientBoostingClassifier(max_iter=TREES, early_stopping=False, random_state=0)
    classifier.fit(np.concatenate([q[:half], p[:half]]), kinds)
    predicted = classifier.predict(np.concatenate([q[-half:], p[-half:]]))
    return Told(int((predicted == kinds).sum()), 2 * half)
