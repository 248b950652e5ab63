"""Semi-supervised accuracy of a linear SVM on learnt features (ALI, section 4.3), on a few labels.

Features: the encoder's last three hidden layers and the mean code, flattened and concatenated; for a plain
GAN also those of its discriminator, as DCGAN took them. Classifier: L2-SVM, one against the rest. Two
protocols choose C:

    validation   the paper's: 50 values, exp(-20) to exp(20), once, on one extra draw, by accuracy on all of validation
    labels       by five-fold cross-validation within each draw: no label is used beyond those that were given

Features go in as they are, as in the paper, or standardised by the labelled images alone
(`evaluation.standardise`).
"""

import numpy as np
from sklearn.model_selection import StratifiedKFold

from alibench.evaluation import labels, representation
from alibench.evaluation.data import Data
from alibench.evaluation.linear_svm import Span, cross_validate, path, solve
from alibench.evaluation.representation import (
    CODE_ALONE,
    Sets,
    measurements,
    one_core_a_thread,
    scaler,
    useless,
)
from alibench.evaluation.subject import Baseline, Column, Measurement, Settings, Subject

COLUMNS = (
    Column("svm_accuracy", "SVM accuracy, %", "higher", 2, percent=True),
    Column("svm_c", "C", "", 5),
)
GRID = np.exp(np.linspace(-20, 20, 50))
# 5e-8 to 1e4 in nine values: fifty would cost five times as much within every draw
COARSE_GRID = GRID[4:40:4]

MOST = 10_000  # labels: of so many the kernel matrix takes 0.8 GB


def refuses(data: Data, settings: Settings) -> str:
    """As every classifier on features; and labels whose kernel matrix would not fit."""
    if reason := representation.refuses(data, settings):
        return reason
    count = len(labels.pools(data, settings).labelled) if settings.labels == "all" else settings.labels
    return f"{count:,} labels: the SVM takes at most {MOST:,}; set evaluation.labels" if count > MOST else ""


def _prepared(sets: Sets, draw: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return features and classes of a draw's images, scaled if asked for, and the scaling (mean, deviation)."""
    x, y = sets.labelled[0][draw], sets.labelled[1][draw]
    mean, std = np.zeros(x.shape[1], np.float32), np.ones(x.shape[1], np.float32)
    if sets.settings.standardise:
        mean, std = scaler(x)
        x = (x - mean) / std
    return x, y, mean, std


def _accuracy(
    weights: np.ndarray,
    span: Span,
    x: np.ndarray,
    mean: np.ndarray,
    std: np.ndarray,
    held_out: tuple[np.ndarray, np.ndarray],
) -> float:
    """Return the percentage of held-out images that weights in the span of x, scaled by mean and std,
    classify right.
    """
    weights, intercepts = span.primal(weights, x)
    weights = weights / std[:, None]
    predicted = (held_out[0] @ weights + (intercepts - mean @ weights)).argmax(1)
    return 100 * float((predicted == held_out[1]).mean())


def choose_c(sets: Sets) -> tuple[float, int]:
    """Return the C of GRID with the highest accuracy on the images to choose on, the smallest of equals.

    Beside it the number of values of C at which some class's optimum was missed.
    """
    x, y, mean, std = _prepared(sets, sets.chooser)
    span = Span.of(x)
    solutions = list(path(span, y, sets.classes, GRID))
    accuracies = [_accuracy(solution.weights, span, x, mean, std, sets.choosing) for solution in solutions]
    return float(GRID[int(np.argmax(accuracies))]), sum(solution.unconverged > 0 for solution in solutions)


def _missed(count: int, of: str) -> str:
    return f"not converged: {count} {of}" if count else ""


def score(sets: Sets) -> list[Measurement]:
    """Return the accuracy of every draw by both protocols, and the C that validation chose."""
    suffix = f", {CODE_ALONE}" * sets.code_alone + ", standardised" * sets.settings.standardise
    protocols = {by: f"C by {by}{suffix}" for by in ("validation", "labels")}
    reason = useless(sets.labelled[0])
    if reason:
        options = {"status": "refused", "reason": reason, "labels": sets.count, "split": sets.split}
        return [
            *(Measurement("svm_accuracy", None, "%", protocol=p, **options) for p in protocols.values()),  # type: ignore[arg-type]
            Measurement("svm_c", None, protocol=protocols["validation"], **options),  # type: ignore[arg-type]
        ]
    with one_core_a_thread():
        c, missed_on_grid = choose_c(sets)

    def by_both(draw: np.ndarray) -> list[tuple[float, int]]:
        x, y, mean, std = _prepared(sets, draw)
        span = Span.of(x)
        folds = [held_out for _, held_out in StratifiedKFold(5, shuffle=True, random_state=0).split(x, y)]
        found = []
        for chosen in (c, cross_validate(span, y, sets.classes, COARSE_GRID, folds)):
            solution = solve(span, y, sets.classes, chosen)
            found.append((_accuracy(solution.weights, span, x, mean, std, sets.scored), solution.unconverged))
        return found

    of_draws = sets.over_draws(by_both)
    rows: list[Measurement] = []
    for protocol, found in zip(protocols.values(), zip(*of_draws, strict=True), strict=True):
        missed = _missed(sum(unconverged > 0 for _, unconverged in found), f"of {len(found)} draws")
        rows += measurements("svm_accuracy", protocol, [accuracy for accuracy, _ in found], sets, missed)
    grid = _missed(missed_on_grid, f"of {len(GRID)} values of C")
    return [
        *rows,
        Measurement(
            "svm_c", c, "", split=sets.split, protocol=protocols["validation"], labels=sets.count, reason=grid
        ),
    ]


def measure(subject: Subject) -> list[Measurement]:
    """Return the accuracies on the encoder's features, and on those of a discriminator that sees images
    alone.
    """
    return representation.measured(subject, score, COLUMNS)


def references(baseline: Baseline) -> list[Measurement]:
    """Return the same for raw pixels and for untrained encoders, on the same draws."""
    return representation.referred(baseline, score)
