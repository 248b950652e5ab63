"""Is a faster update the same update? Its gated numbers against those of the plain fp32 loop, on many seeds.

Equivalence is shown, not assumed from a difference that was not found: two one-sided Welch's tests, with the gate's floors
as the margin, below which nothing is called a regression. The plain loop is the one that the gate's baseline and pool were
trained by: one backward pass a player, fp32.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pandas as pd
import torch
from rich.console import Console

from benchmarks import config, regression
from benchmarks.regression import BASELINES
from results import baseline, formats, gate
from results.baseline import Baseline
from results.gate import Cell
from results.statistics import LEVEL, equivalence

FIRST_SEED, SEEDS, FEW = 5000, 40, 10
WAYS = {
    "simultaneous": ("one backward pass through D for all players", []),
    "bf16": ("the same, networks in bf16", ["recipe.precision=bf16"]),
}


def place(way: str) -> Path:
    """Return where a way's values are kept."""
    return BASELINES / f"gate-{way}.json"


def train(way: str, source: Path | None, console: Console) -> Path:
    """Train SEEDS seeds of the gate's suite that way, or take them from runs in `source`, and keep their gated values."""
    (suite,) = config.load("gate", WAYS[way][1])
    suite = replace(suite, first_seed=FIRST_SEED + SEEDS * list(WAYS).index(way), seeds=SEEDS)
    with TemporaryDirectory() as folder:
        if source is None:
            regression.train(suite, torch.device("cpu"), Path(folder), console)
        found = baseline.collect(source or Path(folder), suite.name, suite.gate, suite.models)
    baseline.write(place(way), found)
    return place(way)


def judge(plain: Sequence[Cell], other: Sequence[Cell], seeds: int) -> pd.DataFrame:
    """Return a line a cell: the means, the margin, the p of no equivalence on the first `seeds` seeds of the other way.

    Differences and margins are in the cell's units, shares of the plain mean where the cell is on a logarithm.
    """
    lines = []
    for old, new in zip(plain, other, strict=True):
        a, b = old.numbers, new.numbers[:seeds]
        margin = gate.floor(old, new)
        if old.gated.scale == "log":
            margin, a, b = float(np.log1p(margin / old.numbers.mean())), np.log(a), np.log(b)
        p = equivalence(b, a, margin)
        lines.append({
            "model": old.title,
            "measure": old.name,
            "plain": float(old.numbers.mean()),
            "this way": float(new.numbers[:seeds].mean()),
            "difference": float(b.mean() - a.mean()),
            "margin": margin,
            "deviation of seeds": float(a.std(ddof=1)),
            "p": p,
            "equivalent": "yes" if p < LEVEL else "not shown",
        })  # fmt: skip
    return pd.DataFrame(lines)


def report(plain: Baseline, ways: dict[str, Baseline]) -> str:
    """Return what was shown, as Markdown."""
    parts = [
        "# Is a faster update the same update?",
        f"Suite `gate`. The plain loop: {len(plain.seeds)} seeds, one backward pass a player, fp32 (the gate's baseline "
        "and pool). Two one-sided Welch's tests at 5 %, margin: the gate's floor, below which nothing is a regression; each "
        "cell by itself. Floors are about one deviation of the seeds, so ten seeds are too few to show it surely even where "
        "nothing differs; hence the second column. By `nox -s gate_study -- updates`.",
    ]
    summary, tables = {}, []
    for way, found in ways.items():
        many, few = (judge(plain.cells, found.cells, n) for n in (len(found.seeds), FEW))
        shown = [f"{(table.equivalent == 'yes').sum()} of {len(table)}" for table in (few, many)]
        farthest = (many.difference.abs() / many.margin).max()
        summary[WAYS[way][0]] = [*shown, f"{farthest:.2f}"]
        many = many.rename(columns={"p": f"p, {len(found.seeds)} seeds"}).assign(**{f"p, {FEW} seeds": few.p})
        text = many.set_index("model").map(lambda value: value if isinstance(value, str) else f"{value:.4g}")
        tables += [f"## {WAYS[way][0].capitalize()}", formats.table(text)]
    count = len(next(iter(ways.values())).seeds)
    columns = [f"cells equivalent, {FEW} seeds", f"{count} seeds", "largest difference, in margins"]
    parts.append(formats.table(pd.DataFrame(summary, columns).T.rename_axis("way")))
    return "\n\n".join([*parts, *tables]) + "\n"
