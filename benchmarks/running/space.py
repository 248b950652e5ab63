"""How much space a command needs on the disk."""

import math
from collections.abc import Iterable

from alibench.benchmarks.config.schema import Suite
from alibench.benchmarks.training import checkpoints
from alibench.evaluation import pictures

A_RUN = 1_000_000  # bytes of a run's rows, provenance and curves, and its share of tables and pictures

A_LINE = 100  # bytes of a sample in per_image.csv


def evaluation(suite: Suite, per_image: bool) -> int:
    """Return the bytes that measuring a trained run needs, roughly, maybe with errors of single images."""
    held_out = suite.load().test
    images = 4 * pictures.EXTREMES * held_out.x[0].nbytes if suite.load().images else 0
    return A_RUN + per_image * (A_LINE * len(held_out) + images)


def disk(suites: Iterable[Suite], at_once: int) -> int:
    """Return the bytes that all runs of some suites need, `at_once` of them training; rather too many."""
    # What stays, and what lies there while a run trains.
    kept, passing = 0, 0
    for suite in suites:
        loaded = suite.load()

        # The arrays that pictures are drawn from, and the codes.
        drawn = pictures.SAMPLES + 2 * pictures.PAIRS if loaded.images else 3 * pictures.POINTS
        drawn += pictures.LINES[loaded.images] * pictures.STEPS
        drawn_bytes = drawn * math.prod(loaded.shape) * loaded.train.x.itemsize

        for name in suite.models:
            arrays = drawn_bytes + 4 * pictures.CODES * suite.latent_of(name)
            # Shapes have no contents, so this takes no memory.
            weights = sum(tensor.nbytes for tensor in suite.shapes(name).state_dict().values())
            kept += suite.seeds * (weights + arrays + A_RUN)
            # A checkpoint has the weights, their averages, two moments of each, and the order of the data.
            passing = max(passing, (checkpoints.KEPT + 1) * (4 * weights + 8 * len(loaded.train)))
    return kept + at_once * passing
