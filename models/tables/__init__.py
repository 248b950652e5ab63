"""The layer tables by their names in suites: functions whose keywords are a table's named options.

A file for each paper; columns in the papers' order: operation, kernel, stride, maps, batch norm, dropout,
nonlinearity.
"""

from collections.abc import Callable

from alibench.models.networks import Family
from alibench.models.tables import ali, ali64, alice, anomalies, bigan, small

FAMILIES: dict[str, Callable[..., Family]] = {
    "digits": small.digits,
    "images28": small.images28,
    "stacked28": small.stacked28,
    "cifar10_quarter": small.cifar10_quarter,
    "plane": small.plane,
    "cifar10": ali.cifar10,
    "svhn": ali.svhn,
    "toy": ali.toy,
    "celeba": ali64.celeba,
    "tiny_imagenet": ali64.tiny_imagenet,
    "bigan_mnist": bigan.mnist,
    "bigan_imagenet": bigan.imagenet,
    "alice_toy": alice.toy,
    "kdd99": anomalies.kdd99,
    "arrhythmia": anomalies.arrhythmia,
}
