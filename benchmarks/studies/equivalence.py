"""Is a faster update the same update? Its gated numbers against those of the plain fp32 loop, on many seeds.

Equivalence is shown, not assumed from a difference that was not found: two one-sided Welch's tests, with the
gate's floors as the margin, below which nothing is called a regression. The plain loop is the one that the
gate's baseline and pool were trained by: one backward pass a player, fp32.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pandas as pd
import torch
from rich.console import Console

from alibench.benchmarks.commands import regression
from alibench.benchmarks.commands.regression import BASELINES
from alibench.benchmarks.config import loading
from alibench.benchmarks.running.local import Local
from alibench.benchmarks.running.outputs import Output
from alibench.benchmarks.running.provenance import command
from alibench.results import baseline, formats, gate
from alibench.results.baseline import Baseline
from alibench.results.cells import Cell
from alibench.results.statistics import LEVEL, equivalence, equivalence_power, holm, welch

FEW = 10  # seeds


@dataclass(frozen=True)
class Way:
    """An update that is compared with the plain loop's, and the seeds that it is trained with."""

    title: str
    settings: tuple[str, ...]
    seeds: range


WAYS = {
    "simultaneous": Way("one backward pass through D", (), range(5000, 5200)),
    "bf16": Way("one backward pass, networks in bf16", ("recipe.precision=bf16",), range(6000, 6040)),
}


def place(way: str) -> Path:
    """Return where a way's values are kept."""
    return BASELINES / f"gate-{way}.json"


def train(way: str, source: Path | None, console: Console) -> Path:
    """Train the gate's suite that way, or take its runs from `source`, and keep their gated values."""
    seeds = WAYS[way].seeds
    (suite,) = loading.load("gate", WAYS[way].settings)
    suite = replace(suite, first_seed=seeds.start, seeds=len(seeds))
    with TemporaryDirectory() as folder:
        if source is None:
            regression.train(
                suite, Local(torch.device("cpu")), Output(Path(folder), tuple(command())), console
            )
        found = baseline.collect(source or Path(folder), suite.name, suite.gate, suite.models, seeds)
    baseline.write(place(way), found)
    return place(way)


def judge(plain: Sequence[Cell], other: Sequence[Cell], seeds: int) -> pd.DataFrame:
    """Return a line a cell: the means, the margin, the p of no equivalence on the first `seeds` seeds of the
    other way.

    "power" is how likely so many seeds are to show equivalence if nothing differs. Differences and margins
    are in the cell's units, shares of the plain mean where the cell is on a logarithm.
    """
    lines = []
    by_key = {cell.key: cell for cell in plain}
    for new in other:
        old = by_key[new.key]
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
            "power": equivalence_power(b, a, margin),
            "p of a difference": welch(a, b),
            "equivalent": "yes" if p < LEVEL else "not shown",
        })  # fmt: skip
    return pd.DataFrame(lines)


def report(plain: Baseline, ways: dict[str, Baseline]) -> str:
    """Return what was shown, as Markdown."""
    parts = [
        "# Is a faster update the same update?",
        f"Suite `gate`. The plain loop: {len(plain.seeds)} seeds, one backward pass a player, fp32 (the "
        "gate's baseline "
        "and pool). Two one-sided Welch's tests at 5 %, margin: the gate's floor, below which nothing is a "
        "regression; each "
        "cell by itself. Differences and margins of errors and distances are on the logarithm. By `nox -s "
        "gate_study -- "
        "updates`.",
        "Equivalence within these floors is a hard demand: two thirds of them lie below half of the seeds' "
        "own deviation, "
        "and to show it for such a cell takes hundreds of seeds on either side even where nothing differs "
        "at all. So "
        "beside it stands how many cells so many seeds are expected to show if nothing differs (the sum of "
        "the tests' "
        "powers), and whether any difference is found (Welch, Holm over all cells, 5 %), which is the "
        "weaker statement.",
    ]
    summary, tables = [], []
    for way, found in ways.items():
        many, few = (judge(plain.cells, found.cells, n) for n in (len(found.seeds), FEW))
        summary.append({
            "way": WAYS[way].title,
            f"cells equivalent, {FEW} seeds": _shown(few),
            "by all its seeds": _shown(many),
            "seeds": len(found.seeds),
            "differences found": int((holm(many["p of a difference"].to_numpy()) < LEVEL).sum()),
            "median difference, in deviations": f"{(many.difference.abs() / many['deviation of seeds']).median():.2f}",
        })  # fmt: skip
        text = many.set_index("model").map(lambda value: value if isinstance(value, str) else f"{value:.4g}")
        tables += [f"## By {WAYS[way].title}: {len(found.seeds)} seeds", formats.table(text)]
    parts.append(formats.table(pd.DataFrame(summary).set_index("way")))
    return "\n\n".join([*parts, *tables]) + "\n"


def _shown(judged: pd.DataFrame) -> str:
    shown = (judged.equivalent == "yes").sum()
    return f"{shown} of {len(judged)} (expected: {judged.power.sum():.0f})"
