"""Cells of the regression gate: which measures of which models a suite gates, and their values a seed."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

import numpy as np
import pandas as pd
from msgspec import Meta

from alibench.evaluation.errors import BadInput, check_name
from alibench.evaluation.metrics import COLUMNS

MOST = 40  # cells: with more, what a gate can see of each gets too small
NOT_THERE = "no such number"  # of a seed whose run failed, or does not have the measure
# columns of a cell's rows: a number with another unit, split, ... is another measure
IDENTITY = ("unit", "split", "n", "extractor", "weights", "labels")

Floor = Annotated[float, Meta(ge=0, le=1e30)]


@dataclass(frozen=True)
class Gated:
    """A [[gate]] table: a measure that is gated, of every model of the suite or of some."""

    metric: str
    protocol: str = ""  # or the beginning of it
    models: list[str] = field(default_factory=list)  # none: all of the suite; reference rows by their title
    worse: Literal["", "higher", "lower", "either"] = ""  # none: as the metric says
    relative: Floor = 0.0  # floors: a smaller change than this share of the baseline's mean,
    absolute: Floor = 0.0  # or than this, is not a regression
    scale: Literal["linear", "log"] = "linear"  # on which seeds are spread evenly
    over: str = ""  # a speed as its ratio to this model's, measured in the same run

    def sign(self) -> int:
        """Return 1 if higher is worse, -1 if lower is, 0 for either. Raises BadInput if none is named."""
        worse = self.worse or {"higher": "lower", "lower": "higher", "": ""}[COLUMNS[self.metric].better]
        if not worse:
            remedy = "it has no better direction, so say worse = 'either' (or which)"
            raise BadInput(f"gate, metric '{self.metric}': {remedy}")
        return {"higher": 1, "lower": -1, "either": 0}[worse]


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
        """Model, metric, and the suite's protocol, with the model that a speed is a ratio to."""
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
        # differences on the logarithm are ratios
        if self.gated.scale == "linear":
            return array
        if (array <= 0).any():
            remedy = "scale = 'log' needs positive numbers; set scale = 'linear'"
            raise BadInput(f"{self.title}, {self.name}: {remedy}")
        return np.log(array)


def check(gate: Sequence[Gated], models: Sequence[str], where: str) -> None:
    """Refuse a gate that cannot be judged. Raises BadInput."""
    for gated in gate:
        check_name(gated.metric, COLUMNS, f"{where}, gate: unknown metric")
        gated.sign()
        named = f"{where}, gate, metric '{gated.metric}'"
        if gated.over and not gated.metric.endswith("_rate"):
            raise BadInput(f"{named}: only a speed has an 'over'")
        if gated.metric.endswith("_rate") and not gated.over:
            raise BadInput(f"{named}: speed depends on the machine: say over = 'MODEL'")
        if gated.over:
            check_name(gated.over, models, f"{named}, over: unknown model")

    # Few enough to see something of each, and each once.
    keys = [(model, gated.metric, gated.protocol) for gated in gate for model in gated.models or models]
    if len(keys) > MOST:
        remedy = f"at most {MOST}, so that each can be seen: name models in [[gate]]"
        raise BadInput(f"{where}: {len(keys)} gated cells; {remedy}")
    for model, metric, protocol in keys:
        if keys.count((model, metric, protocol)) > 1:
            raise BadInput(f"{where}: gate names '{metric}' of '{model}' twice")


def from_rows(
    rows: pd.DataFrame, gate: Sequence[Gated], models: Sequence[str], seeds: Iterable[int]
) -> list[Cell]:
    """Return the gated cells of one suite's rows, with a value or a reason for each of `seeds`.

    Raises BadInput for a measure that was taken in several ways.
    """
    seeds = list(seeds)
    titles = dict(zip(rows.model, rows.title, strict=True))
    rows = rows[rows.seed.isin(seeds) | (rows.kind == "timing")]  # a speed is measured once for all seeds
    return [
        _cell(rows[rows.metric == gated.metric], gated, model, titles.get(model, model), seeds)
        for gated in gate
        for model in gated.models or models
    ]


def _cell(rows: pd.DataFrame, gated: Gated, model: str, title: str, seeds: Sequence[int]) -> Cell:
    of_model = rows[rows.model == model]
    measured = of_model[(of_model.status == "ok") & of_model.protocol.str.startswith(gated.protocol)]
    # Numbers by different measures have no mean.
    ways = measured[["protocol", *IDENTITY]].drop_duplicates()
    if len(ways) > 1:
        remedy = "say 'protocol' in its [[gate]] table"
        raise BadInput(f"{title}, {gated.metric}: measured in {len(ways)} ways; {remedy}")

    # One value a seed, draws averaged.
    way = {} if ways.empty else ways.iloc[0].to_dict()
    protocol = str(way.pop("protocol", ""))
    identity = {str(name): None if pd.isna(value) else value for name, value in way.items()}
    means = measured.groupby("seed").value.mean()
    values: dict[int, float | None] = {int(seed): float(value) for seed, value in means.items()}  # type: ignore[call-overload]

    # A speed is a ratio within one run: machines differ.
    if gated.over:
        other = rows[(rows.model == gated.over) & (rows.status == "ok")].value
        over = float(other.mean()) if len(other) else 0.0
        ratios = {seed: value / over for seed, value in values.items() if value is not None and over}
        return Cell(gated, model, title, protocol, identity, ratios)

    lost = of_model[of_model.status != "ok"]
    # where one of several draws has no number, the mean of the others would be another measure
    partly = set(lost.seed[lost.draw.notna() & lost.protocol.str.startswith(gated.protocol)])
    values = {seed: value for seed, value in values.items() if seed not in partly}
    # Every seed without a number gets a reason.
    named = {
        int(seed): f"{status}: {reason}".removesuffix(": ")
        for seed, status, reason in zip(lost.seed, lost.status, lost.reason, strict=True)
    }
    reasons = {seed: named.get(seed, NOT_THERE) for seed in seeds if seed not in values}
    return Cell(gated, model, title, protocol, identity, values | dict.fromkeys(reasons), reasons)
