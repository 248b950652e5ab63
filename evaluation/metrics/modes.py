"""Modes of a known mixture covered by samples, by two rules that never share a column (they differ by
construction).

`modes_paper` (ALI, section 4.5): a mode counts if at least one sample is nearest to its centre, at any
distance. Uniform noise scores 25 of 25. `modes_3sigma`: at least 20 samples, of 10,000, within 3 sigma of the
centre. Beside them stand the share of samples within 3 sigma of some centre, and how unevenly these are
spread over the modes: the divergence KL(histogram || uniform) in nats, 0 if even, log 25 if all are in one of
25.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from alibench.evaluation.data import Data, Mixture, unfit
from alibench.evaluation.seeds import generator
from alibench.evaluation.subject import POINTS, Baseline, Column, Measurement, Settings, Subject, not_sampled

COLUMNS = (
    Column("modes_3sigma", "modes, ≥ 20 of 10,000 within 3σ", "higher", 1),
    Column("modes_paper", "modes, paper's rule: any sample nearest", "", 1),
    Column("high_quality", "samples within 3σ, %", "higher", 1),
    Column("mode_divergence", "KL of modes from uniform, nats", "lower", 3),
)
PER_10_000 = 20


def refuses(data: Data, settings: Settings) -> str:
    """Only a known mixture has modes to count."""
    return "" if data.mixture else f"data set '{data.name}' is no known mixture"


@dataclass(frozen=True)
class Counts:
    """What samples say of a mixture."""

    strict: int  # modes by the 3-sigma rule
    lenient: int  # modes by the paper's rule
    share: float  # percentage of samples within 3 sigma of a centre
    divergence: float | None  # of their histogram over modes from uniform, in nats; none without such samples


def count(samples: Tensor, mixture: Mixture) -> Counts:
    """Count the modes that samples (N, D) cover."""
    distance, nearest = torch.cdist(samples.double(), mixture.centres.double()).min(1)
    close = distance <= 3 * mixture.std
    k = len(mixture.centres)
    histogram = torch.bincount(nearest[close], minlength=k)
    shares = histogram.double() / histogram.sum()
    return Counts(
        int((histogram >= PER_10_000 * len(samples) / 10_000).sum()),
        int((torch.bincount(nearest, minlength=k) > 0).sum()),
        100 * float(close.double().mean()),
        float(torch.xlogy(shares, shares * k).sum()) if bool(close.any()) else None,
    )


def _measurements(samples: Tensor, mixture: Mixture | None, **options: str | int | None) -> list[Measurement]:
    assert mixture is not None
    n = len(samples)
    if reason := unfit(samples, images=False):
        return [Measurement(c.metric, None, n=n, status="refused", reason=reason, **options) for c in COLUMNS]  # type: ignore[arg-type]
    counts, unit = count(samples, mixture), f"of {len(mixture.centres)}"
    near: Any = {"n": n, "protocol": "3 sigma", **options}
    missing: Any = {}
    if counts.divergence is None:
        missing = {"status": "refused", "reason": "no sample is within 3 sigma"}

    return [
        Measurement("modes_3sigma", counts.strict, unit, **near),
        Measurement("modes_paper", counts.lenient, unit, **{**near, "protocol": "nearest centre"}),
        Measurement("high_quality", counts.share, "%", **near),
        Measurement("mode_divergence", counts.divergence, "nats", **near, **missing),
    ]


def measure(subject: Subject) -> list[Measurement]:
    """Return the three counts on the model's samples; beside them those with observation noise, if the model
    has it.
    """
    if not subject.model.generative:
        return not_sampled(COLUMNS)
    rows = _measurements(subject.samples, subject.data.mixture)
    if subject.model.likelihood:
        rows += _measurements(subject.observed_samples, subject.data.mixture, reference=subject.observed_name)
    return rows


def references(baseline: Baseline) -> list[Measurement]:
    """Return the counts for real held-out data, and for uniform noise over the data's box."""
    data, n = baseline.data, baseline.settings.samples or POINTS
    rows = _measurements(
        baseline.held_out.x[:n], data.mixture, reference="held-out data", split=baseline.split
    )
    low, high = data.train.x.amin(0), data.train.x.amax(0)
    for seed in baseline.seeds:
        uniform = torch.rand(n, *data.shape, generator=generator(seed, "noise"))
        rows += _measurements(low + (high - low) * uniform, data.mixture, reference="noise", seed=seed)
    return rows
