"""How long an update takes on a GPU, and of what: `nox -s speed`, in small with DEVICE=cpu."""

import copy
import itertools
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile

from alibench.benchmarks.training.average import Average
from alibench.benchmarks.training.stacked import StackedTrainer
from tests.gpu import cases
from tests.gpu.cases import SMALL
from tests.speed import sides
from tests.speed.conftest import Speeds
from tests.speed.sides import (
    CELEBA,
    CIFAR10,
    DIGITS,
    GRID,
    SVHN,
    Precision,
    Shape,
    alternately,
    calls_of,
    seconds,
    spread,
)

pytestmark = [pytest.mark.gpu, pytest.mark.speed]

ROUNDS = 6  # the fewest that give a 95 % interval of the median
LEAST = 0.08  # seconds of one timing
PRECISIONS: tuple[Precision, ...] = ("fp32", "tf32", "bf16")
EXECUTIONS = {"eager": "eager", "recorded": "graphs"}
NAIVE: tuple[str, ...] = ("naive 0", "naive 4")
CASES: list[tuple[Shape, str, Precision]] = [
    *((CIFAR10, "ali", precision) for precision in ("tf32", "bf16", "fp32")),
    *((CIFAR10, name, "tf32") for name in ("bigan", "gan", "vae")),
    *((shape, "ali", "tf32") for shape in (SVHN, CELEBA)),
]
COUNTS: tuple[int, ...] = (1, 3, 10)  # stacked seeds
BATCHES = (100, 200, 500, 1000)
SMALL_SHAPES: tuple[Shape, ...] = (DIGITS, GRID)
if SMALL:
    CASES, SMALL_SHAPES, COUNTS, ROUNDS, LEAST = [(DIGITS, "ali", "fp32")], (DIGITS,), (1, 3), 2, 0.01
    EXECUTIONS, NAIVE = {"eager": "eager"}, ("naive 0",)
no_cpu = pytest.mark.skipif(SMALL, reason="of CUDA alone")


@pytest.fixture(autouse=True)
def all_cores() -> None:
    """Leave torch one thread, as a training on a GPU has it."""


@pytest.fixture(autouse=True)
def recorded(capfd: pytest.CaptureFixture[str]) -> Iterator[None]:
    """A side that should be recorded and could not be is an error, not a figure."""
    yield
    assert "cannot be recorded" not in capfd.readouterr().err


def ids(part: Any) -> str:
    return getattr(part, "name", None) or str(part)


def compared(
    speeds: Speeds, device: str, shape: Shape, name: str, precision: Precision, more: tuple[str, ...] = ()
) -> None:
    """Time updates by all sides and the ceilings in turn; keep a record a side."""
    careful = ("careful",) if name != "vae" else ()  # nothing alternates in a VAE
    all_sides = (*NAIVE, *careful, *EXECUTIONS, *more)
    works = {side: sides.update(side, shape, name, precision, device) for side in all_sides}
    found = sides.turns(works, shape, name, precision, device, rounds=ROUNDS, least=LEAST)
    naive, gflop = min(NAIVE, key=lambda side: np.median(found.times[side])), sides.gflop(works["eager"])
    case = {"networks": shape.name, "model": name, "precision": precision}
    for side in works:
        over = spread("over_naive", found.times[naive] / found.times[side])
        speeds.add("gpu_updates", **case, side=side, **over, **found.figures(side, shape, gflop))


@pytest.mark.parametrize(("shape", "name", "precision"), CASES, ids=ids)
def test_update(speeds: Speeds, device: str, shape: Shape, name: str, precision: Precision) -> None:
    compared(speeds, device, shape, name, precision)


@no_cpu
@pytest.mark.parametrize("precision", ["tf32", "bf16"])
def test_compiled_update(speeds: Speeds, device: str, precision: Precision) -> None:
    """Compiling takes up to a minute."""
    compared(speeds, device, CIFAR10, "ali", precision, ("compiled",))


def operations() -> Iterator[tuple[str, nn.Conv2d | nn.ConvTranspose2d, tuple[int, ...], tuple[int, ...]]]:
    """Yield the convolutions of ALI's CIFAR-10 networks that are not one-pixel ones, with both shapes."""
    model = sides.build(CIFAR10, "ali")
    batch = 2 if SMALL else CIFAR10.batch
    towers: Any = {"E": model.encoder.stack, "G": model.decoder.stack, "D": model.discriminator.dx}
    for name, tower in towers.items():
        n = 2 * batch if name == "D" else batch  # D sees both kinds of pair
        for i, layer in enumerate(tower.layers, start=1):
            if isinstance(layer.op, nn.Conv2d | nn.ConvTranspose2d) and layer.op.kernel_size != (1, 1):
                title = f"{name}.{i} {tuple(layer.op.weight.shape)}"
                yield title, layer.op, (n, *layer.shape), (n, *layer.inner)


@pytest.mark.parametrize("precision", PRECISIONS)
def test_ceilings(speeds: Speeds, device: str, precision: Precision) -> None:
    dtype, size = torch.bfloat16 if precision == "bf16" else torch.float32, 256 if SMALL else 8192

    def teraflops(step: sides.Step, flop: float) -> float:
        work = sides.in_precision(step, precision, device)
        return flop / seconds(work, calls_of(work, device, LEAST / 4), device) / 1e12

    factors = torch.randn(2, size, size, device=device, dtype=dtype)
    figure = teraflops(lambda: factors[0] @ factors[1], 2 * size**3)
    case = {"what": f"matrix product, {size}", "precision": precision, "order": ""}
    speeds.add("gpu_ceilings", **case, teraflop_a_second=figure)
    for what, op, shape, inner in operations():
        places = math.prod((inner if isinstance(op, nn.Conv2d) else shape)[2:])
        flop = 3 * 2 * shape[0] * op.weight.numel() * places
        for order in (torch.channels_last, torch.contiguous_format):
            own = copy.deepcopy(op).to(device, dtype, memory_format=order)
            both_ends = (torch.randn(dims, device=device, dtype=dtype) for dims in (shape, inner))
            h, arrived = (end.contiguous(memory_format=order) for end in both_ends)
            h.requires_grad_()

            def both(own: Any = own, h: Tensor = h, arrived: Tensor = arrived) -> object:
                return torch.autograd.grad(own(h), [h, own.weight], arrived)

            figure = teraflops(both, flop)
            named = "NHWC" if order == torch.channels_last else "NCHW"
            speeds.add("gpu_ceilings", what=what, precision=precision, order=named, teraflop_a_second=figure)


def test_copy(speeds: Speeds, device: str) -> None:
    x = torch.empty(2**20 if SMALL else 2**30, device=device)
    y = torch.empty_like(x)
    taken = seconds(lambda: y.copy_(x), calls_of(lambda: y.copy_(x), device, LEAST), device)
    case = {"what": "copy", "precision": "fp32", "order": ""}
    speeds.add("gpu_ceilings", **case, terabyte_a_second=2 * x.nbytes / taken / 1e12)


@pytest.mark.parametrize("side", EXECUTIONS)
@pytest.mark.parametrize("name", ["ali", "vae"])
@pytest.mark.parametrize("shape", SMALL_SHAPES, ids=ids)
def test_seeds(speeds: Speeds, device: str, shape: Shape, name: str, side: str) -> None:
    """What a training does a step, of one seed and of stacked ones."""
    asked = sides.recipe(shape, "fp32", execution=EXECUTIONS[side])
    works: dict[str, sides.Step] = {}
    for count in COUNTS:
        singles = [sides.trainer(shape, name, asked, device, seed) for seed in range(count)]
        trainer = singles[0] if count == 1 else StackedTrainer(singles)
        average = Average(trainer.model, 0.999)

        def step(trainer: Any = trainer, average: Average = average) -> None:
            trainer.rate(0.1)
            trainer.round()
            average.update()

        works[str(count)] = step
    times = alternately(works, device, ROUNDS, LEAST)
    for count in COUNTS:
        taken = float(np.median(times[str(count)]))
        case = {"networks": shape.name, "model": name, "side": side, "seeds": count}
        figures = {"ms_a_step": 1000 * taken, "images_a_second": count * shape.batch / taken}
        figures |= {"of_one": float(np.median(times[str(count)] / times["1"])), "rounds": ROUNDS}
        speeds.add("gpu_seeds", **case, **figures)


@no_cpu
@pytest.mark.parametrize("precision", ["tf32", "bf16"])
def test_batches(speeds: Speeds, device: str, precision: Precision) -> None:
    for batch in BATCHES:
        work = sides.update("recorded", replace(CIFAR10, batch=batch), "ali", precision, device)
        taken = seconds(work, calls_of(work, device), device)
        figures = {"ms_a_step": 1000 * taken, "images_a_second": batch / taken}
        speeds.add("gpu_batches", batch=batch, precision=precision, **figures)


@contextmanager
def cudnn(**settings: bool) -> Iterator[None]:
    """Set what cuDNN may choose from, meanwhile."""
    with pytest.MonkeyPatch.context() as patch:
        for setting, value in settings.items():
            patch.setattr(torch.backends.cudnn, setting, value)
        yield


@no_cpu
@pytest.mark.parametrize("precision", ["tf32", "bf16"])
@pytest.mark.parametrize("setting", ["torch's default", "benchmark", "deterministic"])
def test_settings(speeds: Speeds, device: str, setting: str, precision: Precision) -> None:
    """A recorded round keeps the algorithms that were chosen while it was recorded."""
    chosen = {"benchmark": setting == "benchmark", "deterministic": setting == "deterministic"}
    works = {}
    for side, asked in (("with", chosen), ("without", {"benchmark": False, "deterministic": False})):
        with cudnn(**asked):
            works[side] = sides.update("recorded", CIFAR10, "ali", precision, device)
            calls_of(works[side], device)
    times = alternately(works, device, ROUNDS, LEAST)
    with cudnn(**chosen):
        ten = cases.recipe(steps=10, batch=100, lr=1e-4, ema=0, precision=precision)
        first, second = (cases.trained("cifar10", ["ali"], ten, torch.device(device))[0] for _ in range(2))
    figures = {"ms_a_step": 1000 * float(np.median(times["with"]))}
    figures |= spread("over_default", times["with"] / times["without"])
    repeats = "yes" if torch.equal(first, second) else "no"
    speeds.add(
        "gpu_settings", setting=setting, precision=precision, **figures, repeats=repeats, rounds=ROUNDS
    )


@pytest.mark.parametrize(
    ("side", "precision"),
    [("eager", "fp32")] if SMALL else list(itertools.product(EXECUTIONS, ("tf32", "bf16"))),
)
def test_profile(speeds: Speeds, device: str, side: str, precision: Precision) -> None:
    updates = 1 if SMALL else 5
    work = sides.update(side, DIGITS if SMALL else CIFAR10, "ali", precision, device)
    seconds(work, sides.WARM[device], device)
    activities = [ProfilerActivity.CPU, *([] if SMALL else [ProfilerActivity.CUDA])]
    with profile(activities=activities) as found:
        seconds(work, updates, device)
    kernels = [event for event in found.events() or [] if str(event.device_type).endswith("CUDA")]
    taken = sum(event.device_time for event in kernels) / updates / 1000
    figures = {"kernels_an_update": len(kernels) / updates, "device_ms_an_update": taken}
    speeds.add("gpu_profile", side=side, precision=precision, **figures)
    sort = "self_cpu_time_total" if SMALL else "self_device_time_total"
    text = found.key_averages().table(sort_by=sort, row_limit=40, max_name_column_width=90)
    (speeds.out / f"profile-{side}-{precision}.txt").write_text(text + "\n")
