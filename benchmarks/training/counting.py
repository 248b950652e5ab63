"""Floating-point operations, counted by torch for one round of each phase."""

import copy
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

import torch
from torch.utils.flop_counter import FlopCounterMode

from alibench.benchmarks.training.gradients import BatchNorm, gradients
from alibench.benchmarks.training.recipe import Recipe, steps_of
from alibench.benchmarks.training.trainer import Trainer, parameters
from alibench.evaluation.data import Split
from alibench.evaluation.seeds import generator
from alibench.models.base import Batch, Model, Phase


def flops_a_round(model: Model, recipe: Recipe, split: Split, labelled: Split | None = None) -> list[int]:
    """Return the operations of one round of each phase: matrix products and convolutions, both passes.

    They are counted on tensors without contents, so that counting takes no longer for large images than for
    small ones; a model that needs contents (it asks for a value, or makes tensors on the CPU) makes one round
    instead. The model may have shapes alone (`Suite.shapes`). How a recipe is computed does not change the
    number.
    """
    recipe = replace(recipe, execution="eager", precision="fp32", compile=False)
    counts = []
    for phase in model.phases:
        trainer = Trainer(filled(model).cpu(), phase, recipe, split, generator(0, "cost"), labelled)
        try:
            counts.append(_counted(partial(_round_on_shapes, trainer)))
        except Exception:  # whatever a user's model raises on tensors without contents
            counts.append(_counted(trainer.round))
    return counts


def whole(rounds: Sequence[int], phases: Sequence[Phase], recipe: Recipe) -> float:
    """Return the operations of a training, in units of 10^9, from those of a round of each phase."""
    return sum(count * steps_of(phase, recipe) for count, phase in zip(rounds, phases, strict=True)) / 1e9


def filled(model: Model) -> Model:
    """Return a copy of a model with contents: its own, or zeros on the CPU where it has shapes alone."""
    # contents of its own
    if all(tensor.device.type != "meta" for tensor in (*model.parameters(), *model.buffers())):
        return copy.deepcopy(model)

    # zeros, but for batch norm, whose variances would be divided by
    model = copy.deepcopy(model).to_empty(device="cpu")
    with torch.no_grad():
        for tensor in (*model.parameters(), *model.buffers()):
            tensor.zero_()
    for module in model.modules():
        if isinstance(module, BatchNorm):
            module.reset_running_stats()
    return model


def _round_on_shapes(trainer: Trainer) -> None:
    """Compute the gradients of a round on the device "meta", where tensors have shapes and no contents."""
    # a batch without contents
    model, split, size = copy.deepcopy(trainer.model).to("meta"), trainer.batches.split, trainer.recipe.batch
    x = torch.empty((size, *split.x.shape[1:]), device="meta")
    y = torch.empty((size, *split.y.shape[1:]), dtype=split.y.dtype, device="meta")
    noise = {name: torch.empty(draw.shape, device="meta") for name, draw in trainer.draws.items()}
    batch = Batch(x, noise, y, (x, y) if trainer.labelled else None)

    # the updates, without the steps
    for move in trainer.moves:
        for players in (tuple(learners) for learners in move):
            learners = {player: parameters(model, player) for player in players}
            gradients(model, batch, learners, trainer.judges[players])


class _Total:
    """A module tracker that tracks nothing: FlopCounterMode's own forbids gradients within a forward pass."""

    parents = ("Global",)

    def __enter__(self) -> None: ...

    def __exit__(self, *_: object) -> None: ...


def _counted(work: Callable[[], object]) -> int:
    counter = FlopCounterMode(display=False)
    counter.mod_tracker = _Total()  # type: ignore[assignment]
    with counter:
        work()
    return counter.get_total_flops()
