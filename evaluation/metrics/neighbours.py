"""Nearest-neighbour accuracy on the last hidden layer, Euclidean (BiGAN, table 1: one neighbour, all labels).

Next to 1-NN stands k-NN by majority, k = `evaluation.neighbours`. Features go in as they are.
`evaluation.labels = "all"` is BiGAN's protocol: then there is one draw, the whole pool.
"""

from functools import partial

import numpy as np
from sklearn.neighbors import KNeighborsClassifier

from alibench.evaluation import protocols, representation
from alibench.evaluation.measurement import Column, Measurement, refused
from alibench.evaluation.representation import Sets, measurements, unsupported_reason, useless
from alibench.evaluation.subject import ReferenceInput, Subject

__all__ = ["COLUMNS", "measure", "references", "unsupported_reason"]

COLUMNS = (
    Column("nn_accuracy", "1-NN accuracy, %", "higher", 2, percent=True),
    Column("knn_accuracy", "k-NN accuracy, %", "higher", 2, percent=True),
)


def accuracy(sets: Sets, k: int, draw: np.ndarray) -> float:
    """Return the percentage of scored images whose k nearest labelled ones name their class.

    Ties go to the lowest class.
    """
    # features have many dimensions, where trees are not faster
    x, y = sets.labelled
    classifier = KNeighborsClassifier(k, algorithm="brute").fit(x[draw], y[draw])
    return 100 * float((classifier.predict(sets.scored[0]) == sets.scored[1]).mean())


def score(sets: Sets) -> list[Measurement]:
    """Return the accuracy of every draw, for one neighbour and for `evaluation.neighbours` of them."""
    sets, rows = sets.last_hidden(), []

    for metric, k in (("nn_accuracy", 1), ("knn_accuracy", sets.settings.neighbours)):
        protocol = protocols.joined(protocols.neighbours(k), sets.last)
        too_few = f"{k} neighbours of {sets.count} labels" if k > sets.count else ""
        if reason := useless(sets.labelled[0]) or too_few:
            fields = {"unit": "%", "split": sets.split, "protocol": protocol, "labels": sets.count}
            rows += refused([metric], reason, **fields)
        else:
            rows += measurements(metric, protocol, sets.over_draws(partial(accuracy, sets, k)), sets)
    return rows


def measure(subject: Subject) -> list[Measurement]:
    """Return the accuracies on the encoder's last hidden layer, and on D's if it sees images alone."""
    return representation.measured(subject, score, COLUMNS)


def references(source: ReferenceInput) -> list[Measurement]:
    """Return the same for raw pixels and for untrained encoders, on the same draws."""
    return representation.referred(source, score)
