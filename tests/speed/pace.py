"""Milliseconds of an update, to plan a training: `python -m tests.speed.pace MNIST bigan 3`."""

import sys

from alibench.benchmarks.training.stacked import StackedTrainer
from tests.speed.report import timed_device
from tests.speed.sides import CIFAR10, MNIST, calls_of, recipe, seconds, trainer

SHAPES = {shape.name: shape for shape in (MNIST, CIFAR10)}


def pace(networks: str, name: str, seeds: int) -> float:
    """Return the time of an update of all seeds; on CUDA recorded, in TF32."""
    device, shape = timed_device(), SHAPES[networks]
    asked = recipe(shape, "tf32", execution="graphs") if device == "cuda" else recipe(shape, "fp32")
    singles = [trainer(shape, name, asked, device, seed) for seed in range(seeds)]
    work = (singles[0] if seeds == 1 else StackedTrainer(singles)).round
    return 1000 * seconds(work, calls_of(work, device, least=1.0), device)


if __name__ == "__main__":
    networks, name, seeds = sys.argv[1:]
    print(f"{pace(networks, name, int(seeds)):.4g}")
