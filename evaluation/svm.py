"""Semi-supervised accuracy of a linear SVM on encoded features (ALI, section 4.3), on a few labels of the train split.

Features: the encoder's last three hidden layers and the mean code, flattened and concatenated. Classifier: L2-SVM, one
against the rest (scikit-learn's LinearSVC). Labels: class-balanced draws from train, the same draws for every model, seed
and reference, so that differences are paired. Two protocols choose C:

    validation   the paper's: 50 values, exp(-20) to exp(20), once, on one extra draw, by accuracy on all of validation
    labels       by five-fold cross-validation within each draw: no label is used beyond those that were given

Features are standardised by the mean and deviation of the labelled images alone (the paper did not scale).
"""

import warnings
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
    return "" if data.images else f"data set '{data.name}' has points, not images"


def draw_labels(y: np.ndarray, labels: int, draw: int) -> np.ndarray:
    """Return indices of a class-balanced draw of `labels` images; the same for the same y and draw."""
    classes = np.unique(y)
    rng = np.random.RandomState(draw)
    each = labels // len(classes)
    return np.concatenate([rng.permutation(np.flatnonzero(y == c))[:each] for c in classes])


def machine(c: float = 1.0) -> Pipeline:
    """Return the classifier: standardisation fitted with it, then an L2-SVM solved in the primal.

    The rotation in between changes no solution, since weights lie in the span of the images they were fitted on; with
    fewer images than features it leaves as many dimensions as images, and the solver converges several times faster.
    """
    return make_pipeline(StandardScaler(), PCA(svd_solver="full"), LinearSVC(C=c, dual=False, tol=1e-3, random_state=0))


def choose_c(train: tuple[np.ndarray, np.ndarray], validation: tuple[np.ndarray, np.ndarray]) -> float:
    """Return the C of GRID with the highest validation accuracy; the smallest of equals."""
    return float(GRID[np.argmax([machine(c).fit(*train).score(*validation) for c in GRID])])


def _accuracies(
    train: tuple[np.ndarray, np.ndarray],
    validation: tuple[np.ndarray, np.ndarray],
    test: tuple[np.ndarray, np.ndarray],
    labels: int,
    draws: int,
) -> tuple[dict[str, list[float]], float]:
    """Return test accuracies in percent by protocol, a value a draw, and the C that validation chose."""
    x, y = train
    chosen = draw_labels(y, labels, draws)  # one draw more than are scored
    folds = StratifiedKFold(5, shuffle=True, random_state=0)
    accuracies: dict[str, list[float]] = {"validation": [], "labels": []}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # at the grid's end, where C is never chosen
        c = choose_c((x[chosen], y[chosen]), validation)
        for draw in range(draws):
            labelled = draw_labels(y, labels, draw)
            search = GridSearchCV(machine(), {"linearsvc__C": COARSE_GRID}, cv=folds)
            for protocol, classifier in (("validation", machine(c)), ("labels", search)):
                accuracies[protocol].append(100 * classifier.fit(x[labelled], y[labelled]).score(*test))
    return accuracies, c


def _measurements(
    features: dict[str, np.ndarray], data: Data, settings: Settings, split: str, **options: Any
) -> list[Measurement]:
    splits = {name: (x, getattr(data, name).y.numpy()) for name, x in features.items()}
    accuracies, c = _accuracies(splits["train"], splits["validation"], splits[split], settings.labels, settings.draws)
    n = len(splits[split][1])
    common = {"n": n, "split": split, "labels": settings.labels, **options}
    return [
        Measurement("svm_accuracy", value, "%", protocol=f"C by {protocol}", draw=draw, **common)
        for protocol, values in accuracies.items()
        for draw, value in enumerate(values)
    ] + [Measurement("svm_c", c, "", protocol="C by validation", **common)]


def _encoded(subject: Subject) -> dict[str, np.ndarray]:
    def concatenated(x: Tensor) -> Tensor:
        *hidden, code = subject.model.features(x).values()
        return torch.cat([*hidden[-HIDDEN_LAYERS:], code], dim=1)

    return {name: subject.batched(concatenated, as_float(part.x)).numpy() for name, part in _splits(subject.data).items()}


def _splits(data: Data) -> dict[str, Split]:
    return {"train": data.train, "validation": data.validation, "test": data.test}


def measure(subject: Subject) -> list[Measurement]:
    """Return the accuracy of every draw by both protocols, and the C that validation chose."""
    return _measurements(_encoded(subject), subject.data, subject.settings, subject.split)


def references(baseline: Baseline) -> list[Measurement]:
    """Return the same for raw pixels and for untrained encoders, on the same draws."""
    data, settings, split = baseline.data, baseline.settings, baseline.split
    pixels = {name: as_float(part.x).flatten(1).numpy() for name, part in _splits(data).items()}
    rows = _measurements(pixels, data, settings, split, reference="raw pixels")
    for seed in baseline.seeds:
        subject = Subject(baseline.untrained(seed), data, settings, seed, split)
        rows += _measurements(_encoded(subject), data, settings, split, reference="untrained encoder", seed=seed)
    return rows
