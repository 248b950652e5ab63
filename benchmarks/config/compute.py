"""What a training costs: floating-point operations, counted by torch for one round of each phase, and space
on the disk.
"""

from collections.abc import Callable
from dataclasses import replace

from alibench.benchmarks.config.schema import Suite
from alibench.benchmarks.training.counting import flops_a_round, whole
from alibench.benchmarks.training.recipe import Recipe
from alibench.evaluation import labels
from alibench.evaluation.data import Split
from alibench.models import REGISTRY


def gflop(suite: Suite, name: str, recipe: Recipe) -> float:
    """Return the operations of an entry's whole training, in units of 10^9."""
    model = suite.shapes(name)
    rounds = flops_a_round(model, recipe, suite.load().train, labelled_of(suite, name, 0))
    return whole(rounds, model.phases, recipe)


def recipe_of(
    suite: Suite, name: str, seed: int = 0, counted: Callable[[Suite, str, Recipe], float] = gflop
) -> Recipe:
    """Return an entry's recipe; one at another's compute gets the steps that this allows, as `counted`."""
    recipe, other = suite.recipe_of(name, seed), suite.entry(name).compute
    if not other:
        return recipe
    target = counted(suite, other, suite.recipe_of(other))
    unit = counted(suite, name, replace(recipe, steps=1000)) / 1000
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
