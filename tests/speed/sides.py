"""What the speed cases time: the suite's own work and the baselines', and how several are timed in turn."""

import copy
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

import numpy as np
import torch
from scipy.stats import quantile_test
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode

from alibench.benchmarks.data import datasets
from alibench.benchmarks.training.recipe import Recipe
from alibench.benchmarks.training.trainer import Trainer
from alibench.evaluation.arithmetic import tf32
from alibench.evaluation.data import Data, Split, as_float
from alibench.evaluation.metrics import throughput
from alibench.evaluation.seeds import generator
from alibench.evaluation.settings import Settings
from alibench.evaluation.subject import Subject
from alibench.models import REGISTRY
from alibench.models.base import Model
from alibench.models.networks import Networks
from alibench.models.tables import FAMILIES
from tests.speed.plain import Plain, Step, careful, naive

Precision = Literal["fp32", "tf32", "bf16"]
ROUNDS = 9  # in which all sides are timed in turn; seven give an interval of the median
BATCH = 100
LEAST = 0.2  # seconds of one timing
WARM = {"cpu": 1, "cuda": 6}  # untimed calls first: on CUDA a recorded side records its fourth round
IMAGES = 5000  # random ones, in place of published data


@dataclass(frozen=True)
class Shape:
    """Networks at the sizes of a suite."""

    name: str
    networks: str
    latent: int
    dataset: str = ""  # none: random images
    size: tuple[int, ...] = (3, 32, 32)  # of random images
    batch: int = BATCH
    prior: Literal["normal", "uniform"] = "normal"
    weight_decay: float = 0.0


CIFAR10 = Shape("CIFAR-10", "cifar10", 64)
SVHN = Shape("SVHN", "svhn", 256)
CELEBA = Shape("CelebA", "celeba", 256, size=(3, 64, 64))
MNIST = Shape("MNIST", "bigan_mnist", 50, size=(1, 28, 28), batch=128, prior="uniform", weight_decay=5e-5)
DIGITS = Shape("digits", "digits", 8, "digits")
GRID = Shape("grid", "plane", 2, "grid25_easy")


@cache
def loaded(shape: Shape) -> Data:
    """Return the data of a shape."""
    if shape.dataset:
        return datasets.load(shape.dataset)
    x = torch.randint(0, 256, (IMAGES, *shape.size), dtype=torch.uint8, generator=generator(0, "speed"))
    y = torch.arange(IMAGES) % 10
    parts = (Split(x[part], y[part]) for part in (slice(None), slice(1000), slice(1000, 2000)))
    return Data("random", *parts, classes=10)


def build(shape: Shape, name: str, seed: int = 0) -> Model:
    """Return a model with its first weights."""
    own, family = loaded(shape), FAMILIES[shape.networks]()
    mean = torch.full(own.shape, 0.5) if own.images else None
    rng = generator(seed, "weights")
    return REGISTRY[name](Networks(family, own.shape, own.scale, shape.latent, rng, shape.prior, mean=mean))


def recipe(shape: Shape, precision: Precision, **others: Any) -> Recipe:
    """Return the recipe of all sides, eager unless `others` say otherwise."""
    own: dict[str, Any] = {"batch": shape.batch, "weight_decay": shape.weight_decay, "execution": "eager"}
    return Recipe(steps=1000, lr=1e-4, ema=0, precision=precision, **(own | others))


def trainer(shape: Shape, name: str, recipe: Recipe, device: str, seed: int = 0) -> Trainer:
    """Return what makes the suite's own updates: what `train` runs, and what throughput times."""
    model, rng = build(shape, name, seed).to(device), generator(seed, "speed", torch.device(device))
    return Trainer(model, model.phases[0], recipe, loaded(shape).train, rng)


def update(side: str, shape: Shape, name: str, precision: Precision, device: str) -> Step:
    """Return an update by one side, in the precision that is asked for.

    "naive 2" has two of DataLoader's workers; "careful"; "ours", as trainings run by default, that is
    "recorded"; "eager"; "compiled", which is recorded, too.
    """
    if side == "careful":
        step = careful(trainer(shape, name, recipe(shape, precision, update="alternating"), device))
    elif side.startswith("naive"):
        model = build(shape, name).to(device)
        step = naive(model, loaded(shape).train, recipe(shape, precision), int(side.split()[1]), device)
    else:
        recorded: dict[str, Any] = {"execution": "graphs"}
        ways = {"eager": {}, "ours": recorded, "recorded": recorded, "compiled": recorded | {"compile": True}}
        step = trainer(shape, name, recipe(shape, precision, **ways[side]), device).round
    return in_precision(step, precision, device)


def in_precision(step: Step, precision: Precision, device: str) -> Step:
    """Return a step whose products are rounded to TF32 if asked for: CUDA's convolutions do it by default."""
    if device == "cpu":
        return step

    def switched() -> object:
        with tf32(precision == "tf32"):
            return step()

    return switched


def use(side: str, what: str, shape: Shape, name: str, device: str, n: int = 500) -> Step:
    """Return sampling or encoding of n images, ours as the results tables time it."""
    model, own = build(shape, name).to(device).eval(), loaded(shape)
    subject = Subject(model, own, Settings(), 0, device=torch.device(device))
    if side == "ours":
        return throughput.works(subject, n)[what][0]
    plain = Plain(model).to(device).eval()
    x = as_float(own.test.x[torch.arange(n) % len(own.test)].to(device))
    if side == "careful" and own.images:
        plain = plain.to(memory_format=torch.channels_last)
        x = x.contiguous(memory_format=torch.channels_last)
    mode = torch.inference_mode if side == "careful" else torch.no_grad

    def work() -> Tensor:
        with mode():
            if what == "encode_rate":
                return plain.encode(x, draw=False)
            return plain.decode(torch.randn(n, model.latent, device=device))

    return work


def ceilings(shape: Shape, name: str, precision: Precision, device: str) -> dict[str, tuple[Step, float]]:
    """Return a large matrix product, and a model's largest convolution forward, with their GFLOP."""
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    size = 8192 if device == "cuda" else 2048
    a = torch.randn(size, size, device=device, dtype=dtype)
    found: dict[str, tuple[Step, float]] = {"matmul": (lambda: a @ a, 2 * size**3 / 1e9)}
    layers: list[tuple[float, nn.Conv2d, tuple[int, ...]]] = []
    for network in build(shape, name).children():
        twice = 2 if hasattr(network, "dx") else 1  # D sees both kinds of pair
        for layer in network.modules():
            op, n = getattr(layer, "op", None), twice * shape.batch
            if isinstance(op, nn.Conv2d) and layer.inner[1:] != (1, 1):
                gflop = 2 * n * np.prod(layer.inner) * op.weight[0].numel() / 1e9
                layers.append((gflop, op, (n, *layer.shape)))
    if layers:
        gflop, op, batch = max(layers, key=lambda layer: layer[0])
        op = copy.deepcopy(op).to(device, dtype)
        h = torch.randn(batch, device=device, dtype=dtype).contiguous(memory_format=torch.channels_last)

        def convolution() -> Tensor:
            with torch.no_grad():
                return functional.conv2d(h, op.weight, op.bias, op.stride)

        found["convolution"] = (convolution, gflop)
    return {kind: (in_precision(work, precision, device), gflop) for kind, (work, gflop) in found.items()}


def gflop(work: Step) -> float:
    """Return the operations of matrix products and convolutions in one call, in units of 10^9."""
    with FlopCounterMode(display=False) as counter:
        work()
    return counter.get_total_flops() / 1e9


def seconds(work: Step, calls: int, device: str) -> float:
    """Return the time of a call, the device waited for before and after."""
    wait: Callable[[], Any] = torch.cuda.synchronize if device == "cuda" else lambda: None
    wait()
    start = time.perf_counter()
    for _ in range(calls):
        work()
    wait()
    return (time.perf_counter() - start) / calls


def calls_of(work: Step, device: str, least: float = LEAST) -> int:
    """Warm a work up; return how many calls of it take `least` seconds."""
    for _ in range(WARM[device]):
        work()
    return max(1, round(least / seconds(work, 1, device)))


def alternately(
    sides: Mapping[str, Step], device: str, rounds: int = ROUNDS, least: float = LEAST
) -> dict[str, np.ndarray]:
    """Time all sides in turn; return each one's seconds a call (rounds,), with `least` 0 of one cold call."""
    calls = {side: calls_of(work, device, least) if least else 1 for side, work in sides.items()}
    times = [[seconds(work, calls[side], device) for side, work in sides.items()] for _ in range(rounds)]
    return dict(zip(sides, np.array(times).T, strict=True))


def spread(name: str, ratios: np.ndarray) -> dict[str, float]:
    """Return the median, and its 95 % interval by order statistics: no distribution is assumed."""
    low, high = quantile_test(ratios, p=0.5).confidence_interval(0.95)
    return {name: float(np.median(ratios)), f"{name}_low": float(low), f"{name}_high": float(high)}


@dataclass(frozen=True)
class Turns:
    """Sides of a case and a model's ceilings, timed in turn: seconds a call (rounds,), GFLOP a second."""

    times: dict[str, np.ndarray]
    limits: dict[str, float]

    def figures(self, side: str, shape: Shape, gflop: float) -> dict[str, float]:
        """Return a side's speed, and what it is of the ceilings."""
        taken = float(np.median(self.times[side]))
        shares = {f"share_of_{kind}_%": 100 * gflop / taken / limit for kind, limit in self.limits.items()}
        speed = {"images_a_second": shape.batch / taken, "ms_a_step": 1000 * taken}
        return {**speed, "gflop_a_second": gflop / taken, **shares, "rounds": len(self.times[side])}


def turns(
    works: Mapping[str, Step], shape: Shape, name: str, precision: Precision, device: str, **how: Any
) -> Turns:
    """Time sides and ceilings in turn."""
    found = ceilings(shape, name, precision, device)
    times = alternately({kind: work for kind, (work, _) in found.items()} | dict(works), device, **how)
    limits = {kind: gflop / float(np.median(times[kind])) for kind, (_, gflop) in found.items()}
    return Turns(times, limits)


def best_naive(shape: Shape, name: str, precision: Precision, device: str) -> tuple[str, Step]:
    """Return the naive side with the best number of DataLoader's workers: 0, 2 or one a core."""
    tried = {}
    for workers in sorted({0, 2, torch.get_num_threads()}):
        side = f"naive {workers}"
        step = update(side, shape, name, precision, device)
        seconds(step, 1, device)  # its workers start
        tried[side] = (min(seconds(step, 2, device) for _ in range(2)), step)
    side = min(tried, key=lambda side: tried[side][0])
    return side, tried[side][1]
