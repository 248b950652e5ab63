"""What a training costs in floating-point operations, counted by torch on one round of each phase."""

import copy
from dataclasses import replace

from torch.utils.flop_counter import FlopCounterMode

from benchmarks.config import Suite
from benchmarks.loop import Recipe, Trainer, steps_of
from evaluation import labels
from evaluation.base import Split, generator
from models import REGISTRY
from models.base import Model


class _Total:
    """The counter's module tracker, without tracking: its hooks forbid a gradient within a forward pass (WGAN's penalty)."""

    parents = ("Global",)

    def __enter__(self) -> None: ...

    def __exit__(self, *_: object) -> None: ...


def flops_a_round(model: Model, recipe: Recipe, split: Split, labelled: Split | None = None) -> list[int]:
    """Return the operations of one round of each phase: matrix products and convolutions, forward and backward."""
    model = copy.deepcopy(model).cpu()
    counts = []
    for phase in model.phases:
        trainer = Trainer(model, phase, recipe, split, generator(0, "cost"), labelled)
        counter = FlopCounterMode(display=False)
        counter.mod_tracker = _Total()  # type: ignore[assignment]
        with counter:
            trainer.round()
        counts.append(counter.get_total_flops())
    return counts


def gflop(suite: Suite, name: str, recipe: Recipe) -> float:
    """Return the operations of an entry's whole training, in units of 10^9."""
    model = suite.build(name, 0)
    rounds = flops_a_round(model, recipe, suite.load().train, labelled_of(suite, name, 0))
    return sum(count * steps_of(phase, recipe) for count, phase in zip(rounds, model.phases, strict=True)) / 1e9


def recipe_of(suite: Suite, name: str, seed: int = 0) -> Recipe:
    """Return an entry's recipe; one at another's compute gets the steps that this allows."""
    recipe, other = suite.recipe_of(name, seed), suite.entry(name).compute
    if not other:
        return recipe
    target = gflop(suite, other, suite.recipe_of(other))
    unit = gflop(suite, name, replace(recipe, steps=1000)) / 1000
    return replace(recipe, steps=max(1, round(target / unit)))


def labelled_of(suite: Suite, name: str, seed: int) -> Split | None:
    """Return what a semi-supervised entry learns classes from; nothing for others.

    A run's seed is the number of its draw of labels, so that it sees those of the SVM's draw of that number.
    """
    if not REGISTRY[suite.entry(name).of].semi_supervised:
        return None
    pool = labels.pools(suite.load(), suite.evaluation).labelled
    index = labels.draw(pool.y.numpy(), suite.evaluation.labels, seed)
    return pool if len(index) == len(pool) else Split(pool.x[index], pool.y[index])
