"""Wide, paper-style tables from rows: a line for each model and reference, mean ± deviation over seeds.

Which columns a table has is data (results/layouts.py).
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from alibench.evaluation.measurement import Column
from alibench.evaluation.metrics import COLUMNS
from alibench.results import formats, statistics
from alibench.results.captions import caption
from alibench.results.formats import Sheet
from alibench.results.layouts import ARROWS, BRIEF, CATALOGUE, DRAWN_SETTINGS, SPREAD, TABLES, Measure, Table
from alibench.results.values import against_best, better, of_seeds, own, rivals

__all__ = ["own", "rivals", "runs", "sheet", "shown_p", "spreads", "summaries", "tables", "wide", "write"]


class Filled(NamedTuple):
    """A column of a table, a cell a model; `numbers` are behind a cell, one a seed."""

    texts: list[str]
    best: list[bool]
    numbers: list[tuple[float, ...]] | None = None


def wide(rows: pd.DataFrame, table: Table) -> Sheet | None:
    """Return a table of one suite's rows without its caption, an index of titles; None if it is empty."""
    if table.needs and not (rows.metric == table.needs).any():
        return None
    # Lines: every model that has a row of a metric of this table.
    metrics = {measure.metric for measure in table.measures}
    shown = rows[rows.metric.isin(metrics)]
    models = list(dict.fromkeys(shown.model))
    # columns look at spreads of speeds too, and at the draws that semi-supervised models were trained on
    rows = rows[rows.metric.isin(metrics | {"class_accuracy"} | {f"{metric}_iqr" for metric in metrics})]

    # Columns: every measure that some model has.
    columns: dict[str, Filled] = {}
    for measure in table.measures:
        title = (measure.title or CATALOGUE[measure.metric].title) + ARROWS[better(measure)]
        if (filled := _column(rows, measure, models)) is not None:
            columns[title] = filled
    if not columns:
        return None

    # Three frames of one shape: texts, bold cells, numbers behind them.
    titles = dict(zip(shown.model, shown.title, strict=True))
    index = pd.Index([titles[model] for model in models], name="model")
    texts = {"seeds": _counts(shown, models), **{title: filled.texts for title, filled in columns.items()}}
    best = {"seeds": False, **{title: filled.best for title, filled in columns.items()}}
    numbers = {title: filled.numbers for title, filled in columns.items() if filled.numbers is not None}
    frames = (pd.DataFrame(content, index) for content in (texts, best, numbers))
    return Sheet("", next(frames), next(frames), seeds=next(frames))


def _counts(rows: pd.DataFrame, models: Sequence[str]) -> list[str]:
    """Return the number of seeds of each model, with the diverged ones in brackets."""
    finished = rows[rows.status == "ok"].groupby("model").seed.nunique()
    failed = rows[rows.status == "diverged"].groupby("model").seed.nunique()
    return [
        str(finished.get(model, 0) or "–") + (f" ({failed[model]} diverged)" if model in failed else "")
        for model in models
    ]


def _column(rows: pd.DataFrame, measure: Measure, models: Sequence[str]) -> Filled | None:
    """Return a column's cells in the order of `models`; None if no model has a number."""
    values, column = of_seeds(rows, measure), CATALOGUE[measure.metric]
    of_metric = rows[rows.metric == measure.metric]
    if values.empty:
        return None
    # Words, not numbers.
    if measure.derived == "reasons":
        return Filled([_reasons(of_metric, model) for model in models], [False] * len(models))

    # The spread of a speed is over repeats, since it is measured once.
    ranges = of_seeds(rows, Measure(f"{measure.metric}_iqr")).groupby(level="model").first()
    p = against_best(rows, measure)
    texts, behind = [], []
    for model in models:
        numbers = values[values.index.get_level_values("model") == model].dropna()
        text = _mean(numbers, column, measure) if len(numbers) else _absent(of_metric, model, measure)
        if len(numbers) == 1 and model in ranges:
            text += f" ± {ranges[model]:.{column.digits}f}"
        texts.append(text)
        behind.append(tuple(numbers))
    return Filled(texts, [p.get(model, 0.0) >= statistics.LEVEL for model in models], behind)


def _mean(values: pd.Series, column: Column, measure: Measure) -> str:
    plus = "+" if measure.derived.startswith("over ") else ""
    mean = f"{values.mean():{plus}.{column.digits}f}"
    return f"{mean} ± {values.std():.{column.digits}f}" if len(values) > 1 else mean


def _absent(rows: pd.DataFrame, model: str, measure: Measure) -> str:
    """Return why a cell is empty: its runs diverged, or made what cannot be measured; else ""."""
    of_model = rows[rows.model == model]
    # a diverged run has no protocol
    is_meant = of_model.protocol.str.startswith(measure.protocol)
    if (of_model.status == "diverged").any():
        return "diverged"
    return "refused" if (is_meant & (of_model.status == "refused")).any() else ""


def _reasons(rows: pd.DataFrame, model: str) -> str:
    """Return the reasons in a model's rows of one metric, each with the number of runs if not all have it."""
    of_model = rows[rows.model == model]
    reasons = of_model.reason.str.split(", ").explode()
    # in the order in which they first appear
    counts = reasons[reasons != ""].value_counts(sort=False)
    named = [
        str(reason) if count == len(of_model) else f"{reason} ({count} of {len(of_model)})"
        for reason, count in counts.items()
    ]
    return ", ".join(named) or ("none" if len(of_model) else "")


def sheet(rows: pd.DataFrame, table: Table) -> Sheet | None:
    """Return a table of one suite's rows with its caption; None if nothing of it was measured."""
    bare = wide(rows, table)
    return bare and bare._replace(caption=caption(rows, table, bare.best))


def runs(rows: pd.DataFrame) -> pd.DataFrame:
    """Return a line for each run of a suite whose seeds drew their settings: the settings and the numbers."""
    drawn = rows[rows.metric.isin([column.metric for column in DRAWN_SETTINGS])]
    if drawn.empty:
        return pd.DataFrame()

    lines = []
    # A run that diverged shows that in place of its numbers.
    of_models = rows[rows.run_id.isin(drawn.run_id) & rows.model.isin(drawn.model)]
    for _, run in of_models.groupby("run_id", sort=False):
        line = {"model": run.title.iloc[0], "seed": str(run.seed.iloc[0])}
        for column in (*DRAWN_SETTINGS, *COLUMNS.values()):
            measured = run[run.metric == column.metric]
            several = len(set(measured.protocol)) > 1
            for (protocol, status), group in measured.groupby(["protocol", "status"], sort=False):
                title = column.title + (f", {protocol}" if several else "")
                if status != "not applicable":
                    number = f"{group.value.mean():.{column.digits}f}"
                    line[title] = status if status == "diverged" else number
        lines.append(line)
    return pd.DataFrame(lines).fillna("").set_index("model")


def spreads(rows: pd.DataFrame) -> pd.DataFrame:
    """Return the statistics behind one suite's tables, a line a measure and model with two seeds or more.

    The spread over training seeds stands apart from the spreads of the same weights: other draws of samples
    and codes (`evaluation.resamples`), other draws of labels.
    """
    rows = rows[rivals(rows) & (rows.kind == "quality")]
    # Every measure once, under the metric's title.
    listed = (each for table in TABLES if table.name in SPREAD for each in table.measures if not each.derived)
    lines = []
    for measure in dict.fromkeys(replace(each, title="") for each in listed):
        values, p = of_seeds(rows, measure).dropna(), against_best(rows, measure)
        has_protocol = rows.protocol.str.startswith(measure.protocol)
        measured = rows[(rows.metric == measure.metric) & has_protocol]
        for model, numbers in values.groupby(level="model", sort=False):
            if len(numbers) > 1:
                lines.append(_statistics(measured[measured.model == model], numbers, measure, p))
    frame = pd.DataFrame(lines)
    return frame.loc[:, (frame != "").any()].set_index("measure") if lines else frame


def _statistics(
    rows: pd.DataFrame, numbers: pd.Series, measure: Measure, p: Mapping[str, float]
) -> dict[str, str]:
    column = CATALOGUE[measure.metric]

    def shown(value: float) -> str:
        return "" if pd.isna(value) else f"{value:.{column.digits}f}"

    def over_draws(drawn: pd.DataFrame) -> str:
        return shown(drawn[drawn.draw.notna()].groupby("seed").value.std().mean())

    # Spread over training seeds, then over draws from the same weights.
    low, high = map(shown, statistics.interval(numbers.to_numpy()))
    return {
        "measure": column.title + (f", {measure.protocol}" if measure.protocol else ""),
        "model": str(rows.title.iloc[0]),
        "seeds": str(len(numbers)),
        "mean": shown(numbers.mean()),
        "95 % interval": f"{low} to {high}",
        "std, training seeds": shown(numbers.std()),
        "std, draws of samples": over_draws(rows[rows.labels.isna()]),
        "std, draws of labels": over_draws(rows[rows.labels.notna()]),
        "p against the best": shown_p(p.get(rows.model.iloc[0])) if p else "",
    }


def shown_p(p: float | None) -> str:
    """Return a p-value for a reader; none: "not tested"."""
    if p is None:
        return "not tested"
    return f"{p:.1g}" if p >= 1e-4 else "< 0.0001"


def tables(rows: pd.DataFrame) -> dict[str, Sheet]:
    """Return all tables of all suites by name; lines stand in the rows' order."""
    sheets = {}
    for suite, of_suite in rows.groupby("suite"):
        dataset = of_suite.dataset.iloc[0]
        # Settings that seeds drew, then the layouts, then statistics.
        if len(every := runs(of_suite)):
            text = f"{dataset}: every run, with the settings that its seed drew."
            sheets[f"{suite}-runs"] = formats.plain(text, every)
        for table in TABLES:
            if (made := sheet(of_suite, table)) is not None:
                sheets[f"{suite}-{table.name}"] = made
        if len(frame := spreads(of_suite)):
            text = (
                f"{dataset}: mean over training seeds with Student's interval, and where spread comes from: "
                "training seeds, or the same weights with other draws of samples or labels. "
                "p: that no other model is better, Welch's one-sided t against each, Bonferroni."
            )
            sheets[f"{suite}-statistics"] = formats.plain(text, frame)
    return sheets


def summaries(rows: pd.DataFrame) -> dict[str, Sheet]:
    """Return the brief overview of each suite by name; of a suite without one, all its tables."""
    sheets = dict[str, Sheet]()
    for suite, of_suite in rows.groupby("suite"):
        overview = sheet(of_suite, BRIEF)
        sheets |= tables(of_suite) if overview is None else {f"{suite}-{BRIEF.name}": overview}
    return sheets


def write(out: Path, rows: pd.DataFrame) -> dict[str, Sheet]:
    """Write every table of a run's folder; return them."""
    sheets = tables(rows)
    formats.write(out, sheets)
    return sheets
