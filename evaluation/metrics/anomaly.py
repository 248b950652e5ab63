"""Anomalies: does a model's score tell samples of a class that it was not trained on from the others?

One class of the held-out data is the anomaly (`data.anomaly`). Ranking: the area under the ROC curve and the
average precision. A decision: precision, recall and F1 where as many samples are called anomalies as the
papers call, those whose score is at or above a quantile of the held-out scores themselves
(`evaluation.flagged`; by default the share of anomalies among them). EGBAD (Zenati et al. 2018) and ALAD
(Zenati et al. 2018) take the 80th percentile on KDD99, the 85th on Arrhythmia.

Next to the models stand detectors that learn next to nothing. Where they are as good, the data are easy.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from alibench.evaluation.data import BATCH, Data, as_float
from alibench.evaluation.measurement import Column, Measurement, not_applicable, refused
from alibench.evaluation.settings import Settings
from alibench.evaluation.subject import ReferenceInput, Subject

COLUMNS = (
    Column("anomaly_auroc", "AUROC", "higher", 3),
    Column("anomaly_ap", "average precision", "higher", 3),
    Column("anomaly_precision", "precision", "higher", 3),
    Column("anomaly_recall", "recall", "higher", 3),
    Column("anomaly_f1", "F1", "higher", 3),
)
MOST, NEIGHBOURS = 50_000, 10_000  # samples of train that a detector, and the nearest neighbour, learn from


def unsupported_reason(data: Data, settings: Settings) -> str:
    """Data need a class that is an anomaly, and samples of it and of others to tell apart."""
    if data.anomaly < 0:
        return f"dataset '{data.name}' has no anomalies: name their class by data.anomaly"
    for name, split in (("validation", data.validation), ("test", data.test)):
        share = float((split.y == data.anomaly).double().mean())
        if share in (0.0, 1.0):
            return f"{name} of dataset '{data.name}' holds {'no' if not share else 'only'} anomalies"
    return ""


def score(scores: np.ndarray, is_anomaly: np.ndarray, flagged: float) -> dict[str, float]:
    """Return the measures of scores (N,), high for anomalies; `flagged` is the share that is called one."""
    from sklearn.metrics import average_precision_score, precision_recall_fscore_support, roc_auc_score

    # The threshold is a quantile of the scores themselves, as in the papers.
    called = scores >= np.quantile(scores, 1 - flagged)
    precision, recall, f1, _ = precision_recall_fscore_support(
        is_anomaly, called, average="binary", zero_division=0.0
    )
    return {
        "anomaly_auroc": float(roc_auc_score(is_anomaly, scores)),
        "anomaly_ap": float(average_precision_score(is_anomaly, scores)),
        "anomaly_precision": float(precision),
        "anomaly_recall": float(recall),
        "anomaly_f1": float(f1),
    }


def _measured(scores: np.ndarray, source: Subject | ReferenceInput, **fields: Any) -> list[Measurement]:
    is_anomaly = source.held_out.y.numpy() == source.data.anomaly
    fields |= {"n": len(is_anomaly), "split": source.split}
    if not np.isfinite(scores).all():
        return refused(COLUMNS, f"{int((~np.isfinite(scores)).sum())} scores are not finite", **fields)

    flagged = source.settings.flagged or float(is_anomaly.mean())
    values = score(scores, is_anomaly, flagged)
    return [Measurement(metric, value, **fields) for metric, value in values.items()]


def measure(subject: Subject) -> list[Measurement]:
    """Return the measures of each of the model's scores; the first is the model's own row."""
    model, held_out = subject.model, subject.held_out

    # each score by itself, in batches
    scores: dict[str, list[Tensor]] = {}
    for x in held_out.x.split(BATCH):
        with torch.no_grad():
            found = model.anomaly(as_float(x.to(subject.device)))
        for name, part in found.items():
            scores.setdefault(name, []).append(part.double().cpu())
    if not scores:
        return not_applicable(COLUMNS, "it has no score of anomalies")

    rows = []
    for i, (name, parts) in enumerate(scores.items()):
        reference = f"{model.title}, {name}" if i else ""
        rows += _measured(torch.cat(parts).numpy(), subject, reference=reference)
    return rows


# -------------------- detectors that learn next to nothing


def references(source: ReferenceInput) -> list[Measurement]:
    """Return the measures of trivial detectors, fitted to train as the models are."""
    rows = []
    for name, scores, seed in _detectors(source):
        rows += _measured(scores, source, reference=name, seed=seed)
    return rows


def _detectors(source: ReferenceInput) -> Iterator[tuple[str, np.ndarray, int | None]]:
    """Yield detectors by name: their scores of the held-out split, and the seed of those that draw."""
    from sklearn.decomposition import PCA
    from sklearn.ensemble import IsolationForest
    from sklearn.neighbors import NearestNeighbors

    # As the models see them, in rows.
    train = as_float(source.data.train.x[:MOST]).flatten(1).numpy()
    x = as_float(source.held_out.x).flatten(1).numpy()

    neighbours = NearestNeighbors(n_neighbors=1, algorithm="brute").fit(train[:NEIGHBOURS])
    yield "nearest neighbour", neighbours.kneighbors(x)[0][:, 0], None

    pca = PCA(min(source.latent, *train.shape), random_state=0).fit(train)
    yield "PCA residual", np.square(x - pca.inverse_transform(pca.transform(x))).sum(1), None
    yield "distance to the mean", np.square(x - train.mean(0)).sum(1), None
    yield "best single column, chosen here", _best_column(x, source), None

    for seed in source.seeds:
        forest = IsolationForest(random_state=seed).fit(train)
        yield "isolation forest", -forest.score_samples(x), seed


def _best_column(x: np.ndarray, source: ReferenceInput) -> np.ndarray:
    """Return the column of x, or their sum, either way round, that ranks the held-out anomalies best."""
    from scipy.stats import rankdata

    # the area under the curve is the anomalies' mean rank, scaled
    is_anomaly = source.held_out.y.numpy() == source.data.anomaly
    columns = np.concatenate([x, x.sum(1, keepdims=True)], 1)
    ranks = np.stack([rankdata(column)[is_anomaly].mean() for column in columns.T])
    distance = ranks - (len(x) + 1) / 2
    best = int(np.abs(distance).argmax())
    return np.sign(distance[best]) * columns[:, best]
