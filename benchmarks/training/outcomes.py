"""The seeds of a training: what each is given, what it logs, and what becomes of it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from alibench.evaluation.data import Split
from alibench.evaluation.files import Count
from alibench.models.base import Model

# A tick of the curves: phase, step in it, every learner's loss, and the mean logit of each kind of pair.
Record = dict[str, int | float | str]

# Called with each record as it is made; what it raises ends the training. A training that resumes from a
# checkpoint logs again what came after the checkpoint, and nothing that came before it.
Log = Callable[[Mapping[str, float | str]], None]


def silent(record: Mapping[str, float | str]) -> None:
    """Log nothing."""


@dataclass(frozen=True)
class Member:
    """One seed of a training."""

    model: Model
    seed: int
    labelled: Split | None = None  # what a semi-supervised model learns classes from
    log: Log = silent


class Trained(msgspec.Struct, forbid_unknown_fields=True):
    """What a training leaves, besides the model itself."""

    # as checkpoints and training.json hold it
    seconds: float = 0.0
    updates: dict[str, Count] = {}  # of each network
    curves: list[Record] = []  # a record a tick
    resumed: list[dict[str, Any]] = []  # phase and step of each checkpoint it resumed from


class Diverged(Exception):
    """A loss or a parameter is no longer finite."""


class Failed(Exception):
    """Work cannot be done, for a reason that is not a bug here; the message is one line with the remedy."""
