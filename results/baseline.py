"""Baselines: the values that a gate compares fresh seeds with, in one file each, with checksum and
provenance.

A file holds a value for every cell and seed, so that any test can be computed from it again, and what the
numbers mean: suite and settings, data, units, protocols, weights, versions. Whatever differs is refused by
name: a gate that compares different things passes, or fails, by chance.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import msgspec
import pandas as pd
from msgspec import Meta

from alibench.evaluation import files, protocols, sealed
from alibench.evaluation.errors import BadInput, check_name
from alibench.evaluation.files import Line, Name, Seed, Sha256
from alibench.evaluation.metrics import COLUMNS
from alibench.results import gate, rows
from alibench.results.gate import IDENTITY, Cell, Gated
from alibench.results.stored import Number, is_measured

VERSION = 1
FEWEST = 20  # seeds
REMEDY = "restore it, or make a new one with --update-baseline"
# of a new baseline, unless another number is asked for: 5 seeds against it see a shift of three deviations
SEEDS = 60
ORIGIN = ("commit", "versions", "device", "command")  # of its runs
# what of a suite does not change its numbers, or is compared cell by cell
FREE = (
    *(
        "title",
        "source",
        "expect",
        "seeds",
        "first_seed",
        "models",
        "metrics",
        "gate",
        "search",
        "entry",
        "entry_recipe",
    ),
    *(
        "evaluation.inception",
        "evaluation.perceptual",
        "evaluation.seconds",
    ),  # paths of a machine, and the time for timings
    *("resources", "recipe.execution", "recipe.compile"),  # how it is computed
)


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
        """The seeds that some cell was asked of; a speed has none of its own."""
        return sorted({seed for cell in self.cells if not cell.gated.over for seed in cell.by_seed})

    def of(self, seeds: Sequence[int]) -> list[Cell]:
        """Return the cells with these seeds alone."""
        return [replace(cell, by_seed={seed: cell.by_seed[seed] for seed in seeds}) for cell in self.cells]


class _Cell(msgspec.Struct):
    """A cell as a file has it; its seeds are pairs, since JSON's keys are texts."""

    gated: Gated
    model: Line
    title: Line
    protocol: Line
    identity: dict[str, str | int | None]
    by_seed: Annotated[list[tuple[Seed, Number | None]], Meta(min_length=1)]
    reasons: list[tuple[Seed, Line]]


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


def collect(
    out: Path, suite: str, gated: Sequence[Gated], models: Sequence[str], seeds: range | None = None
) -> Baseline:
    """Return the gated cells of a suite's runs below `out`; of all seeds that the suite was to train, or of
    `seeds`.

    Raises BadInput if there are no runs, or runs of several kinds.
    """
    try:
        frame = rows.read(out)
    except rows.Damaged as damage:
        raise BadInput(str(damage)) from None
    frame = frame[frame.suite == suite]
    if frame.empty:
        raise BadInput(f"{out} holds no finished runs of suite '{suite}'")
    runs = [rows.read_origin(out / "runs" / run_id) for run_id in frame.run_id.unique()]
    kinds = {json.dumps([_settings(run["config"]), run["data_sha256"]], sort_keys=True): run for run in runs}
    if len(kinds) > 1:
        first, second = list(kinds.values())[:2]
        different = ", ".join(_differences(first["config"], second["config"])) or "data"
        raise BadInput(f"{out}: its runs differ in {different}: a gate needs runs of one kind")
    config = runs[0]["config"]
    # runs that machines trained some each, and that were collected, ask for other seeds each
    asked = {(run["config"].get("first_seed", 0), run["config"]["seeds"]) for run in runs}
    own = sorted({seed for first, count in asked for seed in range(first, first + count)})
    return Baseline(
        suite,
        runs[0]["dataset"],
        runs[0]["data_sha256"],
        runs[0].get("protocols", 1),
        _settings(config),
        gate.cells(frame, gated, models, seeds or own),
        {name: _distinct([run[name] for run in runs]) for name in ORIGIN},
    )


def planned(
    suite: str, dataset: str, data_sha256: str, config: Mapping[str, Any], gated: Sequence[Gated]
) -> Baseline:
    """Return what runs of a suite would be, so that they can be refused before anything is trained."""
    seeds = dict.fromkeys(range(config["first_seed"], config["first_seed"] + config["seeds"]))
    cells = [
        Cell(g, model, model, "", {}, {} if g.over else seeds)
        for g in gated
        for model in g.models or config["models"]
    ]
    plain = json.loads(json.dumps(config))  # lists for tuples, as it is stored
    return Baseline(suite, dataset, data_sha256, protocols.VERSION, _settings(plain), cells, {})


def _settings(config: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in config.items() if key not in FREE}


def _distinct(values: Sequence[Any]) -> list[Any]:
    return list({json.dumps(value, sort_keys=True): value for value in values}.values())


def _differences(a: Mapping[str, Any], b: Mapping[str, Any], path: str = "") -> list[str]:
    """Return the dotted names of what both tables have and differs; what only a newer version knows does not
    count.
    """
    found = []
    for key in [key for key in a if key in b and f"{path}{key}" not in FREE]:
        if isinstance(a[key], Mapping) and isinstance(b[key], Mapping):
            found += _differences(a[key], b[key], f"{path}{key}.")
        elif a[key] != b[key]:
            found.append(f"{path}{key}")
    return found


def check(baseline: Baseline, current: Baseline, path: Path) -> None:
    """Refuse by name what cannot be compared. Raises BadInput."""

    def refuse(
        what: str,
        remedy: str = "make a new baseline with --update-baseline, or name the right one by --baseline",
    ) -> None:
        raise BadInput(f"baseline {path} {what}: {remedy}")

    if baseline.suite != current.suite:
        refuse(f"is of suite '{baseline.suite}', the runs are of '{current.suite}'")
    if baseline.protocols != current.protocols:
        refuse(
            f"holds numbers by version {baseline.protocols} of the protocols, the runs by version "
            f"{current.protocols}"
        )
    if (baseline.dataset, baseline.data_sha256) != (current.dataset, current.data_sha256):
        refuse(f"was made on other data ('{baseline.dataset}', {baseline.data_sha256[:8]})")
    if different := _differences(baseline.settings, current.settings):
        refuse(f"was made with other settings ({', '.join(different)})")
    keys = {cell.key: cell for cell in baseline.cells}
    for cell in current.cells:
        old = keys.get(cell.key)
        if old is None:
            refuse(f"does not hold {cell.name} of '{cell.model}'")
        elif cell.identity and (
            changed := [k for k in IDENTITY if old.identity.get(k) != cell.identity.get(k)]
        ):
            shown = ", ".join(f"{k} {old.identity.get(k)!r}, now {cell.identity[k]!r}" for k in changed)
            refuse(f"has {cell.name} of '{cell.model}' by another measure ({shown})")
        elif cell.protocol and cell.protocol != old.protocol:
            refuse(
                f"has {cell.name} of '{cell.model}' by the protocol '{old.protocol}', now '{cell.protocol}'"
            )
        elif not cell.gated.over and len(old.numbers) < FEWEST:
            refuse(f"has {len(old.numbers)} seeds with {cell.name} of '{cell.model}', {FEWEST} are needed")
    if same := sorted(set(baseline.seeds) & set(current.seeds)):
        refuse(
            f"was trained with the same seeds ({', '.join(map(str, same[:5]))}{', …' * (len(same) > 5)})",
            "a seed says nothing new of itself; choose others with --first-seed",
        )
    if len(current.seeds) < gate.FEWEST:
        raise BadInput(
            f"{len(current.seeds)} seed{'s' * (len(current.seeds) > 1)}: the gate needs at least "
            f"{gate.FEWEST} (--seeds 5), "
            "and never passes for lack of data"
        )


def write(path: Path, baseline: Baseline) -> None:
    """Store a baseline, whole or not at all. Raises BadInput for one that no gate could use."""
    for cell in baseline.cells:
        if not all(is_measured(value) for value in cell.numbers):
            raise BadInput(
                f"{cell.name} of '{cell.model}' has a value that is not a finite number: a gate cannot "
                "judge by it"
            )
        if not cell.gated.over and len(cell.numbers) < FEWEST:
            lost = f" ({next(iter(cell.reasons.values()))})" if cell.reasons else ""
            raise BadInput(
                f"{cell.name} of '{cell.model}' has a number of {len(cell.numbers)} seeds{lost}: a baseline "
                f"needs {FEWEST}"
            )
    content = {
        **{
            name: getattr(baseline, name)
            for name in ("suite", "dataset", "data_sha256", "protocols", "settings", "origin")
        },
        "seeds": baseline.seeds,
        "cells": [
            {**asdict(cell), "by_seed": list(cell.by_seed.items()), "reasons": list(cell.reasons.items())}
            for cell in baseline.cells
        ],
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    sealed.write_json(path, "baseline", VERSION, content, _body)


def _body(content: Mapping[str, Any]) -> str:
    """Return JSON with a line for each entry and each cell, so that a change of it can be read."""
    cells = ",\n ".join(json.dumps(cell) for cell in content["cells"])
    rest = ",\n".join(f'"{key}": {json.dumps(value)}' for key, value in content.items() if key != "cells")
    return f'{{{rest},\n"cells": [\n {cells}]}}'


def read(path: Path) -> Baseline:
    """Return a stored baseline. Raises BadInput if it is not there, or not what was written."""
    try:
        body = sealed.read_json(path, "baseline", VERSION, _Content, _body, links=True)
    except OSError as error:
        raise BadInput(
            f"baseline {path} cannot be read ({error.strerror}): make one with --update-baseline, or name "
            "one by --baseline"
        ) from None
    except files.Damaged as damage:
        raise BadInput(f"baseline {damage}, or was edited by hand: {REMEDY}") from None
    named = ("suite", "dataset", "data_sha256", "protocols", "settings", "origin")
    pairs = [
        {**cell, "by_seed": dict(cell["by_seed"]), "reasons": dict(cell["reasons"])} for cell in body["cells"]
    ]
    found = Baseline(
        **{name: body[name] for name in named}, cells=[msgspec.convert(cell, Cell) for cell in pairs]
    )
    for cell in found.cells:
        check_name(cell.gated.metric, COLUMNS, f"baseline {path}: unknown metric")
        lost = {seed for seed, value in cell.by_seed.items() if value is None}
        if lost != set(cell.reasons):
            raise BadInput(
                f"baseline {path}: {cell.name} of '{cell.model}' has no number, or a reason too many: "
                f"{REMEDY}"
            )
    if found.seeds != body["seeds"]:
        raise BadInput(f"baseline {path} names other seeds than its cells have: {REMEDY}")
    return found


def changes(old: Baseline | None, new: Baseline) -> pd.DataFrame:
    """Return what a new baseline changes, a line for each cell: mean and deviation before and now."""
    before = {cell.key: cell for cell in old.cells} if old else {}
    lines = []
    for cell in new.cells:
        was = before.get(cell.key)
        lines.append({
            "model": cell.title,
            "measure": cell.name,
            "before": shown(was.numbers, cell.digits) if was else "",
            "now": shown(cell.numbers, cell.digits),
        })  # fmt: skip
    gone = [cell for key, cell in before.items() if key not in {cell.key for cell in new.cells}]
    lines += [
        {"model": c.title, "measure": c.name, "before": shown(c.numbers, c.digits), "now": "not gated"}
        for c in gone
    ]
    return pd.DataFrame(lines).set_index("model")


def shown(numbers: Any, digits: int) -> str:
    """Return mean ± deviation over seeds, and their number."""
    if len(numbers) < 2:
        return f"{numbers[0]:.{digits}f}" if len(numbers) else ""
    return f"{numbers.mean():.{digits}f} ± {numbers.std(ddof=1):.{digits}f} (n = {len(numbers)})"
