"""Several seeds of one model trained at once in one process, for networks too small to fill an accelerator.

Their parameters are stacked, (S, ...), and one update of all is torch.vmap of one update: each seed has its
own weights, batches, noise and losses, and none sees another. Optimisers and averages are elementwise, so
they work on stacked numbers as on each seed's. Only rounding differs from a seed alone, where batched kernels
sum in another order.
"""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import grad
from torch.func import functional_call, vmap

from alibench.benchmarks.training.gradients import Learners, set_gradients
from alibench.benchmarks.training.trainer import Trainer
from alibench.models.base import Batch, Model


class _Update(nn.Module):
    """A model's losses and mean logits in one call, as torch.func wants them."""

    def __init__(self, model: Model) -> None:
        super().__init__()
        self.model = model

    def forward(
        self,
        learners: tuple[str, ...],
        x: Tensor,
        noise: Mapping[str, Tensor],
        y: Tensor | None,
        labelled: tuple[Tensor, Tensor] | None,
    ) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Return each learner's mean loss, and the mean logit of each kind of pair."""
        terms = self.model(Batch(x, noise, y, labelled), learners)
        losses = self.model.losses(terms, y)
        means = {player: losses[player].mean() for player in learners}
        return means, {kind: logits.detach().mean() for kind, logits in terms.logits.items()}


def stacked(models: Sequence[Model]) -> Model:
    """Return a model whose parameters and buffers are those of all models, stacked: (S, ...)."""
    # tensor.data: parameters and buffers stay the module's, and need no gradient of the stacking
    together = copy.deepcopy(models[0])
    states = [model.state_dict(keep_vars=True) for model in models]
    for key, tensor in together.state_dict(keep_vars=True).items():
        tensor.data = torch.stack([state[key].detach() for state in states])
    return together


class StackedTrainer(Trainer):
    """Makes the updates of several trainers at once: of one model and phase, each with another seed."""

    def __init__(self, singles: Sequence[Trainer]) -> None:
        self.singles, first = singles, singles[0]
        update = "alternating" if first.recipe.update == "alternating" else "separate"
        recipe = replace(first.recipe, update=update)  # type: ignore[arg-type]
        labelled = first.labelled.split if first.labelled else None
        super().__init__(
            stacked([one.model for one in singles]),
            first.phase,
            recipe,
            first.batches.split,
            first.rng,
            labelled,
        )
        self.update = _Update(self.model)

    def pick(self) -> list[Tensor]:
        """Return what each seed picks for its next batch, seed by seed."""
        return [tensor for one in self.singles for tensor in one.pick()]

    def batch(self, picked: Sequence[Tensor] | None = None) -> Batch:
        """Return each seed's picked batch, or its next one, stacked."""
        picked = self.pick() if picked is None else picked
        each = len(picked) // len(self.singles)
        batches = [one.batch(picked[i * each : (i + 1) * each]) for i, one in enumerate(self.singles)]

        # all of a kind, from each seed's batch
        first = batches[0]
        noise = {name: torch.stack([one.noise[name] for one in batches]) for name in first.noise}
        y = None if first.y is None else torch.stack([one.y for one in batches if one.y is not None])
        labelled = None
        if first.labelled is not None:
            images, classes = zip(*(one.labelled for one in batches if one.labelled), strict=True)
            labelled = (torch.stack(images), torch.stack(classes))
        return Batch(torch.stack([one.x for one in batches]), noise, y, labelled)

    def backward(self, batch: Batch, learners: Learners) -> dict[str, Tensor]:
        """Set all seeds' gradients, stacked; return mean losses and logits, each (S,)."""
        names = tuple(learners)
        state = {f"model.{key}": tensor for key, tensor in self.model.state_dict(keep_vars=True).items()}

        def one(state: dict[str, Tensor], *inputs: Any) -> Any:
            return functional_call(self.update, state, (names, *inputs))

        inputs = (state, batch.x, batch.noise, batch.y, batch.labelled)
        stacked_dims = tuple(None if part is None else 0 for part in inputs)
        with self.autocast:
            means, logits = vmap(one, in_dims=stacked_dims)(*inputs)

        # a seed's parameters move no other seed's loss, so the sum has each seed's own gradients
        for player, own in learners.items():
            set_gradients(own, grad(means[player].sum(), own, retain_graph=player != names[-1]))
        losses = {f"loss {player}": mean.detach() for player, mean in means.items()}
        return losses | {f"logit {kind}": mean for kind, mean in logits.items()}

    @property
    def sources(self) -> Sequence[Trainer]:
        """The seeds' own trainers."""
        return self.singles

    @torch.no_grad()
    def return_weights(self) -> None:
        """Copy weights and statistics back into every seed's own model."""
        together = self.model.state_dict()
        for i, one in enumerate(self.singles):
            for key, tensor in one.model.state_dict().items():
                tensor.copy_(together[key][i])
