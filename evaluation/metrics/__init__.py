"""The metrics by name, what their measures are called in tables, and all measures of a trained model."""

from collections.abc import Iterable
from dataclasses import replace
from types import ModuleType

from alibench.evaluation.arithmetic import tf32
from alibench.evaluation.metrics import (
    classifier,
    fidelity,
    health,
    mixture_score,
    modes,
    neighbours,
    probe,
    reconstruction,
    svm,
    throughput,
)
from alibench.evaluation.subject import Column, Measurement, Subject

METRICS: dict[str, ModuleType] = {
    "reconstruction": reconstruction,
    "fidelity": fidelity,
    "svm": svm,
    "neighbours": neighbours,
    "probe": probe,
    "classifier": classifier,
    "modes": modes,
    "mixture_score": mixture_score,
    "health": health,
    "throughput": throughput,
}

DRAWN = (
    "reconstruction",
    "fidelity",
    "modes",
    "mixture_score",
)  # numbers of these depend on draws of samples and codes

COLUMNS: dict[str, Column] = {
    column.metric: column for module in METRICS.values() for column in module.COLUMNS
}


@tf32(False)
def measure(subject: Subject, names: Iterable[str]) -> list[Measurement]:
    """Return what the named metrics measure; by `evaluation.resamples`, on several draws of samples and
    codes.

    Then rows have the number of their draw, so that their spread, of sampling alone, can be told from that of
    training.
    """
    names, rows = list(names), []
    for draw in range(subject.settings.resamples):
        drawn = subject.again(draw) if draw else subject
        for name in names if not draw else [name for name in names if name in DRAWN]:
            several = subject.settings.resamples > 1 and name in DRAWN
            rows += [replace(row, draw=draw) if several else row for row in METRICS[name].measure(drawn)]
    return rows
