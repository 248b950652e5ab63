"""Whether a faster update is the same update, on made-up seeds and on the committed ones."""

from dataclasses import replace

import numpy as np
import pytest

from alibench.benchmarks.studies import equivalence
from alibench.benchmarks.studies.study import COMMITTED
from alibench.results import baseline
from alibench.results.cells import Cell


@pytest.fixture
def plain() -> list[Cell]:
    return list(baseline.read(COMMITTED).cells)


def moved(cell: Cell, by: float) -> Cell:
    """Return a cell whose numbers are `by` margins off, on its scale."""
    gated, numbers = cell.gated, cell.numbers
    numbers = numbers * (1 + gated.relative) ** by if gated.scale == "log" else numbers + by * gated.absolute
    return replace(cell, by_seed=dict(zip(cell.by_seed, numbers.tolist(), strict=True)))


def test_the_same_numbers_are_equivalent_and_those_two_margins_off_are_not(plain: list[Cell]) -> None:
    """Where the margin is wide enough for sixty seeds to show it: 1.7 standard errors of the difference."""
    same = equivalence.judge(plain, plain, len(plain[0].by_seed))
    wide = same.margin > 1.7 * same["deviation of seeds"] * (2 / 60) ** 0.5
    assert 10 < wide.sum() < len(wide)
    assert ((same.equivalent == "yes") == wide).all()
    assert (same.difference == 0).all()
    far = equivalence.judge(plain, [moved(cell, 2.0) for cell in plain], 60)
    assert (far.equivalent == "not shown").all()
    assert far.difference.to_numpy() == pytest.approx(2 * far.margin.to_numpy())


def test_few_seeds_show_less(plain: list[Cell]) -> None:
    many, few = (equivalence.judge(plain, plain, n) for n in (60, 5))
    spread = many["deviation of seeds"] > 0
    assert (many.p[spread] < few.p[spread]).mean() > 0.9


@pytest.mark.parametrize("way", equivalence.WAYS)
def test_the_committed_values_are_of_other_seeds_and_that_way(way: str) -> None:
    found, committed = baseline.read(equivalence.place(way)), baseline.read(COMMITTED)
    assert not set(found.seeds) & set(committed.seeds)
    recipe = found.settings["recipe"]
    assert (recipe["update"], recipe["precision"]) == ("simultaneous", "bf16" if way == "bf16" else "fp32")
    assert {cell.key for cell in found.cells} == {cell.key for cell in committed.cells}
    assert all(np.isfinite(cell.numbers).all() for cell in found.cells)
