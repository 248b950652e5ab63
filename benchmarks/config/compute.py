"""Training at equal compute: floating-point operations of an entry's training, and the steps they allow."""

from collections.abc import Hashable
from dataclasses import replace

from alibench.benchmarks.config.schema import Suite
from alibench.benchmarks.training.counting import flops_a_round, whole
from alibench.benchmarks.training.recipe import Recipe
from alibench.evaluation import labels
from alibench.evaluation.data import Split

# Counted in this process, by what they depend on: each run of an entry asks again.
_COUNTED: dict[Hashable, list[int]] = {}


def operations(suite: Suite, name: str, recipe: Recipe) -> list[int]:
    """Return the floating-point operations of one round of each phase of an entry's training."""
    key = alike(suite, name, recipe)
    if key not in _COUNTED:
        split, labelled = suite.load().train, labelled_of(suite, name, 0)
        _COUNTED[key] = flops_a_round(suite.shapes(name), recipe, split, labelled)
    return _COUNTED[key]


def gflop(suite: Suite, name: str, recipe: Recipe) -> float:
    """Return the operations of an entry's whole training, in units of 10^9."""
    return whole(operations(suite, name, recipe), suite.shapes(name).phases, recipe)


def recipe_of(suite: Suite, name: str, seed: int = 0) -> Recipe:
    """Return an entry's recipe; at another's compute with the steps that this allows."""
    recipe, other = suite.recipe_of(name, seed), suite.entry(name).compute
    if not other:
        return recipe
    target = gflop(suite, other, suite.recipe_of(other))
    unit = gflop(suite, name, replace(recipe, steps=1000)) / 1000
    return replace(recipe, steps=max(1, round(target / unit)))


def alike(suite: Suite, name: str, recipe: Recipe) -> tuple[Hashable, ...]:
    """Return what the rounds of an entry depend on: neither the number of steps nor Adam's settings."""
    entry = suite.entry(name)
    same = replace(recipe, steps=1, lr=1.0, beta1=0.0, beta2=0.0, decay=0.0, decay_to=0.0)
    return (*networks(suite), suite.kind(name), entry.latent, repr(entry.options), same)


def networks(suite: Suite) -> tuple[Hashable, ...]:
    """Return what the networks of a suite depend on, its data included."""
    data = suite.dataset, suite.data, suite.load().shape
    return *data, suite.latent, suite.prior, suite.networks, repr(suite.network)


def labelled_of(suite: Suite, name: str, seed: int) -> Split | None:
    """Return the labelled images that a semi-supervised entry learns classes from; None for other entries.

    A run's seed is the number of its draw of labels: it sees the labels of the SVM's draw of that number.
    """
    if not suite.kind(name).semi_supervised:
        return None
    pool = labels.pools(suite.load(), suite.evaluation).labelled
    index = labels.draw(pool.y.numpy(), suite.evaluation.labels, seed)
    return pool if len(index) == len(pool) else Split(pool.x[index], pool.y[index])
