"""`alibench collect`: the finished runs of several machines in one folder, for tables, gate and report.

All folders are checked before anything is written. A run is copied next to its place and renamed into it, so
a killed collection holds whole runs only, and the same command continues it. Runs are read one by one: memory
holds their names.
"""

import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import track

from alibench.benchmarks.running import grids, jobs, outputs
from alibench.benchmarks.running.grids import Grid
from alibench.evaluation import files
from alibench.evaluation.errors import BadInput
from alibench.evaluation.messages import listed, say
from alibench.results import differences, rows, stored

NOT_COPIED = shutil.ignore_patterns(jobs.LOCK, jobs.CHECKPOINTS, ".*.part")

Rows = dict[tuple[Any, ...], dict[str, Any]]  # by rows.key


@dataclass
class Survey:
    """The runs that several folders hold."""

    finished: dict[str, list[Path]] = field(default_factory=dict)  # run -> its folders; the first one counts
    unfinished: list[Path] = field(default_factory=list)
    damaged: list[str] = field(default_factory=list)  # messages
    bytes: int = 0  # of the finished runs


@dataclass(frozen=True)
class Collected:
    """Where the runs lie, and what the command has to report of them."""

    out: Path
    facts: dict[str, Any]
    damaged: list[str]  # messages that were printed
    # A line on the runs that are planned and not finished, and how to train them.
    missing: str


# -------------------- what they have done


def survey(plans: Mapping[Path, Grid]) -> Survey:
    """Read all runs of some folders.

    Raises BadInput for a run of a suite that its folder's plan lacks, and for one with two different results.
    """
    seen = Survey()
    for out, plan in plans.items():
        finished = set(stored.finished(out))
        for folder in stored.run_folders(out):
            if folder not in finished:
                seen.unfinished.append(folder)
                continue
            try:
                suite = rows.read_origin(folder)["suite"]
                rows.read_run(folder, suite)
                size = _size(folder)
            except (rows.Damaged, OSError) as damage:
                seen.damaged.append(str(damage))
                continue

            if suite not in plan["suites"]:
                raise BadInput(f"{folder} is of suite '{suite}', which {out} was not begun with")
            seen.bytes += size if folder.name not in seen.finished else 0
            seen.finished.setdefault(folder.name, []).append(folder)

    for folders in seen.finished.values():
        if len(folders) > 1:
            _rows(folders)  # which raises if numbers differ
    # A run that another folder has finished is not missing.
    seen.unfinished = [folder for folder in seen.unfinished if folder.name not in seen.finished]
    return seen


def _size(folder: Path) -> int:
    """Return the bytes of a run's files. Raises OSError, and Damaged for what is neither a file nor a folder.

    A link's target is somebody else's, and is not copied.
    """
    paths = list(folder.rglob("*"))
    for path in paths:
        if path.is_symlink() or not (path.is_file() or path.is_dir()):
            raise rows.Damaged(f"{path} is neither a file nor a folder: remove it")
    return sum(path.stat().st_size for path in paths if path.is_file())


def _is_reference(run_id: str) -> bool:
    return run_id.endswith("-references")


def _rows(folders: Sequence[Path]) -> tuple[Rows, list[Path]]:
    """Return the rows of one run that lies in several folders, and the folders that add rows to the first's.

    Some reference rows go with the training seeds, so each machine may have others; all other rows must be in
    every folder. Raises BadInput for different numbers, timings aside.
    """
    (first, *others), adding = folders, list[Path]()
    known = {rows.key(row): row for row in rows.read_run(first)}

    for folder in others:
        more = {rows.key(row): row for row in rows.read_run(folder)}
        compared = known
        if _is_reference(first.name):
            compared = {key: known.get(key, row) for key, row in more.items()}
        if different := differences.differences(_by_name(compared), _by_name(more), "there"):
            here, there = (run.parent.parent for run in (first, folder))
            problem = f"run '{first.name}' has other numbers in {there} than in {here}: {different}"
            raise BadInput(f"{problem}; leave one of the folders out")
        if more.keys() - known.keys():
            known = {**known, **{key: row for key, row in more.items() if key not in known}}
            adding.append(folder)
    return known, adding


def _by_name(table: Rows) -> dict[str, Any]:
    """Return rows without timings as a nested table, whose keys are texts."""
    quality = {key: row for key, row in table.items() if row["kind"] != "timing"}
    return {"rows": {", ".join(map(str, key[1:])): row for key, row in quality.items()}}


# -------------------- the command


@contextmanager
def collected(
    folders: Sequence[Path], out: Path | None, force: bool, console: Console
) -> Iterator[Collected]:
    """Copy the finished runs of all folders into `out`, and keep other writers out of it meanwhile.

    One folder without `out` stays where it is; several go to a fresh folder then. Raises BadInput, before
    anything is written where that can be known.
    """
    in_place = len(folders) == 1 and out is None
    to = folders[0] if in_place else out or outputs.unnamed("collected")
    places = [path.resolve() for path in folders]
    if twice := [path for path, place in zip(folders, places, strict=True) if places.count(place) > 1]:
        raise BadInput(f"the same folder is named twice: {twice[0]}")
    if not in_place and to.resolve() in places:
        raise BadInput(f"--out {to} is one of the folders to collect: name a new one; nothing was touched")

    # An earlier collection comes first, so that its runs stay as they are.
    plans = {path: grids.read(path) for path in folders}
    begun = None if in_place else _begun(to)
    if begun and (to / "runs").is_dir():
        plans = {to: begun, **plans}
    plan, seen = grids.merge(plans, force), survey(plans)
    if not seen.finished:
        why = seen.damaged[0] if seen.damaged else f"{len(seen.unfinished)} are unfinished"
        names = listed(list(map(str, folders)))
        raise BadInput(f"{names}: no run is finished ({why}): finish or repeat them")

    if in_place:
        with outputs.alone(to):
            yield _report(to, plans, plan, seen, console)
        return
    # A file may claim more than there is: it would be copied until the disk is full.
    outputs.check_space(to, seen.bytes)
    with outputs.alone(to):
        # All was checked without the lock.
        if _begun(to) != begun:
            raise BadInput(f"--out {to} was changed by another process: try again")
        command = begun["command"] if begun else ["alibench", outputs.COLLECT, *map(str, folders)]
        plan = {**plan, "command": command}
        _write(to, None if plan == begun else plan, seen, console)
        yield _report(to, plans, plan, seen, console)


def _begun(out: Path) -> Grid | None:
    """Return the plan of an earlier collection; None for an empty place. Raises BadInput for other files."""
    if not outputs.holds(out):
        return None
    if not os.path.lexists(out / outputs.PLAN):
        raise BadInput(f"--out {out} holds files that are not a collection: name a new folder")
    plan = grids.plan_of(out)
    if not outputs.is_collected(plan):
        raise BadInput(f"--out {out} was trained in: name a new folder, and {out} next to the others")
    return plan


def _write(out: Path, plan: Grid | None, seen: Survey, console: Console) -> None:
    """Write a new plan, the runs that are not there, and reference rows that come from several folders.

    Raises BadInput where the disk refuses.
    """
    try:
        files.remove_parts(out)
        # The plan first: by it the same command recognises what a killed one left.
        if plan:
            stored.write(out, outputs.PLAN, plan)

        runs = files.subfolder(out, "runs")
        new = [folders[0] for folders in seen.finished.values() if folders[0].parent != runs]
        for folder in track(new, "copying", console=console, transient=True, disable=not console.is_terminal):
            _copy(folder, out)

        for run_id in filter(_is_reference, seen.finished):
            known, adding = _rows(seen.finished[run_id])
            if adding:
                origin, *others = map(rows.read_origin, (seen.finished[run_id][0], *adding))
                names = [name for name in rows.PROVENANCE if name != "config"]
                merged = [{name: other[name] for name in names} for other in others]
                origin["merged"] = [*origin.get("merged", []), *merged]
                rows.keep(runs / run_id, origin, list(known.values()))
        files.sync_folder(runs)
    except OSError as error:
        reason = error.strerror or str(error)[:200]
        raise BadInput(f"--out {out} cannot be filled ({reason}): make room and try again") from None


def _copy(folder: Path, out: Path) -> None:
    """Copy a run so that it is there whole or not at all. Raises OSError."""
    # Not into runs/, where a part would be taken for a run.
    part, to = files.part_of(out / folder.name), out / "runs" / folder.name
    try:
        shutil.copytree(folder, part, ignore=NOT_COPIED, copy_function=_copy_file)
        if to.exists():  # damaged, or not finished
            shutil.rmtree(to)
        part.rename(to)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _copy_file(source: str, to: str) -> None:
    """Copy a file with its times, and bring it to the disk. Raises OSError."""
    shutil.copy2(source, to)
    # A run that is renamed into its place must be whole even if the machine fails.
    with open(to, "rb") as file:
        os.fsync(file.fileno())


def _report(out: Path, plans: Mapping[Path, Grid], plan: Grid, seen: Survey, console: Console) -> Collected:
    """Print what was collected, and on stderr what does not count; return it as facts."""
    there = {run_id for run_id, (first, *_) in seen.finished.items() if first.parent.parent == out}
    new = {run_id: folders for run_id, folders in seen.finished.items() if run_id not in there}
    twice = [run_id for run_id, folders in new.items() for _ in folders[1:] if not _is_reference(run_id)]
    counts = f"{len(new)} runs collected, {len(there)} were there already, {len(twice)} found twice"

    for line in seen.damaged:
        say(line)
    if seen.unfinished:
        names = listed(list(map(str, seen.unfinished)))
        say(f"{len(seen.unfinished)} runs are not finished, and left out: {names}")
    console.print(counts, highlight=False)

    missing = [run for run in plan["runs"] if run not in seen.finished]
    facts = {"out": out, "collected": len(new), "there_already": len(there), "duplicates": len(twice)}
    remedy = _remedy(missing, len(plan["runs"]), plans)
    return Collected(out, {**facts, "missing": missing}, seen.damaged, remedy)


def _remedy(missing: Sequence[str], planned: int, plans: Mapping[Path, Grid]) -> str:
    """Return a line on the missing runs and the commands that train them; "" if none is missing."""
    if not missing:
        return ""
    wanted, commands = set(missing), list[str]()
    for path, plan in plans.items():
        if wanted & set(plan["runs"]) and not outputs.is_collected(plan):
            commands.append(outputs.Output(path, tuple(plan["command"])).resume)
            wanted -= set(plan["runs"])
    train = f"train them and collect again: {'; '.join(commands) or 'where they were begun'}"
    return f"{len(missing)} of {planned} runs are missing ({listed(missing)}); {train}"
