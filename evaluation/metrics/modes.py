"""Modes of a known mixture that samples cover, by three rules that never share a column.

    modes_paper    ALI, section 4.5: at least one sample is nearest to the centre, at any distance
    modes_3sigma   at least 20 of 10,000 samples are within 3 sigma of the centre
    modes_any      VEEGAN and PacGAN: at least one of the first 2,500 samples is within 3 sigma

Uniform noise has all 25 modes of the grid by the first rule, and about 23 by the third. Next to them stand
the share of samples within 3 sigma of some centre, and how unevenly these are spread over the modes: the
divergence KL(histogram || uniform) in nats, 0 if even, log 25 if all are in one of 25. On 2,500 samples it is
larger by about (modes - 1) / 5,000, so that it has a column of its own.
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
    Column("modes_any", "modes, ≥ 1 of 2,500 within 3σ", "", 1),
    Column("mode_divergence_any", "their KL from uniform, nats", "lower", 3),
)
PER_10_000 = 20
FEW = 2500  # samples of the third rule


def unsupported_reason(data: Data, settings: Settings) -> str:
    """Data need a known mixture, whose modes can be counted."""
    return "" if data.mixture else f"dataset '{data.name}' is not a known mixture"


@dataclass(frozen=True)
class Counts:
    """How samples cover a mixture."""

    strict: int  # modes by the 3-sigma rule
    lenient: int  # modes by the paper's rule
    any: int  # modes with a sample within 3 sigma
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
        int((histogram > 0).sum()),
        100 * float(close.double().mean()),
        float(torch.xlogy(shares, shares * k).sum()) if bool(close.any()) else None,
    )


def _measured(samples: Tensor, mixture: Mixture | None, **fields: Any) -> list[Measurement]:
    assert mixture is not None
    if reason := unfit(samples, images=False):
        return refused(COLUMNS, reason, n=len(samples), **fields)

    # All samples, and the first 2,500.
    all_of_them, few = count(samples, mixture), count(samples[:FEW], mixture)
    unit, n = f"of {len(mixture.centres)}", len(samples)
    near, nearest = (
        {"n": n, "protocol": key, **fields} for key in (protocols.THREE_SIGMA, protocols.NEAREST_CENTRE)
    )
    any_near = {"n": FEW, "protocol": protocols.ANY_OF_2500, **fields}
    rows = [
        Measurement("modes_3sigma", all_of_them.strict, unit, **near),
        Measurement("modes_paper", all_of_them.lenient, unit, **nearest),
        Measurement("high_quality", all_of_them.share, "%", **near),
        _divergence("mode_divergence", all_of_them, **near),
    ]
    # The third rule names its number of samples.
    if n < FEW:
        return rows + refused(("modes_any", "mode_divergence_any"), f"{FEW:,} samples are needed", **any_near)
    return [
        *rows,
        Measurement("modes_any", few.any, unit, **any_near),
        _divergence("mode_divergence_any", few, **any_near),
    ]


def _divergence(metric: str, counts: Counts, **fields: Any) -> Measurement:
    none_near: Any = {"status": "refused", "reason": "no sample is within 3 sigma"}
    lacking = none_near if counts.divergence is None else {}
    return Measurement(metric, counts.divergence, "nats", **fields, **lacking)


def measure(subject: Subject) -> list[Measurement]:
    """Return the counts on the model's samples; with observation noise too, if the model has it."""
    if not subject.model.generative:
        return not_sampled(COLUMNS)
    rows = _measured(subject.samples, subject.data.mixture)
    if subject.model.likelihood:
        rows += _measured(subject.observed_samples, subject.data.mixture, reference=subject.observed_name)
    return rows


def references(source: ReferenceInput) -> list[Measurement]:
    """Return the counts for real held-out data, for noise over the data's box, and for one Gaussian."""
    data, n = source.data, source.settings.samples or POINTS
    rows = _measured(source.held_out.x[:n], data.mixture, reference="held-out data", split=source.split)

    # Both have most modes by the rules that ask for one sample: their rows show it.
    x = data.train.x
    low, high, factor = x.amin(0), x.amax(0), torch.linalg.cholesky(x.T.cov())
    for seed in source.seeds:
        uniform = torch.rand(n, *data.shape, generator=generator(seed, "noise"))
        normal = torch.randn(n, *data.shape, generator=generator(seed, "one Gaussian"))
        for name, samples in (
            ("noise", low + (high - low) * uniform),
            ("one Gaussian", x.mean(0) + normal @ factor.T),
        ):
            rows += _measured(samples, data.mixture, reference=name, seed=seed)
    return rows
