"""Timings use all cores, unlike the other tests; what they find is written as one table."""

import os
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.speed.report import timed_device, write


def cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@pytest.fixture(autouse=True)
def all_cores() -> Iterator[None]:
    """Give torch, and what follows its number of threads, every core that this process may use."""
    torch.set_num_threads(cores())
    yield
    torch.set_num_threads(1)


@dataclass
class Speeds:
    """What the cases found, a record each, and where it is written."""

    out: Path
    profile: bool
    records: dict[str, list[dict[str, Any]]] = field(default_factory=dict)  # table -> its records

    def add(self, table: str, **figures: Any) -> None:
        """Keep a record; tables are written at once, so that an interrupted session leaves them."""
        self.records.setdefault(table, []).append(figures)
        write(self.out, self.records)


@pytest.fixture(scope="session")
def speeds(request: pytest.FixtureRequest) -> Speeds:
    """Return where a session's figures go."""
    given = request.config.getoption("--speed-out")
    fresh = Path(__file__).parents[2] / "results" / "runs" / f"speed-{time.strftime('%Y%m%d-%H%M%S')}"
    out = Path(given) if given else fresh
    out.mkdir(parents=True, exist_ok=True)
    return Speeds(out, request.config.getoption("--profile"))


@pytest.fixture(scope="session")
def device() -> str:
    """Return the device that is timed: DEVICE of the environment, or the best there is."""
    return timed_device()
