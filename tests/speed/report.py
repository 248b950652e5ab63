"""The tables of a speed session: Markdown to read, CSV to compute with, and what they were measured by."""

import json
import os
import platform
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from alibench.benchmarks.running import provenance
from alibench.evaluation import files
from alibench.models import REGISTRY
from alibench.results.formats import table

TITLES = {
    "updates": "One update of all players",
    "precision": "What bf16 gains",
    "ceilings": "Ceilings, measured in turn with the updates",
    "seeds": "Three seeds",
    "use": "Sampling and encoding",
    "evaluation": "Evaluation",
    "growth": "Cost against steps and seeds",
    "checkpoints": "Checkpoints",
    "resuming": "Commands that go on",
    "engines": "A Ray cluster of this machine's cores beside its own processes",
    "scale": "Very many runs",
    "gpu_updates": "One update of all players on a GPU",
    "gpu_ceilings": "A GPU's ceilings",
    "gpu_seeds": "Small networks on a GPU, one seed and several",
    "gpu_batches": "Larger batches on a GPU",
    "gpu_settings": "What cuDNN's settings take",
    "gpu_profile": "What an update is made of",
}
NOTES = {
    "updates": "Batch 100 (MNIST: 128), all cores, every side in turn in one process; medians over rounds. "
    "`ratio`: the side's time over ours in the same round, its median and the median's 95 % interval (order "
    "statistics). naive: DataLoader with the best number of workers (beside its name), a pass through D for "
    "each kind of pair, players in turn, default Adam, losses read every step. careful: the best exact "
    "alternating update. eager: ours by autograd every time. Memory: what three updates add at most to "
    "libraries, data and model, in a process of its own. MFLOP: matrix products and convolutions, counted. "
    "Shares: of the ceilings, measured in the same rounds. All sides of a ratio have the same precision.",
    "precision": "Updates in fp32 over ours in bf16, timed in the same rounds.",
    "ceilings": "A large square matrix product, and the forward pass of the model's own largest convolution.",
    "seeds": "`alibench run`'s way, one single-threaded process a core, against three naive trainings one "
    "after another with all cores. Processes are started beforehand.",
    "use": "500 images a call. careful: torch's own layers in channels_last, in inference mode.",
    "evaluation": "All metrics that the data allow, against a script that computes each by itself.",
    "growth": "ALI on digits, one process, one thread, medians over rounds; seeds: of 500 steps each. "
    "Memory: the most that the process has had.",
    "checkpoints": "ALI trained for two and a half times the default time between checkpoints, all cores. To "
    "go on: from one before the last step, over a fresh training of one step, in turn; medians.",
    "resuming": "ALI, BiGAN, GAN and VAE on digits, all runs finished; over the bare interpreter, in turn; "
    "medians.",
    "engines": "Three runs a core by both engines in turn, from connecting to the last outcome. computing: "
    "half a minute of a core's own time each; training: ALI on digits for as long, whose wall time follows "
    "the machine's clock and neighbours, as `local_high_over_low` shows. `ratio`: Ray over worker processes "
    "in the same round, median, least and largest of three.",
    "scale": "Runs of one suite on a Ray cluster of this machine's cores. Nothing is trained: a task stores "
    "the rows of a real run under its own name. Then `alibench collect`, with tables and report. Memory: of "
    "the command's process; growth: the slope of a line through its memory after every 1,000 runs.",
    "gpu_updates": "Every side in turn in one process, all of them and the ceilings in one precision; "
    "medians over rounds. `over_naive`: the quickest naive side's time over this one's in the same round, "
    "its median and the median's 95 % interval. naive: with that many of DataLoader's workers; careful: "
    "the best exact alternating update; eager: ours; recorded: as one CUDA graph; compiled: each network "
    "by torch.compile, recorded, too. GFLOP: what our update has of matrix products and convolutions, for "
    "every side. Shares: of a large square matrix product and of the forward pass of the model's own "
    "largest convolution, measured in the same rounds.",
    "gpu_ceilings": "Matrix product, copy (read and write), and each convolution of ALI's CIFAR-10 networks "
    "forward and backward, batch 100 (D: 200), by memory order.",
    "gpu_seeds": "Rate, round and average of one seed or of several stacked ones. `of_one`: time over one "
    "seed's by the same execution.",
    "gpu_batches": "ALI, CIFAR-10's networks, recorded.",
    "gpu_settings": "ALI, CIFAR-10's networks, recorded, in turn with torch's default. `repeats`: whether "
    "ten eager updates, made twice, leave the same bits.",
    "gpu_profile": "ALI, CIFAR-10's networks: kernels and their time in one update, by torch's profiler. A "
    "table by kernel is beside this file.",
}


def processor() -> str:
    """Return the name of the processor and its widest vectors."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    names = dict(line.split(":", 1) for line in reversed(lines) if ":" in line)
    flags = next((value.split() for key, value in names.items() if key.strip() == "flags"), [])
    model = next((value.strip() for key, value in names.items() if key.strip() == "model name"), "")
    bf16 = "bf16" if "avx512_bf16" in flags else "no bf16"
    return f"{model}, {torch.backends.cpu.get_cpu_capability()}, {bf16}"


def timed_device() -> str:
    """Return the device that is timed: DEVICE of the environment, or the best there is."""
    return os.environ.get("DEVICE") or ("cuda" if torch.cuda.is_available() else "cpu")


def origin() -> dict[str, Any]:
    """Return what the session's figures were measured by."""
    device = torch.device(timed_device())
    return {
        "commit": provenance.commit(),
        "device": provenance.device_name(device),
        **provenance.accelerator(device),
        "processor": processor(),
        "torch": torch.__version__,
        "python": platform.python_version(),
        "command": "nox -s speed",
    }


def write(out: Path, records: Mapping[str, Sequence[Mapping[str, Any]]]) -> None:
    """Write speed.md, a CSV for each table, and provenance.json."""
    made = origin()
    parts = ["# Speed", "; ".join(f"{key}: {value}" for key, value in made.items()) + "."]
    for name in [name for name in TITLES if name in records]:
        frame = pd.DataFrame(records[name])
        files.replace(out / f"{name}.csv", frame.to_csv(index=False))
        parts += [f"## {TITLES[name]}", NOTES[name], table(frame.set_index(frame.columns[0]).map(_cell))]
    files.replace(out / "speed.md", "\n\n".join(parts) + "\n")
    files.replace(out / "provenance.json", json.dumps(made, indent=1) + "\n")


def _cell(value: Any) -> str:
    if isinstance(value, str):
        return value
    if value is None or pd.isna(value):
        return ""
    if abs(value) >= 100 or float(value).is_integer():
        return f"{value:,.0f}"
    return f"{value:.3g}" if abs(value) < 1 else f"{value:.2f}"


def summary(folder: Path) -> str:
    """Return docs/speed.md's table, as Markdown: a session's speed and what it is of both baselines'."""
    updates, seeds = (pd.read_csv(folder / f"{name}.csv") for name in ("updates", "seeds"))
    in_bf16 = folder / "precision.csv"  # not there where the processor has no bf16
    gains = pd.read_csv(in_bf16) if in_bf16.exists() else seeds[:0]
    lines = []
    for (networks, model, precision), case in updates.groupby(["networks", "model", "precision"], sort=False):
        sides = ("ours", "naive", "careful", "eager")
        ours, naive, careful, eager = (case[case.side.str.startswith(side)] for side in sides)
        in_fp32, three = (
            found[(found.networks == networks) & (found.model == model) & found.side.str.startswith("naive")]
            for found in (gains if precision == "bf16" else gains[:0], seeds)
        )
        share = ours.get("share_of_convolution_%", pd.Series([float("nan")])).iloc[0]
        lines.append({
            "networks": networks,
            "model": REGISTRY[str(model)].title,
            "precision": precision,
            "images/s": f"{ours.images_a_second.iloc[0]:,.0f}",
            "× naive": _ratio(naive),
            "× naive in fp32": _ratio(in_fp32),
            "× careful": _ratio(careful),
            "× eager": _ratio(eager),
            "three seeds, × naive": _ratio(three),
            "of the convolution ceiling": "" if pd.isna(share) else f"{share:.0f} %",
        })  # fmt: skip
    found = pd.DataFrame(lines).set_index("networks")
    return table(found.loc[:, (found != "").any()])  # without columns of what this machine cannot do


def _ratio(side: pd.DataFrame) -> str:
    if side.empty:
        return ""
    (row,) = side.itertuples()
    return f"{row.ratio:.2f} ({row.ratio_low:.2f} to {row.ratio_high:.2f})"
