"""A model under examination: an entry of a suite, with few samples, on the CPU."""

from collections.abc import Iterator
from dataclasses import replace
from functools import cached_property

import torch
from torch import Tensor

from alibench.benchmarks.config import compute
from alibench.benchmarks.config.schema import Suite
from alibench.benchmarks.training.gradients import Learners
from alibench.benchmarks.training.trainer import Trainer
from alibench.evaluation.data import Data, Split
from alibench.evaluation.seeds import generator
from alibench.evaluation.subject import POINTS, Subject
from alibench.models.base import Batch, Model, Phase

CPU = torch.device("cpu")
BATCH = 16  # samples that a model is trained on
HELD_OUT = 40  # samples that it is measured on: some more than any picture or measure of health needs


class Missing(Exception):
    """A model lacks something; `methods` are where in its code to look for it, if its check names others."""

    def __init__(self, what: str, *methods: str) -> None:
        super().__init__(what)
        self.methods = methods


class Case:
    """An entry of a suite under examination. `steps` of training make it thorough; 0: as before every run."""

    def __init__(self, suite: Suite, name: str, steps: int = 0) -> None:
        self.suite, self.name, self.kind, self.steps = suite, name, suite.kind(name), steps
        self.data = suite.load()
        # Data and recipe: few samples, and as little else as an update needs.
        train, validation, test = (
            first(split, HELD_OUT) for split in (self.data.train, self.data.validation, self.data.test)
        )
        self.few: Data = replace(self.data, train=train, validation=validation, test=test)
        self.recipe = replace(
            suite.recipe_of(name), execution="eager", precision="fp32", compile=False, statistics=0
        )
        self.labelled = compute.labelled_of(suite, name, 0)
        # Samples that a run will ask the model for.
        self.samples = suite.evaluation.samples or (len(self.data.test) if self.data.images else POINTS)

    @property
    def is_thorough(self) -> bool:
        """Whether everything is checked, or only what a run depends on."""
        return self.steps > 0

    @cached_property
    def model(self) -> Model:
        """The model that is examined, with its first weights until a check trains it."""
        return self.suite.build(self.name, 0)

    def trainer(self, model: Model, phase: Phase) -> Trainer:
        """Return a trainer of one phase, on few samples."""
        batch = min(BATCH, self.recipe.batch, len(self.few.train))
        recipe = replace(self.recipe, batch=batch - batch % model.packing)
        return Trainer(model, phase, recipe, self.few.train, generator(0, "checkup"), self.labelled)

    def groups(self, model: Model) -> Iterator[tuple[Phase, Batch, Learners]]:
        """Yield a batch for each group of players that learns at once, in each phase."""
        for phase in model.phases:
            trainer = self.trainer(model, phase)
            for move in trainer.moves:
                for learners in move:
                    yield phase, trainer.batch(), learners

    def subject(self, model: Model) -> Subject:
        """Return a model as the evaluation takes it, on few samples."""
        settings = replace(self.suite.evaluation, samples=min(BATCH, self.samples), resamples=1)
        return Subject(model, self.few, settings, 0, "test", CPU)


def first(split: Split, n: int) -> Split:
    """Return the first n samples of a split."""
    return Split(split.x[:n], split.y[:n])


def equal(a: Tensor, b: Tensor) -> bool:
    """Return whether two tensors hold the same numbers, and NaN at the same places."""
    return a.shape == b.shape and torch.equal(a.nan_to_num(), b.nan_to_num())
