"""What is measured: each metric is a module with `measure(subject)`, `refuses(data)` and the `COLUMNS` it fills.

A metric that has reference rows gives them by `references(baseline)`. Nothing here knows how a model was trained.
"""

from types import ModuleType

from evaluation import fidelity, mixture_score, modes, reconstruction, svm, throughput
from evaluation.base import Column

METRICS: dict[str, ModuleType] = {
    "reconstruction": reconstruction,
    "fidelity": fidelity,
    "svm": svm,
    "modes": modes,
    "mixture_score": mixture_score,
    "throughput": throughput,
}

COLUMNS: dict[str, Column] = {column.metric: column for module in METRICS.values() for column in module.COLUMNS}
