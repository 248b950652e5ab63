"""What a reader must know of a table's numbers, from the rows themselves."""

import pandas as pd

from alibench.evaluation.representation import CODE_ALONE
from alibench.results import statistics
from alibench.results.layouts import CATALOGUE, Table
from alibench.results.statistics import TESTED_FROM
from alibench.results.values import better, rivals


def caption(rows: pd.DataFrame, table: Table, best: pd.DataFrame) -> str:
    """Return a table's caption. `best` says which of its cells are bold."""
    text = table.caption.format(facts=_facts(rows, table, _tests(rows, table, best))).strip()
    return f"{rows.dataset.iloc[0]}: {text}"


def _facts(rows: pd.DataFrame, table: Table, tests: str) -> str:
    measured = rows[rows.metric.isin({measure.metric for measure in table.measures}) & (rows.status == "ok")]
    quality, timed = measured[measured.kind == "quality"], measured[measured.kind == "timing"]
    parts: list[str] = []
    if len(quality):
        parts = [*_conditions(quality), tests]

    # Speed has conditions of its own; seconds of a training are a part of its cost.
    if len(timed) and not (measured.kind == "budget").any():
        ways = sorted(set(timed.protocol))
        spread = "± the interquartile range of repeats"
        parts.append(f"speed: {', '.join(ways)}, {spread}" if parts else "; ".join(ways))
    return "; ".join(part for part in parts if part) + "." * bool(parts)


def _conditions(quality: pd.DataFrame) -> list[str]:
    """Return split, number of samples, extractor, labels and weights of rows, and what is unusual of them."""
    # Every table names these.
    splits = sorted(set(quality.split) - {""})
    parts = [f"Split: {', '.join(splits) or 'none'}", _sizes(quality)]
    parts += [f"extractor {name}" for name in sorted(set(quality.extractor) - {""})]
    parts += [f"{labels} labels" for labels in sorted(quality.labels.dropna().unique())]

    # Some tables need a warning.
    if quality.protocol.str.endswith(", standardised").any():
        parts.append("features standardised by the labelled images")
    if alone := sorted(set(quality[quality.protocol.str.contains(f", {CODE_ALONE}")].title)):
        parts.append(f"{', '.join(alone)}: the code alone, without hidden layers")
    parts.append(f"weights: {', '.join(sorted(set(quality.weights)))}")
    if (quality[quality.metric == "kid"].value < 0).any():
        parts.append("KID is estimated without bias, so a value below 0 means a distance near 0")
    return parts


def _sizes(rows: pd.DataFrame) -> str:
    """Return how many samples the numbers are computed on, and which measures have another number."""
    groups = rows.groupby("metric")
    sizes = {str(metric): "/".join(map(str, sorted(of.n.dropna().unique()))) for metric, of in groups}
    sizes = {metric: size for metric, size in sizes.items() if size}
    if not sizes:
        return ""
    # Most measures share one number; name the others.
    usual = max(sizes.values(), key=list(sizes.values()).count)
    others = [f"{CATALOGUE[metric].title}: {size}" for metric, size in sizes.items() if size != usual]
    return f"n = {usual}" + "".join(f" ({other})" for other in others)


def _tests(rows: pd.DataFrame, table: Table, best: pd.DataFrame) -> str:
    """Return what bold means in a table, or that nothing in it is tested."""
    if best.to_numpy().any():
        sure = f"{100 * (1 - statistics.LEVEL):.0f} % confidence"
        how = "Welch's t against every other model, Bonferroni"
        return f"bold: the models that may be a column's best, which is one of them with {sure} ({how})"
    # Of one model alone there is nothing to test.
    metrics = {measure.metric for measure in table.measures if better(measure)}
    compared = rows[rivals(rows) & rows.metric.isin(metrics) & (rows.status == "ok")].model.nunique()
    untested = f"differences between models: not tested (fewer than {TESTED_FROM} seeds)"
    return untested if compared > 1 else ""
