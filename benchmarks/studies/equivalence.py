"""Is a faster update the same update? Its gated numbers against those of the plain fp32 loop, on many seeds.

Equivalence is shown, not assumed from a difference that was not found: two one-sided Welch's tests, with the
gate's floors as the margin, below which nothing is called a regression. The plain loop trained the gate's
baseline and pool: one backward pass a player, fp32.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from alibench.benchmarks.commands.regression import BASELINES
from alibench.results import formats, gate
from alibench.results.baseline import Baseline
from alibench.results.cells import Cell
from alibench.results.statistics import LEVEL, equivalence, equivalence_power, holm, welch

SUITE = "gate"
FEW = 10  # seeds
# Updates that are compared with the plain loop's; `bf16` was trained by --set recipe.precision=bf16.
WAYS = {
    "simultaneous": "one backward pass through D",
    "bf16": "one backward pass, networks in bf16",
}


def place(way: str) -> Path:
    """Return where a way's values are kept."""
    return BASELINES / f"{SUITE}-{way}.json"


def judge(plain: Sequence[Cell], other: Sequence[Cell], seeds: int) -> pd.DataFrame:
    """Return a line a cell: the means, the margin, the p of no equivalence on the first `seeds` of the other
    way.

    "power" is how likely so many seeds are to show equivalence if nothing differs. Differences and margins
    are in the cell's units, shares of the plain mean where the cell is on a logarithm.
    """
    lines = []
    by_key = {cell.key: cell for cell in plain}
    for new in other:
        old = by_key[new.key]
        a, b, margin = old.numbers, new.numbers[:seeds], gate.floor(old, new)
        means = {"plain": float(a.mean()), "this way": float(b.mean())}
        if old.gated.scale == "log":
            margin, a, b = float(np.log1p(margin / a.mean())), np.log(a), np.log(b)

        # On the scale: a ratio has its margin on the logarithm too.
        p = equivalence(b, a, margin)
        tests = {
            "difference": float(b.mean() - a.mean()),
            "margin": margin,
            "deviation of seeds": float(a.std(ddof=1)),
            "p": p,
            "power": equivalence_power(b, a, margin),
            "p of a difference": welch(a, b),
            "equivalent": "yes" if p < LEVEL else "not shown",
        }
        lines.append({"model": old.title, "measure": old.name, **means, **tests})
    return pd.DataFrame(lines)


def report(plain: Baseline, ways: dict[str, Baseline]) -> str:
    """Return what was shown, as Markdown."""
    # A line a way, and a table of its cells.
    summary, tables = [], []
    for way, values in ways.items():
        n, title = len(values.seeds), WAYS[way]
        many, few = (judge(plain.cells, values.cells, seeds) for seeds in (n, FEW))
        deviations = many.difference.abs() / many["deviation of seeds"]
        summary.append({
            "way": title,
            f"cells equivalent, {FEW} seeds": _shown(few),
            "by all its seeds": _shown(many),
            "seeds": n,
            "differences found": int((holm(many["p of a difference"].to_numpy()) < LEVEL).sum()),
            "median difference, in deviations": f"{deviations.median():.2f}",
        })  # fmt: skip
        cells = many.set_index("model").map(lambda cell: cell if isinstance(cell, str) else f"{cell:.4g}")
        tables += [f"## By {title}: {n} seeds", formats.table(cells)]

    parts = [
        "# Is a faster update the same update?",
        f"Suite `gate`. The plain loop: {len(plain.seeds)} seeds, one backward pass a player, fp32 (the "
        "gate's baseline and pool). Two one-sided Welch's tests at 5 %, margin: the gate's floor, below "
        "which nothing is a regression; each cell by itself. Differences and margins of errors and "
        "distances are on the logarithm. By `nox -s gate_study -- updates`.",
        "Equivalence within these floors is a hard demand: two thirds of them lie below half of the seeds' "
        "own deviation, and to show it for such a cell takes hundreds of seeds on either side even where "
        "nothing differs at all. So beside it stands how many cells so many seeds are expected to show if "
        "nothing differs (the sum of the tests' powers), and whether any difference is found (Welch, Holm "
        "over all cells, 5 %), which is the weaker statement.",
        formats.table(pd.DataFrame(summary).set_index("way")),
        *tables,
    ]
    return "\n\n".join(parts) + "\n"


def _shown(judged: pd.DataFrame) -> str:
    shown = (judged.equivalent == "yes").sum()
    return f"{shown} of {len(judged)} (expected: {judged.power.sum():.0f})"
