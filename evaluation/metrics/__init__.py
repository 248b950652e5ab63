"""The metrics by name, the columns that they fill, and all measures of a trained model."""

from collections.abc import Iterable
from dataclasses import replace
from types import ModuleType

from alibench.evaluation.arithmetic import tf32
from alibench.evaluation.measurement import Column, Measurement
from alibench.evaluation.metrics import (
    anomaly,
    classifier,
    copying,
    fidelity,
    health,
    likelihood,
    matching,
    mixture_score,
    modes,
    neighbours,
    probe,
    reconstruction,
    stacked,
    svm,
    throughput,
)
from alibench.evaluation.subject import Subject

METRICS: dict[str, ModuleType] = {
    "reconstruction": reconstruction,
    "fidelity": fidelity,
    "svm": svm,
    "neighbours": neighbours,
    "probe": probe,
    "classifier": classifier,
    "modes": modes,
    "mixture_score": mixture_score,
    "stacked": stacked,
    "anomaly": anomaly,
    "matching": matching,
    "likelihood": likelihood,
    "copying": copying,
    "health": health,
    "throughput": throughput,
}

# A new metric whose numbers depend on draws belongs here too, or it is measured on one draw alone.
RESAMPLED = (
    "reconstruction",
    "fidelity",
    "modes",
    "mixture_score",
    "stacked",
    "matching",
    "likelihood",
    "copying",
)  # depend on draws of samples and codes

COLUMNS: dict[str, Column] = {
    column.metric: column for module in METRICS.values() for column in module.COLUMNS
}


@tf32(False)
def measure(subject: Subject, names: Iterable[str]) -> list[Measurement]:
    """Return the named metrics' measures; by `evaluation.resamples`, on several draws of samples and codes.

    Then rows have the number of their draw, so that the spread of sampling alone stands apart from the spread
    of training.
    """
    names, rows = list(names), []
    draws = subject.settings.resamples

    # The first draw has all metrics, further ones the metrics that depend on draws.
    for draw in range(draws):
        drawn = subject.again(draw) if draw else subject
        for name in names if not draw else [name for name in names if name in RESAMPLED]:
            numbered = draws > 1 and name in RESAMPLED
            rows += [replace(row, draw=draw) if numbered else row for row in METRICS[name].measure(drawn)]
    return rows
