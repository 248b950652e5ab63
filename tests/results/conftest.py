"""What tests of results share: runs that were never trained."""

from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path

from alibench.evaluation.measurement import Measurement
from alibench.results import rows
from tests.conftest import origin


def store(
    out: Path,
    model: str,
    seed: int | None,
    measured: Iterable[Measurement],
    suite: str = "digits",
    dataset: str = "digits",
    steps: int = 10,
    models: Sequence[str] = ("ali", "vae"),
) -> Path:
    """Store the measurements of a run, and return its folder; `models`: all those of the suite."""
    folder = out / "runs" / f"{suite}-{model}-seed{seed}"
    folder.mkdir(parents=True)
    run = rows.Run(folder.name, suite, model, model.upper(), dataset, seed, steps, "ema")
    rows.write(folder, run, map(asdict, measured), origin(suite, models))
    return folder
