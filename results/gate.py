"""The regression gate: are fresh seeds of a suite worse than the baseline's?

A suite lists what is gated in [[gate]] tables, at most 40 cells (a measure of a model). Each cell is judged
twice.

    all seeds  the mean of the current seeds against the baseline's mean, in standard errors by the baseline's
               spread over its seeds; one-sided t, Holm's correction over all cells. The current spread is not
               used, so a wild seed cannot hide a shift.
    each seed  how far a single seed lies outside the baseline's spread, t of a new observation, corrected for
               all cells and seeds, and at least six deviations: one collapsed seed of five is found, which a
               mean or a rank test cannot show.

Each of the two has half of LEVEL. That is the error rate of a whole decision on unchanged code if seeds are
spread normally; real ones have somewhat longer tails, so it is half of the one in a hundred that is wanted.
Error rates of real runs are in results/baselines/error-rates.md. Nothing within a cell's floor is a
regression, however sure. A cell without a number is one: a missing measure, or more diverged seeds than the
baseline's share of them explains. Speed is judged only as a ratio of two models of one run, by its floor
alone.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from scipy import stats
from scipy.special import stdtr  # Student's distribution function, quicker than scipy.stats

from alibench.results.cells import NOT_THERE, Cell
from alibench.results.statistics import holm

LEVEL = 0.005  # nominal error rate of a whole decision
OUTLIER = 6.0  # deviations of a bad seed, at least: a collapse lies tens off, real seeds up to five
FEWEST = 3  # current seeds: with two, one wild seed is half of the mean
DROPPED = "the suite no longer gates it: --update-baseline, if that is meant"

Verdict = Literal["regression", "bad seed", "missing", "improvement", "unchanged"]
Spread = tuple[float, float]  # mean and deviation over seeds
UNKNOWN = (math.nan, math.nan)


@dataclass(frozen=True)
class Finding:
    """The gate's verdict on a cell."""

    cell: Cell  # the current one
    verdict: Verdict
    baseline: Spread = UNKNOWN
    current: Spread = UNKNOWN
    errors: float = math.nan  # standard errors that it moved by; positive: worse
    p: float = math.nan  # one-sided, corrected
    seeds: Mapping[int, float] = field(default_factory=dict)  # bad ones: their distance in deviations
    reason: str = ""

    @property
    def moved(self) -> str:
        """By how many standard errors it got worse, for a reader."""
        if math.isnan(self.errors):
            return ""
        return f"{self.errors:+.1f}" if math.isfinite(self.errors) else "the baseline has no spread"

    @property
    def failed(self) -> bool:
        """Whether it fails the gate."""
        return self.verdict in ("regression", "bad seed", "missing")


@dataclass(frozen=True)
class Comparison:
    """A cell's current mean against the baseline's."""

    shift: float  # of the means, in the measure's unit; positive: worse
    errors: float  # in standard errors, on the cell's scale
    p_worse: float
    p_better: float


def judge(baseline: Sequence[Cell], current: Sequence[Cell]) -> list[Finding]:
    """Return a finding for each cell of the baseline, first those that the suite has dropped.

    `results.baseline` checks beforehand that both are comparable and have seeds enough.
    """
    # Cells of both, and cells that the suite no longer gates.
    by_key = {cell.key: cell for cell in current}
    dropped = [cell for cell in baseline if cell.key not in by_key]
    pairs = [(old, by_key[old.key]) for old in baseline if old.key in by_key]
    number = sum(len(new.by_seed) for _, new in pairs)

    # The correction counts every cell whose mean can be tested.
    tested = [(old, new) for old, new in pairs if len(new.numbers) and not new.gated.over]
    tests = [compare(old, new) for old, new in tested]
    corrected = zip(
        holm([test.p_worse for test in tests]), holm([test.p_better for test in tests]), strict=True
    )
    by_test = {new.key: (test, *p) for (_, new), test, p in zip(tested, tests, corrected, strict=True)}

    # Dropped cells come first, then every cell with its verdict.
    findings = [Finding(cell, "missing", _spread(cell), reason=DROPPED) for cell in dropped]
    for old, new in pairs:
        if new.gated.over:
            findings.append(_ratio(old, new))
        elif reason := _lacks(old, new):
            findings.append(Finding(new, "missing", _spread(old), _spread(new), reason=reason))
        else:
            findings.append(conclude(old, new, *by_test[new.key], number))
    return findings


def compare(old: Cell, new: Cell) -> Comparison:
    """Compare the means of two cells, on today's scale, by the baseline's spread."""
    # Means on the cell's scale; the shift is in the measure's unit.
    base, values, towards = new.scaled(old.numbers), new.scaled(new.numbers), new.gated.sign()
    n, m = len(base), len(values)
    shift = float(new.numbers.mean() - old.numbers.mean())
    moved = float(values.mean() - base.mean())
    error = float(base.std(ddof=1)) * math.sqrt(1 / n + 1 / m)
    errors = moved / error if error else math.copysign(math.inf, moved) if moved else 0.0

    # Either direction is worse: a two-sided test.
    if towards == 0:
        return Comparison(abs(shift), abs(errors), float(2 * stdtr(n - 1, -abs(errors))), 1.0)
    errors *= towards
    return Comparison(towards * shift, errors, float(stdtr(n - 1, -errors)), float(stdtr(n - 1, errors)))


def conclude(old: Cell, new: Cell, test: Comparison, worse: float, better: float, number: int) -> Finding:
    """Return the finding on a cell by its corrected p for worse and better; all cells have `number` seeds."""
    seeds, least = _outside(old, new, number), floor(old, new)
    # The mean first, then single seeds, then what got better.
    verdict: Verdict = "unchanged"
    p = worse
    if worse < LEVEL / 2 and test.shift > least:
        verdict = "regression"
    elif seeds:
        verdict = "bad seed"
    elif better < LEVEL / 2 and -test.shift > least:
        verdict, p = "improvement", better
    return Finding(new, verdict, _spread(old), _spread(new), test.errors, p, seeds)


def _outside(old: Cell, new: Cell, number: int) -> dict[int, float]:
    """Return the seeds that the baseline's spread does not explain, with their distance in deviations."""
    base, towards = new.scaled(old.numbers), new.gated.sign()
    n, spread = len(base), float(base.std(ddof=1))
    # How far each seed lies outside, on the scale and in the measure's unit.
    away, change = new.scaled(new.numbers) - base.mean(), new.numbers - old.numbers.mean()
    away, change = (away * towards, change * towards) if towards else (abs(away), abs(change))
    distance = away / spread if spread else np.where(away == 0, 0.0, np.copysign(np.inf, away))

    # The p of a new observation, for all seeds of all cells.
    p = stdtr(n - 1, -distance / math.sqrt(1 + 1 / n)) * (1 if towards else 2)
    is_bad = (p * number < LEVEL / 2) & (distance > OUTLIER) & (change > floor(old, new))
    seeds = [seed for seed, value in new.by_seed.items() if value is not None]
    return {seed: float(distance[i]) for i, seed in enumerate(seeds) if is_bad[i]}


def floor(old: Cell, new: Cell) -> float:
    """Return the change of the mean, in the measure's unit, below which nothing is a regression."""
    return max(new.gated.absolute, new.gated.relative * abs(float(old.numbers.mean())))


def _spread(cell: Cell) -> Spread:
    numbers = cell.numbers
    mean = float(numbers.mean()) if len(numbers) else math.nan
    return mean, float(numbers.std(ddof=1)) if len(numbers) > 1 else math.nan


def _lacks(old: Cell, new: Cell) -> str:
    """Return which of a cell's numbers are missing, if more are than the baseline's share explains."""
    # Nothing at all.
    if set(new.reasons.values()) == {NOT_THERE} and not len(new.numbers):
        return "no run has it: the metric or the model is gone, or every run failed"

    lost = sum(value is None for value in new.by_seed.values())
    share = sum(value is None for value in old.by_seed.values()) / len(old.by_seed)
    # where the baseline lost none, any loss is one too many
    if lost and stats.binom.sf(lost - 1, len(new.by_seed), share) < LEVEL / 2:
        seeds = ", ".join(f"seed {seed}: {reason}" for seed, reason in new.reasons.items())
        return f"{lost} of {len(new.by_seed)} seeds have no number ({seeds})"

    # Too few to judge by.
    if len(new.numbers) < FEWEST:
        return f"{len(new.numbers)} seeds have a number: {FEWEST} are needed"
    return ""


def _ratio(old: Cell, new: Cell) -> Finding:
    """Judge a ratio of speeds by its floor: a run has one, so there is no spread."""
    (before, _), (now, _) = _spread(old), _spread(new)
    if math.isnan(now):
        return Finding(new, "missing", _spread(old), reason="this run has no such ratio of speeds")
    # positive: worse
    shift = (now - before) * new.gated.sign()
    verdict: Verdict = "unchanged"
    if abs(shift) > floor(old, new):
        verdict = "regression" if shift > 0 else "improvement"
    return Finding(new, verdict, _spread(old), _spread(new), reason="judged by its floor alone")
