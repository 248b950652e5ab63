"""Measurements of trained models. Nothing here knows how a model was trained.

A metric is a module of metrics/ with `measure(subject)`, `unsupported_reason(data, settings)`, the `COLUMNS`
it fills and, if it has reference rows, `references(source)`. features/ has the networks that images are
compared by. For a model of the suite, or any object with `sample(n)`, `encode(x)`, `decode(z)` or some of
them:

    from alibench import evaluate
    from alibench.benchmarks.data import datasets
    print(evaluate(my_model, datasets.load("digits"), metrics=["fidelity", "svm"]))
"""

if __name__ == "evaluation":
    raise ImportError("import it as alibench.evaluation")
