"""How long an update takes, against a naive and a careful script: `nox -s speed`. Nothing here asserts a
time.
"""

import sys
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import Any

import numpy as np
import pytest
import torch
from torch.profiler import profile

from alibench.benchmarks.running import worker
from alibench.benchmarks.training import tape
from alibench.benchmarks.training.recipe import bf16_is_native
from tests.speed import processes, sides
from tests.speed.conftest import Speeds, cores
from tests.speed.sides import BATCH, CIFAR10, DIGITS, GRID, MNIST, SVHN, Precision, Shape, in_turn, median

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
def test_update(
    benchmark: Any, speeds: Speeds, device: str, shape: Shape, name: str, precision: Precision
) -> None:
    if precision == "bf16" and not bf16_is_native(torch.device(device)):
        pytest.skip("this processor has no bf16 arithmetic")
    naive, step = sides.best_naive(shape, name, precision, device)
    works = {naive: step}
    others = (
        ("careful", "eager", "ours") if name != "vae" else ("eager", "ours")
    )  # nothing alternates in a VAE
    works |= {side: sides.update(side, shape, name, precision, device) for side in others}
    exact = {
        side: sides.update(side, shape, name, "fp32", device)
        for side in (naive, "ours")
        if precision == "bf16"
    }
    for recorded in (works["ours"], *(exact[side] for side in exact if side == "ours")):
        sides.seconds(recorded, tape.WARM + 2, device)
    ceilings = sides.ceilings(shape, name, precision, device)
    beside = {kind: work for kind, (work, _) in ceilings.items()} | {
        f"{side} in fp32": exact[side] for side in exact
    }
    times = in_turn(benchmark, beside | works, device)
    limits = {kind: amount / float(np.median(times[kind])) for kind, (_, amount) in ceilings.items()}
    for side, work in works.items():
        ratio, low, high = median(times[side] / times["ours"])
        taken, work_gflop = (
            float(np.median(times[side])),
            sides.gflop(works["eager"] if side == "ours" else work),
        )
        speeds.add(
            "updates",
            networks=shape.name,
            model=name,
            precision=precision,
            side=side,
            images_a_second=shape.batch / taken,
            ms_a_step=1000 * taken,
            ratio=ratio,
            ratio_low=low,
            ratio_high=high,
            peak_mb=processes.peak(side, shape, name, precision, device),
            mflop_an_image=1000 * work_gflop / shape.batch,
            gflop_a_second=work_gflop / taken,
            **{f"share_of_{kind}_%": 100 * work_gflop / taken / limit for kind, limit in limits.items()},
            rounds=len(times[side]),
        )
        benchmark.extra_info[side] = round(ratio, 2)
    for side in exact:
        ratio, low, high = median(times[f"{side} in fp32"] / times["ours"])
        speeds.add(
            "precision",
            networks=shape.name,
            model=name,
            side=f"{side} in fp32",
            ms_a_step=1000 * float(np.median(times[f"{side} in fp32"])),
            bf16_ms_a_step=1000 * float(np.median(times["ours"])),
            ratio=ratio,
            ratio_low=low,
            ratio_high=high,
            rounds=len(times["ours"]),
        )
    for kind, limit in limits.items():
        speeds.add(
            "ceilings",
            networks=shape.name,
            model=name,
            precision=precision,
            ceiling=kind,
            gflop_a_second=limit,
        )
    sys.stderr.write(f"\n{benchmark.name}: {benchmark.extra_info}\n")
    if speeds.profile:
        with profile() as found:
            works["ours"]()
        text = found.key_averages().table(sort_by="self_cpu_time_total", row_limit=25)
        (speeds.out / f"profile-{shape.networks}-{name}-{precision}.txt").write_text(text + "\n")


@pytest.mark.parametrize("shape", [DIGITS, GRID], ids=lambda shape: shape.name)
@pytest.mark.parametrize("name", ["ali", "bigan", "gan", "vae"])
def test_three_seeds(
    benchmark: Any, speeds: Speeds, monkeypatch: pytest.MonkeyPatch, shape: Shape, name: str
) -> None:
    """The whole of `train`, three seeds in worker processes as the runner has them, against three naive
    trainings.
    """
    steps, timed = 1000, 150  # of ours, whole trainings; of the naive script, whose steps are all alike
    naive, step = sides.best_naive(shape, name, "fp32", "cpu")
    for key, value in worker.environment(torch.device("cpu")).items():
        monkeypatch.setenv(key, value)
    with ProcessPoolExecutor(cores(), get_context("spawn"), torch.set_num_threads, (1,)) as pool:

        def ours() -> None:
            list(pool.map(processes.trained, [shape] * 3, [name] * 3, range(3), [steps] * 3))

        ours()  # the workers are there, and warm
        plain: list[float] = []
        benchmark.pedantic(
            ours, setup=lambda: plain.append(3 * steps * sides.seconds(step, timed, "cpu")), rounds=7
        )
    own = np.array(benchmark.stats.stats.data)
    ratio, low, high = median(np.array(plain) / own)
    for side, times, *figures in ((naive, np.array(plain), ratio, low, high), ("ours", own, 1.0, None, None)):
        speeds.add(
            "seeds",
            networks=shape.name,
            model=name,
            side=side,
            seconds=float(np.median(times)),
            images_a_second=3 * steps * BATCH / float(np.median(times)),
            **dict(zip(("ratio", "ratio_low", "ratio_high"), figures, strict=True)),
            rounds=len(times),
        )
    sys.stderr.write(f"\n{benchmark.name}: {ratio:.2f} ({low:.2f} to {high:.2f})\n")


def test_cost_grows_linearly_and_memory_does_not(benchmark: Any, speeds: Speeds) -> None:
    """Each number of steps, and of seeds, in a process of its own, all of them three times in turn."""
    cases = [("steps", steps, 1, steps) for steps in (500, 1000, 2000, 4000)]
    cases += [("seeds", seeds, seeds, 500) for seeds in (1, 2, 4)]
    found: dict[tuple[str, int, int, int], list[tuple[float, float]]] = {case: [] for case in cases}

    def all_once() -> None:
        for case in cases:
            found[case].append(processes.fresh(_several, DIGITS, "ali", *case[2:]))

    benchmark.pedantic(all_once, rounds=3)
    for case, measured in found.items():
        what, count, seeds, steps = case
        seconds, memory = np.median(measured, axis=0)
        speeds.add(
            "growth",
            of=what,
            count=count,
            seconds=seconds,
            ms_an_update=1000 * seconds / (seeds * steps),
            process_peak_mb=memory,
            rounds=len(measured),
        )


def _several(shape: Shape, name: str, seeds: int, steps: int) -> tuple[float, float]:
    torch.set_num_threads(1)
    processes.trained(shape, name, 0, 20)
    done = [processes.trained(shape, name, seed, steps) for seed in range(seeds)]
    return sum(seconds for seconds, _ in done), done[-1][1]


@pytest.mark.parametrize("what", ["sample_rate", "encode_rate"])
@pytest.mark.parametrize("shape", [CIFAR10, DIGITS], ids=lambda shape: shape.name)
@pytest.mark.parametrize("name", ["ali", "bigan", "gan", "vae"])
def test_use(benchmark: Any, speeds: Speeds, device: str, what: str, shape: Shape, name: str) -> None:
    works = {side: sides.use(side, what, shape, name, device) for side in ("naive", "careful", "ours")}
    times = in_turn(benchmark, works, device)
    for side in works:
        ratio, low, high = median(times[side] / times["ours"])
        taken = float(np.median(times[side]))
        speeds.add(
            "use",
            networks=shape.name,
            model=name,
            what={"sample_rate": "sampling", "encode_rate": "encoding"}[what],
            side=side,
            images_a_second=500 / taken,
            ratio=ratio,
            ratio_low=low,
            ratio_high=high,
            rounds=len(times[side]),
        )
