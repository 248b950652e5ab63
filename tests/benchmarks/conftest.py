"""Fixtures of all tests of the suites."""

from collections.abc import Iterator

import pytest

from alibench.benchmarks.config import plugins


@pytest.fixture(autouse=True)
def unplugged() -> Iterator[None]:
    """Leave no model of a test behind."""
    with plugins.meanwhile():
        yield
