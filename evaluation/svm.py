"""Semi-supervised accuracy of a linear SVM on encoded features (ALI, section 4.3), on a few labels of the train split.

Features: the encoder's last three hidden layers and the mean code, flattened and concatenated. Classifier: L2-SVM, one
against the rest (scikit-learn's LinearSVC). Labels: class-balanced draws from train, the same draws for every model, seed
and reference, so that differences are paired. Two protocols choose C:

    validation   the paper's: 50 values, exp(-20) to exp(20), once, on one extra draw, by accuracy on all of validation
    labels       by five-fold cross-validation within each draw: no label is used beyond those that were given

Features are standardised by the mean and deviation of the labelled images alone (the paper did not scale).
"""

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from sklearn.decomposition import PCA
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import GridSearchCV, StratifiedKFold
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC
from torch import Tensor

from evaluation.base import Baseline, Column, Data, Measurement, Settings, Split, Subject, as_float

COLUMNS = (
    Column("svm_accuracy", "SVM accuracy, %", "higher", 2, percent=True),
    Column("svm_c", "C", "", 5),
)
GRID = np.exp(np.linspace(-20, 20, 50))
COARSE_GRID = GRID[8:25:4]  # 1e-6 to 0.7 in five values: fifty would cost ten times as much within every draw
HIDDEN_LAYERS = 3


def refuses(data: Data) -> str:
    """An SVM needs images with labels; on the plane two coordinates say it all."""
    if not data.images:
        return f"data set '{data.name}' has points, not images"
    return "" if data.classes > 1 else f"data set '{data.name}' has no two classes"


def draw_labels(y: np.ndarray, labels: int, draw: int) -> np.ndarray:
    """Return indices of a class-balanced draw of `labels` images; the same for the same y and draw."""
    classes = np.unique(y)
    rng = np.random.RandomState(draw)
    each = labels // len(classes)
    return np.concatenate([rng.permutation(np.flatnonzero(y == c))[:each] for c in classes])


def machine(c: float = 1.0, steps: int = 1000) -> Pipeline:
    """Return the classifier: standardisation fitted with it, then an L2-SVM solved in the primal.

    The rotation in between changes no solution, since weights lie in the span of the images they were fitted on; with
    fewer images than features it leaves as many dimensions as images, and the solver converges several times faster. It
    gets at most `steps` Newton steps: where C just begins to separate the images a thousand may not do.
    """
    svc = LinearSVC(C=c, dual=False, tol=1e-3, max_iter=steps, random_state=0)
    return make_pipeline(StandardScaler(), PCA(svd_solver="full"), svc)


def choose_c(train: tuple[np.ndarray, np.ndarray], validation: tuple[np.ndarray, np.ndarray], steps: int = 1000) -> float:
    """Return the C of GRID with the highest validation accuracy; the smallest of equals."""
    (x, y), (x_validation, y_validation) = train, validation
    prepare = machine()[:-1].fit(x)  # no part of it depends on C
    x, x_validation = prepare.transform(x), prepare.transform(x_validation)
    return float(GRID[np.argmax([machine(c, steps)[-1].fit(x, y).score(x_validation, y_validation) for c in GRID])])


@dataclass(frozen=True)
class _Sets:
    """Features and classes of the images that the protocol looks at, and the draws of labels among the train ones."""

    train: tuple[np.ndarray, np.ndarray]
    validation: tuple[np.ndarray, np.ndarray]
    scored: tuple[np.ndarray, np.ndarray]
    draws: list[np.ndarray]  # indices into train; the last is for choosing C

    @classmethod
    def of(cls, features: Callable[[Tensor], Tensor], data: Data, settings: Settings, split: str) -> "_Sets":
        """Compute features of uint8 images: of all held-out ones, and of those train images that some draw labels."""
        y = data.train.y.numpy()
        draws = [draw_labels(y, settings.labels, draw) for draw in range(settings.draws + 1)]
        labelled = np.unique(np.concatenate(draws))
        train = Split(data.train.x[labelled], data.train.y[labelled])
        parts = (train, data.validation, data.test if split == "test" else data.validation)
        known, validation, scored = ((features(part.x).numpy(), part.y.numpy()) for part in parts)
        return cls(known, validation, scored, [np.searchsorted(labelled, draw) for draw in draws])


def _accuracies(sets: _Sets, steps: int) -> tuple[dict[str, list[float]], float]:
    """Return test accuracies in percent by protocol, a value a draw, and the C that validation chose."""
    (x, y), *draws, chosen = sets.train, *sets.draws
    folds = StratifiedKFold(5, shuffle=True, random_state=0)
    accuracies: dict[str, list[float]] = {"validation": [], "labels": []}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # at the grid's end, where C is never chosen
        c = choose_c((x[chosen], y[chosen]), sets.validation, steps)
        for labelled in draws:
            search = GridSearchCV(machine(steps=steps), {"linearsvc__C": COARSE_GRID}, cv=folds)
            for protocol, classifier in (("validation", machine(c, steps)), ("labels", search)):
                accuracies[protocol].append(100 * classifier.fit(x[labelled], y[labelled]).score(*sets.scored))
    return accuracies, c


def _measurements(
    features: Callable[[Tensor], Tensor], data: Data, settings: Settings, split: str, **options: Any
) -> list[Measurement]:
    sets = _Sets.of(features, data, settings, split)
    accuracies, c = _accuracies(sets, settings.newton_steps)
    common = {"n": len(sets.scored[1]), "split": split, "labels": settings.labels, **options}
    return [
        Measurement("svm_accuracy", value, "%", protocol=f"C by {protocol}", draw=draw, **common)
        for protocol, values in accuracies.items()
        for draw, value in enumerate(values)
    ] + [Measurement("svm_c", c, "", protocol="C by validation", **common)]


def _encoded(subject: Subject) -> Callable[[Tensor], Tensor]:
    def concatenated(x: Tensor) -> Tensor:
        *hidden, code = subject.model.features(as_float(x)).values()
        return torch.cat([*hidden[-HIDDEN_LAYERS:], code], dim=1)

    return lambda x: subject.batched(concatenated, x)


def measure(subject: Subject) -> list[Measurement]:
    """Return the accuracy of every draw by both protocols, and the C that validation chose."""
    if subject.model.conditional:
        reason = "its encoder is told the class"
        return [Measurement(column.metric, None, status="not applicable", reason=reason) for column in COLUMNS]
    return _measurements(_encoded(subject), subject.data, subject.settings, subject.split)


def references(baseline: Baseline) -> list[Measurement]:
    """Return the same for raw pixels and for untrained encoders, on the same draws."""
    data, settings, split = baseline.data, baseline.settings, baseline.split
    rows = _measurements(lambda x: as_float(x).flatten(1), data, settings, split, reference="raw pixels")
    for seed in baseline.seeds:
        subject = Subject(baseline.untrained(seed), data, settings, seed, split)
        rows += _measurements(_encoded(subject), data, settings, split, reference="untrained encoder", seed=seed)
    return rows
