"""What tests of metrics share: a row of some, and a folder of their own for what is kept."""

from pathlib import Path

import pytest

from alibench.benchmarks.data import cache
from alibench.evaluation.measurement import Measurement


@pytest.fixture
def own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give a test its own folder of downloads and of what is kept."""
    monkeypatch.setenv("ALIBENCH_DATA", str(tmp_path / "home"))
    cache.forget()
    return tmp_path / "home"


def cell(rows: list[Measurement], metric: str, **where: object) -> Measurement:
    """Return the only row of a metric, and of what else is said."""
    (row,) = (r for r in rows if r.metric == metric and all(getattr(r, key) == v for key, v in where.items()))
    return row


def value(rows: list[Measurement], metric: str, **where: object) -> float:
    """Return the number of the only such row."""
    row = cell(rows, metric, **where)
    assert row.value is not None, row.reason
    return row.value
