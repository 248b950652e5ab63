"""Nearest-neighbour accuracy on the last hidden layer, Euclidean (BiGAN, table 1: one neighbour, all of train
labelled).

Beside 1-NN stands k-NN by majority, k = `evaluation.neighbours`. Features go in as they are.
`evaluation.labels = "all"` is BiGAN's protocol: then there is one draw, the whole pool.
"""

from functools import partial

import numpy as np
from sklearn.neighbors import KNeighborsClassifier

from alibench.evaluation import representation
from alibench.evaluation.representation import Sets, measurements, refuses, useless
from alibench.evaluation.subject import Baseline, Column, Measurement, Subject

__all__ = ["COLUMNS", "measure", "references", "refuses"]

COLUMNS = (
    Column("nn_accuracy", "1-NN accuracy, %", "higher", 2, percent=True),
    Column("knn_accuracy", "k-NN accuracy, %", "higher", 2, percent=True),
)


def accuracy(sets: Sets, k: int, draw: np.ndarray) -> float:
    """Return the percentage of scored images whose k nearest labelled ones name their class; ties go to the
    lowest class.
    """
    classifier = KNeighborsClassifier(k, algorithm="brute").fit(
        sets.labelled[0][draw], sets.labelled[1][draw]
    )
    return 100 * float((classifier.predict(sets.scored[0]) == sets.scored[1]).mean())


def score(sets: Sets) -> list[Measurement]:
    """Return the accuracy of every draw, for one neighbour and for `evaluation.neighbours` of them."""
    sets, k = sets.last_hidden(), sets.settings.neighbours
    rows = []
    for metric, count in (("nn_accuracy", 1), ("knn_accuracy", k)):
        protocol = f"k = {count}, {sets.last}"
        reason = useless(sets.labelled[0]) or (
            f"{k} neighbours of {sets.count} labels" if count > sets.count else ""
        )
        if reason:
            rows.append(
                Measurement(metric, None, "%", split=sets.split, protocol=protocol, labels=sets.count,
                            status="refused", reason=reason)
            )  # fmt: skip
        else:
            rows += measurements(metric, protocol, sets.over_draws(partial(accuracy, sets, count)), sets)
    return rows


def measure(subject: Subject) -> list[Measurement]:
    """Return the accuracies on the encoder's last hidden layer, and on that of a discriminator that sees
    images alone.
    """
    return representation.measured(subject, score, COLUMNS)


def references(baseline: Baseline) -> list[Measurement]:
    """Return the same for raw pixels and for untrained encoders, on the same draws."""
    return representation.referred(baseline, score)
