"""Nearest-neighbour accuracy on the last hidden layer, Euclidean (BiGAN, table 1: one neighbour, all labels).

Next to 1-NN stands k-NN by majority, k = `evaluation.neighbours`. Features go in as they are.
`evaluation.labels = "all"` is BiGAN's protocol: then there is one draw, the whole pool.
"""

from collections.abc import Sequence
from functools import partial

import numpy as np
from sklearn.neighbors import NearestNeighbors

from alibench.evaluation import protocols, representation
from alibench.evaluation.measurement import Column, Measurement, refused
from alibench.evaluation.representation import Sets, measurements, unsupported_reason, useless
from alibench.evaluation.subject import ReferenceInput, Subject

__all__ = ["COLUMNS", "measure", "references", "unsupported_reason"]

COLUMNS = (
    Column("nn_accuracy", "1-NN accuracy, %", "higher", 2, percent=True),
    Column("knn_accuracy", "k-NN accuracy, %", "higher", 2, percent=True),
)


def accuracies(sets: Sets, counts: Sequence[int], draw: np.ndarray) -> list[float]:
    """Return the percentage of scored images whose k nearest labelled ones name their class, for each k.

    Ties go to the lowest class.
    """
    # features have many dimensions, where trees are not faster; one search serves every k
    x, y = sets.labelled
    search = NearestNeighbors(n_neighbors=max(counts), algorithm="brute").fit(x[draw])
    nearest = y[draw][search.kneighbors(sets.scored[0], return_distance=False)]

    votes = nearest[:, :, None] == np.arange(sets.classes)
    predicted = [votes[:, :k].sum(1).argmax(1) for k in counts]
    return [100 * float((classes == sets.scored[1]).mean()) for classes in predicted]


def score(sets: Sets) -> list[Measurement]:
    """Return the accuracy of every draw, for one neighbour and for `evaluation.neighbours` of them."""
    sets, rows = sets.last_hidden(), []
    useless_features = useless(sets.labelled[0])
    wanted = {"nn_accuracy": 1, "knn_accuracy": sets.settings.neighbours}
    counts = [k for k in wanted.values() if k <= sets.count]
    scored = [] if useless_features else sets.over_draws(partial(accuracies, sets, counts))

    for place, (metric, k) in enumerate(wanted.items()):
        protocol = protocols.joined(protocols.neighbours(k), sets.last)
        too_few = f"{k} neighbours of {sets.count} labels" if k > sets.count else ""
        if reason := useless_features or too_few:
            fields = {"unit": "%", "split": sets.split, "protocol": protocol, "labels": sets.count}
            rows += refused([metric], reason, **fields)
        else:
            rows += measurements(metric, protocol, [of_draw[place] for of_draw in scored], sets)
    return rows


def measure(subject: Subject) -> list[Measurement]:
    """Return the accuracies on the encoder's last hidden layer, and on D's if it sees images alone."""
    return representation.measured(subject, score, COLUMNS)


def references(source: ReferenceInput) -> list[Measurement]:
    """Return the same for raw pixels and for untrained encoders, on the same draws."""
    return representation.referred(source, score)
