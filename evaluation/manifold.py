"""Density and coverage (Naeem et al. 2020): how samples fill the balls around real ones in feature space.

The ball of a real sample reaches to its k-th nearest real neighbour, which lies outside, as in the authors'
code: real data against themselves have density 1 and coverage 1. Unlike precision and recall neither grows
with a few stray samples.

Where more than k real samples are the same, that ball would be a point, which no sample of a model hits. It
reaches to the nearest real sample that differs; without one it holds exact copies.
"""

import math

import torch
from torch import Tensor

CHUNK = 1000  # rows of distances that are held at once


def exact(*sets: Tensor) -> tuple[Tensor, ...]:
    """Return sets of features (N, F) as whole numbers in float64, whose distances have no rounding.

    torch computes many distances by matrix products, where rounding sets equal points apart and differs by
    order, batch and device. With (51 - log2 F) / 2 bits for the largest coordinate (20 for 2,048 features)
    every sum of products stays within 2^53. Comparisons of distances do not depend on the grid's unit.
    """
    bits = (51 - math.ceil(math.log2(sets[0].shape[1]))) // 2
    largest = max(float(x.abs().max()) for x in sets) or 1.0
    return tuple((x.double() * (2**bits / largest)).round() for x in sets)


def radii(x: Tensor, k: int) -> Tensor:
    """Return the distance (N,) of each of x (N, F) to its k-th nearest neighbour, itself left out.

    Where that one equals it: to the nearest that differs; 0 if all of x are the same.
    """

    # a part of the rows at a time: all distances of 50,000 images take 20 GB
    def of_part(part: Tensor) -> Tensor:
        distances = torch.cdist(part, x)
        radius = distances.kthvalue(k + 1, dim=1).values  # the first is x itself
        differing = distances.masked_fill_(distances == 0, torch.inf).amin(1)
        return torch.where((radius == 0) & differing.isfinite(), differing, radius)

    return torch.cat([of_part(part) for part in x.split(CHUNK)])


def density_coverage(real: Tensor, fake: Tensor, k: int = 5) -> tuple[float, float]:
    """Return density (from 0) and coverage (0 to 1) of features fake (M, F) among real (N, F), N > k."""
    real, fake = exact(real, fake)
    inside = covered = 0

    for part, radius in zip(real.split(CHUNK), radii(real, k).split(CHUNK), strict=True):
        # a copy of a real image lies in its ball even where that is a point
        distances = torch.cdist(part, fake)
        within = (distances < radius[:, None]) | (distances == 0)
        inside += int(within.sum())
        covered += int(within.any(1).sum())
    return inside / (k * len(fake)), covered / len(real)
