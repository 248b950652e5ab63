"""The same tuning trials for every model, judged on validation (a rule of fair comparison): test is never
opened here.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from rich.console import Console

from alibench.benchmarks.config.schema import Entry, Suite
from alibench.benchmarks.running.engine import Engine
from alibench.benchmarks.running.jobs import Job
from alibench.benchmarks.running.outcomes import Outcome
from alibench.benchmarks.running.runner import run
from alibench.evaluation.metrics import COLUMNS
from alibench.results import rows

FIRST_SEED = 1000  # far from the seeds of any table


def trials(suite: Suite) -> list[dict[str, float]]:
    """Return the search space, as what each trial changes in a recipe."""
    assert suite.search is not None
    return [{"lr": lr, "beta1": beta1} for lr, beta1 in product(suite.search.lr, suite.search.beta1)]


def _trial(suite: Suite, index: int, changes: Mapping[str, float]) -> Suite:
    entries = {
        name: replace(
            suite.model.get(name, Entry()), recipe={**suite.model.get(name, Entry()).recipe, **changes}
        )
        for name in suite.models
    }
    return replace(suite, name=f"{suite.name}-trial{index}", model={**suite.model, **entries})


def suites(suite: Suite) -> list[Suite]:
    """Return the suite of each trial."""
    assert suite.search is not None
    return [
        replace(_trial(suite, i, changes), seeds=suite.search.seeds)
        for i, changes in enumerate(trials(suite))
    ]


def work(
    suite: Suite, out: Path, device: torch.device, command: tuple[str, ...], **options: Any
) -> list[Job]:
    """Return the trials of all models, to be done below `out`."""
    assert suite.search is not None
    return [
        Job(
            "run",
            _trial(suite, i, changes),
            name,
            FIRST_SEED + seed,
            out,
            str(device),
            command,
            "validation",
            **options,
        )
        for i, changes in enumerate(trials(suite))
        for name in suite.models
        for seed in range(suite.search.seeds)
    ]


def tune(
    suite: Suite, work: Sequence[Job], engine: Engine, console: Console, retries: int
) -> tuple[pd.DataFrame, dict[str, Outcome]]:
    """Run all trials of all models; return a line a trial with its rank, the best of a model first, and
    outcomes.
    """
    assert suite.search is not None
    outcomes = run(work, engine, console, retries)
    frame = rows.read(work[0].out)
    lines: list[dict[str, Any]] = []
    for i, changes in enumerate(trials(suite)):
        for name in suite.models:
            own = frame[(frame.suite == f"{suite.name}-trial{i}") & (frame.model == name)]
            if len(own):
                # of a measure by several protocols the first counts: the mean code, C by validation
                first = own[own.protocol == own.groupby("metric").protocol.transform("first")]
                values = first[first.model == name].groupby("metric").value.mean()
                lines.append({"model": name, **changes, **{m: values.get(m) for m in suite.search.judged_by}})
    if not lines:  # every trial failed
        return pd.DataFrame(
            columns=["model", *trials(suite)[0], *suite.search.judged_by, "mean rank"]
        ), outcomes
    table = pd.DataFrame(lines)
    ranks = pd.DataFrame(
        {
            m: table.groupby("model")[m].rank(ascending=COLUMNS[m].better == "lower", na_option="bottom")
            for m in suite.search.judged_by
        }
    )
    table["mean rank"] = ranks.mean(axis=1)
    last = suite.search.judged_by[-1]
    order = {"model": True, "mean rank": True, last: COLUMNS[last].better == "lower"}
    return table.sort_values(list(order), ascending=list(order.values())), outcomes
