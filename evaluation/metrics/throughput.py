"""Training, sampling and encoding speed in images, or points, a second: median over repeats, and their
spread.

Measured alone, when nothing else of the suite runs; torch's own timer synchronises the device and repeats. It
chooses how often from its first call, which on an accelerator is slow: kernels are loaded, or a round is
recorded. So that is done before. Kept apart from quality in every table, and not a part of a comparison
between machines.
"""

import logging
from collections.abc import Callable

import torch

from alibench.evaluation.data import Data, as_float
from alibench.evaluation.subject import Column, Measurement, Settings, Subject, not_sampled

COLUMNS = (
    Column("train_rate", "training, samples/s", "higher", 0),
    Column("sample_rate", "sampling, samples/s", "higher", 0),
    Column("encode_rate", "encoding, samples/s", "higher", 0),
)
BATCH = 500
WARM = 5  # calls on an accelerator before one is timed


def refuses(data: Data, settings: Settings) -> str:
    """Any data can be timed."""
    return ""


def rate(
    name: str,
    work: Callable[[], object],
    images: int,
    protocol: str,
    seconds: float,
    device: torch.device,
    precision: str = "fp32",
    execution: str = "eager",
) -> list[Measurement]:
    """Return median rate of `work`, which handles `images`, and the interquartile range of repeats.

    Their protocol says besides what the rate depends on: on a CPU the threads, on an accelerator how it
    computes.
    """
    # imported here: it is slow to load, and warns where a CUDA toolkit is installed without a device
    logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)
    from torch.utils.benchmark import Timer

    threads = torch.get_num_threads()
    if device.type != "cpu":
        for _ in range(WARM):
            work()
    timed = Timer("work()", globals={"work": work}, num_threads=threads).blocked_autorange(
        min_run_time=seconds
    )
    rates = torch.tensor([images / seconds for seconds in timed.times], dtype=torch.float64)
    low, median, high = rates.quantile(torch.tensor([0.25, 0.5, 0.75], dtype=torch.float64)).tolist()
    single = f"{threads} thread" + "s" * (threads > 1)
    protocol += ", " + (single if device.type == "cpu" else f"{device.type}, {precision}, {execution}")
    return [
        Measurement(name, median, "1/s", len(rates), protocol=protocol, kind="timing"),
        Measurement(f"{name}_iqr", high - low, "1/s", len(rates), protocol=protocol, kind="timing"),
    ]


def works(subject: Subject, n: int = BATCH) -> dict[str, tuple[Callable[[], object], int]]:
    """Return what a model can do of sampling and encoding, by column, with the number of images that a call
    handles.
    """
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

    able = {"sample_rate": model.generative, "encode_rate": model.inference != "none"}
    return {
        name: (work, n) for name, work in {"sample_rate": sample, "encode_rate": encode}.items() if able[name]
    }


def measure(subject: Subject) -> list[Measurement]:
    """Return sampling and encoding rates; the training rate belongs to the loop, which calls `rate` itself."""
    found = works(subject, min(BATCH, len(subject.held_out)))
    rows = []
    for name, (work, n) in found.items():
        rows += rate(name, work, n, f"batch {n}", subject.settings.seconds, subject.device)
    if "sample_rate" not in found:
        rows += not_sampled(column for column in COLUMNS if column.metric == "sample_rate")
    if "encode_rate" not in found:
        rows.append(
            Measurement(
                "encode_rate", None, kind="timing", status="not applicable", reason="it has no encoder"
            )
        )
    return rows
