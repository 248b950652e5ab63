"""Modes of a known mixture covered by samples, by two rules that never share a column (they differ by construction).

`modes_paper` (ALI, section 4.5): a mode counts if at least one sample is nearest to its centre, at any distance. Uniform
noise scores 25 of 25. `modes_3sigma`: at least 20 samples, of 10,000, within 3 sigma of the centre.
"""

import torch
from torch import Tensor

from evaluation.base import Baseline, Column, Data, Measurement, Mixture, Subject, generator, not_sampled

COLUMNS = (
    Column("modes_3sigma", "modes, ≥ 20 of 10,000 within 3σ", "higher", 1),
    Column("modes_paper", "modes, paper's rule: any sample nearest", "", 1),
    Column("high_quality", "samples within 3σ, %", "higher", 1),
)
PER_10_000 = 20


def refuses(data: Data) -> str:
    """Only a known mixture has modes to count."""
    return "" if data.mixture else f"data set '{data.name}' is no known mixture"


def count(samples: Tensor, mixture: Mixture) -> tuple[int, int, float]:
    """Return modes by the 3-sigma rule, modes by the paper's rule, and the percentage of samples within 3 sigma."""
    distance, nearest = torch.cdist(samples.double(), mixture.centres.double()).min(1)
    close = distance <= 3 * mixture.std
    k = len(mixture.centres)
    enough = PER_10_000 * len(samples) / 10_000
    return (
        int((torch.bincount(nearest[close], minlength=k) >= enough).sum()),
        int((torch.bincount(nearest, minlength=k) > 0).sum()),
        100 * float(close.double().mean()),
    )


def _measurements(samples: Tensor, mixture: Mixture | None, **options: str | int | None) -> list[Measurement]:
    assert mixture is not None
    strict, lenient, share = count(samples, mixture)
    unit = f"of {len(mixture.centres)}"
    return [
        Measurement("modes_3sigma", strict, unit, len(samples), protocol="3 sigma", **options),  # type: ignore[arg-type]
        Measurement("modes_paper", lenient, unit, len(samples), protocol="nearest centre", **options),  # type: ignore[arg-type]
        Measurement("high_quality", share, "%", len(samples), protocol="3 sigma", **options),  # type: ignore[arg-type]
    ]


def measure(subject: Subject) -> list[Measurement]:
    """Return the three counts on the model's samples; beside them those with observation noise, if the model has it."""
    if not subject.model.generative:
        return not_sampled(COLUMNS)
    rows = _measurements(subject.samples, subject.data.mixture)
    if subject.model.likelihood:
        rows += _measurements(subject.observed_samples, subject.data.mixture, reference=subject.observed_name)
    return rows


def references(baseline: Baseline) -> list[Measurement]:
    """Return the counts for real held-out data, and for uniform noise over the data's box."""
    data, n = baseline.data, baseline.settings.samples
    rows = _measurements(baseline.held_out.x[:n], data.mixture, reference="held-out data", split=baseline.split)
    low, high = data.train.x.amin(0), data.train.x.amax(0)
    for seed in baseline.seeds:
        uniform = torch.rand(n, *data.shape, generator=generator(seed, "noise"))
        rows += _measurements(low + (high - low) * uniform, data.mixture, reference="noise", seed=seed)
    return rows
