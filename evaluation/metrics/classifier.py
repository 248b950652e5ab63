"""Accuracy of a model that learns classes itself, from a few labels (semi-supervised training; ALI, section
4.3).

A run's labels are the draw of its seed (evaluation/labels.py), the same as those of the classifiers on
features with that number, so that differences are paired.
"""

from alibench.evaluation import labels
from alibench.evaluation.data import Data, as_float
from alibench.evaluation.subject import Column, Measurement, Settings, Subject

COLUMNS = (Column("class_accuracy", "K+1 accuracy, %", "higher", 2, percent=True),)


def refuses(data: Data, settings: Settings) -> str:
    """Only data with classes, of which labels can be drawn."""
    return labels.refuses(data, settings)


def measure(subject: Subject) -> list[Measurement]:
    """Return the accuracy on test; on validation, on those of its images that labels are never drawn from."""
    model, data, settings = subject.model, subject.data, subject.settings
    if not model.semi_supervised:
        reason = "it learns no classes"
        return [Measurement("class_accuracy", None, status="not applicable", reason=reason)]
    pools = labels.pools(data, settings)
    scored = data.test if subject.split == "test" else pools.choosing
    right = subject.batched(lambda x, y: model.classify(as_float(x)).argmax(1) == y, scored.x, scored.y)
    return [
        Measurement(
            "class_accuracy",
            100 * float(right.double().mean()),
            "%",
            len(right),
            subject.split,
            protocol="K+1 classes" if model.inference == "none" else "K+1 classes, mean code",
            labels=len(labels.draw(pools.labelled.y.numpy(), settings.labels, subject.seed)),
            draw=subject.seed,
        )
    ]
