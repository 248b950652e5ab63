"""What is measured: each metric is a module with `measure(subject)`, `refuses(data, settings)` and the `COLUMNS` it fills.

A metric that has reference rows gives them by `references(baseline)`. Nothing here knows how a model was trained. In three
lines, for a model of the suite or any object with `sample(n)`, `encode(x)`, `decode(z)` or some of them:

    from benchmarks import data
    from evaluation import evaluate
    print(evaluate(my_model, data.load("digits"), metrics=["fidelity", "svm"]))
"""

from evaluation.metrics import COLUMNS, METRICS
from evaluation.own import evaluate

__all__ = ["COLUMNS", "METRICS", "evaluate"]
