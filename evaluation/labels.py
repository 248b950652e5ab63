"""Draws of labelled images, balanced by class: the same for every model, seed, protocol and reference.

So a comparison on few labels is paired: the classifiers on features and semi-supervised training all see
draw d.
"""

from dataclasses import dataclass

import numpy as np

from alibench.evaluation.data import Data, Split
from alibench.evaluation.errors import BadInput
from alibench.evaluation.settings import Settings

FEWEST = 5  # labels of a class: one a fold of cross-validation


@dataclass(frozen=True)
class Pools:
    """The images that labels are drawn from, and those that hyper-parameters are chosen on."""

    labelled: Split
    choosing: Split


def pools(data: Data, settings: Settings) -> Pools:
    """Return the pool of labels and the images to choose on.

    ALI's SVHN: labels from the published train split (here validation, since `extra` trains the model), whose
    last 10,000 images are kept back to choose C on. Elsewhere: labels from train, choices on validation.
    """
    # Labels never come from the images that C is chosen on.
    if settings.labels_from == "train":
        return Pools(data.train, data.validation)

    x, y = data.validation.x, data.validation.y
    first = len(y) - settings.kept_back
    return Pools(Split(x[:first], y[:first]), Split(x[first:], y[first:]))


def unsupported_reason(data: Data, settings: Settings) -> str:
    """Say why labels cannot be drawn, if so: no classes, or a class with too few images."""
    if data.classes < 2:
        return f"dataset '{data.name}' has no two classes"
    images, kept_back = len(data.validation), settings.kept_back
    if settings.labels_from == "validation" and kept_back >= images:
        return f"evaluation.kept_back = {kept_back} leaves none of the {images} validation images"

    # The class with the fewest images sets the bounds.
    y = pools(data, settings).labelled.y.numpy()
    counts = np.bincount(y[y >= 0], minlength=data.classes)
    rarest = int(counts.argmin())
    name = data.class_names[rarest] if data.class_names else rarest
    named = f"class '{name}' has {counts[rarest]} images in the pool of labels"
    if counts[rarest] < FEWEST:
        return f"{named}, {FEWEST} are needed"

    least, most = FEWEST * data.classes, data.classes * int(counts[rarest])
    if settings.labels == "all" or least <= settings.labels <= most:
        return ""
    bounds = f"between {least} ({FEWEST} a class) and {most} ({named})"
    return f"evaluation.labels = {settings.labels}: it must be {bounds}"


def draw(y: np.ndarray, labels: int | str, number: int) -> np.ndarray:
    """Return indices into y (N,), of classes, of a class-balanced draw; "all": every labelled image.

    The same for the same y and number. Raises BadInput if a class has too few images.
    """
    if labels == "all":
        return np.flatnonzero(y >= 0)

    # RandomState's streams are frozen, unlike those of numpy's Generator.
    classes = np.unique(y[y >= 0])
    rng = np.random.RandomState(number)
    each = int(labels) // len(classes)
    chosen = [rng.permutation(np.flatnonzero(y == c))[:each] for c in classes]
    if each == 0 or min(map(len, chosen)) < each:
        raise BadInput(f"{labels} labels need {max(each, 1)} images of each of the {len(classes)} classes")
    return np.concatenate(chosen)
