"""Who makes the rounds of a training: this process alone, here; several processes together, in sharded.py."""

from collections.abc import Sequence

import torch

from alibench.benchmarks.training.checkpoints import Checkpoints
from alibench.benchmarks.training.recipe import Recipe
from alibench.benchmarks.training.stacked import StackedTrainer
from alibench.benchmarks.training.trainer import Trainer
from alibench.evaluation.data import Split
from alibench.models.base import Model, Phase


class Alone:
    """One process makes every round whole, and writes its checkpoints itself."""

    kind = Trainer  # of one model

    def begin(self, checkpoints: Checkpoints | None) -> Checkpoints | None:
        """Begin a training; return the checkpoints that it is to use."""
        return checkpoints

    def trainer(
        self,
        models: Sequence[Model],
        phase: Phase,
        recipe: Recipe,
        split: Split,
        rngs: Sequence[torch.Generator],
        labelled: Sequence[Split | None],
    ) -> Trainer:
        """Return the trainer of a phase: of one model, or of several seeds of it stacked."""
        trainers = [
            self.kind(model, phase, recipe, split, rng, labels)
            for model, rng, labels in zip(models, rngs, labelled, strict=True)
        ]
        return trainers[0] if len(trainers) == 1 else StackedTrainer(trainers)


ALONE = Alone()
