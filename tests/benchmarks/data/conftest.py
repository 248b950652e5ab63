"""Each test of data has its own folder of downloads and caches, and nothing in memory."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from alibench.benchmarks.data import cache


@pytest.fixture(autouse=True)
def own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("ALIBENCH_DATA", str(tmp_path / "home"))
    cache.forget()
    yield
    cache.forget()
