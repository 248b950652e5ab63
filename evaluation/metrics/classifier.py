"""Accuracy of a model that learns classes itself, from a few labels (ALI, section 4.3).

A run's labels are the draw of its seed (evaluation/labels.py), the same as the labels of the classifiers on
features with that number, so that differences are paired.
"""

from alibench.evaluation import labels, protocols
from alibench.evaluation.data import Data, as_float
from alibench.evaluation.measurement import Column, Measurement, not_applicable
from alibench.evaluation.settings import Settings
from alibench.evaluation.subject import Subject

COLUMNS = (Column("class_accuracy", "K+1 accuracy, %", "higher", 2, percent=True),)


def unsupported_reason(data: Data, settings: Settings) -> str:
    """Data need classes, of which labels can be drawn."""
    return labels.unsupported_reason(data, settings)


def measure(subject: Subject) -> list[Measurement]:
    """Return the accuracy on test; on validation, on the images that labels are never drawn from."""
    model, data, settings = subject.model, subject.data, subject.settings
    if not model.semi_supervised:
        return not_applicable(COLUMNS, "it learns no classes")

    pools = labels.pools(data, settings)
    scored = data.test if subject.split == "test" else pools.choosing
    right = subject.batched(lambda x, y: model.classify(as_float(x)).argmax(1) == y, scored.x, scored.y)

    # a D of pairs judges x next to its mean code
    encoded = protocols.MEAN_CODE if model.inference != "none" else ""
    return [
        Measurement(
            "class_accuracy",
            100 * float(right.double().mean()),
            "%",
            len(right),
            subject.split,
            protocol=protocols.joined(protocols.K_PLUS_ONE, encoded),
            labels=len(labels.draw(pools.labelled.y.numpy(), settings.labels, subject.seed)),
            draw=subject.seed,
        )
    ]
