"""What these tests share: networks of every family, random data, short trainings and their distance."""

import os
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from alibench.benchmarks.training.checkpoints import Checkpoints
from alibench.benchmarks.training.loop import train_together
from alibench.benchmarks.training.outcomes import Member, Trained
from alibench.benchmarks.training.recipe import Recipe
from alibench.benchmarks.training.trainer import Trainer
from alibench.evaluation.data import Split
from alibench.evaluation.seeds import generator
from alibench.models import REGISTRY
from alibench.models.base import Batch, Model
from alibench.models.tables import FAMILIES
from tests.conftest import networks

DEVICE = torch.device(os.environ.get("DEVICE", "cuda"))
SMALL = DEVICE.type == "cpu"  # few cases, to see that the tests themselves work
CPU = torch.device("cpu")
SHAPES = {family: made().shape or (1, 8, 8) for family, made in FAMILIES.items()}
LATENT = {"cifar10": 64, "digits": 8, **dict.fromkeys(("plane", "toy", "alice_toy"), 2)}


def recipe(**changes: Any) -> Recipe:
    """Return a recipe whose precision and execution do not depend on the device, changed in other fields."""
    # fp32 holds the learning rate exactly: a recorded step reads it from a tensor, an eager one as a number
    own: dict[str, Any] = {"steps": 8, "batch": 20, "lr": 2.0**-10, "decay": 0, "ema": 0.5}
    return Recipe(**{"precision": "fp32", "execution": "eager", **own, **changes})


def split(family: str, n: int = 300) -> Split:
    """Return n random images or points, of ten classes in turn."""
    rng, shape = generator(0, "random data"), SHAPES[family]
    if len(shape) == 3:
        x = torch.randint(256, (n, *shape), dtype=torch.uint8, generator=rng)
    else:
        x = torch.randn(n, *shape, generator=rng)
    return Split(x, torch.arange(n) % 10)


def build(family: str, name: str, seed: int = 0) -> Model:
    """Return a model of a family's networks with its first weights."""
    shape = SHAPES[family]
    mean = torch.full(shape, 0.5) if len(shape) == 3 else None
    return REGISTRY[name](networks(family, LATENT.get(family, 16), seed, labels=10, mean=mean))


def trainer(
    family: str, name: str, recipe: Recipe, device: torch.device, phase: int = 0, seed: int = 0
) -> Trainer:
    """Return the trainer of one phase, on random data."""
    model, data = build(family, name, seed).to(device), split(family)
    return Trainer(model, model.phases[phase], recipe, data, generator(seed, "training", device), data)


def trained(
    family: str,
    names: Sequence[str],
    recipe: Recipe,
    device: torch.device,
    checkpoints: Checkpoints | None = None,
    seeds: Sequence[int] | None = None,
) -> list[Tensor]:
    """Train a model of each name, stacked if there are several; return the numbers of each."""
    data = split(family)
    seeds = range(len(names)) if seeds is None else seeds
    models = [build(family, name, seed) for name, seed in zip(names, seeds, strict=True)]
    members = [Member(model, seed, data) for model, seed in zip(models, seeds, strict=True)]
    outcomes = train_together(members, data, recipe, device, checkpoints=checkpoints)
    assert all(isinstance(outcome, Trained) for outcome in outcomes), outcomes
    return [numbers(model) for model in models]


def numbers(model: Model) -> Tensor:
    """Return all weights and statistics as one vector, in double precision on the CPU."""
    return flat(model.state_dict().values())


def flat(tensors: Any) -> Tensor:
    """Return tensors as one vector, in double precision on the CPU."""
    return torch.cat([tensor.detach().double().flatten().cpu() for tensor in tensors])


def apart(a: Tensor, b: Tensor) -> float:
    """Return the distance of two vectors, relative to the second one's length."""
    return float((a - b).norm() / b.norm().clamp(min=1e-30))


def strayed(a: Tensor, b: Tensor, first: Tensor) -> float:
    """Return the distance of two trained models over that of the second from its first weights."""
    return float((a - b).norm() / (b - first).norm())


def moved(batch: Batch, device: torch.device) -> Batch:
    """Return a batch on another device."""
    noise = {key: value.to(device) for key, value in batch.noise.items()}
    y = None if batch.y is None else batch.y.to(device)
    labelled = None if batch.labelled is None else tuple(part.to(device) for part in batch.labelled)
    return Batch(batch.x.to(device), noise, y, labelled)
