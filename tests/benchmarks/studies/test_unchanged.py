"""The study of compare counts what it says."""

import re

import numpy as np

from alibench.benchmarks.commands.regression import BASELINES
from alibench.benchmarks.studies import unchanged
from alibench.evaluation.metrics import COLUMNS
from alibench.results import compare
from alibench.results.papers import REFERENCE

ROWS = list(np.random.default_rng(0).normal(5, 2, (3, 10)))


def test_halves_are_disjoint_and_each_way_comes_once() -> None:
    ways = list(unchanged.halves([*ROWS, ROWS[0][:7]]))  # a row that lacks seeds is left out
    assert len(ways) == 126  # 10 over 5, halved
    seen = set()
    for way in ways:
        assert len(way) == len(ROWS)
        for (one, two), row in zip(way, ROWS, strict=True):
            assert sorted([*one, *two]) == sorted(row)
        seen.add(frozenset(map(frozenset, way[0])))
    assert len(seen) == 126


def test_draws_have_the_rows_mean_and_deviation() -> None:
    rng = np.random.default_rng(1)
    drawn = np.array([unchanged.drawn(ROWS, rng) for _ in range(2000)])
    assert drawn.shape == (2000, len(ROWS), 2, 5)
    values = drawn.transpose(1, 0, 2, 3).reshape(len(ROWS), -1)
    for row, sample in zip(ROWS, values, strict=True):
        error = row.std(ddof=1) / np.sqrt(sample.size)
        assert abs(sample.mean() - row.mean()) < 4 * error
        assert abs(sample.std() - row.std(ddof=1)) < 4 * error


def test_a_row_that_moved_far_is_found_and_equal_rows_are_not() -> None:
    same = [(row[:5], row[:5]) for row in ROWS]
    assert not unchanged.is_found(same)
    assert unchanged.is_found([*same, (ROWS[0][:5], ROWS[0][:5] + 100)])


def test_the_committed_page_is_of_the_committed_rows_and_keeps_the_claim() -> None:
    page = (BASELINES / "comparisons.md").read_text()
    rows = compare.read(1, REFERENCE / unchanged.SUITE, COLUMNS).samples
    assert f"{len(rows)} in each call" in page
    drawn, real = re.findall(r"(\d+) of ([\d,]+): ", page)
    assert drawn[1] == f"{unchanged.DRAWN:,}"
    assert real[1] == "126"
    for found, calls in (drawn, real):
        assert int(found) <= int(calls.replace(",", "")) / 20
