"""Rows: one number each, kept with the run that made it, and the table of all of them.

A run is one folder with one writer. Its `run.json` says what ran and where (provenance), its `rows.json` holds its numbers
with a checksum and is replaced as a whole. `rows.csv` is derived from the folders, so writers never share a file.
"""

import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

VERSION = 1
COLUMNS = (
    *("run_id", "suite", "model", "title", "dataset", "seed", "step", "metric", "value", "unit", "n", "split"),
    *("extractor", "protocol", "weights", "labels", "draw", "kind", "status", "reason"),
)
PROVENANCE = ("commit", "config", "versions", "device", "data_sha256", "weights_sha256", "command")


class Damaged(Exception):
    """A file of results is not what was written."""


@dataclass(frozen=True)
class Run:
    """What a run's rows have in common."""

    run_id: str
    suite: str
    model: str
    title: str
    dataset: str
    seed: int | None
    step: int | None
    weights: str  # "ema" or "raw"


def replace_file(path: Path, text: str) -> None:
    """Write a file so that a reader sees the old one or the new one, whole."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_text(text, encoding="utf-8")
    os.replace(temporary, path)


def write(folder: Path, run: Run, measurements: Iterable[Mapping[str, Any]], provenance: Mapping[str, Any]) -> None:
    """Store a run's rows and provenance. Raises ValueError if provenance lacks anything: no number goes without it.

    A measurement with a `reference` is a row of that name in the run's tables, not the model's.
    """
    missing = [name for name in PROVENANCE if name not in provenance]
    if missing:
        raise ValueError(f"rows of {run.run_id} need provenance: {', '.join(missing)}")
    rows = []
    for measurement in measurements:
        row = {**vars(run), **{key: value for key, value in measurement.items() if key in COLUMNS and key != "seed"}}
        if measurement["reference"]:
            seed = run.seed if run.seed is not None else measurement["seed"]
            note = f" ({measurement['note']})" if measurement["note"] else ""
            row |= {"model": measurement["reference"], "title": measurement["reference"] + note, "seed": seed}
        rows.append({column: row[column] for column in COLUMNS})
    replace_file(folder / "run.json", json.dumps({"version": VERSION, **vars(run), **provenance}, indent=1, default=str))
    body = json.dumps(rows)
    digest = hashlib.sha256(body.encode()).hexdigest()
    replace_file(folder / "rows.json", f'{{"version": {VERSION}, "sha256": "{digest}",\n"rows": {body}}}\n')


def read_run(folder: Path) -> list[dict[str, Any]]:
    """Return the rows of one run. Raises Damaged if the file is not what was written."""
    path = folder / "rows.json"
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
        intact = hashlib.sha256(json.dumps(stored["rows"]).encode()).hexdigest() == stored["sha256"]
    except (ValueError, KeyError, TypeError):
        intact = False
    if not intact:
        raise Damaged(f"{path} is damaged: run this run again")
    rows: list[dict[str, Any]] = stored["rows"]
    return rows


def read_origin(folder: Path) -> dict[str, Any]:
    """Return what a run's rows have in common, and its provenance. Raises Damaged if the file is not readable."""
    path = folder / "run.json"
    try:
        origin: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        raise Damaged(f"{path} is damaged or not there: run this run again") from None
    return origin


def read(out: Path) -> pd.DataFrame:
    """Return the rows of all runs below `out`, in the suites' order and references last. Raises Damaged."""

    def place(folder: Path) -> tuple[str, int, int]:
        run = read_origin(folder)
        order = run["config"]["models"]
        reference = run["seed"] is None
        position = len(order) if reference or run["model"] not in order else order.index(run["model"])
        return run["suite"], position, -1 if reference else run["seed"]

    folders = sorted((path.parent for path in sorted((out / "runs").glob("*/rows.json"))), key=place)
    frame = pd.DataFrame([row for folder in folders for row in read_run(folder)], columns=list(COLUMNS))
    integers = dict.fromkeys(("seed", "step", "n", "labels", "draw"), "Int64")
    return frame.astype({"value": "float64", **integers})


def derive(out: Path) -> pd.DataFrame:
    """Write `rows.csv` from the runs' folders and return its table."""
    frame = read(out)
    replace_file(out / "rows.csv", frame.to_csv(index=False))
    return frame
