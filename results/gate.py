"""The regression gate: are fresh seeds of a suite worse than the baseline's?

A suite lists what is gated in [[gate]] tables, at most 40 cells (a measure of a model). Each cell is judged
twice.

    all seeds    the mean of the current seeds against the baseline's mean, in standard errors by the baseline's spread
                 over its seeds; one-sided t, Holm's correction over all cells. A current spread is not looked at, so a
                 wild seed cannot hide a shift.
    each seed    how far a single seed lies outside the baseline's spread, t of a new observation, corrected for all
                 cells and seeds, and at least six deviations: one collapsed seed of five is found, which a mean or a
                 rank test cannot show.

Each of the two has half of LEVEL. That is the error rate of a whole decision on unchanged code if seeds are
spread normally; real ones have somewhat longer tails, so it is half of the one in a hundred that is wanted.
What real runs gave stands in results/baselines/error-rates.md. Nothing within a cell's floor is a regression,
however sure. A cell without a number is one: a missing measure, more diverged seeds than the baseline's share
of them explains. Speed is judged only as a ratio of two models of one run, by its floor alone.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

import numpy as np
import pandas as pd
from msgspec import Meta
from scipy import stats
from scipy.special import stdtr  # Student's distribution function, quicker than scipy.stats

from alibench.evaluation.errors import BadInput, check_name
from alibench.evaluation.metrics import COLUMNS
from alibench.results.statistics import holm

LEVEL = 0.005  # nominal error rate of a whole decision
OUTLIER = (
    6.0  # deviations that a bad seed lies off, at least: a collapse lies tens off, real seeds up to five
)
MOST = 40  # cells: with more, what a gate can see of each gets too small
FEWEST = 3  # current seeds: with two, one wild seed is half of the mean
NOT_THERE = "no such number"  # of a seed whose run failed, or does not have the measure
DROPPED = "the suite no longer gates it: --update-baseline, if that is meant"
IDENTITY = (
    "unit",
    "split",
    "n",
    "extractor",
    "weights",
    "labels",
)  # of a cell; a number by another is another number

Floor = Annotated[float, Meta(ge=0, le=1e30)]


@dataclass(frozen=True)
class Gated:
    """A [[gate]] table: a measure that is gated, of every model of the suite or of some."""

    metric: str
    protocol: str = ""  # or the beginning of it
    models: list[str] = field(
        default_factory=list
    )  # none: all of the suite. A row beside a model's stands by its title
    worse: Literal["", "higher", "lower", "either"] = ""  # none: as the metric says
    relative: Floor = 0.0  # floors: a smaller change than this share of the baseline's mean
    absolute: Floor = 0.0  # or than this is no regression
    scale: Literal["linear", "log"] = "linear"  # that seeds are spread evenly on
    over: str = ""  # a speed as its ratio to this model's, measured in the same run


@dataclass(frozen=True)
class Cell:
    """A measure of a model with one value a seed, draws averaged."""

    gated: Gated
    model: str
    title: str
    protocol: str
    identity: Mapping[str, Any]  # IDENTITY of its rows
    by_seed: Mapping[int, float | None]  # None: no number
    reasons: Mapping[int, str] = field(default_factory=dict)  # why not

    @property
    def key(self) -> tuple[str, str, str]:
        """What it is called by: model, metric, and the protocol as the suite names it, or what a speed is a
        ratio to.
        """
        over = f" over {self.gated.over}" if self.gated.over else ""
        return self.model, self.gated.metric, self.gated.protocol + over

    @property
    def name(self) -> str:
        """The measure, for a reader."""
        title = COLUMNS[self.gated.metric].title
        over = f", over that of {self.gated.over}" if self.gated.over else ""
        return title + (f", {self.gated.protocol}" if self.gated.protocol else "") + over

    @property
    def digits(self) -> int:
        """Decimals that its values are shown with: one more than in tables."""
        return 3 if self.gated.over else COLUMNS[self.gated.metric].digits + 1

    @property
    def numbers(self) -> np.ndarray:
        """Its values without the seeds that have none."""
        return np.array([value for value in self.by_seed.values() if value is not None], dtype=float)

    def scaled(self, values: Iterable[float]) -> np.ndarray:
        """Return values on the cell's scale. Raises BadInput for a logarithm of what is not positive."""
        array = np.array(list(values), dtype=float)
        if self.gated.scale == "linear":
            return array
        if (array <= 0).any():
            raise BadInput(
                f"{self.title}, {self.name}: scale = 'log' needs positive numbers; set scale = 'linear'"
            )
        return np.log(array)


@dataclass(frozen=True)
class Finding:
    """What the gate says of a cell."""

    cell: Cell  # the current one
    verdict: Literal["regression", "bad seed", "missing", "improvement", "unchanged", "shown"]
    baseline: tuple[float, float] = (math.nan, math.nan)  # mean and deviation over seeds
    current: tuple[float, float] = (math.nan, math.nan)
    errors: float = math.nan  # standard errors that it moved by; positive: worse
    p: float = math.nan  # one-sided, corrected
    seeds: Mapping[int, float] = field(
        default_factory=dict
    )  # bad ones, with their distance in baseline deviations
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


def sign(gated: Gated) -> int:
    """Return 1 if higher is worse, -1 if lower is, 0 for either. Raises BadInput if nobody says."""
    worse = gated.worse or {"higher": "lower", "lower": "higher", "": ""}[COLUMNS[gated.metric].better]
    if not worse:
        raise BadInput(
            f"gate, metric '{gated.metric}': it has no better direction, so say worse = 'either' (or which)"
        )
    return {"higher": 1, "lower": -1, "either": 0}[worse]


def check(gate: Sequence[Gated], models: Sequence[str], where: str) -> None:
    """Refuse a gate that cannot be judged. Raises BadInput."""
    for gated in gate:
        check_name(gated.metric, COLUMNS, f"{where}, gate: unknown metric")
        sign(gated)
        if gated.metric.endswith("_rate") != bool(gated.over):
            raise BadInput(
                f"{where}, gate, metric '{gated.metric}': "
                + (
                    "only a speed has an 'over'"
                    if gated.over
                    else "speed depends on the machine: say over = 'MODEL'"
                )
            )
        if gated.over:
            check_name(gated.over, models, f"{where}, gate, metric '{gated.metric}', over: unknown model")
    keys = [(model, g.metric, g.protocol) for g in gate for model in g.models or models]
    if len(keys) > MOST:
        raise BadInput(
            f"{where}: {len(keys)} gated cells; at most {MOST}, so that each can be seen: name models in "
            "[[gate]]"
        )
    for key in keys:
        if keys.count(key) > 1:
            raise BadInput(f"{where}: gate names '{key[1]}' of '{key[0]}' twice")


def cells(
    rows: pd.DataFrame, gate: Sequence[Gated], models: Sequence[str], seeds: Iterable[int]
) -> list[Cell]:
    """Return the gated cells of one suite's rows, each with a value or a reason for every seed that was to be
    trained.

    Raises BadInput for a measure that was taken in several ways.
    """
    titles = dict(zip(rows.model, rows.title, strict=True))
    seeds = list(seeds)
    rows = rows[rows.seed.isin(seeds) | (rows.kind == "timing")]  # a speed is measured once for all seeds
    return [
        _cell(rows, gated, model, titles.get(model, model), seeds)
        for gated in gate
        for model in gated.models or models
    ]


def _cell(rows: pd.DataFrame, gated: Gated, model: str, title: str, seeds: Sequence[int]) -> Cell:
    own = rows[(rows.metric == gated.metric) & (rows.model == model)]
    ok = own[(own.status == "ok") & own.protocol.str.startswith(gated.protocol)]
    if len(ways := ok[["protocol", *IDENTITY]].drop_duplicates()) > 1:
        raise BadInput(
            f"{title}, {gated.metric}: measured in {len(ways)} ways; say 'protocol' in its [[gate]] table"
        )
    way = {} if ways.empty else ways.iloc[0].to_dict()
    identity = {
        str(name): None if pd.isna(value) else value for name, value in way.items() if name != "protocol"
    }
    values: dict[int, float | None] = {int(s): float(v) for s, v in ok.groupby("seed").value.mean().items()}  # type: ignore[call-overload]
    reasons: dict[int, str] = {}
    if gated.over:
        other = rows[(rows.metric == gated.metric) & (rows.model == gated.over) & (rows.status == "ok")].value
        over = float(other.mean()) if len(other) else 0.0
        values = {seed: value / over for seed, value in values.items() if value is not None and over}
    else:
        empty = own[own.status != "ok"]
        # where one of several draws has no number, the mean of the others would be another measure
        partly = set(empty.seed[empty.draw.notna() & empty.protocol.str.startswith(gated.protocol)])
        values = {seed: value for seed, value in values.items() if seed not in partly}
        told = zip(empty.seed, empty.status, empty.reason, strict=True)
        said = {int(seed): f"{status}: {reason}".removesuffix(": ") for seed, status, reason in told}
        reasons = {seed: said.get(seed, NOT_THERE) for seed in seeds if seed not in values}
    return Cell(
        gated, model, title, str(way.get("protocol", "")), identity, values | dict.fromkeys(reasons), reasons
    )


def judge(baseline: Sequence[Cell], current: Sequence[Cell]) -> list[Finding]:
    """Return a finding for each cell of the baseline, those first that the suite has dropped.

    That both are comparable, and have seeds enough, is checked by `results.baseline`.
    """
    by_key = {cell.key: cell for cell in current}
    pairs = [(cell, by_key[cell.key]) for cell in baseline if cell.key in by_key]
    judged = [(old, new) for old, new in pairs if len(new.numbers) and not new.gated.over]
    tests = [compare(old, new) for old, new in judged]
    worse = dict(zip([new.key for _, new in judged], holm([t.p_worse for t in tests]), strict=True))
    better = dict(zip([new.key for _, new in judged], holm([t.p_better for t in tests]), strict=True))
    number = sum(len(new.by_seed) for _, new in pairs)
    by_test = {new.key: test for (_, new), test in zip(judged, tests, strict=True)}
    found = [
        Finding(cell, "missing", _summary(cell), reason=DROPPED)
        for cell in baseline
        if cell.key not in by_key
    ]
    for old, new in pairs:
        if new.gated.over:
            found.append(_ratio(old, new))
        elif reason := _lacks(old, new):
            found.append(Finding(new, "missing", _summary(old), _summary(new), reason=reason))
        else:
            found.append(conclude(old, new, by_test[new.key], worse[new.key], better[new.key], number))
    return found


@dataclass(frozen=True)
class Comparison:
    """A cell's current mean against the baseline's."""

    shift: float  # of the means, in the measure's unit; positive: worse
    errors: float  # in standard errors, on the cell's scale
    p_worse: float
    p_better: float


def compare(old: Cell, new: Cell) -> Comparison:
    """Compare means by the baseline's spread."""
    base, values, towards = (
        new.scaled(old.numbers),
        new.scaled(new.numbers),
        sign(new.gated),
    )  # by today's scale, both
    n, m = len(base), len(values)
    shift = float(new.numbers.mean() - old.numbers.mean())
    moved = float(values.mean() - base.mean())
    error = float(base.std(ddof=1)) * math.sqrt(1 / n + 1 / m)
    errors = moved / error if error else math.copysign(math.inf, moved) if moved else 0.0
    if towards == 0:
        return Comparison(abs(shift), abs(errors), float(2 * stdtr(n - 1, -abs(errors))), 1.0)
    errors *= towards
    return Comparison(towards * shift, errors, float(stdtr(n - 1, -errors)), float(stdtr(n - 1, errors)))


def _outside(old: Cell, new: Cell, number: int) -> dict[int, float]:
    """Return the seeds that no seed of the baseline's spread explains, with their distance from its mean in
    deviations.
    """
    base, towards = new.scaled(old.numbers), sign(new.gated)
    n, spread, least = len(base), float(base.std(ddof=1)), floor(old, new)
    away, change = new.scaled(new.numbers) - base.mean(), new.numbers - old.numbers.mean()
    away, change = (away * towards, change * towards) if towards else (abs(away), abs(change))
    distance = away / spread if spread else np.where(away == 0, 0.0, np.copysign(np.inf, away))
    p = stdtr(n - 1, -distance / math.sqrt(1 + 1 / n)) * (1 if towards else 2)
    out = (p * number < LEVEL / 2) & (distance > OUTLIER) & (change > least)
    seeds = [seed for seed, value in new.by_seed.items() if value is not None]
    return {seed: float(distance[i]) for i, seed in enumerate(seeds) if out[i]}


def floor(old: Cell, new: Cell) -> float:
    """Return the change of the mean, in the measure's unit, below which nothing is a regression."""
    return max(new.gated.absolute, new.gated.relative * abs(float(old.numbers.mean())))


def _summary(cell: Cell) -> tuple[float, float]:
    numbers = cell.numbers
    return (
        float(numbers.mean()) if len(numbers) else math.nan,
        float(numbers.std(ddof=1)) if len(numbers) > 1 else math.nan,
    )


def _lacks(old: Cell, new: Cell) -> str:
    """Say what is missing of a cell's numbers, if more is than the baseline's share explains."""
    if set(new.reasons.values()) == {NOT_THERE} and not len(new.numbers):
        return "no run has it: the metric or the model is gone, or every run failed"
    lost = sum(value is None for value in new.by_seed.values())
    share = sum(value is None for value in old.by_seed.values()) / len(old.by_seed)
    # where the baseline lost none, any loss is one too many
    if lost and stats.binom.sf(lost - 1, len(new.by_seed), share) < LEVEL / 2:
        seeds = ", ".join(f"seed {seed}: {reason}" for seed, reason in new.reasons.items())
        return f"{lost} of {len(new.by_seed)} seeds have no number ({seeds})"
    if len(new.numbers) < FEWEST:
        return f"{len(new.numbers)} seeds have a number: {FEWEST} are needed"
    return ""


def conclude(old: Cell, new: Cell, test: Comparison, worse: float, better: float, number: int) -> Finding:
    """Return what is found of a cell, given its corrected p for worse and for better, of `number` seeds in
    all cells.
    """
    seeds, least = _outside(old, new, number), floor(old, new)
    verdict: Literal["regression", "bad seed", "improvement", "unchanged"] = "unchanged"
    p = worse
    if worse < LEVEL / 2 and test.shift > least:
        verdict = "regression"
    elif seeds:
        verdict = "bad seed"
    elif better < LEVEL / 2 and -test.shift > least:
        verdict, p = "improvement", better
    return Finding(new, verdict, _summary(old), _summary(new), test.errors, p, seeds)


def _ratio(old: Cell, new: Cell) -> Finding:
    """Judge a ratio of speeds by its floor: a run has one, so there is no spread."""
    (was, _), (is_, _) = _summary(old), _summary(new)
    if math.isnan(is_):
        return Finding(new, "missing", _summary(old), reason="this run has no such ratio of speeds")
    shift = (is_ - was) * sign(new.gated)
    verdict: Literal["regression", "improvement", "unchanged"] = "unchanged"
    if abs(shift) > floor(old, new):
        verdict = "regression" if shift > 0 else "improvement"
    return Finding(new, verdict, _summary(old), _summary(new), reason="judged by its floor alone")
