"""`alibench collect`: the finished runs of many machines in one folder, for tables, gate and report.

All is checked before anything is written. A run is copied beside its place and renamed into it, so a
collection that was killed has whole runs alone, and the same command goes on. Runs are looked at one by one:
memory holds their names.
"""

import argparse
import json
import os
import re
import shutil
import stat
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from functools import reduce
from itertools import combinations, pairwise
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import track

from alibench.benchmarks.running import jobs, outputs
from alibench.evaluation import files
from alibench.evaluation.errors import BadInput
from alibench.evaluation.messages import say
from alibench.results import differences, rows, stored

SHARE = ("models", "seeds", "first_seed")  # of a suite: which part of the grid a machine had
TABLES = (
    "versions",
    "code",
    "data",
    "plugins",
    "weights",
)  # of a plan: what two of them have both must be the same
SHOWN = 5  # names in a message
MOST = 1_000_000  # runs of a plan
NOT_COPIED = shutil.ignore_patterns(jobs.LOCK, jobs.CHECKPOINTS, ".*.part")

Plan = dict[str, Any]


def add_arguments(sub: argparse.ArgumentParser) -> None:
    """Declare the options of the command."""
    sub.add_argument(
        "folders", nargs="+", type=outputs.place, metavar="DIR", help="what --out named, on each machine"
    )
    text = "folder for the runs of all, fresh or of an earlier collect; default: DIR itself, a fresh one for several"
    sub.add_argument("--out", type=outputs.place, metavar="OUT", help=text)
    text = "collect all the same where versions, code, data or settings differ"
    sub.add_argument("--force", action="store_true", help=text)


@dataclass(frozen=True)
class Source:
    """A folder that holds runs, and what it was begun with."""

    path: Path
    plan: Plan


@dataclass
class Found:
    """What some folders hold. A run that several have is taken from the first."""

    finished: dict[str, Path] = field(default_factory=dict)  # run -> its folder
    there: set[str] = field(default_factory=set)  # those that lie where all are to lie
    references: dict[str, "References"] = field(default_factory=dict)
    duplicates: int = 0
    timed: int = 0  # of them hold nothing but timings
    unfinished: list[Path] = field(default_factory=list)
    damaged: list[str] = field(default_factory=list)
    bytes: int = 0  # of finished runs


@dataclass
class References:
    """A suite's reference rows: some go with training seeds, so every machine may have others."""

    origin: dict[str, Any]
    rows: dict[tuple[Any, ...], dict[str, Any]]  # by rows.KEY
    first: int  # how many of them the first folder has


@dataclass(frozen=True)
class Collected:
    """Where the runs lie, and what is to be said of them."""

    out: Path
    facts: dict[str, Any]
    damaged: list[str]  # what was said of damage
    missing: str  # one line on what its plan asks for and it does not hold


# -------------------- what machines were to do


def source(path: Path) -> Source:
    """Return a folder with its plan, which names its runs. Raises BadInput."""
    stored.run_folders(path)
    if not os.path.lexists(path / outputs.PLAN):
        raise BadInput(
            f"{path} has no {outputs.PLAN}, so nobody knows what its runs were made with: leave it out; "
            "'alibench table' makes tables of it alone"
        )
    return Source(path, _with_runs(_plan(path)))


def _plan(path: Path) -> Plan:
    try:
        return outputs.read_plan(path)
    except (files.Damaged, OSError) as problem:
        raise BadInput(f"{problem}: leave {path} out, or go on in it with --resume --force") from None


def _with_runs(plan: Plan) -> Plan:
    """Return a plan that names its runs: that of an evaluation names weights, that of a gate its suite alone.

    Raises BadInput for more runs than could be.
    """
    if plan.get("runs") is not None or plan.get("weights"):
        return {**plan, "runs": list(plan.get("runs") or plan.get("weights") or ())}
    suites = plan["suites"].items()
    if (count := sum(table["seeds"] * len(table["models"]) for _, table in suites)) > MOST:
        raise BadInput(
            f"a plan asks for {count:,} runs, more than {MOST:,}: it is not one that alibench wrote"
        )
    grid = [
        f"{suite}-{model}-seed{seed}"
        for suite, table in suites
        for seed in _seeds(table)
        for model in table["models"]
    ]
    return {**plan, "runs": grid}


def _seeds(suite: Mapping[str, Any]) -> range:
    first = suite.get("first_seed", 0)  # which earlier versions did not have
    return range(first, first + suite["seeds"])


def _needed(suite: Mapping[str, Any]) -> set[str]:
    """Return the entries that a suite's runs depend on: its models, and those whose cost they are trained
    for.
    """
    others = {suite.get("model", {}).get(name, {}).get("compute") for name in suite["models"]}
    return {*suite["models"], *filter(None, others)}


def _compared(plan: Plan, other: Plan) -> Plan:
    """Return of a plan what must be the same in another."""
    kept: Plan = {
        kind: {name: value for name, value in plan[kind].items() if name in other[kind]}
        for kind in TABLES
        if kind in plan and kind in other
    }
    kept["suites"] = {}
    for name, suite in plan["suites"].items():
        if name in other["suites"]:
            both = _needed(suite) & _needed(other["suites"][name])
            entries = {entry: table for entry, table in suite.get("model", {}).items() if entry in both}
            rest = {key: value for key, value in suite.items() if key not in (*SHARE, "model")}
            kept["suites"][name] = {**rest, "model": entries}
    return {**kept, "device": plan["device"]}


def check_alike(sources: Sequence[Source]) -> None:
    """Refuse by name what was not made alike. Raises BadInput."""
    for one, other in combinations(sources, 2):
        a, b = _compared(one.plan, other.plan), _compared(other.plan, one.plan)
        if different := differences.differences(a, b, "there"):
            raise BadInput(
                f"{one.path} and {other.path} were not made alike: {different}; leave one of them out, or "
                "collect all the "
                "same with --force"
            )


def merged(one: Plan, other: Plan) -> Plan:
    """Return the plan that both are a part of; where they differ, it has what the first has."""
    plan = {**other, **one}
    for kind in TABLES:
        if kind in plan:
            plan[kind] = {**other.get(kind, {}), **one.get(kind, {})}
    plan["suites"] = dict(one["suites"])
    for name, suite in other["suites"].items():
        plan["suites"][name] = _merged(plan["suites"].get(name, suite), suite)
    plan["runs"] = list(dict.fromkeys([*one["runs"], *other["runs"]]))
    return plan


def _merged(one: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, Any]:
    theirs = other.get("model", {})
    entries = {**theirs, **one.get("model", {})}
    for name in _needed(other) - _needed(one):
        entries.pop(name, None)
        if name in theirs:
            entries[name] = theirs[name]
    first = min(_seeds(one).start, _seeds(other).start)
    return {
        **one,
        "models": list(dict.fromkeys([*one["models"], *other["models"]])),
        "seeds": max(_seeds(one).stop, _seeds(other).stop) - first,
        "first_seed": first,
        "model": entries,
    }


def gaps(plan: Plan) -> list[str]:
    """Return the seeds between those of a plan's runs, suite by suite, that none of the runs has."""
    found = []
    for name in plan["suites"]:
        ends = (re.fullmatch(rf"{re.escape(name)}-.+-seed(\d+)", run) for run in plan["runs"])
        seeds = sorted({int(end[1]) for end in ends if end})
        between = [f"{a + 1}" + f" to {b - 1}" * (b - a > 2) for a, b in pairwise(seeds) if b - a > 1]
        if between:
            found.append(f"seeds {_named(between)} of suite '{name}'")
    return found


# -------------------- what they have done


def survey(sources: Sequence[Source], out: Path) -> Found:
    """Read all runs and say which count; `out` is where they are to lie. Raises BadInput for one that has two
    results.
    """
    found = Found()
    for of in sources:
        finished = set(stored.finished(of.path))
        for folder in stored.run_folders(of.path):
            if folder not in finished:
                found.unfinished.append(folder)
                continue
            try:
                origin = rows.read_origin(folder)
                own = rows.read_run(folder, origin["suite"])
                _check_plain(folder)
            except (rows.Damaged, OSError) as damage:
                found.damaged.append(str(damage))
                continue
            if origin["suite"] not in of.plan["suites"]:
                raise BadInput(
                    f"{folder} is of suite '{origin['suite']}', which {of.path} was not begun with: collect "
                    "takes what run, "
                    "evaluate and regression made"
                )
            _take(found, folder, origin, own, out)
    found.unfinished = [folder for folder in found.unfinished if folder.name not in found.finished]
    return found


def _check_plain(folder: Path) -> None:
    """Refuse to copy what is neither a file nor a folder: a link's target is somebody else's. Raises Damaged,
    OSError.
    """
    for place, folders, names in os.walk(folder):
        for name in (*folders, *names):
            if not stat.S_ISREG(mode := os.lstat(os.path.join(place, name)).st_mode) and not stat.S_ISDIR(
                mode
            ):
                raise rows.Damaged(f"{os.path.join(place, name)} is neither a file nor a folder: remove it")


def _take(found: Found, folder: Path, origin: dict[str, Any], own: list[dict[str, Any]], out: Path) -> None:
    """Count a finished run, once it is clear that it is another, or the same. Raises BadInput."""
    run_id, is_reference = folder.name, origin["seed"] is None
    by_key = {rows.key(row): row for row in own}
    if run_id not in found.finished:
        found.finished[run_id] = folder
        found.bytes += sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
        if folder.parent.parent == out:
            found.there.add(run_id)
        if is_reference:
            found.references[run_id] = References(origin, by_key, len(by_key))
        return
    first = found.finished[run_id]
    known = (
        found.references[run_id].rows
        if is_reference
        else {rows.key(row): row for row in rows.read_run(first)}
    )
    if different := _different(known, by_key, whole=not is_reference):
        raise BadInput(
            f"run '{run_id}' has other numbers in {folder.parent.parent} than in {first.parent.parent}: "
            f"{different}; "
            "leave one of the folders out"
        )
    if is_reference:
        if new := {key: row for key, row in by_key.items() if key not in known}:
            known |= new
            told = {name: origin[name] for name in rows.PROVENANCE if name != "config"}
            found.references[run_id].origin.setdefault("merged", []).append(
                told
            )  # where the others come from
    elif run_id not in found.there:
        found.duplicates += 1
        found.timed += all(row["kind"] == "timing" for row in own)


def _different(
    known: Mapping[tuple[Any, ...], Mapping[str, Any]],
    other: Mapping[tuple[Any, ...], Mapping[str, Any]],
    whole: bool,
) -> str:
    """Say which row differs first, timings aside; `whole`: one that only one has is one that differs."""
    for key in dict.fromkeys([*known, *other]):
        a, b = known.get(key), other.get(key)
        row = a or b or {}
        if row["kind"] == "timing" or (not whole and (a is None or b is None)):
            continue
        told = f"{row['metric']} of '{row['model']}'" + "".join(
            f", {name} {row[name]}" for name in ("protocol", "labels", "draw") if row[name] not in ("", None)
        )
        if a is None or b is None:
            return f"{told} is in one alone"
        for column in rows.COLUMNS:
            if json.dumps(a[column]) != json.dumps(b[column]):  # by which NaN is the same as NaN
                return f"{told}, {column} {b[column]!r} and {a[column]!r}"
    return ""


# ------------------------------------------------------------------------------------------------ the command


@contextmanager
def collected(given: argparse.Namespace, console: Console) -> Iterator[Collected]:
    """Copy the finished runs of all folders into one, or of one folder none, and keep others out of it
    meanwhile.

    Raises BadInput, before anything is written where that can be known.
    """
    in_place = len(given.folders) == 1 and given.out is None
    out = (
        given.folders[0]
        if in_place
        else given.out or outputs.RUNS / f"collected-{datetime.now():%Y%m%d-%H%M%S}"
    )
    _check_named(given.folders, None if in_place else out)
    sources = [source(path) for path in given.folders]
    begun = None if in_place else _begun(out)
    sources = [*([Source(out, begun)] if begun and (out / "runs").is_dir() else []), *sources]
    if not given.force:
        check_alike(sources)
    found = survey(sources, out)
    if not found.finished:
        left = found.damaged[0] if found.damaged else f"{len(found.unfinished)} are unfinished"
        raise BadInput(
            f"{_named(list(map(str, given.folders)))}: there is no finished run ({left}): finish or repeat "
            "them"
        )
    plan = reduce(merged, (each.plan for each in sources))
    if not in_place:
        outputs.check_space(out, found.bytes)
        outputs.check_place(out)
    with outputs.alone(out):
        if not in_place:
            if _begun(out) != begun:  # another was quicker
                raise BadInput(f"--out {out} changed meanwhile: try again")
            files.remove_parts(out)
            _write(out, plan, begun, found, given, console)
        _tell(found, plan)
        new, there = len(found.finished) - len(found.there), len(found.there)
        console.print(
            f"{new} runs collected, {there} were there already, {found.duplicates} found twice",
            highlight=False,
        )
        missing = [run for run in plan["runs"] if run not in found.finished]
        counts = {"collected": new, "there_already": there, "duplicates": found.duplicates}
        facts = {"out": out, **counts, "missing": missing}
        yield Collected(out, facts, found.damaged, _how(missing, len(plan["runs"]), sources))


def _check_named(folders: Sequence[Path], out: Path | None) -> None:
    known: dict[Path, Path] = {}
    for path in folders:
        if path.resolve() in known:
            raise BadInput(f"the same folder is named twice: {path}")
        known[path.resolve()] = path
    if out is not None and out.resolve() in known:
        raise BadInput(f"--out {out} is one of the folders to collect: name a new one; nothing was touched")


def _begun(out: Path) -> Plan | None:
    """Return the plan of an earlier collection, or none if nothing is there. Raises BadInput for anything
    else.
    """
    if not outputs.holds(out):
        return None
    if not os.path.lexists(out / outputs.PLAN):
        raise BadInput(
            f"--out {out} already holds files, of no collection: name a new folder; nothing was touched"
        )
    plan = _plan(out)
    if not outputs.is_collected(plan):
        raise BadInput(
            f"--out {out} was trained in: name a new folder, and {out} beside the others; nothing was touched"
        )
    return plan


def _write(
    out: Path, plan: Plan, begun: Plan | None, found: Found, given: argparse.Namespace, console: Console
) -> None:
    """Store the plan, then the runs that are not there, then reference rows that came from several. Raises
    BadInput.
    """
    try:
        if begun is None or {**plan, "command": begun["command"]} != begun:
            words = ["alibench", outputs.COLLECT, *map(str, given.folders)]
            outputs.write_plan(out, words, {key: value for key, value in plan.items() if key != "command"})
        files.subfolder(out, "runs")
        new = [folder for run_id, folder in found.finished.items() if run_id not in found.there]
        for folder in track(new, "copying", console=console, transient=True, disable=not console.is_terminal):
            _copy(folder, out)
        for run_id, own in found.references.items():
            if len(own.rows) > own.first:
                rows.keep(out / "runs" / run_id, own.origin, list(own.rows.values()))
        files.sync_folder(out / "runs")
    except OSError as error:
        reason = error.strerror or str(error)[:200]
        raise BadInput(
            f"--out {out} cannot be filled ({reason}): make room; the same command goes on"
        ) from None


def _copy(folder: Path, out: Path) -> None:
    """Copy a run so that it is there whole or not at all. Raises OSError."""
    part, to = (
        files.part_of(out / folder.name),
        out / "runs" / folder.name,
    )  # not in runs/, where it would be taken for one
    try:
        shutil.copytree(folder, part, ignore=NOT_COPIED, copy_function=_copy_file)
        if to.exists():  # it was damaged, or not finished
            shutil.rmtree(to)
        part.rename(to)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _copy_file(source: str, to: str) -> None:
    """Copy a file, with its times, and bring it to the disk. Raises OSError."""
    with open(source, "rb") as read, open(to, "wb") as written:
        shutil.copyfileobj(read, written)
        written.flush()
        os.fsync(written.fileno())
    shutil.copystat(source, to)


def _tell(found: Found, plan: Plan) -> None:
    """Say on stderr what does not count, and what could be taken for more than it is."""
    told = [*found.damaged]
    if found.unfinished:
        names = _named(list(map(str, found.unfinished)))
        told.append(f"{len(found.unfinished)} runs are not finished, and left out: {names}")
    if found.timed:
        told.append(
            f"speed that several folders have ({found.timed} times) is the first's: it depends on the machine"
        )
    told += [f"{gap} lie between those of the runs, and nobody was to train them" for gap in gaps(plan)]
    for line in told:
        say(line)


def _named(names: Sequence[str]) -> str:
    return ", ".join(names[:SHOWN]) + f" and {len(names) - SHOWN} more" * (len(names) > SHOWN)


def _how(missing: Sequence[str], of: int, sources: Sequence[Source]) -> str:
    """Say which runs are missing and how they are trained; nothing if none is."""
    if not missing:
        return ""
    wanted, commands = set(missing), list[str]()
    for each in sources:
        if wanted & set(each.plan["runs"]) and not outputs.is_collected(each.plan):
            commands.append(outputs.Output(each.path, tuple(each.plan["command"])).resume)
            wanted -= set(each.plan["runs"])
    how = (
        f"train them and collect again: {'; '.join(commands)}"
        if commands
        else "train them where they were begun"
    )
    return f"{len(missing)} of {of} runs are missing ({_named(missing)}); {how}"
