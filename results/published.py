"""Published numbers, and what a published table is: its columns and lines, theirs and ours.

The numbers are in published.csv, a line each with its source; the tables are in paper_tables.py.
"""

from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pandas as pd

from alibench.results.layouts import Measure

# a line a number: source, table, dataset, metric, model, value, bar
PUBLISHED = Path(__file__).parent / "published.csv"


@dataclass(frozen=True)
class Theirs:
    """A column of published numbers."""

    title: str
    metric: str  # in published.csv
    labels: str = ""  # number of labels, where a table has several
    source: tuple[str, str] | None = None  # and table, where they are not the paper's own
    extra: tuple[str, ...] = ()  # metrics whose values follow the number, in brackets


@dataclass(frozen=True)
class Ours:
    """A column of this suite's numbers."""

    title: str
    measure: Measure
    labels: int | None = None
    data: str = ""  # the dataset, where it is not the paper's own
    extremes: bool = False  # whether smallest and largest follow, in brackets


@dataclass(frozen=True)
class Difference:
    """A column of this suite's mean less the published number."""

    title: str
    theirs: Theirs
    ours: Ours


@dataclass(frozen=True)
class Line:
    """A line of a table: the published name, and the runs that measure the same, where there are any."""

    model: str
    suite: str = ""
    entry: str = ""  # row of the suite's tables
    measure: Measure | None = None  # where it is measured otherwise than the column says


@dataclass(frozen=True)
class Paper:
    """A published table."""

    name: str
    caption: str
    source: str  # in published.csv, as the next three
    table: str
    dataset: str
    columns: tuple[Theirs | Ours | Difference, ...]
    lines: tuple[Line, ...]  # published models without a line of their own follow
    data: str  # this suite's name of the dataset
    needs: str = ""  # to make it at the full schedule
    updates: int = 0  # of the published schedule, of each player; 0: it was not published
    schedule: str = ""  # what is to be said about it
    notes: tuple[str, ...] = ()


@cache
def published() -> pd.DataFrame:
    """Return the published numbers, a line each with its source; `bar` is in `bar_in_std` deviations."""
    # numbers of labels are names of columns, and some tables have none
    kinds = {"labels": "string", "bar_in_std": "float64"}
    return pd.read_csv(PUBLISHED, dtype=kinds, keep_default_na=False, na_values=[""])
