"""Linear probe: multinomial logistic regression on the last hidden layer, standardised by labelled images.

The strength of its L2 penalty is chosen once, on one extra draw of labels, by accuracy on validation. Of a
draw of more than MOST images a fixed random part is taken: of all labels of MNIST, seven strengths take three
minutes of one core, the part takes 22 seconds.
"""

import warnings

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression

from alibench.evaluation import protocols, representation
from alibench.evaluation.measurement import Column, Measurement, refused
from alibench.evaluation.representation import Sets, measurements, scaler, unsupported_reason, useless
from alibench.evaluation.subject import ReferenceInput, Subject

__all__ = ["COLUMNS", "measure", "references", "unsupported_reason"]

COLUMNS = (Column("probe_accuracy", "linear probe, %", "higher", 2, percent=True),)
GRID = np.logspace(-4, 2, 7)  # inverse strengths of the penalty
STEPS = 1000  # of the solver
MOST = 10_000  # labelled images that the penalty is chosen with


def _accuracy(
    sets: Sets, c: float, draw: np.ndarray, held_out: tuple[np.ndarray, np.ndarray]
) -> tuple[float, bool]:
    """Return the percentage of held-out images classified right, and whether the solver converged."""
    x, y = sets.labelled[0][draw], sets.labelled[1][draw]
    mean, std = scaler(x)
    classifier = LogisticRegression(C=c, max_iter=STEPS)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # the row records it
        classifier.fit((x - mean) / std, y)
    predicted = classifier.predict((held_out[0] - mean) / std)
    return 100 * float((predicted == held_out[1]).mean()), bool(classifier.n_iter_.max() < STEPS)


def _part(draw: np.ndarray) -> np.ndarray:
    """Return MOST indices of a larger draw, the same for every source of features."""
    return np.random.RandomState(0).permutation(draw)[:MOST]


def score(sets: Sets) -> list[Measurement]:
    """Return the accuracy of every draw."""
    sets = sets.last_hidden()
    if reason := useless(sets.labelled[0]):
        return refused(COLUMNS, reason, unit="%", split=sets.split, labels=sets.count)

    # The penalty is chosen once, on a draw that no accuracy is reported on, unless all labels are one draw.
    chooser, chosen_by = sets.chooser, protocols.PENALTY_BY_VALIDATION
    if len(chooser) > MOST:
        chooser, chosen_by = _part(chooser), protocols.penalty_by(MOST)
    on_choosing = [_accuracy(sets, c, chooser, sets.choosing)[0] for c in GRID]
    c = float(GRID[int(np.argmax(on_choosing))])
    scored = sets.over_draws(lambda draw: _accuracy(sets, c, draw, sets.scored))

    missed = sum(not converged for _, converged in scored)
    note = f"not converged: {missed} of {len(scored)} draws" if missed else ""
    protocol = protocols.joined(chosen_by, sets.last)
    return measurements("probe_accuracy", protocol, [accuracy for accuracy, _ in scored], sets, note)


def measure(subject: Subject) -> list[Measurement]:
    """Return the accuracies on the encoder's last hidden layer, and on D's if it sees images alone."""
    return representation.measured(subject, score, COLUMNS)


def references(source: ReferenceInput) -> list[Measurement]:
    """Return the same for raw pixels and for untrained encoders, on the same draws."""
    return representation.referred(source, score)
