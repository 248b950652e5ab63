"""Training, sampling and encoding speed in images, or points, a second: median and spread over repeats.

Measured alone, when nothing else of the suite runs; torch's own timer synchronises the device and repeats. It
chooses how often from its first call, which on an accelerator is slow: kernels are loaded, or a round is
recorded. So that is done before. Speed stands apart from quality in every table, and is not compared between
machines.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass

import torch

from alibench.evaluation.data import Data, as_float
from alibench.evaluation.measurement import Column, Measurement, not_applicable, not_sampled
from alibench.evaluation.settings import Settings
from alibench.evaluation.subject import Subject

COLUMNS = (
    Column("train_rate", "training, samples/s", "higher", 0),
    Column("sample_rate", "sampling, samples/s", "higher", 0),
    Column("encode_rate", "encoding, samples/s", "higher", 0),
)
BATCH = 500
WARM = 5  # calls on an accelerator before one is timed


@dataclass(frozen=True)
class Machine:
    """What a speed depends on: the device, and how it computes there."""

    device: torch.device
    precision: str = "fp32"
    execution: str = "eager"

    def __str__(self) -> str:
        threads = torch.get_num_threads()
        if self.device.type == "cpu":
            return f"{threads} thread" + "s" * (threads > 1)
        return f"{self.device.type}, {self.precision}, {self.execution}"


def unsupported_reason(data: Data, settings: Settings) -> str:
    """Any data can be timed."""
    return ""


def rate(
    name: str, work: Callable[[], object], images: int, protocol: str, seconds: float, machine: Machine
) -> list[Measurement]:
    """Return the median rate of `work`, which handles `images`, and the interquartile range of repeats."""
    # imported here: it is slow to load, and warns where a CUDA toolkit is installed without a device
    logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)
    from torch.utils.benchmark import Timer

    if machine.device.type != "cpu":
        for _ in range(WARM):
            work()
    # torch's timer would else use one thread
    timer = Timer("work()", globals={"work": work}, num_threads=torch.get_num_threads())
    times = timer.blocked_autorange(min_run_time=seconds).times

    # The median, since other work on the machine makes single repeats slow.
    rates = torch.tensor([images / time for time in times], dtype=torch.float64)
    low, median, high = rates.quantile(torch.tensor([0.25, 0.5, 0.75], dtype=torch.float64)).tolist()
    return [
        Measurement(metric, value, "1/s", len(rates), protocol=f"{protocol}, {machine}", kind="timing")
        for metric, value in ((name, median), (f"{name}_iqr", high - low))
    ]


def works(subject: Subject, n: int = BATCH) -> dict[str, tuple[Callable[[], object], int]]:
    """Return the model's sampling and encoding, as far as it can, by column: call and number of images."""
    model, rng = subject.model, subject.rng("throughput")
    index = torch.arange(n) % len(subject.held_out)
    x, y = (part[index].to(subject.device) for part in (subject.held_out.x, subject.held_out.y))
    x = as_float(x)

    def sample() -> object:
        with torch.no_grad():
            return model.sample(n, rng, y)

    def encode() -> object:
        with torch.no_grad():
            return model.encode(x, y=y)

    able: dict[str, tuple[Callable[[], object], int]] = {}
    if model.generative:
        able["sample_rate"] = sample, n
    if model.inference != "none":
        able["encode_rate"] = encode, n
    return able


def measure(subject: Subject) -> list[Measurement]:
    """Return sampling and encoding rates; the training rate is measured where the loop is."""
    able = works(subject, min(BATCH, len(subject.held_out)))
    rows: list[Measurement] = []
    for name, (work, n) in able.items():
        rows += rate(name, work, n, f"batch {n}", subject.settings.seconds, Machine(subject.device))

    if "sample_rate" not in able:
        rows += not_sampled(["sample_rate"])
    if "encode_rate" not in able:
        rows += not_applicable(["encode_rate"], "it has no encoder", kind="timing")
    return rows
