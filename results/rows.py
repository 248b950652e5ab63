"""Rows: one number each, kept with the run that made it, and the table of all of them.

A run is one folder with one writer. Its `run.json` says what ran and where (provenance), its `rows.json`
holds its numbers; both are replaced as a whole, so an evaluation that is interrupted or repeated loses and
doubles nothing. `rows.csv` is derived from the folders, so writers never share a file.
"""

import shlex
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from alibench.evaluation import files
from alibench.evaluation.files import Damaged
from alibench.evaluation.messages import say
from alibench.results import formats, stored
from alibench.results.stored import read_origin, read_run

COLUMNS = (
    *(
        "run_id",
        "suite",
        "model",
        "title",
        "dataset",
        "seed",
        "step",
        "metric",
        "value",
        "unit",
        "n",
        "split",
    ),
    *("extractor", "protocol", "weights", "labels", "draw", "kind", "status", "reason"),
)
KEY = (
    "run_id",
    "model",
    "seed",
    "metric",
    "protocol",
    "labels",
    "draw",
)  # a row's; the first and the metric, for most
PROVENANCE = ("commit", "config", "versions", "device", "data_sha256", "weights_sha256", "command")


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


def anew(command: Sequence[str]) -> str:
    """Return a command without what ties it to a folder that it began: to be typed again for the same,
    elsewhere.
    """
    words = iter(command)
    kept = []
    for word in words:
        if word == "--out":
            next(words, None)
        elif word not in ("--fresh", "--resume", "--force") and not word.startswith("--out="):
            kept.append(word)
    return shlex.join(kept)


def write(
    folder: Path, run: Run, measurements: Iterable[Mapping[str, Any]], provenance: Mapping[str, Any]
) -> None:
    """Store a run's rows and provenance, in place of those it had.

    Raises ValueError if provenance lacks anything, since no number goes without it, or if two rows have the
    same KEY.

    A measurement with a `reference` is a row of that name in the run's tables, not the model's.
    """
    missing = [name for name in PROVENANCE if name not in provenance]
    if missing:
        raise ValueError(f"rows of {run.run_id} need provenance: {', '.join(missing)}")
    rows = []
    for measurement in measurements:
        row = {
            **vars(run),
            **{key: value for key, value in measurement.items() if key in COLUMNS and key != "seed"},
        }
        if measurement["reference"]:
            seed = run.seed if run.seed is not None else measurement["seed"]
            note = f" ({measurement['note']})" if measurement["note"] else ""
            row |= {"model": measurement["reference"], "title": measurement["reference"] + note, "seed": seed}
        rows.append(_measured({column: row[column] for column in COLUMNS}))
    keep(folder, {**vars(run), **provenance}, rows)


def _measured(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return a row with texts of one line, and with status ok only where it holds a number."""
    row = {column: files.one_line(cell) if isinstance(cell, str) else cell for column, cell in row.items()}
    if row["status"] == "ok" and not stored.is_measured(row["value"]):
        lacks = "no number" if row["value"] is None else f"the number is {row['value']}"
        row |= {"status": "refused", "reason": row["reason"] or lacks}
    return row if row["status"] == "ok" else {**row, "value": None}


def keep(folder: Path, origin: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> None:
    """Store rows as they are, with what `read_origin` returns. Raises ValueError if two have the same KEY."""
    counts = Counter(map(key, rows))
    if twice := [named for named, count in counts.items() if count > 1]:
        raise ValueError(f"rows of {origin['run_id']} hold a number twice: {twice[0]}")
    stored.write(folder, stored.ORIGIN, origin)
    stored.write(folder, stored.ROWS, rows)


def key(row: Mapping[str, Any]) -> tuple[Any, ...]:
    """Return what no two rows of a run have both."""
    return tuple(row[column] for column in KEY)


def read(out: Path, damaged: Callable[[Path, Damaged], None] | None = None) -> pd.DataFrame:
    """Return the rows of all runs below `out`, in the suites' order and references last.

    Raises BadInput if there is no folder of runs, and Damaged; or tells `damaged` of each run that is, and
    leaves it out.
    """
    folders, orders = stored.finished(out), _orders(out)

    def place(run: Mapping[str, Any]) -> tuple[str, int, int]:
        order = orders.get(run["suite"]) or run["config"]["models"]
        reference = run["seed"] is None
        position = len(order) if reference or run["model"] not in order else order.index(run["model"])
        return run["suite"], position, -1 if reference else run["seed"]

    def each(folders: Iterable[Path], read: Callable[[Path], Any]) -> Iterator[tuple[Path, Any]]:
        for folder in folders:
            try:
                yield folder, read(folder)
            except Damaged as damage:
                if damaged is None:
                    raise
                damaged(folder, damage)

    origins = dict(each(folders, read_origin))
    # a column a list, and equal texts the same object: a quarter of the memory of a dictionary a row
    columns: dict[str, list[Any]] = {column: [] for column in COLUMNS}
    known: dict[str, str] = {}
    places = {folder: place(origin) for folder, origin in origins.items()}
    for _, own in each(
        sorted(places, key=places.__getitem__), lambda folder: read_run(folder, origins[folder]["suite"])
    ):
        for column, values in columns.items():
            found = [row[column] for row in own]
            values += [known.setdefault(value, value) if isinstance(value, str) else value for value in found]
    integers = dict.fromkeys(("seed", "step", "n", "labels", "draw"), "Int64")
    frame = pd.DataFrame(columns, dtype=None if known else object)  # without a row they are no numbers
    return frame.astype({"value": "float64", **integers})


def _orders(out: Path) -> dict[str, list[str]]:
    """Return the models of each suite that the output was begun with, since machines may have trained some
    each.
    """
    try:
        return {name: list(suite["models"]) for name, suite in stored.read_plan(out)["suites"].items()}
    except FileNotFoundError:  # of rows that were kept alone
        return {}
    except (OSError, Damaged) as problem:
        say(f"{problem}: models stand in the order of each run's suite")
        return {}


def derive(out: Path, damaged: Callable[[Path, Damaged], None] | None = None) -> pd.DataFrame:
    """Write `rows.csv` from the runs' folders and return its table. Raises Damaged, or tells of it, as
    `read`.
    """
    frame = read(out, damaged)
    files.replace(out / "rows.csv", formats.csv(frame, index=False))
    return frame
