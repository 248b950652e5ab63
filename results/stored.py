"""The files of an output folder: plan.json, and in each run's folder run.json, rows.json and tables of CSV.

A folder may be anyone's. Whoever reads one of these files reads it here, by one schema: names that become
paths are names, numbers are finite, and a folder in `runs/` is called by the run that it holds, since a
copied or renamed one would count twice.
"""

import hashlib
import io
import json
import math
import os
import shlex
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
import numpy as np
import pandas as pd
from msgspec import Meta

from alibench.evaluation import files, sealed
from alibench.evaluation.errors import BadInput
from alibench.evaluation.files import Count, Damaged, Line, Name, RunName, Seed, Sha256

# files of an output, the version of each format, and the key of its body
PLAN, ORIGIN, ROWS, CURVES = "plan.json", "run.json", "rows.json", "curves.csv"
PER_IMAGE = "per_image.csv"
MEASURES = ("error", "psnr", "ssim", "lpips")  # its columns after index and label, as far as there are some
WRITTEN = ("runs", "tables", "figures", "tensorboard", "wandb", "mlflow", "slurm")  # folders in an output
VERSIONS = {PLAN: 1, ORIGIN: 2, ROWS: 1}
KINDS = {PLAN: "plan", ORIGIN: "run", ROWS: "rows"}
LARGEST_NUMBER = 1e30  # a value beyond it is a failure of what was measured, not a measurement
AGAIN = "run this run again"
RESOLVE = "put in its place what it points to"

Number = Annotated[float, Meta(ge=-LARGEST_NUMBER, le=LARGEST_NUMBER)]  # neither NaN nor infinite
Seeds = Annotated[int, Meta(ge=1, le=10_000)]  # as benchmarks/config/schema.py bounds them
Models = Annotated[list[Name], Meta(min_length=1, max_length=10_000)]
Side = Annotated[int, Meta(ge=1, le=100_000)]  # of an image


# -------------------- schemas: what older files lack has a default
class StoredRow(msgspec.Struct, forbid_unknown_fields=True):
    """One number of a run."""

    run_id: RunName
    suite: Name
    model: Line
    title: Line
    dataset: Line
    seed: Seed | None
    step: Count | None
    metric: Line
    value: Number | None
    unit: Line
    n: Count | None
    split: Line
    extractor: Line
    protocol: Line
    weights: Line
    labels: Count | None
    draw: Count | None
    kind: Literal["quality", "timing", "budget"]
    status: Literal["ok", "not applicable", "refused", "diverged"]
    reason: Line

    def __post_init__(self) -> None:
        # a table shows every number that is ok, and nothing else
        if (self.status == "ok") != (self.value is not None):
            held = "no number" if self.value is None else "a number"
            raise ValueError(f"{held} for {self.metric}, with status '{self.status}'")


class StoredModel(msgspec.Struct):
    """A [model.NAME] table of a suite."""

    of: str = ""
    title: Line = ""
    compute: str = ""


class StoredSuite(msgspec.Struct):
    """The settings of a suite that are read here; benchmarks/config/schema.py has them all."""

    name: Name
    models: Models
    metrics: list[str]
    seeds: Seeds
    first_seed: Seed = 0  # absent from older files, as what has a default below
    title: Line = ""
    model: dict[Name, StoredModel] = {}
    evaluation: dict[str, Any] = {}


# bounds differ from the bounds of a suite that anybody trains
class PlannedSuite(StoredSuite, kw_only=True):
    """A suite in a plan: a collected one spans the seeds of all its parts, with gaps between them."""

    seeds: Annotated[int, Meta(ge=1, lt=2**32)]


class Origin(msgspec.Struct, forbid_unknown_fields=True):
    """What a run's rows have in common, and its provenance."""

    run_id: RunName
    suite: Name
    model: Name
    title: Line
    dataset: Line
    seed: Seed | None  # none: of references
    step: Count | None
    weights: Line
    commit: Line
    config: StoredSuite
    versions: dict[str, str]
    device: Line
    data_sha256: Sha256
    weights_sha256: Sha256 | None
    command: str
    curves_sha256: Sha256 | None = None
    per_image_sha256: Sha256 | None = None  # none: no errors of single images are kept
    drawn: dict[str, float] = {}
    data_splits: str = ""
    data_shape: Annotated[list[Side], Meta(min_length=1, max_length=3)] | None = None
    data_scale: Annotated[float, Meta(gt=0, le=LARGEST_NUMBER)] | None = None
    data_labels: Annotated[int, Meta(ge=0, le=1_000_000)] | None = None
    data_classes: list[str] = []
    protocols: Annotated[int, Meta(ge=1)] = 1
    extractor: dict[str, Any] | None = None
    accelerator: dict[str, str] = {}
    plugins: dict[str, Sha256] = {}
    samples: list[Line] = []  # notes on stored samples
    resumed: list[dict[str, Any]] = []
    merged: list[dict[str, Any]] = []  # provenance of reference rows that came from other folders

    def __post_init__(self) -> None:
        # rows are placed in tables by the order of the suite's models
        if self.config.name != self.suite or (self.seed is not None and self.model not in self.config.models):
            raise ValueError("the settings of another run")
        try:
            # the report shows it as a command to type
            shlex.split(self.command)
        except ValueError:
            raise ValueError("a command that no shell could read") from None


class Plan(msgspec.Struct, forbid_unknown_fields=True):
    """What a folder was begun with, and by which command."""

    command: Annotated[list[str], Meta(min_length=1)]
    suites: dict[Name, PlannedSuite]
    data: dict[Name, Sha256]
    device: Line
    versions: dict[str, str]
    code: dict[str, str]
    plugins: dict[str, str] = {}
    runs: list[RunName] | None = None
    weights: dict[RunName, Sha256] | None = None
    per_image: bool = False

    def __post_init__(self) -> None:
        for name, suite in self.suites.items():
            if suite.name != name:
                raise ValueError(f"the suite '{suite.name}' is called '{name}'")


# -------------------- reading and writing
def indented(body: Any) -> str:
    """Return JSON that a person reads."""
    return json.dumps(body, indent=1, default=str)


LAYOUTS: dict[str, Callable[[Any], str]] = {PLAN: indented, ORIGIN: indented, ROWS: json.dumps}
SCHEMAS: dict[str, Any] = {PLAN: Plan, ORIGIN: Origin, ROWS: list[StoredRow]}


def is_measured(value: float | None) -> bool:
    """Return whether a value is a number that can be compared."""
    return value is not None and math.isfinite(value) and abs(value) <= LARGEST_NUMBER


def check_plan(plan: Mapping[str, Any]) -> None:
    """Refuse a plan that could be written and not read again. Raises BadInput."""
    try:
        sealed.check_body(Path(PLAN), plan, Plan, indented(plan))
    except Damaged as problem:
        raise BadInput(f"the plan could not be read again: {problem}; rename what holds it") from None


def write(folder: Path, name: str, body: Any) -> None:
    """Write one of the files. Raises OSError."""
    sealed.write_json(folder / name, KINDS[name], VERSIONS[name], body, LAYOUTS[name])


def _read(folder: Path, name: str) -> Any:
    try:
        return sealed.read_json(folder / name, KINDS[name], VERSIONS[name], SCHEMAS[name], LAYOUTS[name])
    except files.Unsafe as problem:
        raise Damaged(str(problem)) from None


def read_plan(out: Path) -> dict[str, Any]:
    """Return what a folder was begun with, as `Plan` has it. Raises Damaged, or OSError."""
    plan: dict[str, Any] = _read(out, PLAN)
    return plan


def _read_of_run(folder: Path, name: str) -> Any:
    try:
        if folder.is_symlink():
            raise Damaged(f"{folder} is a symbolic link: {RESOLVE}")
        return _read(folder, name)
    except Damaged as damage:
        raise Damaged(f"{damage}: {AGAIN}") from None
    except OSError as error:
        raise Damaged(f"{folder / name} cannot be read ({error.strerror}): {AGAIN}") from None


def read_origin(folder: Path, named: bool = True) -> dict[str, Any]:
    """Return what a run's rows have in common, and its provenance, as `Origin` has it. Raises Damaged.

    `named`: the folder has to be called by its run. A run that a user names by itself may lie anywhere.
    """
    origin: dict[str, Any] = _read_of_run(folder, ORIGIN)
    # A copied or renamed folder would count twice.
    if named and origin["run_id"] != folder.name:
        remedy = "give the folder that name again, or remove it if it is a copy"
        raise Damaged(f"{folder} holds the run '{origin['run_id']}': {remedy}")
    return origin


def read_run(folder: Path, suite: str | None = None, run_id: str | None = None) -> list[dict[str, Any]]:
    """Return the rows of one run, as `StoredRow` has them: of `run_id`, else of what the folder is called by.

    Raises Damaged, also for rows of another run or suite.
    """
    rows: list[dict[str, Any]] = _read_of_run(folder, ROWS)
    for row in rows:
        if row["run_id"] != (run_id or folder.name):
            raise Damaged(f"{folder / ROWS} holds rows of the run '{row['run_id']}': {AGAIN}")
        if suite is not None and row["suite"] != suite:
            where = f"{folder / ROWS} holds rows of suite '{row['suite']}'"
            raise Damaged(f"{where}, its run is of '{suite}': {AGAIN}")
    return rows


def read_curves(folder: Path, origin: Mapping[str, Any]) -> pd.DataFrame:
    """Return a run's training curves: `phase`, `step`, and a column a loss or logit; a line a tick.

    Raises Damaged, or OSError: FileNotFoundError if the run kept none.
    """
    path = folder / CURVES
    raw = _read_as_written(path, origin.get("curves_sha256"))  # absent from older files

    try:
        frame = pd.read_csv(io.BytesIO(raw), encoding_errors="strict")
    except ValueError as error:  # pandas' own errors too
        raise Damaged(f"{path} cannot be read ({files.one_line(str(error))})") from None
    # It has phases and steps, and numbers that can be drawn.
    if not {"phase", "step"} <= set(frame.columns) or frame.empty or frame.step.dtype.kind not in "iu":
        raise Damaged(f"{path} cannot be read (it has no phases and steps)")

    numbers = frame.drop(columns=["phase", "step"])
    are_numbers = all(dtype.kind in "iuf" for dtype in numbers.dtypes)
    if not are_numbers or not (numbers.isna() | (numbers.abs() <= LARGEST_NUMBER)).to_numpy().all():
        raise Damaged(f"{path} cannot be read (a column holds something other than numbers)")
    return frame.assign(phase=frame.phase.map(lambda phase: files.one_line(str(phase))))


def _read_as_written(path: Path, sha256: str | None) -> bytes:
    """Return a file of a run, as its run wrote it where the hash is known. Raises Damaged, or OSError."""
    raw = files.read(path, links=False)
    if sha256 is not None and hashlib.sha256(raw).hexdigest() != sha256:
        raise Damaged(f"{path} is not what its run wrote")
    return raw


def write_per_image(folder: Path, measures: Mapping[str, np.ndarray], labels: np.ndarray | None) -> None:
    """Write what `read_per_image` reads: MEASURES (N,) and perhaps classes (N,). Raises OSError."""
    index = np.arange(len(measures["error"]))
    frame = pd.DataFrame({"index": index, **({} if labels is None else {"label": labels}), **measures})
    files.replace(folder / PER_IMAGE, frame.to_csv(index=False, lineterminator="\n"))


def read_per_image(folder: Path, origin: Mapping[str, Any]) -> pd.DataFrame:
    """Return a run's errors of single images: `index`, perhaps `label`, MEASURES; a line a held-out sample.

    Raises Damaged.
    """
    path = folder / PER_IMAGE
    try:
        raw = _read_as_written(path, origin.get("per_image_sha256"))
    except OSError as error:
        raise Damaged(f"{path} cannot be read ({error.strerror})") from None

    # the columns first: a table of thousands would take long
    header, _, lines = raw.partition(b"\n")
    names = header.decode(errors="replace").rstrip("\r").split(",")
    known = [name for name in ("index", "label", *MEASURES) if name in names]
    if names != known or not {"index", "error"} <= set(names) or not lines.strip():
        raise Damaged(f"{path} cannot be read (it has no errors by index)")

    # numbers alone, as many in each line
    try:
        numbers = np.loadtxt(io.BytesIO(lines), delimiter=",", comments=None, ndmin=2)
        frame = pd.DataFrame(numbers, columns=names)
    except ValueError as error:
        raise Damaged(f"{path} cannot be read ({files.one_line(str(error))})") from None
    if not (np.abs(numbers) <= LARGEST_NUMBER).all() or (frame.error < 0).any():
        raise Damaged(f"{path} cannot be read (it holds numbers that no error can be)")
    if not np.array_equal(frame["index"], np.arange(len(frame))):
        raise Damaged(f"{path} cannot be read (its lines are not numbered from 0)")
    return frame


def check_links(out: Path) -> None:
    """Refuse an output in which a link would lead reading and writing elsewhere. Raises BadInput."""
    for place in (out / name for name in WRITTEN):
        if place.is_symlink():
            raise BadInput(f"{place} is a symbolic link: {RESOLVE}; nothing was touched")


def run_folders(out: Path) -> list[Path]:
    """Return the folders in an output's `runs/`, in order. Raises BadInput if it has none."""
    check_links(out)
    place = out / "runs"
    if not place.is_dir():
        raise BadInput(f"{out} holds no runs: name a folder that 'alibench run --out' made")
    # one look at each entry: an output may hold ten thousand runs
    with os.scandir(place) as entries:
        names = [entry.name for entry in entries if entry.is_dir() and not entry.name.startswith(".")]
    return [place / name for name in sorted(names)]


def finished(out: Path) -> list[Path]:
    """Return the folders of the runs that have rows. Raises BadInput if the output has no `runs/`."""
    return [folder for folder in run_folders(out) if os.path.lexists(folder / ROWS)]
