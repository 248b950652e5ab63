"""Wide, paper-style tables from rows: a line for each model and reference, mean ± standard deviation over
seeds.

Which columns a table has is data (results/layouts.py). Several draws within a seed are averaged first: their
spread is not the spread of training.
"""

from dataclasses import replace
from pathlib import Path
from typing import Literal

import pandas as pd

from alibench.evaluation.measurement import Column
from alibench.evaluation.metrics import COLUMNS
from alibench.evaluation.protocols import CODE_ALONE, STANDARDISED
from alibench.evaluation.representation import OF_D
from alibench.results import formats, statistics
from alibench.results.formats import Sheet
from alibench.results.layouts import ARROWS, CATALOGUE, DRAWN, SPREAD, TABLES, Cell, Table
from alibench.results.statistics import TESTED_FROM


def _values(rows: pd.DataFrame, cell: Cell) -> pd.Series:
    """Return one value for each (model, seed) of a cell's column; draws of labels averaged."""
    every = rows
    rows = rows.loc[
        (rows.metric == cell.metric) & (rows.status == "ok"), ["model", "seed", "protocol", "draw", "value"]
    ]
    if cell.protocol:
        rows = rows[rows.protocol.str.startswith(cell.protocol)]
    if cell.derived.startswith("same labels"):  # a reference without a seed has every run's draw
        trained = every[every.metric == "class_accuracy"].seed.dropna().unique()
        rows = rows[(rows.draw == rows.seed).fillna(False) | (rows.seed.isna() & rows.draw.isin(trained))]
    if cell.derived.endswith("error"):
        rows = rows.assign(value=100 - rows.value)
    elif cell.derived.startswith("over "):
        reference = cell.derived.removeprefix("over ")
        own = rows[rows.model == reference]
        # a reference with seeds of its own is averaged over them: equal seed numbers of two models are no
        # pairs
        rows = rows[(rows.model != reference)].assign(
            value=lambda frame: frame.value - frame.draw.map(own.groupby("draw").value.mean())
        )
    groups = rows.groupby(["model", "seed"], dropna=False, sort=False).value
    return groups.std() if cell.derived == "spread" else groups.mean()


def _show(values: pd.Series, column: Column, signed: bool) -> str:
    plus = "+" if signed else ""
    mean = f"{values.mean():{plus}.{column.digits}f}"
    return f"{mean} ± {values.std():.{column.digits}f}" if len(values) > 1 else mean


def _absent(rows: pd.DataFrame, model: str, cell: Cell) -> str:
    """Say why a cell is empty: its runs diverged, or made what cannot be measured; nothing where there is no
    such number.
    """
    own = rows[(rows.model == model) & (rows.metric == cell.metric)]
    own = (
        own[own.protocol.str.startswith(cell.protocol) | (own.status == "diverged")] if cell.protocol else own
    )
    for status in ("diverged", "refused"):
        if (own.status == status).any():
            return status
    return ""


def _reasons(rows: pd.DataFrame, model: str, metric: str) -> str:
    """Return the reasons that a model's rows of a metric give, each with the number of runs if not all have
    it.
    """
    own = rows[(rows.model == model) & (rows.metric == metric)]
    named = own.reason.str.split(", ").explode()
    counts = named[named != ""].value_counts(sort=False)
    told = [
        str(name) if count == len(own) else f"{name} ({count} of {len(own)})"
        for name, count in counts.items()
    ]
    return ", ".join(told) or ("none" if len(own) else "")


def own_values(rows: pd.DataFrame, cell: Cell) -> pd.Series:
    """Return one value a seed of a cell's column for one model's rows."""
    return _values(rows, cell).dropna().droplevel("model")


def own(rows: pd.DataFrame) -> pd.Series:
    """Return which rows are a model's own, not those of a reference that stands beside the models."""
    named = zip(rows.run_id, rows.suite, rows.model, strict=True)
    return pd.Series(
        [run.startswith(f"{suite}-{model}-") for run, suite, model in named], rows.index, dtype=bool
    )


def rivals(rows: pd.DataFrame) -> pd.Series:
    """Return which rows take part in comparisons: a model's own, and those on features of the D that it
    trained.

    Raw pixels, untrained encoders, noise and held-out data stand beside them: nothing was trained for those.
    """
    return own(rows) | rows.model.str.endswith(OF_D)


def _better(cell: Cell) -> Literal["higher", "lower", ""]:
    if cell.derived in ("spread", "reasons"):
        return ""
    return "lower" if cell.derived.endswith("error") else CATALOGUE[cell.metric].better


def compared(rows: pd.DataFrame, cell: Cell) -> dict[str, float]:
    """Return the adjusted p of each model against the best of a column; empty where nothing can be tested.

    Models with fewer than five seeds are left aside, and rows that are not `rivals`.
    """
    better = _better(cell)
    if not better or rows.seed.nunique() < TESTED_FROM:
        return {}
    values = _values(rows[rivals(rows)], cell).dropna()
    samples = {
        str(model): of_seeds.to_numpy() for model, of_seeds in values.groupby(level="model", sort=False)
    }
    return statistics.against_best({m: v for m, v in samples.items() if len(v) >= TESTED_FROM}, better)


def wide(rows: pd.DataFrame, table: Table) -> Sheet | None:
    """Return a table of one suite's rows without its caption, titles as index; none if no cell of it was
    measured.
    """
    if table.needs and not (rows.metric == table.needs).any():
        return None
    metrics = {cell.metric for cell in table.cells}
    asked = rows[rows.metric.isin(metrics)]
    # the rest of what cells look at: spreads of speeds, and which draws semi-supervised models were trained
    # on
    rows = rows[rows.metric.isin(metrics | {"class_accuracy"} | {f"{metric}_iqr" for metric in metrics})]
    models = list(dict.fromkeys(asked.model))
    titles = dict(zip(asked.model, asked.title, strict=True))
    columns: dict[str, list[str]] = {}
    best: dict[str, list[bool]] = {}
    behind: dict[str, list[tuple[float, ...]]] = {}
    measured = set(asked.metric)
    for cell in table.cells:
        if cell.metric not in measured:
            continue
        values, column = _values(rows, cell), CATALOGUE[cell.metric]
        if values.empty:
            continue
        title = (cell.title or column.title) + ARROWS[_better(cell)]
        if cell.derived == "reasons":
            columns[title] = [_reasons(rows, model, cell.metric) for model in models]
            best[title] = [False] * len(models)
            continue
        spread = _values(rows, Cell(f"{cell.metric}_iqr"))
        shown, behind[title] = [], []
        for model in models:
            found = values[values.index.get_level_values("model") == model].dropna()
            text = (
                _show(found, column, cell.derived.startswith("over "))
                if len(found)
                else _absent(rows, model, cell)
            )
            if len(found) == 1 and model in spread.index.get_level_values("model"):
                text += f" ± {spread[model].iloc[0]:.{column.digits}f}"
            shown.append(text)
            behind[title].append(tuple(found))
        p = compared(rows, cell)
        columns[title] = shown
        best[title] = [p.get(model, 0.0) >= statistics.LEVEL for model in models]
    if not columns:
        return None
    seeds = asked[asked.status == "ok"].groupby("model").seed.nunique()
    failed = asked[asked.status == "diverged"].groupby("model").seed.nunique()
    counts = {
        model: str(seeds.get(model, 0) or "–") + (f" ({failed[model]} diverged)" if model in failed else "")
        for model in models
    }
    index = pd.Index([titles[model] for model in models], name="model")
    frame = pd.DataFrame({"seeds": [counts[model] for model in models], **columns}, index)
    return Sheet("", frame, pd.DataFrame({"seeds": False, **best}, index), seeds=pd.DataFrame(behind, index))


def facts(rows: pd.DataFrame, table: Table, tests: str) -> str:
    """Return what a reader must know of a table's numbers, from the rows themselves, with what is said of its
    tests.
    """
    asked = rows[rows.metric.isin({cell.metric for cell in table.cells}) & (rows.status == "ok")]
    quality, timed = asked[asked.kind == "quality"], asked[asked.kind == "timing"]
    parts: list[str] = []
    if len(quality):
        parts = [
            f"Split: {', '.join(sorted(split for split in set(quality.split) if split)) or 'none'}",
            _sizes(quality),
        ]
        parts += [f"extractor {name}" for name in sorted(set(quality.extractor) - {""})]
        parts += [f"{labels} labels" for labels in sorted(quality.labels.dropna().unique())]
        if quality.protocol.str.endswith(f", {STANDARDISED}").any():
            parts.append("features standardised by the labelled images")
        if alone := sorted(set(quality[quality.protocol.str.contains(f", {CODE_ALONE}")].title)):
            parts.append(f"{', '.join(alone)}: the code alone, without hidden layers")
        parts.append(f"weights: {', '.join(sorted(set(quality.weights)))}")
        if (quality[quality.metric == "kid"].value < 0).any():
            parts.append("KID is estimated without bias, so a value below 0 means a distance near 0")
        parts.append(tests)
    if len(timed) and not (asked.kind == "budget").any():
        parts += [
            "; ".join(sorted(set(timed.protocol)))
            if not parts
            else f"speed: {', '.join(sorted(set(timed.protocol)))}, ± the interquartile range of repeats"
        ]
    return "; ".join(part for part in parts if part) + "." * bool(parts)


def _tests(rows: pd.DataFrame, table: Table, best: pd.DataFrame) -> str:
    """Say what bold means in a table, or that nothing in it is tested."""
    if best.to_numpy().any():
        share = f"{statistics.LEVEL:.0%}".replace("%", " %")
        return f"bold: the best, and what is not told from it (Welch's t, Holm over all pairs of a column, {share})"
    metrics = {cell.metric for cell in table.cells if _better(cell)}
    compared = set(rows[rivals(rows) & rows.metric.isin(metrics) & (rows.status == "ok")].model)
    return (
        f"differences between models: not tested (fewer than {TESTED_FROM} seeds)"
        if len(compared) > 1
        else ""
    )


def _sizes(own: pd.DataFrame) -> str:
    """Say how many samples the numbers are computed on, and which measures have another number."""
    sizes = {
        str(metric): "/".join(str(n) for n in sorted(group.n.dropna().unique()))
        for metric, group in own.groupby("metric")
    }
    sizes = {metric: size for metric, size in sizes.items() if size}
    if not sizes:
        return ""
    usual = max(sizes.values(), key=list(sizes.values()).count)
    others = [f"{CATALOGUE[metric].title}: {size}" for metric, size in sizes.items() if size != usual]
    return f"n = {usual}" + "".join(f" ({other})" for other in others)


def runs(rows: pd.DataFrame) -> pd.DataFrame:
    """Return a line for each run of a suite whose seeds drew their settings: what was drawn and what came
    out.
    """
    drawn = rows[rows.metric.isin([column.metric for column in DRAWN])]
    if drawn.empty:
        return pd.DataFrame()
    own = rows[rows.run_id.isin(drawn.run_id) & rows.model.isin(drawn.model)]
    lines = []
    for _, run in own.groupby("run_id", sort=False):
        first = run.iloc[0]
        line = {"model": first.title, "seed": str(first.seed)}
        for column in (*DRAWN, *COLUMNS.values()):
            found = run[run.metric == column.metric]
            for (protocol, status), cells in found.groupby(["protocol", "status"], sort=False):
                title = column.title + (f", {protocol}" if len(set(found.protocol)) > 1 else "")
                if status != "not applicable":
                    line[title] = (
                        status if status == "diverged" else f"{cells.value.mean():.{column.digits}f}"
                    )
        lines.append(line)
    return pd.DataFrame(lines).fillna("").set_index("model")


def sheet(rows: pd.DataFrame, table: Table) -> Sheet | None:
    """Return a table of one suite's rows with its caption; none if no cell of it was measured."""
    found = wide(rows, table)
    if found is None:
        return None
    caption = table.caption.format(facts=facts(rows, table, _tests(rows, table, found.best))).strip()
    return found._replace(caption=f"{rows.dataset.iloc[0]}: {caption}")


def spreads(rows: pd.DataFrame) -> pd.DataFrame:
    """Return the statistics behind one suite's tables, a line a measure and model with two seeds or more.

    The spread over training seeds stands apart from those of the same weights: other draws of samples and
    codes (`evaluation.resamples`), other draws of labels.
    """
    rows = rows[rivals(rows) & (rows.kind == "quality")]
    lines = []
    named = (cell for table in TABLES if table.name in SPREAD for cell in table.cells if not cell.derived)
    for cell in dict.fromkeys(replace(cell, title="") for cell in named):
        values, column, p = _values(rows, cell).dropna(), CATALOGUE[cell.metric], compared(rows, cell)
        for model, found in values.groupby(level="model", sort=False):
            if len(found) < 2:
                continue
            asked = rows[
                (rows.metric == cell.metric)
                & (rows.model == model)
                & rows.protocol.str.startswith(cell.protocol)
            ]
            low, high = (f"{end:.{column.digits}f}" for end in statistics.interval(found.to_numpy()))
            deviation = {
                name: part[part.draw.notna()].groupby("seed").value.std().mean()
                for name, part in (
                    ("samples", asked[asked.labels.isna()]),
                    ("labels", asked[asked.labels.notna()]),
                )
            }
            lines.append({
                "measure": column.title + (f", {cell.protocol}" if cell.protocol else ""),
                "model": str(asked.title.iloc[0]),
                "seeds": str(len(found)),
                "mean": f"{found.mean():.{column.digits}f}",
                "95 % interval": f"{low} to {high}",
                "std, training seeds": f"{found.std():.{column.digits}f}",
                **{f"std, draws of {of}": _shown(std, column) for of, std in deviation.items()},
                "p against the best": _p(p.get(str(model))) if len(p) else "",
            })  # fmt: skip
    frame = pd.DataFrame(lines)
    return frame.loc[:, (frame != "").any()].set_index("measure") if lines else frame


def _shown(value: float, column: Column) -> str:
    return "" if pd.isna(value) else f"{value:.{column.digits}f}"


def _p(p: float | None) -> str:
    if p is None:
        return "not tested"
    return f"{p:.1g}" if p >= 1e-4 else "< 0.0001"


def tables(rows: pd.DataFrame) -> dict[str, Sheet]:
    """Return all tables of all suites by name; lines stand in the rows' order."""
    made = {}
    for suite, own_rows in rows.groupby("suite"):
        dataset = own_rows.dataset.iloc[0]
        every = runs(own_rows)
        if len(every):
            made[f"{suite}-runs"] = formats.plain(
                f"{dataset}: every run, with the settings that its seed drew.", every
            )
        for table in TABLES:
            if made_sheet := sheet(own_rows, table):
                made[f"{suite}-{table.name}"] = made_sheet
        if len(frame := spreads(own_rows)):
            made[f"{suite}-statistics"] = formats.plain(
                f"{dataset}: mean over training seeds with Student's interval, and where spread comes from: "
                "training seeds, "
                "or the same weights with other draws of samples or labels. p: Welch's t, Holm over all "
                "pairs of models.",
                frame,
            )
    return made


def write(out: Path, rows: pd.DataFrame) -> dict[str, Sheet]:
    """Write every table of a run's folder; return them."""
    made = tables(rows)
    formats.write(out, made)
    return made
