"""Baselines: the values that a gate compares fresh seeds with, in one file each, with checksum and
provenance.

A file holds a value for every cell and seed, so that any test can be computed from it again, and what the
numbers mean: suite and settings, data, units, protocols, weights, versions. Whatever differs is refused by
name: a gate that compares different things passes, or fails, by chance.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import accumulate
from pathlib import Path
from typing import Annotated, Any

import msgspec
import numpy as np
import pandas as pd
from msgspec import Meta

from alibench.evaluation import files, protocols, sealed
from alibench.evaluation.errors import BadInput
from alibench.evaluation.files import Line, Name, Seed, Sha256
from alibench.evaluation.messages import listed
from alibench.evaluation.metrics import COLUMNS
from alibench.results import cells, gate, rows
from alibench.results.cells import IDENTITY, Cell, Gated
from alibench.results.differences import changed
from alibench.results.stored import Number, is_measured

VERSION = 1
FEWEST = 20  # seeds
REMEDY = "restore it, or make a new one with --update-baseline"
RENEW = "make a new baseline with --update-baseline, or name the right one by --baseline"
# of a new baseline, unless another number is asked for: 5 seeds against it see a shift of three deviations
SEEDS = 60
ORIGIN = ("commit", "versions", "device", "command")  # of its runs
# settings of a suite that do not change its numbers, or are compared cell by cell
FREE = {
    *("title", "source", "expect", "seeds", "first_seed", "models", "metrics", "gate", "search"),
    *("entry", "entry_recipe"),
    *("evaluation.inception", "evaluation.weights", "evaluation.perceptual"),  # of a machine
    "evaluation.seconds",
    *("resources", "recipe.execution", "recipe.compile"),  # how it is computed
}


@dataclass(frozen=True)
class Baseline:
    """Gated cells of one suite's runs, and what they were made by."""

    suite: str
    dataset: str
    data_sha256: str
    protocols: int  # evaluation.protocols.VERSION
    settings: Mapping[str, Any]  # the suite's, without FREE
    cells: Sequence[Cell]
    origin: Mapping[str, Sequence[Any]]  # ORIGIN -> all values that its runs have

    @property
    def seeds(self) -> list[int]:
        """The seeds of its cells; a speed has none of its own."""
        return sorted({seed for cell in self.cells if not cell.gated.over for seed in cell.by_seed})

    def of(self, seeds: Sequence[int]) -> list[Cell]:
        """Return the cells with these seeds alone."""
        return [replace(cell, by_seed={seed: cell.by_seed[seed] for seed in seeds}) for cell in self.cells]


# -------------------- as a file has it
class _Cell(msgspec.Struct):
    """A cell as a file has it; its seeds are pairs, since JSON's keys are texts."""

    gated: Gated
    model: Line
    title: Line
    protocol: Line
    identity: dict[str, str | int | None]
    by_seed: Annotated[list[tuple[Seed, Number | None]], Meta(min_length=1)]
    reasons: list[tuple[Seed, Line]]

    def __post_init__(self) -> None:
        if self.gated.metric not in COLUMNS:
            raise ValueError(f"unknown metric '{self.gated.metric}'")
        if {seed for seed, value in self.by_seed if value is None} != {seed for seed, _ in self.reasons}:
            raise ValueError(f"{self.gated.metric} of '{self.model}' has no number, or a reason too many")


class _Origin(msgspec.Struct):
    """What its runs were made by: ORIGIN, all values that they have."""

    commit: list[str]
    versions: list[dict[str, str]]
    device: list[str]
    command: list[str]


class _Content(msgspec.Struct):
    """A baseline as a file has it."""

    suite: Name
    dataset: Line
    data_sha256: Sha256
    protocols: Annotated[int, Meta(ge=1)]
    settings: dict[str, Any]
    origin: _Origin
    seeds: list[Seed]
    cells: Annotated[list[_Cell], Meta(min_length=1, max_length=1000)]

    def __post_init__(self) -> None:
        if self.seeds != sorted(
            {seed for cell in self.cells if not cell.gated.over for seed, _ in cell.by_seed}
        ):
            raise ValueError("other seeds are named than the cells have")


NAMED = ("suite", "dataset", "data_sha256", "protocols", "settings", "origin")  # as both have them


# -------------------- from runs
def collect(
    out: Path, suite: str, gated: Sequence[Gated], models: Sequence[str], seeds: range | None = None
) -> Baseline:
    """Return the gated cells of a suite's runs below `out`, of `seeds` or of all that the suite was to train.

    Raises BadInput if there are no runs, or runs of several kinds.
    """
    # Rows and provenance of all runs.
    try:
        frame = rows.read(out)
    except rows.Damaged as damage:
        raise BadInput(str(damage)) from None
    frame = frame[frame.suite == suite]
    if frame.empty:
        raise BadInput(f"{out} holds no finished runs of suite '{suite}'")

    runs = [rows.read_origin(out / "runs" / run_id) for run_id in frame.run_id.unique()]
    # Runs of one suite may still be of several settings or data.
    kinds = _distinct([[_settings(run["config"]), run["data_sha256"]] for run in runs])
    if len(kinds) > 1:
        different = ", ".join(different_settings(kinds[0][0], kinds[1][0])) or "data"
        raise BadInput(f"{out}: its runs differ in {different}: a gate needs runs of one kind")

    # the runs of a collected folder were asked for part by part
    parts = {(run["config"].get("first_seed", 0), run["config"]["seeds"]) for run in runs}
    trained = sorted({seed for first, count in parts for seed in range(first, first + count)})
    return Baseline(
        suite,
        runs[0]["dataset"],
        runs[0]["data_sha256"],
        runs[0].get("protocols", 1),
        _settings(runs[0]["config"]),
        cells.from_rows(frame, gated, models, seeds or trained),
        {name: _distinct([run[name] for run in runs]) for name in ORIGIN},
    )


def planned(
    suite: str, dataset: str, data_sha256: str, config: Mapping[str, Any], gated: Sequence[Gated]
) -> Baseline:
    """Return what runs of a suite would be, so that they can be refused before anything is trained."""
    seeds = dict.fromkeys(range(config["first_seed"], config["first_seed"] + config["seeds"]))
    empty = [
        Cell(measure, model, model, "", {}, {} if measure.over else seeds)
        for measure in gated
        for model in measure.models or config["models"]
    ]
    stored = json.loads(json.dumps(config))  # lists for tuples
    return Baseline(suite, dataset, data_sha256, protocols.VERSION, _settings(stored), empty, {})


def _settings(config: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in config.items() if key not in FREE}


def _distinct(values: Sequence[Any]) -> list[Any]:
    return list({json.dumps(value, sort_keys=True): value for value in values}.values())


def different_settings(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Return the dotted names of settings that differ; what only a newer version knows does not count."""
    paths = [list(accumulate(keys, "{}.{}".format)) for keys, _, _ in changed(before, now, common=True)]
    return [path[-1] for path in paths if not FREE.intersection(path)]


# -------------------- comparing
def check(baseline: Baseline, current: Baseline, path: Path) -> None:
    """Refuse by name what cannot be compared. Raises BadInput."""
    if problem := _incomparable(baseline, current) or next(_other_measures(baseline, current), ""):
        raise BadInput(f"baseline {path} {problem}: {RENEW}")

    # Fresh seeds, and enough of them.
    if same := sorted(set(baseline.seeds) & set(current.seeds)):
        remedy = "a seed says nothing new of itself; choose others with --first-seed"
        raise BadInput(
            f"baseline {path} was trained with the same seeds ({listed(list(map(str, same)))}): {remedy}"
        )

    if (n := len(current.seeds)) < gate.FEWEST:
        needed = f"the gate needs at least {gate.FEWEST} (--seeds 5), and never passes for lack of data"
        raise BadInput(f"{n} seed{'s' * (n > 1)}: {needed}")


def _incomparable(baseline: Baseline, current: Baseline) -> str:
    """Return what the whole baseline was made with otherwise than the current runs, or ""."""
    if baseline.suite != current.suite:
        return f"is of suite '{baseline.suite}', the runs are of '{current.suite}'"
    if baseline.protocols != current.protocols:
        old, new = baseline.protocols, current.protocols
        return f"holds numbers by version {old} of the protocols, the runs by version {new}"
    if (baseline.dataset, baseline.data_sha256) != (current.dataset, current.data_sha256):
        return f"was made on other data ('{baseline.dataset}', {baseline.data_sha256[:8]})"
    if different := different_settings(baseline.settings, current.settings):
        return f"was made with other settings ({', '.join(different)})"
    return ""


def _other_measures(baseline: Baseline, current: Baseline) -> Iterator[str]:
    """Yield the current cells that the baseline lacks, has by another measure, or has of too few seeds."""
    keys = {cell.key: cell for cell in baseline.cells}
    for cell in current.cells:
        name, old = f"{cell.name} of '{cell.model}'", keys.get(cell.key)
        if old is None:
            yield f"does not hold {name}"
            continue

        other = {
            k: cell.identity[k] for k in IDENTITY if cell.identity and old.identity.get(k) != cell.identity[k]
        }
        if other:
            values = ", ".join(f"{key} {old.identity.get(key)!r}, now {now!r}" for key, now in other.items())
            yield f"has {name} by another measure ({values})"
        if cell.protocol and cell.protocol != old.protocol:
            yield f"has {name} by the protocol '{old.protocol}', now '{cell.protocol}'"
        # a ratio of speeds is judged by its floor alone
        if not cell.gated.over and len(old.numbers) < FEWEST:
            yield f"has {len(old.numbers)} seeds with {name}, {FEWEST} are needed"


# -------------------- files
def write(path: Path, baseline: Baseline) -> None:
    """Store a baseline, whole or not at all. Raises BadInput for one that no gate could use."""
    for cell in baseline.cells:
        name = f"{cell.name} of '{cell.model}'"
        if not all(is_measured(value) for value in cell.numbers):
            raise BadInput(f"{name} has a value that is not a finite number: a gate cannot judge by it")
        if not cell.gated.over and len(cell.numbers) < FEWEST:
            lost = f" ({next(iter(cell.reasons.values()))})" if cell.reasons else ""
            raise BadInput(
                f"{name} has a number of {len(cell.numbers)} seeds{lost}: a baseline needs {FEWEST}"
            )

    # JSON has no integers as keys, so seeds are pairs.
    content: dict[str, Any] = {name: getattr(baseline, name) for name in NAMED}
    content["seeds"] = baseline.seeds
    content["cells"] = [
        asdict(cell) | {"by_seed": list(cell.by_seed.items()), "reasons": list(cell.reasons.items())}
        for cell in baseline.cells
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    sealed.write_json(path, "baseline", VERSION, content, _body)


def _body(content: Mapping[str, Any]) -> str:
    """Return JSON with a line for each entry and each cell, so that a change of it can be read."""
    lines = ",\n ".join(json.dumps(cell) for cell in content["cells"])
    rest = ",\n".join(f'"{key}": {json.dumps(value)}' for key, value in content.items() if key != "cells")
    return f'{{{rest},\n"cells": [\n {lines}]}}'


def read(path: Path) -> Baseline:
    """Return a stored baseline. Raises BadInput if it is not there, or not what was written."""
    try:
        body = sealed.read_json(path, "baseline", VERSION, _Content, _body, links=True)
    except OSError as error:
        remedy = "make one with --update-baseline, or name one by --baseline"
        raise BadInput(f"baseline {path} cannot be read ({error.strerror}): {remedy}") from None
    except files.Damaged as damage:
        raise BadInput(f"baseline {damage}, or was edited by hand: {REMEDY}") from None

    pairs = [
        cell | {"by_seed": dict(cell["by_seed"]), "reasons": dict(cell["reasons"])} for cell in body["cells"]
    ]
    return Baseline(
        **{name: body[name] for name in NAMED}, cells=[msgspec.convert(cell, Cell) for cell in pairs]
    )


def changes(old: Baseline | None, new: Baseline) -> pd.DataFrame:
    """Return what a new baseline changes, a line for each cell: mean and deviation before and now."""
    # Cells of the new one, then cells that are no longer gated.
    before = {cell.key: cell for cell in old.cells} if old else {}
    now = {cell.key: cell for cell in new.cells}
    lines = [
        {
            "model": cell.title,
            "measure": cell.name,
            "before": _shown(before[key]) if key in before else "",
            "now": _shown(now[key]) if key in now else "not gated",
        }
        for key, cell in (now | {key: cell for key, cell in before.items() if key not in now}).items()
    ]
    return pd.DataFrame(lines).set_index("model")


def _shown(cell: Cell) -> str:
    """Return mean ± deviation over seeds, and their number."""
    numbers, digits = cell.numbers, cell.digits
    if len(numbers) < 2:
        return f"{numbers[0]:.{digits}f}" if len(numbers) else ""
    return f"{np.mean(numbers):.{digits}f} ± {np.std(numbers, ddof=1):.{digits}f} (n = {len(numbers)})"
