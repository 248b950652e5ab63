"""The exponential moving average of a model's weights."""

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.optim.swa_utils import get_ema_multi_avg_fn

from alibench.models.base import Model


class Average:
    """Exponential moving average of all weights and batch statistics; a decay of 0 keeps none.

    The decay rises as (1 + t) / (10 + t) until it reaches its value, so that first weights leave a short
    training's average.
    """

    def __init__(self, model: Model, decay: float) -> None:
        # torch's AveragedModel walks the module tree at every update, an eighth of a small net's step
        state = model.state_dict().values() if decay else ()
        self.tensors = [tensor for tensor in state if tensor.is_floating_point()]
        self.mean = [tensor.clone() for tensor in self.tensors]
        self.decay, self.updates = decay, 0

    @torch.no_grad()
    def update(self) -> None:
        """Move the average towards the model."""
        if self.tensors:
            self.updates += 1
            decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
            get_ema_multi_avg_fn(decay)(self.mean, self.tensors, None)

    def state(self) -> dict[str, Tensor]:
        """Return the average and the number of its updates, by name."""
        means = {f"average.{i}": mean for i, mean in enumerate(self.mean)}
        return means | {"averaged": torch.tensor(self.updates)}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Resume from what `state` returned."""
        self.updates = int(state["averaged"])
        for i, mean in enumerate(self.mean):
            mean.copy_(state[f"average.{i}"])

    @torch.no_grad()
    def copy_to_model(self) -> None:
        """Make the average the model's weights."""
        for tensor, mean in zip(self.tensors, self.mean, strict=True):
            tensor.copy_(mean)
