"""What a table's column is computed from: one value a model and seed, and which rows are compared."""

from typing import Literal

import pandas as pd

from alibench.evaluation.representation import OF_D
from alibench.results import statistics
from alibench.results.layouts import CATALOGUE, Measure
from alibench.results.statistics import TESTED_FROM


def of_seeds(rows: pd.DataFrame, measure: Measure) -> pd.Series:
    """Return one value for each (model, seed), draws averaged: their spread is not that of training."""
    is_measured = (rows.metric == measure.metric) & (rows.status == "ok")
    chosen = rows.loc[is_measured, ["model", "seed", "protocol", "draw", "value"]]
    # One protocol, and the draws of labels that are comparable.
    if measure.protocol:
        chosen = chosen[chosen.protocol.str.startswith(measure.protocol)]

    if measure.derived.startswith("same labels"):
        # a reference without a seed has every run's draw
        trained = rows[rows.metric == "class_accuracy"].seed.dropna().unique()
        is_reference = chosen.seed.isna() & chosen.draw.isin(trained)
        chosen = chosen[(chosen.draw == chosen.seed).fillna(False) | is_reference]

    # What is shown instead of the value itself.
    if measure.derived.endswith("error"):
        chosen = chosen.assign(value=100 - chosen.value)
    elif measure.derived.startswith("over "):
        # seeds of a reference are averaged: equal seed numbers of two models are not pairs
        is_reference = chosen.model == measure.derived.removeprefix("over ")
        by_draw = chosen[is_reference].groupby("draw").value.mean()
        chosen = chosen[~is_reference]
        chosen = chosen.assign(value=chosen.value - chosen.draw.map(by_draw))

    groups = chosen.groupby(["model", "seed"], dropna=False, sort=False).value
    return groups.std() if measure.derived == "spread" else groups.mean()


def own(rows: pd.DataFrame) -> pd.Series:
    """Return which rows are a model's own, not those of a reference next to the models."""
    # a run is called SUITE-MODEL-seedN, its references SUITE-references
    named = zip(rows.run_id, rows.suite, rows.model, strict=True)
    is_own = [run.startswith(f"{suite}-{model}-") for run, suite, model in named]
    return pd.Series(is_own, rows.index, dtype=bool)


def rivals(rows: pd.DataFrame) -> pd.Series:
    """Return which rows take part in comparisons: a model's own, and those on features of the D that it
    trained.

    Nothing was trained for the others: raw pixels, untrained encoders, noise, held-out data.
    """
    return own(rows) | rows.model.str.endswith(OF_D)


def better(measure: Measure) -> Literal["higher", "lower", ""]:
    """Return which direction is better, if one is."""
    if measure.derived in ("spread", "reasons"):
        return ""
    return "lower" if measure.derived.endswith("error") else CATALOGUE[measure.metric].better


def against_best(rows: pd.DataFrame, measure: Measure) -> dict[str, float]:
    """Return each model's adjusted p of being a column's best; empty where nothing can be tested.

    Only `rivals` with five seeds or more are compared.
    """
    direction = better(measure)
    if not direction or rows.seed.nunique() < TESTED_FROM:
        return {}
    # A mean of few seeds is not tested.
    values = of_seeds(rows[rivals(rows)], measure).dropna()
    samples = {str(model): group.to_numpy() for model, group in values.groupby(level="model", sort=False)}
    tested = {model: sample for model, sample in samples.items() if len(sample) >= TESTED_FROM}
    return statistics.against_best(tested, direction)
