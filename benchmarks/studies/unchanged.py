"""How often does `alibench compare` find a difference between two outputs of the same code and other seeds?

Claimed: in at most one call of twenty it calls any row different. Counted twice, on the rows of the committed
digits: with seeds drawn from a normal of each row's mean and deviation, and with every way to halve the ten
real seeds, whose values are not normal and whose rows depend on one another.
"""

from collections.abc import Iterator, Sequence
from itertools import combinations

import numpy as np
import pandas as pd
from scipy import stats

from alibench.evaluation.metrics import COLUMNS
from alibench.results import compare, formats
from alibench.results.compare import Samples
from alibench.results.papers import REFERENCE
from alibench.results.statistics import LEVEL, TESTED_FROM

SUITE = "digits"
DRAWN = 2000  # pairs of outputs


def drawn(rows: Sequence[np.ndarray], rng: np.random.Generator) -> list[Samples]:
    """Return two samples for each row, of TESTED_FROM seeds, normal with the row's mean and deviation."""
    sizes = [(row.mean(), row.std(ddof=1), TESTED_FROM) for row in rows]
    return [(rng.normal(*size), rng.normal(*size)) for size in sizes]


def halves(rows: Sequence[np.ndarray]) -> Iterator[list[Samples]]:
    """Yield every way to halve the seeds of rows that have all of them, the same halves in every row."""
    seeds = max(map(len, rows))
    whole = [row for row in rows if len(row) == seeds]
    # the first seed is in the first half, or every way would be counted twice
    for more in combinations(range(1, seeds), seeds // 2 - 1):
        one = np.isin(np.arange(seeds), (0, *more))
        yield [(row[one], row[~one]) for row in whole]


def is_found(pairs: Sequence[Samples]) -> bool:
    """Return whether any row of two outputs is called different."""
    return bool((compare.corrected(pairs) < LEVEL).any())


def report(rng: np.random.Generator) -> str:
    """Return how often a difference is found where there is none, as Markdown."""
    rows = list(compare.read(1, REFERENCE / SUITE, COLUMNS).samples.values())
    simulated = [is_found(drawn(rows, rng)) for _ in range(DRAWN)]
    real = [is_found(pairs) for pairs in halves(rows)]

    # Halves of the same seeds share them, so they have no interval.
    low, high = stats.binomtest(sum(simulated), DRAWN).proportion_ci()
    interval = f" (95 % interval {100 * low:.1f} to {100 * high:.1f} %)"
    lines = {
        f"{TESTED_FROM} seeds against {TESTED_FROM}, drawn from normals": _share(simulated) + interval,
        f"the real seeds, {TESTED_FROM} against {TESTED_FROM}, every way": _share(real),
    }
    index = pd.Index(lines, name="calls that compare unchanged code")
    parts = [
        "# How often does compare find a difference where there is none?",
        f"Rows of suite `{SUITE}`: {len(rows)} in each call, Welch's t, Holm over all, "
        f"{100 * LEVEL:.0f} %. Claimed is at most one call of twenty. By `nox -s gate_study -- compare`.",
        formats.table(pd.DataFrame({"a difference is found": list(lines.values())}, index)),
        "Halves of ten seeds share their seeds with one another, so their share is an estimate without an "
        "interval.",
    ]
    return "\n\n".join(parts) + "\n"


def _share(found: Sequence[bool]) -> str:
    return f"{sum(found)} of {len(found):,}: {100 * sum(found) / len(found):.1f} %"
