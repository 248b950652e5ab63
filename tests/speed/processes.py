"""What is measured in fresh processes: peak memory, and seeds side by side. Functions here run in them."""

import multiprocessing
import resource
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from alibench.benchmarks.training.loop import train
from alibench.models.gan import GAN
from tests.speed import sides
from tests.speed.sides import Precision, Shape


def _rss() -> float:
    """Return the largest memory that this process has had, in MB.

    Linux's ru_maxrss begins with that of the process which started this one, so it is read elsewhere there.
    """
    status = Path("/proc/self/status")
    if status.exists():
        (line,) = (line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def _peak(side: str, shape: Shape, name: str, precision: Precision, threads: int) -> float:
    torch.set_num_threads(threads)
    step = sides.update(side, shape, name, precision, "cpu")
    before = _rss()
    for _ in range(3):
        step()
    return _rss() - before


def fresh(function: Any, *arguments: Any) -> Any:
    """Return what a function gives in a process of its own."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(function, *arguments).result()


def peak(side: str, shape: Shape, name: str, precision: Precision, device: str) -> float:
    """Return the memory in MB that three updates add at most to that of libraries, data and model."""
    if device == "cpu":
        return float(fresh(_peak, side, shape, name, precision, torch.get_num_threads()))
    step = sides.update(side, shape, name, precision, device)
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    for _ in range(3):
        step()
    return (torch.cuda.max_memory_allocated() - before) / 2**20


def trained(shape: Shape, name: str, seed: int, steps: int) -> tuple[float, float]:
    """Train one seed, its game alone; return its seconds and the process's peak memory, in MB."""
    recipe = replace(sides.recipe(shape, "fp32", execution="graphs"), steps=steps)
    model = sides.build(shape, name)
    model.conclude = lambda batches, rng: None  # type: ignore[method-assign]  # the naive script ends with its last step
    if isinstance(model, GAN):
        model.regression = 0.0  # and has no second phase
    done = train(model, sides.loaded(shape).train, recipe, seed, torch.device("cpu"))
    return done.seconds, _rss()
