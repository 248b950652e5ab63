"""Networks by torch.compile, each by itself, so that the pairs between them stay: one backward pass through D
serves all.
"""

from types import TracebackType

import torch
from torch import nn

from alibench.evaluation.errors import BadInput
from alibench.models.base import Model
from alibench.models.discriminator import Discriminator


class Compiled:
    """Has a model's networks run compiled meanwhile; the model itself is not changed.

    The first pass compiles, which takes up to a minute.
    """

    def __init__(self, model: Model) -> None:
        self.compiled: list[tuple[nn.Module, str, object]] = []
        for name in dict.fromkeys(name for networks in model.players.values() for name in networks):
            network = getattr(model, name)
            method = "judge" if isinstance(network, Discriminator) else "forward"  # that the others call
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
    """Refuse a model whose update sends `passes` backward passes through one forward pass. Raises BadInput.

    A compiled network frees what its first backward pass has used.
    """
    if passes > 1:
        raise BadInput(
            f"model '{model.name}' takes {passes} backward passes through its networks, compiled ones allow "
            "one: "
            "leave recipe.compile out"
        )
