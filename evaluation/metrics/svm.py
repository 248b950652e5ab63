"""Semi-supervised accuracy of a linear SVM on learnt features (ALI, section 4.3), on a few labels.

Features: the encoder's last three hidden layers and the mean code, flattened and concatenated; for a plain
GAN also those of its discriminator, as DCGAN took them. Classifier: L2-SVM, one against the rest. Two
protocols choose C:

    validation   the paper's: of 50 values, exp(-20) to exp(20), on an extra draw, by accuracy on validation
    labels       by five-fold cross-validation within each draw, without any other label

Features go in as they are, as in the paper, or standardised by the labelled images alone
(`evaluation.standardise`).
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.model_selection import StratifiedKFold

from alibench.evaluation import labels, protocols, representation
from alibench.evaluation.data import Data
from alibench.evaluation.linear_svm import Solution, Span, cross_validate, path, solve
from alibench.evaluation.measurement import Column, Measurement, refused
from alibench.evaluation.representation import Sets, measurements, one_core_a_thread, scaler, useless
from alibench.evaluation.settings import Settings
from alibench.evaluation.subject import ReferenceInput, Subject

COLUMNS = (
    Column("svm_accuracy", "SVM accuracy, %", "higher", 2, percent=True),
    Column("svm_c", "C", "", 5),
)
GRID = np.exp(np.linspace(-20, 20, 50))
# 5e-8 to 1e4 in nine values: fifty would cost five times as much within every draw
COARSE_GRID = GRID[4:40:4]

MOST = 10_000  # labels: of so many the kernel matrix takes 0.8 GB


def unsupported_reason(data: Data, settings: Settings) -> str:
    """As for every classifier on features; and the labels' kernel matrix has to fit."""
    if reason := representation.unsupported_reason(data, settings):
        return reason
    count = len(labels.pools(data, settings).labelled) if settings.labels == "all" else settings.labels
    return f"{count:,} labels: the SVM takes at most {MOST:,}; set evaluation.labels" if count > MOST else ""


@dataclass(frozen=True)
class Fold:
    """A draw's labelled images, scaled if asked for, with the scaling and the span."""

    x: np.ndarray
    y: np.ndarray
    mean: np.ndarray
    std: np.ndarray
    span: Span

    @classmethod
    def of(cls, sets: Sets, draw: np.ndarray) -> "Fold":
        """Return the images of a draw."""
        x, y = sets.labelled[0][draw], sets.labelled[1][draw]
        mean, std = np.zeros(x.shape[1], np.float32), np.ones(x.shape[1], np.float32)
        if sets.settings.standardise:
            mean, std = scaler(x)
            x = (x - mean) / std
        return cls(x, y, mean, std, Span.of(x))

    def accuracy(self, solution: Solution, held_out: tuple[np.ndarray, np.ndarray]) -> float:
        """Return the percentage of held-out images, as they are, that a solution classifies right."""
        # The scaling moves into the weights: held-out features may take gigabytes and are not copied.
        weights, intercepts = self.span.primal(solution.weights, self.x)
        weights = weights / self.std[:, None]
        predicted = (held_out[0] @ weights + (intercepts - self.mean @ weights)).argmax(1)
        return 100 * float((predicted == held_out[1]).mean())


def choose_c(sets: Sets) -> tuple[float, int]:
    """Return the C of GRID with the highest accuracy on the images to choose on, the smallest of equals.

    The second number is how many values of C missed the optimum of some class.
    """
    labelled = Fold.of(sets, sets.chooser)
    solutions = list(path(labelled.span, labelled.y, sets.classes, GRID))
    accuracies = [labelled.accuracy(solution, sets.choosing) for solution in solutions]
    return float(GRID[int(np.argmax(accuracies))]), sum(solution.unconverged > 0 for solution in solutions)


def _by_both(sets: Sets, c: float, draw: np.ndarray) -> list[tuple[float, int]]:
    """Return accuracy and missed optima of one draw, for the given C and for the C that its labels choose."""
    labelled = Fold.of(sets, draw)
    splitter = StratifiedKFold(5, shuffle=True, random_state=0)
    folds = [held_out for _, held_out in splitter.split(labelled.x, labelled.y)]
    c_by_labels = cross_validate(labelled.span, labelled.y, sets.classes, COARSE_GRID, folds)

    solutions = [solve(labelled.span, labelled.y, sets.classes, chosen) for chosen in (c, c_by_labels)]
    return [(labelled.accuracy(solution, sets.scored), solution.unconverged) for solution in solutions]


def _missed(count: int, total: str) -> str:
    return f"not converged: {count} {total}" if count else ""


def score(sets: Sets) -> list[Measurement]:
    """Return the accuracy of every draw by both protocols, and the C that validation chose."""
    qualifiers = (
        protocols.CODE_ALONE if sets.code_alone else "",
        protocols.STANDARDISED if sets.settings.standardise else "",
    )
    keys = (protocols.C_BY_VALIDATION, protocols.C_BY_LABELS)
    by_validation, by_labels = (protocols.joined(key, *qualifiers) for key in keys)
    fields: dict[str, Any] = {"labels": sets.count, "split": sets.split}

    if reason := useless(sets.labelled[0]):
        rows: list[Measurement] = []
        for protocol in (by_validation, by_labels):
            rows += refused(["svm_accuracy"], reason, unit="%", protocol=protocol, **fields)
        return rows + refused(["svm_c"], reason, protocol=by_validation, **fields)

    # C is chosen once, on a draw that no accuracy is reported on.
    with one_core_a_thread():
        c, missed_on_grid = choose_c(sets)
    draws = sets.over_draws(lambda draw: _by_both(sets, c, draw))

    rows = []
    for protocol, scored in zip((by_validation, by_labels), zip(*draws, strict=True), strict=True):
        missed = _missed(sum(unconverged > 0 for _, unconverged in scored), f"of {len(scored)} draws")
        rows += measurements("svm_accuracy", protocol, [accuracy for accuracy, _ in scored], sets, missed)
    reason = _missed(missed_on_grid, f"of {len(GRID)} values of C")
    return [*rows, Measurement("svm_c", c, protocol=by_validation, reason=reason, **fields)]


def measure(subject: Subject) -> list[Measurement]:
    """Return the accuracies on the encoder's features, and on D's if it sees images alone."""
    return representation.measured(subject, score, COLUMNS)


def references(source: ReferenceInput) -> list[Measurement]:
    """Return the same for raw pixels and for untrained encoders, on the same draws."""
    return representation.referred(source, score)
