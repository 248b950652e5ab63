"""The metrics by name, and what their measures are called in tables."""

from types import ModuleType

from evaluation import (
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
from evaluation.base import Column

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

COLUMNS: dict[str, Column] = {column.metric: column for module in METRICS.values() for column in module.COLUMNS}
