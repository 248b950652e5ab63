"""Floating-point operations, counted by torch for one round of each phase."""

import copy
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from alibench.benchmarks.training.gradients import BatchNorm, Learners
from alibench.benchmarks.training.recipe import Recipe, steps_of
from alibench.benchmarks.training.trainer import Trainer
from alibench.evaluation.data import Split
from alibench.evaluation.seeds import generator
from alibench.models.base import Batch, Model, Phase


class _Total:
    """The counter's module tracker, without tracking: its hooks forbid a gradient within a forward pass
    (WGAN's penalty).
    """

    parents = ("Global",)

    def __enter__(self) -> None: ...

    def __exit__(self, *_: object) -> None: ...


class Shapes(Trainer):
    """A trainer whose model has shapes and no contents, on the device "meta": what its round computes can be
    counted.
    """

    def __init__(
        self,
        model: Model,
        phase: Phase,
        recipe: Recipe,
        split: Split,
        rng: torch.Generator,
        labelled: Split | None = None,
    ) -> None:
        self.contents = copy.deepcopy(
            model
        )  # perhaps; for the few samples that show whose backward pass serves all
        super().__init__(copy.deepcopy(model).to("meta"), phase, recipe, split, rng, labelled)
        self.split = split

    def _probe(self) -> Model:
        probe = filled(self.contents)
        for module, like in zip(probe.modules(), self.model.modules(), strict=True):
            module.training = like.training
        return probe

    def _optimiser(self, learners: Learners) -> torch.optim.Adam:
        return torch.optim.Adam([p for own in learners.values() for p in own])  # which takes no step

    def batch(self, picked: Sequence[Tensor] | None = None) -> Batch:
        """Return a batch without contents."""
        size, split = self.recipe.batch, self.split
        x = torch.empty((size, *split.x.shape[1:]), device="meta")
        y = torch.empty((size, *split.y.shape[1:]), dtype=split.y.dtype, device="meta")
        noise = {name: torch.empty(draw.shape, device="meta") for name, draw in self.draws.items()}
        return Batch(x, noise, y, (x, y) if self.labelled else None)

    def round(self) -> dict[str, Tensor]:
        """Compute the gradients of a round."""
        monitored: dict[str, Tensor] = {}
        for move in self.moves:
            batch = self.batch()
            for learners in move:
                monitored |= self.learn(batch, learners)
        return monitored


def filled(model: Model) -> Model:
    """Return a model with contents on the CPU: as it is, or zeros where it has shapes alone."""
    if all(tensor.device.type != "meta" for tensor in (*model.parameters(), *model.buffers())):
        return copy.deepcopy(model)
    model = copy.deepcopy(model).to_empty(device="cpu")
    with torch.no_grad():
        for tensor in (*model.parameters(), *model.buffers()):
            tensor.zero_()
    for module in model.modules():
        if isinstance(module, BatchNorm):
            module.reset_running_stats()
    return model


def flops_a_round(model: Model, recipe: Recipe, split: Split, labelled: Split | None = None) -> list[int]:
    """Return the operations of one round of each phase: matrix products and convolutions, forward and
    backward.

    They are counted on tensors without contents, so that counting takes no longer for large images than for
    small ones; a model that needs contents (it asks for a value, or makes tensors on the CPU) makes one round
    there instead. The model may have shapes alone (`Suite.shapes`). How a recipe is computed does not change
    their number.
    """
    recipe = replace(recipe, execution="eager", precision="fp32", compile=False)
    counts = []
    for phase in model.phases:
        try:
            count = _counted(Shapes(model, phase, recipe, split, generator(0, "cost"), labelled))
        except Exception:  # whatever a model of the user's raises on tensors without contents
            count = _counted(
                Trainer(filled(model).cpu(), phase, recipe, split, generator(0, "cost"), labelled)
            )
        counts.append(count)
    return counts


def _counted(trainer: Trainer) -> int:
    counter = FlopCounterMode(display=False)
    counter.mod_tracker = _Total()  # type: ignore[assignment]
    with counter:
        trainer.round()
    return counter.get_total_flops()


def whole(rounds: Sequence[int], phases: Sequence[Phase], recipe: Recipe) -> float:
    """Return the operations of a training, in units of 10^9, by those of a round of each phase."""
    return sum(count * steps_of(phase, recipe) for count, phase in zip(rounds, phases, strict=True)) / 1e9
