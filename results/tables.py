"""Wide, paper-style tables from rows: a line for each model and reference, mean ± standard deviation over seeds.

Which columns a table has is data (TABLES); what they are called and which direction is better comes from the metrics.
Several draws of labels within a seed are averaged first: their spread is not the spread of training.
"""

from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from evaluation import COLUMNS
from evaluation.base import Column
from results.rows import replace_file

BUDGET = (
    Column("updates_encoder", "updates of encoder", "", 0),
    Column("updates_decoder", "of decoder", "", 0),
    Column("updates_discriminator", "of discriminator", "", 0),
    Column("train_gflop", "training GFLOP", "", 0),
    Column("train_seconds", "training s", "", 1),
)
DRAWN = (
    Column("drawn_lr", "learning rate", "", 6),
    Column("drawn_beta1", "β₁", "", 3),
    Column("drawn_std", "σ of first weights", "", 4),
)
CATALOGUE = COLUMNS | {column.metric: column for column in BUDGET}
ARROWS = {"higher": " ↑", "lower": " ↓", "": ""}
TESTED_FROM = 5  # seeds; fair-comparison rule: with fewer nothing is called better


@dataclass(frozen=True)
class Cell:
    """One column of a table: a metric by one protocol, under the metric's title or another."""

    metric: str
    protocol: str = ""  # or the beginning of it; how features were scaled, say, may follow
    title: str = ""
    # "error": 100 - value; "over NAME": paired difference to a reference; "spread": over label draws; "same labels": of the
    # draw that semi-supervised training had; "reasons": in words, and in how many runs
    derived: str = ""


@dataclass(frozen=True)
class Table:
    """A table's name, caption and columns."""

    name: str
    caption: str
    cells: tuple[Cell, ...]
    needs: str = ""  # a metric without which there is no such table


def _svm(protocol: str, by: str) -> tuple[Cell, ...]:
    return (
        Cell("svm_accuracy", protocol, f"accuracy, {by}, %"),
        Cell("svm_accuracy", protocol, f"error, {by}, %", "error"),
        Cell("svm_accuracy", protocol, "− raw pixels", "over raw pixels"),
        Cell("svm_accuracy", protocol, "− untrained", "over untrained encoder"),
        Cell("svm_accuracy", protocol, "std over label draws", "spread"),
    )


TABLES = (
    Table(
        "quality",
        "Samples and reconstructions. {facts}",
        (
            Cell("modes_3sigma"),
            Cell("high_quality"),
            Cell("mode_divergence"),
            Cell("mixture_score"),
            Cell("kid"),
            Cell("fid"),
            Cell("inception_score"),
            Cell("classifier_score"),
            Cell("reconstruction_error", "mean code", "reconstruction, mean code"),
            Cell("reconstruction_error", "drawn code", "drawn code"),
        ),
    ),
    Table(
        "fidelity",
        "Samples against held-out data: FID's dependence on n, then realism (precision, density) and variety (recall, "
        "coverage) apart. {facts}",
        tuple(Cell(metric) for metric in ("fid_half", "fid_extrapolated", "precision", "recall", "density", "coverage")),
        needs="fid",
    ),
    Table(
        "reconstruction",
        "Reconstructions by other measures, through mean codes; prior codes decoded and encoded again. {facts}",
        (
            *(Cell(metric, "mean code") for metric in ("psnr", "ssim", "lpips", "latent_error")),
            *(
                Cell(metric, "drawn code", f"{title}, drawn code")
                for metric, title in (("psnr", "PSNR, dB"), ("ssim", "SSIM"))
            ),
            Cell("posterior_sigma"),
        ),
    ),
    Table(
        "health",
        "Did it train? D's verdicts on held-out data, what codes carry, how much of the data samples reach. Alarms name "
        "what went wrong, and in how many runs. {facts}",
        (
            *(Cell(m) for m in ("d_accuracy_q", "d_accuracy_p", "d_saturation", "code_use", "posterior_sigma")),
            *(Cell(m) for m in ("drawing_cost", "data_coverage")),
            Cell("alarms", title="alarms", derived="reasons"),
        ),
        needs="alarms",
    ),
    Table(
        "modes-paper",
        "Modes by the paper's rule, which uniform noise passes: never to be compared with the 3σ rule. {facts}",
        (Cell("modes_paper"),),
    ),
    Table(
        "svm",
        "L2-SVM on encoded features; C chosen on the full validation split, as in the paper. Differences are paired: "
        "the same draws of labels. {facts}",
        _svm("C by validation", "C by validation"),
    ),
    Table(
        "svm-labels",
        "L2-SVM on encoded features; C chosen by cross-validation within the labels. Differences are paired. {facts}",
        _svm("C by labels", "C by the labels"),
    ),
    Table(
        "neighbours",
        "Nearest neighbours and a linear probe on the last hidden layer. Differences are paired: the same draws of labels. "
        "{facts}",
        tuple(
            Cell(metric, title=title.format(name), derived=derived)
            for metric, name in (("nn_accuracy", "1-NN"), ("knn_accuracy", "k-NN"), ("probe_accuracy", "linear probe"))
            for title, derived in (
                ("{}, %", ""),
                ("{} − raw pixels", "over raw pixels"),
                ("{} − untrained", "over untrained encoder"),
            )
        ),
    ),
    Table(
        "semi-supervised",
        "Test error with few labels: classes learnt in training (K+1) and an SVM on features, on the same labels. {facts}",
        (
            Cell("class_accuracy", title="K+1 error, %", derived="error"),
            Cell("svm_accuracy", "C by validation", "SVM error, C by validation, %", "same labels error"),
            Cell("svm_accuracy", "C by labels", "SVM error, C by the labels, %", "same labels error"),
        ),
        needs="class_accuracy",
    ),
    Table(
        "cost",
        "What a training takes: updates of each network, floating-point operations, seconds beside other runs. {facts}",
        tuple(Cell(column.metric) for column in BUDGET),
    ),
    Table(
        "throughput",
        "Speed measured alone after all training, median over repeats ± interquartile range. {facts}",
        (Cell("train_rate"), Cell("sample_rate"), Cell("encode_rate")),
    ),
)


def _values(rows: pd.DataFrame, cell: Cell) -> pd.Series:
    """Return one value for each (model, seed) of a cell's column; draws of labels averaged."""
    trained = rows[rows.metric == "class_accuracy"].seed.dropna().unique()
    rows = rows[(rows.metric == cell.metric) & (rows.status == "ok")]
    if cell.protocol:
        rows = rows[rows.protocol.str.startswith(cell.protocol)]
    if cell.derived.startswith("same labels"):  # a reference without a seed has every run's draw
        rows = rows[(rows.draw == rows.seed).fillna(False) | (rows.seed.isna() & rows.draw.isin(trained))]
    if cell.derived.endswith("error"):
        rows = rows.assign(value=100 - rows.value)
    elif cell.derived.startswith("over "):
        reference = cell.derived.removeprefix("over ")
        own = rows[rows.model == reference]
        # a reference with seeds of its own is averaged over them: equal seed numbers of two models are no pairs
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
    """Say why a cell is empty: its runs diverged, or made what cannot be measured; nothing where there is no such number."""
    own = rows[(rows.model == model) & (rows.metric == cell.metric)]
    own = own[own.protocol.str.startswith(cell.protocol) | (own.status == "diverged")] if cell.protocol else own
    for status in ("diverged", "refused"):
        if (own.status == status).any():
            return status
    return ""


def _reasons(rows: pd.DataFrame, model: str, metric: str) -> str:
    """Return the reasons that a model's rows of a metric give, each with the number of runs if not all have it."""
    own = rows[(rows.model == model) & (rows.metric == metric)]
    named = own.reason.str.split(", ").explode()
    counts = named[named != ""].value_counts(sort=False)
    told = [str(name) if count == len(own) else f"{name} ({count} of {len(own)})" for name, count in counts.items()]
    return ", ".join(told) or ("none" if len(own) else "")


def wide(rows: pd.DataFrame, table: Table) -> pd.DataFrame:
    """Return a table of one suite's rows: titles as index, formatted cells; empty if no cell of it was measured."""
    if table.needs and not (rows.metric == table.needs).any():
        return pd.DataFrame()
    asked = rows[rows.metric.isin({cell.metric for cell in table.cells})]
    models = list(dict.fromkeys(asked.model))
    titles = dict(zip(asked.model, asked.title, strict=True))
    columns: dict[str, list[str]] = {}
    for cell in table.cells:
        values, column = _values(rows, cell), CATALOGUE[cell.metric]
        if values.empty:
            continue
        spread = _values(rows, Cell(f"{cell.metric}_iqr"))
        if cell.derived == "reasons":
            columns[cell.title] = [_reasons(rows, model, cell.metric) for model in models]
            continue
        shown = []
        for model in models:
            own = values[values.index.get_level_values("model") == model].dropna()
            text = _show(own, column, cell.derived.startswith("over ")) if len(own) else _absent(rows, model, cell)
            if len(own) == 1 and model in spread.index.get_level_values("model"):
                text += f" ± {spread[model].iloc[0]:.{column.digits}f}"
            shown.append(text)
        better = {"error": "lower", "same labels error": "lower", "spread": ""}.get(cell.derived, column.better)
        columns[(cell.title or column.title) + ARROWS[better]] = shown
    if not columns:
        return pd.DataFrame()
    seeds = asked[asked.status == "ok"].groupby("model").seed.nunique()
    failed = asked[asked.status == "diverged"].groupby("model").seed.nunique()
    counts = {
        model: str(seeds.get(model, 0) or "–") + (f" ({failed[model]} diverged)" if model in failed else "")
        for model in models
    }
    frame = pd.DataFrame({"seeds": [counts[model] for model in models], **columns}, index=[titles[m] for m in models])
    frame.index.name = "model"
    return frame


def facts(rows: pd.DataFrame, table: Table) -> str:
    """Return what a reader must know of a table's numbers, from the rows themselves."""
    own = rows[rows.metric.isin({cell.metric for cell in table.cells}) & (rows.status == "ok")]
    kinds, parts = set(own.kind), []
    if kinds == {"quality"}:
        parts = [f"Split: {', '.join(sorted(split for split in set(own.split) if split)) or 'none'}", _sizes(own)]
        parts += [f"extractor {name}" for name in sorted(set(own.extractor) - {""})]
        parts += [f"{labels} labels" for labels in sorted(own.labels.dropna().unique())]
        if own.protocol.str.endswith(", standardised").any():
            parts.append("features standardised by the labelled images")
        parts.append(f"weights: {', '.join(sorted(set(own.weights)))}")
        if own.groupby("model").seed.nunique().max() < TESTED_FROM:
            parts.append(f"differences between models: not tested (fewer than {TESTED_FROM} seeds)")
    elif kinds == {"timing"}:
        parts = sorted(set(own.protocol))
    return "; ".join(part for part in parts if part) + "." * bool(parts)


def _sizes(own: pd.DataFrame) -> str:
    """Say how many samples the numbers are computed on, and which measures have another number."""
    sizes = {
        str(metric): "/".join(str(n) for n in sorted(group.n.dropna().unique())) for metric, group in own.groupby("metric")
    }
    sizes = {metric: size for metric, size in sizes.items() if size}
    if not sizes:
        return ""
    usual = max(sizes.values(), key=list(sizes.values()).count)
    others = [f"{CATALOGUE[metric].title}: {size}" for metric, size in sizes.items() if size != usual]
    return f"n = {usual}" + "".join(f" ({other})" for other in others)


def runs(rows: pd.DataFrame) -> pd.DataFrame:
    """Return a line for each run of a suite whose seeds drew their settings: what was drawn and what came out."""
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
                    line[title] = status if status == "diverged" else f"{cells.value.mean():.{column.digits}f}"
        lines.append(line)
    return pd.DataFrame(lines).fillna("").set_index("model")


def tables(rows: pd.DataFrame) -> dict[str, tuple[str, pd.DataFrame]]:
    """Return all tables of all suites, name -> caption and table; lines stand in the rows' order."""
    made = {}
    for suite, own in rows.groupby("suite"):
        every = runs(own)
        if len(every):
            made[f"{suite}-runs"] = (f"{own.dataset.iloc[0]}: every run, with the settings that its seed drew.", every)
        for table in TABLES:
            frame = wide(own, table)
            if len(frame):
                caption = table.caption.format(facts=facts(own, table))
                made[f"{suite}-{table.name}"] = (f"{own.dataset.iloc[0]}: {caption.strip()}", frame)
    return made


_LATEX = {"±": r"$\pm$", "↑": r"$\uparrow$", "↓": r"$\downarrow$", "%": r"\%", "σ": r"$\sigma$", "≥": r"$\geq$"}
_LATEX |= {
    "×": r"$\times$",
    "→": r"$\to$",
    "∞": r"$\infty$",
    "−": "$-$",
    "–": "--",
    "²": "$^2$",
    "₁": "$_1$",
    "β": r"$\beta$",
    "λ": r"$\lambda$",
    "&": r"\&",
    "_": r"\_",
}


def markdown(frame: pd.DataFrame) -> str:
    """Return a table for Markdown, cells as they are: no digit or sign is parsed away."""
    aligned: str = frame.to_markdown(disable_numparse=True, colalign=("left", *["right"] * frame.shape[1]))
    return aligned


def latex(caption: str, frame: pd.DataFrame) -> str:
    """Return a table for LaTeX with booktabs."""

    def escape(text: str) -> str:
        return "".join(_LATEX.get(character, character) for character in text)

    body = frame.reset_index().map(escape).rename(columns=escape)
    made: str = body.style.hide(axis="index").to_latex(
        hrules=True, caption=escape(caption), position_float="centering", column_format="l" + "r" * (body.shape[1] - 1)
    )
    return made


def write(out: Path, rows: pd.DataFrame) -> dict[str, tuple[str, pd.DataFrame]]:
    """Write every table as Markdown, CSV and LaTeX below `out`/tables, and all of them in tables.md; return them."""
    folder = out / "tables"
    folder.mkdir(exist_ok=True)
    made = tables(rows)
    for name, (caption, frame) in made.items():
        replace_file(folder / f"{name}.md", f"{caption}\n\n{markdown(frame)}\n")
        replace_file(folder / f"{name}.csv", frame.to_csv())
        replace_file(folder / f"{name}.tex", latex(caption, frame))
    whole = "\n".join(f"## {name}\n\n{caption}\n\n{markdown(frame)}\n" for name, (caption, frame) in made.items())
    replace_file(out / "tables.md", f"# Tables\n\n{whole}")
    return made
