"""Linear probe: multinomial logistic regression on the last hidden layer, standardised by the labelled
images.

The strength of its L2 penalty is chosen once, on one extra draw of labels, by accuracy on validation.
"""

import warnings

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression

from alibench.evaluation import representation
from alibench.evaluation.representation import Sets, measurements, refuses, scaler, useless
from alibench.evaluation.subject import Baseline, Column, Measurement, Subject

__all__ = ["COLUMNS", "measure", "references", "refuses"]

COLUMNS = (Column("probe_accuracy", "linear probe, %", "higher", 2, percent=True),)
GRID = np.logspace(-4, 2, 7)  # inverse strengths of the penalty
STEPS = 1000  # of the solver


def _accuracy(
    sets: Sets, c: float, draw: np.ndarray, held_out: tuple[np.ndarray, np.ndarray]
) -> tuple[float, bool]:
    """Return the percentage of held-out images classified right, and whether the solver converged."""
    x, y = sets.labelled[0][draw], sets.labelled[1][draw]
    mean, std = scaler(x)
    classifier = LogisticRegression(C=c, max_iter=STEPS)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # it is recorded in the row
        classifier.fit((x - mean) / std, y)
    predicted = classifier.predict((held_out[0] - mean) / std)
    return 100 * float((predicted == held_out[1]).mean()), bool(classifier.n_iter_.max() < STEPS)


def score(sets: Sets) -> list[Measurement]:
    """Return the accuracy of every draw."""
    sets = sets.last_hidden()
    reason = useless(sets.labelled[0])
    if reason:
        return [
            Measurement(
                "probe_accuracy",
                None,
                "%",
                split=sets.split,
                labels=sets.count,
                status="refused",
                reason=reason,
            )
        ]
    on_choosing = [_accuracy(sets, c, sets.chooser, sets.choosing)[0] for c in GRID]
    c = float(GRID[int(np.argmax(on_choosing))])
    converged = []

    def on_scored(draw: np.ndarray) -> float:
        value, fine = _accuracy(sets, c, draw, sets.scored)
        converged.append(fine)
        return value

    values = sets.over_draws(on_scored)
    missed = len(values) - sum(converged)
    note = f"not converged: {missed} of {len(values)} draws" if missed else ""
    return list(measurements("probe_accuracy", f"penalty by validation, {sets.last}", values, sets, note))


def measure(subject: Subject) -> list[Measurement]:
    """Return the accuracies on the encoder's last hidden layer, and on that of a discriminator that sees
    images alone.
    """
    return representation.measured(subject, score, COLUMNS)


def references(baseline: Baseline) -> list[Measurement]:
    """Return the same for raw pixels and for untrained encoders, on the same draws."""
    return representation.referred(baseline, score)
