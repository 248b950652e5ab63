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


def measure(subject: Subject) -> list[Measurement]:
    """Return sampling and encoding rates; the training rate belongs to the loop, which calls `rate` itself."""
    model, seconds = subject.model, subject.settings.seconds
    rng, x = subject.rng("throughput"), subject.held_out.x[:BATCH].to(subject.device)
    x, n = as_float(x), len(x)
    y = subject.held_out.y[:n].to(subject.device)
    with torch.no_grad():
        if model.generative:
            rows = rate("sample_rate", lambda: model.sample(n, rng, y), n, f"batch {n}", seconds)
        else:
            rows = not_sampled(column for column in COLUMNS if column.metric == "sample_rate")
        if model.inference == "none":
            reason = "it has no encoder"
            return [*rows, Measurement("encode_rate", None, kind="timing", status="not applicable", reason=reason)]
        return [*rows, *rate("encode_rate", lambda: model.encode(x, y=y), n, f"batch {n}", seconds)]
