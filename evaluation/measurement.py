"""Measurements, and how tables read them."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal


@dataclass(frozen=True)
class Measurement:
    """One number with what it takes to read it. No value means an empty cell, and `reason` says why."""

    metric: str
    value: float | None
    unit: str = ""
    n: int | None = None  # samples it was computed on
    split: str = ""
    extractor: str = ""
    protocol: str = ""  # keys of protocols.py
    labels: int | None = None
    draw: int | None = None  # which draw of labels, where there are several
    kind: Literal["quality", "timing", "budget"] = "quality"
    # refused: what came in cannot be measured
    status: Literal["ok", "not applicable", "refused", "diverged"] = "ok"
    reason: str = ""
    # The name of the row, if it is not the model's own.
    reference: str = ""
    note: str = ""  # after that name
    seed: int | None = None  # the seed of a reference that is random itself


@dataclass(frozen=True)
class Column:
    """How a measure is read: its title in tables and which direction is better."""

    metric: str
    title: str
    better: Literal["higher", "lower", ""] = ""
    digits: int = 3
    percent: bool = False


def not_applicable(metrics: Iterable[str | Column], reason: str, **fields: Any) -> list[Measurement]:
    """Return the empty cells of measures that a model cannot have."""
    return _empty(metrics, status="not applicable", reason=reason, **fields)


def refused(metrics: Iterable[str | Column], reason: str, **fields: Any) -> list[Measurement]:
    """Return the empty cells of measures of what cannot be measured."""
    return _empty(metrics, status="refused", reason=reason, **fields)


def not_sampled(metrics: Iterable[str | Column]) -> list[Measurement]:
    """Return the empty cells of a model that draws no samples."""
    return not_applicable(metrics, "its codes follow no prior, so it draws no samples")


def _empty(metrics: Iterable[str | Column], **fields: Any) -> list[Measurement]:
    names = (metric.metric if isinstance(metric, Column) else metric for metric in metrics)
    return [Measurement(name, None, **fields) for name in names]
