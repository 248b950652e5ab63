"""Matching: how far the encoder's joint q(x)q(z|x) is from the decoder's p(z)p(x|z), which ALI makes equal.

Codes: the encoder's codes of held-out data, drawn where it draws, against the codes that samples are decoded
from, by three distances, and the correlations among themselves. All are in units of the prior's deviation.

Pairs: a classifier learns to tell (x, z) of held-out data from (x, z) of samples, x as the extractor's
features (points as they are), and is tested on pairs that it has not seen: 50 % where the joints are equal.
With the codes shuffled within either kind, the same test sees x and z apart: what the classifier then knows
it knows from the marginals. Only the rest is about the dependence of x and z.

D is not asked: it belongs to the game, and not every model has one of pairs.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from alibench.evaluation import two_sample
from alibench.evaluation.data import BATCH, Data, as_float, as_uint8, unfit
from alibench.evaluation.features import extractors
from alibench.evaluation.features.extractor import Extractor
from alibench.evaluation.measurement import Column, Measurement, not_applicable, not_sampled, refused
from alibench.evaluation.metrics.fidelity import Features, of_samples
from alibench.evaluation.metrics.reconstruction import UNTOLD
from alibench.evaluation.seeds import generator
from alibench.evaluation.settings import Settings
from alibench.evaluation.subject import ReferenceInput, Subject

CODES = (
    Column("codes_mmd", "codes' MMD² from the prior × 1000", "lower", 2),
    Column("codes_sliced", "sliced Wasserstein distance", "lower", 3),
    Column("codes_worst", "worst dimension's KS distance", "lower", 3),
    Column("codes_correlation", "total correlation, nats", "lower", 2),
)
PAIRS = (
    Column("pairs_told", "pairs told apart, %", "lower", 1),
    Column("pairs_told_low", "95 % interval of a run, from", "", 1),
    Column("pairs_told_high", "to", "", 1),
    Column("pairs_told_shuffled", "with z shuffled, %", "lower", 1),
)
COLUMNS = (*CODES, *PAIRS)
MOST = 5000  # pairs of either kind

# x and z of one kind of pair: (N, F) and (N, latent)
Pairs = tuple[Tensor, Tensor]


def unsupported_reason(data: Data, settings: Settings) -> str:
    """Images need an extractor; the data must be what the models learn."""
    if data.anomaly >= 0:
        return "held-out data have anomalies, which no model learns"
    return extractors.unsupported_reason(data, settings) if data.images else ""


def measure(subject: Subject) -> list[Measurement]:
    """Return the distances of codes and the verdicts on pairs; of samples with observation noise, too."""
    model = subject.model
    if model.inference == "none":
        return not_applicable(COLUMNS, "it has no encoder")
    if not model.generative:
        return not_sampled(COLUMNS)
    if not subject.prior_codes.shape[1]:
        return not_applicable(COLUMNS, UNTOLD)

    codes, prior = subject.drawn_codes if model.stochastic else subject.codes, subject.prior_codes
    row: dict[str, Any] = {"split": subject.split}
    if reason := _unfit(codes, prior, subject.samples, subject.data):
        return refused(COLUMNS, reason, n=len(codes), **row)

    # One kind of pairs of data, one or two of samples.
    n = min(MOST, len(codes), len(prior))
    sight = Sight.of(subject)
    q = sight.real(n), codes[:n]
    rows = _of_codes(codes[:n], prior[:n], **row)
    for observed in (False, True) if model.likelihood else (False,):
        p = sight.samples(subject, observed)[:n], prior[:n]
        name = subject.observed_name if observed else ""
        rows += _of_pairs(q, p, extractor=sight.identity, reference=name, **row)
    return rows


def _unfit(codes: Tensor, prior: Tensor, samples: Tensor, data: Data) -> str:
    """Say why a model's codes and samples cannot be measured, if so."""
    for whose, z in (("the encoder", codes), ("the prior", prior)):
        if reason := unfit(z, images=False):
            return f"codes of {whose}: {reason}"
    if reason := unfit(samples, data.images):
        return f"samples: {reason}"
    few, needed = min(len(codes), len(samples)), two_sample.LEAST
    return f"a test of two samples needs {needed} of each, there are {few}" if few < needed else ""


@dataclass(frozen=True)
class Sight:
    """What the classifier sees of x: points as they are, images as an extractor's features (N, F)."""

    held_out: Tensor
    extractor: Extractor | None

    @classmethod
    def of(cls, source: Subject | ReferenceInput) -> "Sight":
        """Take the extractor that the settings name, for images. Raises BadInput without one."""
        images, data = source.data.images, source.data
        extractor = extractors.get(data, source.settings, source.device) if images else None
        return cls(source.held_out.x, extractor)

    @property
    def identity(self) -> str:
        """The extractor's, as rows carry it; empty for points."""
        return self.extractor.identity if self.extractor else ""

    def real(self, n: int) -> Tensor:
        """Return the first n of the held-out split, whose features are kept."""
        x = self.held_out[:n]
        return Features.of(x, self.extractor, keep=True).x if self.extractor else x

    def samples(self, subject: Subject, observed: bool) -> Tensor:
        """Return the model's samples, or those with observation noise."""
        if self.extractor:
            return of_samples(subject, self.extractor, observed).x
        return subject.observed_samples if observed else subject.samples

    def noise(self, data: Data, n: int, rng: torch.Generator) -> Tensor:
        """Return n images of uniform noise, or points uniform over the range of train."""
        noise = torch.rand((n, *data.shape), generator=rng)
        if self.extractor:
            return Features.of(as_uint8(noise), self.extractor).x
        low, high = data.train.x.amin(0), data.train.x.amax(0)
        return low + (high - low) * noise


def _of_codes(codes: Tensor, prior: Tensor, **row: Any) -> list[Measurement]:
    # Whatever its scale, the prior has deviation 1.
    unit = float(prior.double().var(0).mean().sqrt()) or 1.0
    codes, prior = codes.double() / unit, prior.double() / unit
    correlation = two_sample.total_correlation(codes)
    row["n"] = len(codes)

    rows = [
        Measurement("codes_mmd", 1000 * two_sample.mmd(codes, prior), "thousandths", **row),
        Measurement("codes_sliced", two_sample.sliced_wasserstein(codes, prior), **row),
        Measurement("codes_worst", two_sample.worst_dimension(codes, prior), **row),
    ]
    # a constant dimension has no correlation, a linear one leaves a determinant of 0
    if math.isfinite(correlation):
        return [*rows, Measurement("codes_correlation", correlation, "nats", **row)]
    constant = "a dimension of the codes is constant" if math.isnan(correlation) else ""
    reason = constant or "a dimension of the codes is a linear function of others"
    return [*rows, *refused(["codes_correlation"], reason, **row)]


def _of_pairs(q: Pairs, p: Pairs, **row: Any) -> list[Measurement]:
    # finite images may have features that are not, and observation noise may be broken
    for whose, (x, _) in (("held-out data", q), ("the samples", p)):
        if not bool(x.isfinite().all()):
            return refused(PAIRS, f"the features of {whose} are not finite", n=len(x), **row)

    def told(codes: Callable[[Tensor], Tensor]) -> two_sample.Told:
        return two_sample.told_apart(*(torch.cat([x, codes(z)], 1).float().numpy() for x, z in (q, p)))

    # What is left without x's own code is what the two marginals give.
    rng = generator(0, "shuffled codes")
    whole, shuffled = told(lambda z: z), told(lambda z: z[torch.randperm(len(z), generator=rng)])
    row["n"] = whole.n
    values = (whole.accuracy, *whole.interval, shuffled.accuracy)
    return [
        Measurement(column.metric, value, "%", **row) for column, value in zip(PAIRS, values, strict=True)
    ]


def references(source: ReferenceInput) -> list[Measurement]:
    """Return the floor, whose pairs match by construction; codes of untrained encoders; noise as x."""
    n, latent, row = min(MOST, len(source.held_out)), source.latent, {"split": source.split}
    sight = Sight.of(source)
    real = sight.real(n)

    rows = []
    for seed in source.seeds:
        rng = generator(seed, "matching")
        prior, others = torch.randn(2, n, latent, generator=rng)
        fields: dict[str, Any] = {"seed": seed, **row}
        rows += _of_codes(others, prior, reference="prior draws", **fields)
        rows += _of_codes(_untrained(source, seed, n, rng), prior, reference="untrained encoder", **fields)

        # Data and codes drawn apart have no dependence on either side.
        fields["extractor"] = sight.identity
        half = n // 2
        if half < two_sample.LEAST:
            reason = f"a test of two samples needs {two_sample.LEAST} of each, there are {half}"
            rows += refused(PAIRS, reason, reference="prior draws", **fields)
            continue
        q, p = (real[:half], prior[:half]), (real[-half:], others[-half:])
        rows += _of_pairs(q, p, reference="prior draws", **fields)
        noise = sight.noise(source.data, n, rng), others
        rows += _of_pairs((real, prior), noise, reference="noise", **fields)
    return rows


def _untrained(source: ReferenceInput, seed: int, n: int, rng: torch.Generator) -> Tensor:
    """Return the codes (n, latent) of held-out data by an untrained encoder."""
    # as it is used after training: batch norm by its running statistics
    encoder, codes = source.untrained(seed).eval(), []
    for x in source.held_out.x[:n].split(BATCH):
        with torch.no_grad():
            codes.append(encoder.encode(as_float(x), draw=encoder.stochastic, rng=rng))
    return torch.cat(codes)
