"""How long an update takes, against a naive and a careful script: `nox -s speed`. Nothing asserts a time."""

from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import numpy as np
import pytest
import torch
from torch.profiler import profile

from alibench.benchmarks.running import worker
from alibench.benchmarks.training import tape
from alibench.benchmarks.training.recipe import bf16_is_native
from tests.speed import processes, sides
from tests.speed.conftest import Speeds, cores
from tests.speed.sides import BATCH, CIFAR10, DIGITS, GRID, MNIST, SVHN, Precision, Shape, spread

pytestmark = pytest.mark.speed

CASES = [
    *((CIFAR10, name, "fp32") for name in ("ali", "bigan", "gan", "vae")),
    *((CIFAR10, name, "bf16") for name in ("ali", "bigan")),
    (SVHN, "ali", "fp32"),
    (MNIST, "bigan", "fp32"),
    *((DIGITS, name, "fp32") for name in ("ali", "bigan", "gan", "vae")),
    *((GRID, name, "fp32") for name in ("ali", "bigan", "gan", "vae")),
]


@pytest.mark.parametrize(("shape", "name", "precision"), CASES, ids=lambda part: getattr(part, "name", part))
def test_update(speeds: Speeds, device: str, shape: Shape, name: str, precision: Precision) -> None:
    if precision == "bf16" and not bf16_is_native(torch.device(device)):
        pytest.skip("this processor has no bf16 arithmetic")
    case = {"networks": shape.name, "model": name}
    naive, step = sides.best_naive(shape, name, precision, device)
    others = (
        ("careful", "eager", "ours") if name != "vae" else ("eager", "ours")
    )  # nothing alternates in a VAE
    works = {naive: step} | {side: sides.update(side, shape, name, precision, device) for side in others}
    exact = {
        f"{side} in fp32": sides.update(side, shape, name, "fp32", device)
        for side in ((naive, "ours") if precision == "bf16" else ())
    }
    for side, recorded in (works | exact).items():
        if side.startswith("ours"):
            sides.seconds(recorded, tape.WARM + 2, device)

    found = sides.turns(exact | works, shape, name, precision, device)
    times, ours = found.times, found.times["ours"]
    for side, work in works.items():
        gflop = sides.gflop(works["eager"] if side == "ours" else work)
        memory = processes.peak(side, shape, name, precision, device)
        figures = {
            "precision": precision,
            "side": side,
            **spread("ratio", times[side] / ours),
            "peak_mb": memory,
        }
        figures |= {"mflop_an_image": 1000 * gflop / shape.batch, **found.figures(side, shape, gflop)}
        speeds.add("updates", **case, **figures)
    for side in exact:
        taken = {"ms_a_step": times[side], "bf16_ms_a_step": ours}
        figures = {key: 1000 * float(np.median(each)) for key, each in taken.items()}
        figures |= spread("ratio", times[side] / ours)
        speeds.add("precision", **case, side=side, **figures, rounds=len(ours))
    for kind, limit in found.limits.items():
        speeds.add("ceilings", **case, precision=precision, ceiling=kind, gflop_a_second=limit)

    if speeds.profile:
        with profile() as profiled:
            works["ours"]()
        text = profiled.key_averages().table(sort_by="self_cpu_time_total", row_limit=25)
        (speeds.out / f"profile-{shape.networks}-{name}-{precision}.txt").write_text(text + "\n")


@pytest.mark.parametrize("shape", [DIGITS, GRID], ids=lambda shape: shape.name)
@pytest.mark.parametrize("name", ["ali", "bigan", "gan", "vae"])
def test_three_seeds(speeds: Speeds, monkeypatch: pytest.MonkeyPatch, shape: Shape, name: str) -> None:
    """The whole of `train`, three seeds in worker processes as the runner has them, against naive ones."""
    steps, timed = 1000, 150  # of ours, whole trainings; of the naive script, whose steps are all alike
    naive, step = sides.best_naive(shape, name, "fp32", "cpu")
    for key, value in worker.environment(torch.device("cpu")).items():
        monkeypatch.setenv(key, value)
    with ProcessPoolExecutor(cores(), get_context("spawn"), torch.set_num_threads, (1,)) as pool:

        def ours() -> None:
            list(pool.map(processes.trained, [shape] * 3, [name] * 3, range(3), [steps] * 3))

        ours()  # the workers are there, and warm
        works = {naive: lambda: [step() for _ in range(timed)], "ours": ours}
        times = sides.alternately(works, "cpu", rounds=7, least=0)
    times[naive] *= 3 * steps / timed
    for side, taken in times.items():
        seconds = float(np.median(taken))
        figures = {"seconds": seconds, "images_a_second": 3 * steps * BATCH / seconds}
        figures |= spread("ratio", taken / times["ours"])
        speeds.add("seeds", networks=shape.name, model=name, side=side, **figures, rounds=len(taken))


def test_cost_grows_linearly_and_memory_does_not(speeds: Speeds) -> None:
    """Each number of steps, and of seeds, in a process of its own, all of them three times in turn."""
    cases = [("steps", steps, 1, steps) for steps in (500, 1000, 2000, 4000)]
    cases += [("seeds", seeds, seeds, 500) for seeds in (1, 2, 4)]
    measured = [[processes.fresh(_several, DIGITS, "ali", *case[2:]) for case in cases] for _ in range(3)]
    for (what, count, seeds, steps), (seconds, memory) in zip(
        cases, np.median(measured, axis=0), strict=True
    ):
        figures = {"seconds": seconds, "ms_an_update": 1000 * seconds / (seeds * steps)}
        speeds.add("growth", of=what, count=count, **figures, process_peak_mb=memory, rounds=len(measured))


def _several(shape: Shape, name: str, seeds: int, steps: int) -> tuple[float, float]:
    torch.set_num_threads(1)
    processes.trained(shape, name, 0, 20)
    done = [processes.trained(shape, name, seed, steps) for seed in range(seeds)]
    return sum(seconds for seconds, _ in done), done[-1][1]


@pytest.mark.parametrize("what", ["sample_rate", "encode_rate"])
@pytest.mark.parametrize("shape", [CIFAR10, DIGITS], ids=lambda shape: shape.name)
@pytest.mark.parametrize("name", ["ali", "bigan", "gan", "vae"])
def test_use(speeds: Speeds, device: str, what: str, shape: Shape, name: str) -> None:
    works = {side: sides.use(side, what, shape, name, device) for side in ("naive", "careful", "ours")}
    times = sides.alternately(works, device)
    titles = {"sample_rate": "sampling", "encode_rate": "encoding"}
    case = {"networks": shape.name, "model": name, "what": titles[what]}
    for side, taken in times.items():
        figures = {"images_a_second": 500 / float(np.median(taken)), **spread("ratio", taken / times["ours"])}
        speeds.add("use", **case, side=side, **figures, rounds=len(taken))
