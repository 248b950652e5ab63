"""Is the difference between outputs real? The rows of several outputs, each tested against the first.

A row is a measure of a model, or of a reference that has seeds, taken in one way. Its two sides are one value
a seed, draws averaged, as in the tables, and are compared by Welch's test: equal seed numbers of two outputs
are not pairs. Holm's correction counts all rows that are tested at once. What has no counterpart is named.
"""

import math
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from alibench.evaluation.errors import BadInput
from alibench.evaluation.messages import listed
from alibench.evaluation.metrics import COLUMNS
from alibench.results import rows, statistics, values
from alibench.results.layouts import TABLES, Measure
from alibench.results.statistics import LEVEL, TESTED_FROM

# metrics in the order of the tables' columns
ORDER = list(dict.fromkeys([*(measure.metric for table in TABLES for measure in table.measures), *COLUMNS]))
VERDICTS = ("better", "worse", "different", "not different", "not tested")


class RowKey(NamedTuple):
    """What a row of one output has in common with its counterpart in another; None: the row has no such."""

    suite: str
    model: str  # or the name of a reference
    metric: str
    protocol: str
    labels: int | None
    n: int | None
    extractor: str
    split: str
    unit: str


WAY = RowKey._fields[3:]  # how a metric is measured
Samples = tuple[np.ndarray, np.ndarray]


@dataclass(frozen=True)
class Compared:
    """An output that is compared: its rows, and the provenance of its runs."""

    number: int  # its place among the outputs, from 1
    path: Path
    frame: pd.DataFrame
    origins: Mapping[str, Mapping[str, Any]]  # run -> run.json
    metrics: Collection[str] = tuple(COLUMNS)  # that are compared

    @property
    def name(self) -> str:
        """Its number and folder, for a reader."""
        return f"{self.number}: {self.path.resolve().name}"

    @cached_property
    def quality(self) -> pd.DataFrame:
        """The rows that can be compared; timings and budgets depend on the machine."""
        return self.frame[(self.frame.kind == "quality") & self.frame.metric.isin(self.metrics)]

    @cached_property
    def samples(self) -> dict[RowKey, np.ndarray]:
        """One value a seed, draws averaged, of each row with seeds, in the order of the tables."""
        # None in place of NA, which equals nothing, not even itself
        measured = self.quality[(self.quality.status == "ok") & self.quality.seed.notna()]
        cells = measured[["suite", "metric", *WAY]].astype(object)
        ways = pd.Series(cells.where(cells.notna(), None).itertuples(index=False, name=None), cells.index)
        groups = dict(list(measured.groupby(ways, sort=False)))

        # by suite and column, then by model
        found = {}
        for way in sorted(groups, key=lambda way: (way[0], ORDER.index(way[1]))):
            suite, metric, *rest = way
            of_way = values.of_seeds(groups[way], Measure(metric))
            for model, numbers in of_way.groupby(level="model", sort=False):
                found[RowKey(suite, str(model), metric, *rest)] = numbers.to_numpy()
        return found

    @cached_property
    def titles(self) -> dict[tuple[str, str], str]:
        """The titles of models and references, by suite and name."""
        names = zip(self.frame.suite, self.frame.model, strict=True)
        return dict(zip(names, self.frame.title, strict=True))

    def origins_of(self, suite: str) -> list[Mapping[str, Any]]:
        """Return the provenance of a suite's runs."""
        return [origin for origin in self.origins.values() if origin["suite"] == suite]


def read(number: int, path: Path, metrics: Collection[str]) -> Compared:
    """Return the output in a folder. Raises BadInput if it holds no finished run, and Damaged."""
    frame = rows.read(path)
    if frame.empty:
        raise BadInput(f"{path} holds no finished runs: finish them with --resume first")
    origins = {run: rows.read_origin(path / "runs" / run) for run in frame.run_id.unique()}
    return Compared(number, path, frame, origins, metrics)


Pair = tuple[Compared, Compared]  # the first output, and one that is compared with it


# -------------------- the tests


@dataclass(frozen=True)
class Contrast:
    """A row in two outputs, with its p corrected for all that is compared; NaN: not tested."""

    key: RowKey
    title: str
    number: int  # of the output that is compared with the first
    samples: Samples  # of the first, and of that
    p: float

    @property
    def difference(self) -> float:
        """The mean less the first output's."""
        first, other = self.samples
        return float(np.mean(other) - np.mean(first))

    @property
    def interval(self) -> tuple[float, float]:
        """Welch's 95 % interval of the difference, not corrected; NaN for one seed on a side."""
        return statistics.welch_interval(*self.samples)

    @property
    def verdict(self) -> str:
        """One of VERDICTS."""
        if math.isnan(self.p):
            return "not tested"
        if self.p >= LEVEL:
            return "not different"
        # a difference, in a direction if the column has one
        better = values.better(Measure(self.key.metric))
        if not better:
            return "different"
        return "better" if (self.difference > 0) == (better == "higher") else "worse"


def corrected(pairs: Sequence[Samples]) -> np.ndarray:
    """Return Welch's p of each pair by Holm over all pairs that are tested; NaN for too few seeds on a side.

    Samples without spread have p 1 if they are equal, else 0.
    """
    # what is not tested does not count in the correction
    p = np.full(len(pairs), np.nan)
    tested = [place for place, pair in enumerate(pairs) if min(map(len, pair)) >= TESTED_FROM]
    p[tested] = statistics.holm([statistics.welch(*pairs[place]) for place in tested])
    return p


def contrasts(outputs: Sequence[Compared]) -> list[Contrast]:
    """Return every row that the first output has in common with another, in the order of the tables.

    Raises BadInput for outputs of different data, or without a common row.
    """
    first, *others = outputs
    found: list[tuple[RowKey, Compared, Samples]] = []
    for other in others:
        _check_same_data(first, other)
        common = [key for key in first.samples if key in other.samples]
        if not common:
            raise BadInput(_nothing_common(first, other))
        found += [(key, other, (first.samples[key], other.samples[key])) for key in common]

    # one correction for all outputs and suites
    p = corrected([samples for _, _, samples in found])
    return [
        Contrast(key, first.titles[key.suite, key.model], other.number, samples, float(each))
        for (key, other, samples), each in zip(found, p, strict=True)
    ]


# -------------------- what cannot be compared


def _check_same_data(first: Compared, other: Compared) -> None:
    """Refuse two outputs of other data, or by another version of the protocols. Raises BadInput."""
    for suite in suites(first, other):
        between = f"suite '{suite}': {first.path} and {other.path}"
        origins = [each.origins_of(suite) for each in (first, other)]

        # the same data, of every seed that both have
        before, now = map(_hashes, origins)
        for seed in before.keys() & now.keys():
            if before[seed] != now[seed]:
                hashes = " and ".join(sorted(each[seed])[0][:8] for each in (before, now))
                remedy = "their numbers cannot be compared; run one of them again on the other's data"
                raise BadInput(f"{between} were measured on different data ({hashes}): {remedy}")

        versions = [{origin.get("protocols", 1) for origin in each} for each in origins]
        if versions[0] != versions[1]:
            numbers = " and ".join(listed(sorted(map(str, each))) for each in versions)
            remedy = "repeat the older one by 'alibench evaluate'"
            raise BadInput(f"{between} hold numbers by versions {numbers} of the protocols: {remedy}")


def _hashes(origins: Iterable[Mapping[str, Any]]) -> dict[int | None, set[str]]:
    """Return the hashes of the data, by seed where every seed deals splits of its own."""
    hashes: dict[int | None, set[str]] = {}
    for origin in origins:
        data = origin["config"].get("data")
        is_dealt = isinstance(data, Mapping) and data.get("resplit") is True
        hashes.setdefault(origin["seed"] if is_dealt else None, set()).add(origin["data_sha256"])
    return hashes


def suites(first: Compared, other: Compared) -> list[str]:
    """Return the suites that both have rows of."""
    shared = set(other.quality.suite)
    return [suite for suite in dict.fromkeys(first.quality.suite) if suite in shared]


def _nothing_common(first: Compared, other: Compared) -> str:
    """Return why two outputs have no common row, in a line with the remedy."""
    between = f"{first.path} and {other.path}"
    # no suite, or rows that were all measured in other ways
    if not (common := suites(first, other)):
        names = " and ".join(listed(sorted(set(each.quality.suite))) or "none" for each in (first, other))
        return f"{between} have no suite in common ({names}): name outputs of one suite"
    reasons = [reason for suite in common for reason in left_out(first, other, suite)]
    remedy = "measure both in one way, by 'alibench evaluate'"
    return f"{between} have no row in common that has seeds: {'; '.join(reasons)}: {remedy}"


def left_out(first: Compared, other: Compared, suite: str) -> list[str]:
    """Return which rows of a suite are not compared, and why, a line a reason."""
    pair = (first, other)
    reasons: dict[str, list[str]] = {}
    for reason, title in (*_without_counterpart(pair, suite), *_without_numbers(pair, suite)):
        reasons.setdefault(reason, []).append(title)
    return [f"{reason}: {listed(list(dict.fromkeys(titles)), 8)}" for reason, titles in reasons.items()]


def _without_counterpart(pair: Pair, suite: str) -> Iterator[tuple[str, str]]:
    """Yield a reason and a title for each model, or metric of a model, that only one output has so."""
    # models of one output alone
    found = [[key for key in each.samples if key.suite == suite] for each in pair]
    models = [dict.fromkeys(key.model for key in keys) for keys in found]
    titles = pair[1].titles | pair[0].titles
    for k in (0, 1):
        for model in models[k]:
            if model not in models[1 - k]:
                yield f"only in {pair[k].number}", titles[suite, model]

    # models of both: what one of them was not measured by, or in another way
    lone = [[key for key in found[k] if key not in pair[1 - k].samples] for k in (0, 1)]
    for model, metric in dict.fromkeys((key.model, key.metric) for keys in lone for key in keys):
        if model in models[0] and model in models[1]:
            sides = [[key for key in keys if key.model == model and key.metric == metric] for keys in lone]
            yield _unmatched(COLUMNS[metric].title, sides, pair), titles[suite, model]


def _unmatched(title: str, sides: Sequence[Sequence[RowKey]], pair: Pair) -> str:
    """Return why rows of one metric, of one output or of both, have no counterpart."""
    # one of them has all of it
    for keys, each in zip(sides, pair, strict=True):
        if len(keys) == sum(map(len, sides)):
            return f"only in {each.number}: {', '.join([title, *_values(keys, 'protocol')])}"

    # both have it, in other ways
    parts = []
    for field in WAY:
        before, now = (listed(_values(keys, field)) or "none" for keys in sides)
        if before != now:
            parts.append(f"{field} {before} in {pair[0].number}, {now} in {pair[1].number}")
    return f"not comparable: {title} ({'; '.join(parts)})"


def _values(keys: Iterable[RowKey], field: str) -> list[str]:
    """Return the values that keys have of a field."""
    taken = dict.fromkeys(getattr(key, field) for key in keys)
    return [str(value) for value in taken if value not in ("", None)]


def _without_numbers(pair: Pair, suite: str) -> Iterator[tuple[str, str]]:
    """Yield a reason and a title for rows without seeds, and for seeds without a number."""
    for each in pair:
        of_suite = each.quality[each.quality.suite == suite]
        for title in of_suite[of_suite.seed.isna() & (of_suite.status == "ok")].title.unique():
            yield "no seeds, so no test", title

        lost = of_suite[of_suite.status.isin(["diverged", "refused"])]
        for (status, title), of_model in lost.groupby(["status", "title"], sort=False):
            count = of_model.seed.nunique()
            yield f"{status} in {each.number}", f"{title} ({count} seed{'s' * (count > 1)})"
