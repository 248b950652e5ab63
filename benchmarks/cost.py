"""What a training costs in floating-point operations, counted by torch on one round of each phase."""

import copy
from dataclasses import replace

from torch.utils.flop_counter import FlopCounterMode

from benchmarks.config import Suite
from benchmarks.loop import Recipe, Trainer, steps_of
from evaluation.base import Split, generator
from models.base import Model


class _Total:
    """The counter's module tracker, without tracking: its hooks forbid a gradient within a forward pass (WGAN's penalty)."""

    parents = ("Global",)

    def __enter__(self) -> None: ...

    def __exit__(self, *_: object) -> None: ...


def flops_a_round(model: Model, recipe: Recipe, split: Split) -> list[int]:
    """Return the operations of one round of each phase: matrix products and convolutions, forward and backward."""
    model = copy.deepcopy(model).cpu()
    counts = []
    for phase in model.phases:
        trainer = Trainer(model, phase, recipe, split, generator(0, "cost"))
        counter = FlopCounterMode(display=False)
        counter.mod_tracker = _Total()  # type: ignore[assignment]
        with counter:
            trainer.round()
        counts.append(counter.get_total_flops())
    return counts


def gflop(suite: Suite, name: str, recipe: Recipe) -> float:
    """Return the operations of an entry's whole training, in units of 10^9."""
    model = suite.build(name, 0)
    rounds = flops_a_round(model, recipe, suite.load().train)
    return sum(count * steps_of(phase, recipe) for count, phase in zip(rounds, model.phases, strict=True)) / 1e9


def recipe_of(suite: Suite, name: str, seed: int = 0) -> Recipe:
    """Return an entry's recipe; one at another's compute gets the steps that this allows."""
    recipe, other = suite.recipe_of(name, seed), suite.entry(name).compute
    if not other:
        return recipe
    target = gflop(suite, other, suite.recipe_of(other))
    unit = gflop(suite, name, replace(recipe, steps=1000)) / 1000
    return replace(recipe, steps=max(1, round(target / unit)))
