"""Training at equal compute: floating-point operations of an entry's training, and the steps they allow."""

from collections.abc import Callable
from dataclasses import replace

from alibench.benchmarks.config.schema import Suite
from alibench.benchmarks.training.counting import flops_a_round, whole
from alibench.benchmarks.training.recipe import Recipe
from alibench.evaluation import labels
from alibench.evaluation.data import Split


def gflop(suite: Suite, name: str, recipe: Recipe) -> float:
    """Return the operations of an entry's whole training, in units of 10^9."""
    model = suite.shapes(name)
    rounds = flops_a_round(model, recipe, suite.load().train, labelled_of(suite, name, 0))
    return whole(rounds, model.phases, recipe)


def recipe_of(
    suite: Suite, name: str, seed: int = 0, counted: Callable[[Suite, str, Recipe], float] = gflop
) -> Recipe:
    """Return an entry's recipe; at another's compute with the steps that this allows, as `counted`."""
    recipe, other = suite.recipe_of(name, seed), suite.entry(name).compute
    if not other:
        return recipe
    target = counted(suite, other, suite.recipe_of(other))
    unit = counted(suite, name, replace(recipe, steps=1000)) / 1000
    return replace(recipe, steps=max(1, round(target / unit)))


def labelled_of(suite: Suite, name: str, seed: int) -> Split | None:
    """Return the labelled images that a semi-supervised entry learns classes from; None for other entries.

    A run's seed is the number of its draw of labels: it sees the labels of the SVM's draw of that number.
    """
    if not suite.kind(name).semi_supervised:
        return None
    pool = labels.pools(suite.load(), suite.evaluation).labelled
    index = labels.draw(pool.y.numpy(), suite.evaluation.labels, seed)
    return pool if len(index) == len(pool) else Split(pool.x[index], pool.y[index])
