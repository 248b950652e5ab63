"""Modes of a known mixture covered by samples, by two rules that never share a column: they differ by design.

`modes_paper` (ALI, section 4.5): a mode counts if at least one sample is nearest to its centre, at any
distance. Uniform noise scores 25 of 25. `modes_3sigma`: at least 20 samples, of 10,000, within 3 sigma of the
centre. Next to them stand the share of samples within 3 sigma of some centre, and how unevenly these are
spread over the modes: the divergence KL(histogram || uniform) in nats, 0 if even, log 25 if all are in one of
25.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from alibench.evaluation import protocols
from alibench.evaluation.data import Data, Mixture, unfit
from alibench.evaluation.measurement import Column, Measurement, not_sampled, refused
from alibench.evaluation.seeds import generator
from alibench.evaluation.settings import Settings
from alibench.evaluation.subject import POINTS, ReferenceInput, Subject

COLUMNS = (
    Column("modes_3sigma", "modes, ≥ 20 of 10,000 within 3σ", "higher", 1),
    Column("modes_paper", "modes, paper's rule: any sample nearest", "", 1),
    Column("high_quality", "samples within 3σ, %", "higher", 1),
    Column("mode_divergence", "KL of modes from uniform, nats", "lower", 3),
)
PER_10_000 = 20


def unsupported_reason(data: Data, settings: Settings) -> str:
    """Data need a known mixture, whose modes can be counted."""
    return "" if data.mixture else f"dataset '{data.name}' is not a known mixture"


@dataclass(frozen=True)
class Counts:
    """How samples cover a mixture."""

    strict: int  # modes by the 3-sigma rule
    lenient: int  # modes by the paper's rule
    # Percentage of samples within 3 sigma of a centre.
    share: float
    # Of their histogram over modes from uniform, in nats; none without such samples.
    divergence: float | None


def count(samples: Tensor, mixture: Mixture) -> Counts:
    """Return how samples (N, D) cover the modes."""
    distance, nearest = torch.cdist(samples.double(), mixture.centres.double()).min(1)
    close = distance <= 3 * mixture.std

    # The strict rule scales with the number of samples.
    k = len(mixture.centres)
    histogram = torch.bincount(nearest[close], minlength=k)
    shares = histogram.double() / histogram.sum()
    return Counts(
        int((histogram >= PER_10_000 * len(samples) / 10_000).sum()),
        int((torch.bincount(nearest, minlength=k) > 0).sum()),
        100 * float(close.double().mean()),
        float(torch.xlogy(shares, shares * k).sum()) if bool(close.any()) else None,
    )


def _measured(samples: Tensor, mixture: Mixture | None, **fields: Any) -> list[Measurement]:
    assert mixture is not None
    fields["n"] = len(samples)
    if reason := unfit(samples, images=False):
        return refused(COLUMNS, reason, **fields)

    counts, unit = count(samples, mixture), f"of {len(mixture.centres)}"
    near, nearest = ({"protocol": key, **fields} for key in (protocols.THREE_SIGMA, protocols.NEAREST_CENTRE))
    none_near: Any = {"status": "refused", "reason": "no sample is within 3 sigma"}
    return [
        Measurement("modes_3sigma", counts.strict, unit, **near),
        Measurement("modes_paper", counts.lenient, unit, **nearest),
        Measurement("high_quality", counts.share, "%", **near),
        Measurement(
            "mode_divergence",
            counts.divergence,
            "nats",
            **near,
            **(none_near if counts.divergence is None else {}),
        ),
    ]


def measure(subject: Subject) -> list[Measurement]:
    """Return the counts on the model's samples; with observation noise too, if the model has it."""
    if not subject.model.generative:
        return not_sampled(COLUMNS)
    rows = _measured(subject.samples, subject.data.mixture)
    if subject.model.likelihood:
        rows += _measured(subject.observed_samples, subject.data.mixture, reference=subject.observed_name)
    return rows


def references(source: ReferenceInput) -> list[Measurement]:
    """Return the counts for real held-out data, and for uniform noise over the data's box."""
    data, n = source.data, source.settings.samples or POINTS
    rows = _measured(source.held_out.x[:n], data.mixture, reference="held-out data", split=source.split)

    # Uniform noise passes the paper's rule with all modes: the row shows it.
    low, high = data.train.x.amin(0), data.train.x.amax(0)
    for seed in source.seeds:
        uniform = torch.rand(n, *data.shape, generator=generator(seed, "noise"))
        rows += _measured(low + (high - low) * uniform, data.mixture, reference="noise", seed=seed)
    return rows
