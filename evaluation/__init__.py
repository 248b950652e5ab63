"""What is measured: each metric is a module with `measure(subject)`, `refuses(data, settings)` and the
`COLUMNS` it fills.

A metric that has reference rows gives them by `references(baseline)`. Nothing here knows how a model was
trained. In three lines, for a model of the suite or any object with `sample(n)`, `encode(x)`, `decode(z)` or
some of them:

    from alibench import evaluate
    from alibench.benchmarks.data import datasets
    print(evaluate(my_model, datasets.load("digits"), metrics=["fidelity", "svm"]))
"""

if __name__ == "evaluation":
    raise ImportError("import it as alibench.evaluation")
