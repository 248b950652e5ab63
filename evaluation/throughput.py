"""Training, sampling and encoding speed in images, or points, a second: median over repeats, and their spread.

Measured alone, when nothing else of the suite runs; torch's own timer warms up, synchronises the device and repeats. Kept
apart from quality in every table, and no part of a comparison between machines.
"""

import logging
from collections.abc import Callable

import torch

from evaluation.base import Column, Data, Measurement, Settings, Subject, as_float, not_sampled

COLUMNS = (
    Column("train_rate", "training, samples/s", "higher", 0),
    Column("sample_rate", "sampling, samples/s", "higher", 0),
    Column("encode_rate", "encoding, samples/s", "higher", 0),
)
BATCH = 500


def refuses(data: Data, settings: Settings) -> str:
    """Any data can be timed."""
    return ""


def rate(name: str, work: Callable[[], object], images: int, protocol: str, seconds: float) -> list[Measurement]:
    """Return median rate of `work`, which handles `images`, and the interquartile range of repeats."""
    # imported here: it is slow to load, and warns where a CUDA toolkit is installed without a device
    logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)
    from torch.utils.benchmark import Timer

    threads = torch.get_num_threads()
    timed = Timer("work()", globals={"work": work}, num_threads=threads).blocked_autorange(min_run_time=seconds)
    rates = torch.tensor([images / seconds for seconds in timed.times], dtype=torch.float64)
    low, median, high = rates.quantile(torch.tensor([0.25, 0.5, 0.75], dtype=torch.float64)).tolist()
    protocol = f"{protocol}, {threads} thread" + "s" * (threads > 1)
    return [
        Measurement(name, median, "1/s", len(rates), protocol=protocol, kind="timing"),
        Measurement(f"{name}_iqr", high - low, "1/s", len(rates), protocol=protocol, kind="timing"),
    ]


def works(subject: Subject, n: int = BATCH) -> dict[str, tuple[Callable[[], object], int]]:
    """Return what a model can do of sampling and encoding, by column, with the number of images that a call handles."""
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
    return {name: (work, n) for name, work in {"sample_rate": sample, "encode_rate": encode}.items() if able[name]}


def measure(subject: Subject) -> list[Measurement]:
    """Return sampling and encoding rates; the training rate belongs to the loop, which calls `rate` itself."""
    found = works(subject, min(BATCH, len(subject.held_out)))
    rows = []
    for name, (work, n) in found.items():
        rows += rate(name, work, n, f"batch {n}", subject.settings.seconds)
    if "sample_rate" not in found:
        rows += not_sampled(column for column in COLUMNS if column.metric == "sample_rate")
    if "encode_rate" not in found:
        rows.append(Measurement("encode_rate", None, kind="timing", status="not applicable", reason="it has no encoder"))
    return rows
