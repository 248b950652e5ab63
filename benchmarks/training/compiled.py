"""Networks by torch.compile, each by itself: the pairs between them stay visible to gradients.py."""

from types import TracebackType

import torch
from torch import nn

from alibench.evaluation.errors import BadInput
from alibench.models.base import Model
from alibench.models.discriminator import Discriminator


class Compiled:
    """A context in which a model's networks run compiled; the model itself is not changed.

    The first pass compiles, which takes up to a minute.
    """

    def __init__(self, model: Model) -> None:
        # Each network once: players may share it.
        self.compiled: list[tuple[nn.Module, str, object]] = []
        for name in dict.fromkeys(name for networks in model.players.values() for name in networks):
            network = getattr(model, name)
            method = "judge" if isinstance(network, Discriminator) else "forward"  # which models call
            self.compiled.append((network, method, torch.compile(getattr(network, method), dynamic=False)))

    def __enter__(self) -> None:
        for network, method, function in self.compiled:
            vars(network)[method] = function

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for network, method, _ in self.compiled:
            del vars(network)[method]


def check(model: Model, passes: int) -> None:
    """Raise BadInput for a model that takes several backward passes through one forward pass.

    A compiled network frees its buffers after the first backward pass.
    """
    if passes > 1:
        raise BadInput(
            f"model '{model.name}' takes {passes} backward passes through its networks, compiled ones allow "
            "one: leave recipe.compile out"
        )
