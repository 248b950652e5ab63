"""What a training costs: floating-point operations, counted by torch on one round of each phase, and space on the disk."""

import copy
import math
from collections.abc import Iterable
from dataclasses import replace

from torch.utils.flop_counter import FlopCounterMode

from benchmarks import checkpoints
from benchmarks.config import Suite
from benchmarks.loop import Recipe, Trainer, steps_of
from evaluation import labels, pictures
from evaluation.base import Split, generator
from models import REGISTRY
from models.base import Model

A_RUN = 1_000_000  # bytes of a run's rows, provenance and curves, and its share of tables and pictures


class _Total:
    """The counter's module tracker, without tracking: its hooks forbid a gradient within a forward pass (WGAN's penalty)."""

    parents = ("Global",)

    def __enter__(self) -> None: ...

    def __exit__(self, *_: object) -> None: ...


def flops_a_round(model: Model, recipe: Recipe, split: Split, labelled: Split | None = None) -> list[int]:
    """Return the operations of one round of each phase: matrix products and convolutions, forward and backward.

    They are counted on the CPU, in the arithmetic that every CPU has: how a recipe is computed does not change their number.
    """
    model, recipe = copy.deepcopy(model).cpu(), replace(recipe, execution="eager", precision="fp32", compile=False)
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


def disk(suites: Iterable[Suite], at_once: int) -> int:
    """Return the bytes that all runs of some suites will need on the disk, `at_once` of them training; rather too many."""
    kept, passing = 0, 0
    for suite in suites:
        loaded = suite.load()
        drawn = pictures.SAMPLES + 2 * pictures.PAIRS if loaded.images else 3 * pictures.POINTS
        drawn += pictures.LINES[loaded.images] * pictures.STEPS
        arrays = drawn * math.prod(loaded.shape) * loaded.train.x.itemsize + 4 * pictures.CODES * suite.latent
        for name in suite.models:
            weights = sum(tensor.nbytes for tensor in suite.build(name, 0).state_dict().values())
            kept += suite.seeds * (weights + arrays + A_RUN)
            # the weights, their averages, two moments of each, and the order of the data
            passing = max(passing, (checkpoints.KEPT + 1) * (4 * weights + 8 * len(loaded.train)))
    return kept + at_once * passing
