"""`alibench tune`: the same trials for every model, judged on validation; test is never opened here."""

from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import click
import pandas as pd
from rich.console import Console

from alibench.benchmarks.checkup import checkup
from alibench.benchmarks.commands import options
from alibench.benchmarks.commands.carrying import Outcomes, Task, carry_out, ended
from alibench.benchmarks.commands.command import Command
from alibench.benchmarks.commands.options import Effort, Location, Selection
from alibench.benchmarks.commands.publishing import line, show
from alibench.benchmarks.config import checks, devices, loading, plugins
from alibench.benchmarks.config.schema import Entry, Search, Suite
from alibench.benchmarks.running import outputs, space
from alibench.benchmarks.running.answers import Answer
from alibench.benchmarks.running.jobs import Job, Workplace
from alibench.benchmarks.running.outputs import Destination, Output
from alibench.benchmarks.training import peers
from alibench.evaluation import files
from alibench.evaluation.errors import BadInput, check_name
from alibench.evaluation.metrics import COLUMNS, METRICS
from alibench.results import formats, rows

FIRST_SEED = 1000  # far from the seeds of any table
ABOUT = "SUITE is a built-in suite (see 'alibench list') or a TOML file."
EXAMPLES = (
    "alibench tune digits --models ali vae --out tuned",
    "alibench tune digits --set 'search.lr=[1e-3, 2e-3]' --dry-run",
)


@click.command("tune", cls=Command, about=ABOUT, examples=EXAMPLES)
@options.selection
@options.destination
@options.machine()
@options.effort
@options.tensorboard
@options.track
@options.plugins
def command(
    console: Console, selection: Selection, destination: Destination, machine: Location, effort: Effort
) -> Answer:
    """Carry out the command. Raises BadInput before anything is written."""
    # The suites, with the models of the user's.
    more = () if selection.models else plugins.names(elsewhere=True)
    suites = [checks.with_models(suite, more) for suite in selection.load(*loading.read(selection.suite))]

    # The engine, and whether all of it can be done there.
    engine = machine.engine(suites)
    suites = devices.resolved(suites, engine.device, alone=peers.world() == 1)
    for suite in suites:
        _check(suite)
    checkup.rehearse(suites)

    def jobs(place: Workplace) -> list[Job]:
        all_trials = [(trial, suite) for suite in suites for trial in trials(suite)]
        return [
            job
            for trial, suite in all_trials
            for job in place.trainings(
                trial, range(FIRST_SEED, FIRST_SEED + _search(suite).seeds), "validation"
            )
        ]

    def finish(out: Output, outcomes: Outcomes) -> Answer:
        judged: dict[str, list[dict[str, Any]]] = {}
        for suite in suites:
            table = ranked(suite, rows.read(out.path))
            files.replace(out.path / f"{suite.name}.csv", formats.csv(table, index=False))
            sheet = formats.plain("judged on validation", table.set_index("model").map(str))
            show(console, {suite.name: sheet})
            judged[suite.name] = [dict(row) for row in table.to_dict("records")]  # type: ignore[arg-type]
        line(console, f"Trials are in {out.path}")
        return ended(out, outcomes, console, {"trials": judged})

    # The space is that of all trials, each like a run.
    plan = outputs.plan(suites, engine.device, plugins=plugins.contents())
    trained = [replace(trial, seeds=_search(suite).seeds) for suite in suites for trial in trials(suite)]
    task = Task(f"tune-{Path(selection.suite).stem}", plan, jobs, space.disk(trained, engine.size))
    return carry_out(task, engine, destination, effort, console, finish)


def _check(suite: Suite) -> None:
    """Refuse a suite whose trials could not be trained or judged. Raises BadInput."""
    if suite.search is None:
        raise BadInput(f"suite '{suite.name}' has no [search] table: it says which trials every model gets")
    suite.check_trains()

    # A measure that no metric takes would leave all trials equal.
    measured = [column.metric for metric in suite.metrics for column in METRICS[metric].COLUMNS]
    for measure in suite.search.judged_by:
        check_name(measure, measured, f"suite '{suite.name}', search.judged_by: its metrics do not measure")


def _search(suite: Suite) -> Search:
    assert suite.search is not None
    return suite.search


def _changes(suite: Suite) -> list[dict[str, float]]:
    """Return the search space: the changes of each trial in a recipe."""
    pairs = product(_search(suite).lr, _search(suite).beta1)
    return [{"lr": lr, "beta1": beta1} for lr, beta1 in pairs]


def trials(suite: Suite) -> list[Suite]:
    """Return the suite of each trial, NAME-trial0 and so on: every model's recipe with the same changes."""

    def changed(index: int, changes: dict[str, float]) -> Suite:
        entries = {name: suite.model.get(name, Entry()) for name in suite.models}
        entries = {name: replace(e, recipe={**e.recipe, **changes}) for name, e in entries.items()}
        return replace(suite, name=f"{suite.name}-trial{index}", model={**suite.model, **entries})

    return [changed(index, changes) for index, changes in enumerate(_changes(suite))]


def ranked(suite: Suite, frame: pd.DataFrame) -> pd.DataFrame:
    """Return a row for each finished trial of each model, with its mean rank, a model's best first."""
    judged_by = _search(suite).judged_by
    table = pd.DataFrame(_means(suite, frame))
    if table.empty:  # every trial failed
        return pd.DataFrame(columns=["model", *_changes(suite)[0], *judged_by, "mean rank"])

    # A measure that no trial could take ranks last.
    by_model = table.groupby("model")
    ranks = {
        m: by_model[m].rank(ascending=COLUMNS[m].better == "lower", na_option="bottom") for m in judged_by
    }
    table["mean rank"] = pd.DataFrame(ranks).mean(axis=1)

    # Of equal ranks, the better by the last measure.
    last = judged_by[-1]
    order = {"model": True, "mean rank": True, last: COLUMNS[last].better == "lower"}
    return table.sort_values(list(order), ascending=list(order.values()))


def _means(suite: Suite, frame: pd.DataFrame) -> list[dict[str, Any]]:
    """Return the mean over seeds of each measure, for each trial and model that has rows."""
    means = []
    for trial, changes in zip(trials(suite), _changes(suite), strict=True):
        for name in suite.models:
            measured = frame[(frame.suite == trial.name) & (frame.model == name)]
            if len(measured):
                # of a measure by several protocols the first counts: the mean code, C by validation
                first = measured[measured.protocol == measured.groupby("metric").protocol.transform("first")]
                values = first.groupby("metric").value.mean()
                judged = {measure: values.get(measure) for measure in _search(suite).judged_by}
                means.append({"model": name, **changes, **judged})
    return means
