"""Rows: one number each, kept with the run that made it, and the table of all of them.

A run is one folder with one writer. Its `run.json` says what ran and where (provenance), its `rows.json`
holds its numbers; both are replaced as a whole, so an evaluation that is interrupted or repeated loses and
doubles nothing. `rows.csv` is derived from the folders, so writers never share a file.
"""

import shlex
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from operator import itemgetter
from pathlib import Path
from typing import Any

import pandas as pd

from alibench.evaluation import files
from alibench.evaluation.files import Damaged
from alibench.evaluation.messages import say
from alibench.results import formats, stored
from alibench.results.stored import StoredRow, read_origin, read_run

# columns of the table, and which hold integers or nothing
COLUMNS = StoredRow.__struct_fields__
INTEGERS = ("seed", "step", "n", "labels", "draw")
KEY = ("run_id", "model", "seed", "metric", "protocol", "labels", "draw")  # no two rows have the same
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
    """Return a command without what ties it to a folder, to be typed again for the same results elsewhere."""
    # --out DIR and --out=DIR
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

    A measurement with a `reference` is a row of that name in the run's tables, not the model's. Raises
    ValueError for two rows with the same KEY, and for incomplete provenance, since no number goes without it.
    """
    if missing := [name for name in PROVENANCE if name not in provenance]:
        raise ValueError(f"rows of {run.run_id} need provenance: {', '.join(missing)}")

    rows = []
    for measurement in measurements:
        row = {**vars(run), **measurement, "seed": run.seed}
        # A reference has its own seed where its run has none.
        if reference := measurement["reference"]:
            note = f" ({measurement['note']})" if measurement["note"] else ""
            seed = run.seed if run.seed is not None else measurement["seed"]
            row |= {"model": reference, "title": reference + note, "seed": seed}
        rows.append(_measured({column: row[column] for column in COLUMNS}))
    keep(folder, {**vars(run), **provenance}, rows)


def _measured(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return a row with texts of one line, and with status ok only where it holds a number."""
    row = {column: files.one_line(cell) if isinstance(cell, str) else cell for column, cell in row.items()}
    # a number that cannot be compared is not a measurement
    if row["status"] == "ok" and not stored.is_measured(row["value"]):
        lacks = "no number" if row["value"] is None else f"the number is {row['value']}"
        row |= {"status": "refused", "reason": row["reason"] or lacks}
    return row if row["status"] == "ok" else {**row, "value": None}


def keep(folder: Path, origin: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> None:
    """Store rows as they are, with what `read_origin` returns. Raises ValueError if two have the same KEY."""
    # A number is stored once, or a mean would count it twice.
    counts = Counter(map(key, rows))
    if twice := [name for name, count in counts.items() if count > 1]:
        raise ValueError(f"rows of {origin['run_id']} hold a number twice: {twice[0]}")
    stored.write(folder, stored.ORIGIN, origin)
    stored.write(folder, stored.ROWS, rows)


key = itemgetter(*KEY)


def read(out: Path, damaged: Callable[[Path, Damaged], None] | None = None) -> pd.DataFrame:
    """Return the rows of all runs below `out`, in the suites' order and references last.

    Raises BadInput if there is no folder of runs, and Damaged; or calls `damaged` for each run that is, and
    leaves it out.
    """

    def each(folders: Iterable[Path], read: Callable[[Path], Any]) -> Iterator[tuple[Path, Any]]:
        for folder in folders:
            try:
                yield folder, read(folder)
            except Damaged as damage:
                if damaged is None:
                    raise
                damaged(folder, damage)

    # The order comes from the plan, since machines may have trained some models each.
    origins = dict(each(stored.finished(out), read_origin))
    orders = _orders(out)
    places = {folder: _place(origin, orders) for folder, origin in origins.items()}
    in_order = sorted(places, key=places.__getitem__)

    # a column a list, and equal texts the same object: a quarter of the memory of a dictionary a row
    columns: dict[str, list[Any]] = {column: [] for column in COLUMNS}
    known: dict[str, str] = {}
    for _, rows in each(in_order, lambda folder: read_run(folder, origins[folder]["suite"])):
        for column, values in columns.items():
            cells = (row[column] for row in rows)
            values += [known.setdefault(cell, cell) if isinstance(cell, str) else cell for cell in cells]

    frame = pd.DataFrame(columns, dtype=None if known else object)  # without a row they are not numbers
    return frame.astype({"value": "float64", **dict.fromkeys(INTEGERS, "Int64")})


def _place(run: Mapping[str, Any], orders: Mapping[str, Sequence[str]]) -> tuple[str, int, int]:
    """Return where a run's rows stand: by suite, by the suite's order of models, by seed, references last."""
    order = orders.get(run["suite"]) or run["config"]["models"]
    # a reference stands below every model of its suite
    if run["seed"] is None:
        return run["suite"], len(order), -1
    return run["suite"], order.index(run["model"]) if run["model"] in order else len(order), run["seed"]


def _orders(out: Path) -> dict[str, list[str]]:
    """Return the models of each suite of the output's plan, since machines may have trained some each."""
    try:
        return {name: list(suite["models"]) for name, suite in stored.read_plan(out)["suites"].items()}
    except FileNotFoundError:  # rows may be kept without a plan
        return {}
    except (OSError, Damaged) as problem:
        say(f"{problem}: models stand in the order of each run's suite")
        return {}


def derive(out: Path, damaged: Callable[[Path, Damaged], None] | None = None) -> pd.DataFrame:
    """Write `rows.csv` from the runs' folders and return its table. Raises as `read`, or calls `damaged`."""
    frame = read(out, damaged)
    files.replace(out / "rows.csv", formats.csv(frame, index=False))
    return frame
