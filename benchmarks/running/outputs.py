"""The folder of a command's output: made, locked against a second writer, resumed only with the same plan.

`plan.json` says what a folder was begun with: suites, data, device, versions and hashes of the code that
numbers depend on. A command that resumes must have the same, or its table would hold numbers of two kinds.
"""

import errno
import json
import os
import shlex
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path, PurePosixPath
from typing import Any

import torch

from alibench import results
from alibench.benchmarks.config import plugins
from alibench.benchmarks.config.schema import Suite
from alibench.benchmarks.data import datasets as data_datasets
from alibench.benchmarks.running import provenance
from alibench.benchmarks.running.runner import Interrupted
from alibench.evaluation import files, store
from alibench.evaluation.errors import BadInput
from alibench.evaluation.messages import say
from alibench.results import rows, stored
from alibench.results.differences import differences, only_moved
from alibench.results.stored import PLAN, read_plan

_RESULTS = Path(results.__file__).resolve().parent
# fresh folders: of the checkout, where there is one; an installation lies where nobody looks for results
RUNS = _RESULTS / "runs" if (_RESULTS.parent / "pyproject.toml").exists() else Path("runs")
LOCK = ".lock"
COLLECT = "collect"  # the command that fills a folder and trains nothing


@dataclass(frozen=True)
class Destination:
    """Where a command writes, and what it does with a folder that was begun. Raises BadInput."""

    out: Path | None = None  # none: a fresh folder in RUNS
    resume: bool = False
    fresh: bool = False  # start over in DIR-2 and so on, if DIR was begun
    # Resume although something else is asked for than the folder was begun with.
    force: bool = False
    dry_run: bool = False
    all_tables: bool = False  # printed; else each suite's overview

    def __post_init__(self) -> None:
        if self.resume and self.fresh:
            raise BadInput("--resume and --fresh exclude each other: leave one of them out")
        if self.resume and self.out is None:
            raise BadInput("--resume needs --out DIR, the folder to resume")
        if self.force and not self.resume:
            raise BadInput(
                "--force goes with --resume: it resumes a folder that was begun with something else"
            )


@dataclass(frozen=True)
class Output:
    """A folder that this process alone writes to."""

    path: Path
    command: tuple[str, ...]  # that began it

    @property
    def resume(self) -> str:
        """The command that resumes it."""
        return f"{rows.anew(self.command)} {shlex.join(['--out', str(self.path), '--resume'])}"


# -------------------- what a folder is begun with


def plan(suites: Iterable[Suite], device: torch.device, **more: Any) -> dict[str, Any]:
    """Return what numbers depend on, as plan.json has it. Raises BadInput if it cannot be stored."""
    suites = list(suites)
    for suite in suites:
        _check_titles(suite)

    facts = {
        "suites": {suite.name: asdict(suite) for suite in suites},
        "data": {suite.name: suite.load().sha256 for suite in suites},
        "device": device.type,
        "versions": provenance.versions(),
        "code": provenance.code(suites),
        **more,
    }

    # Lists for tuples, as it is stored: what is read again must be equal.
    plain: dict[str, Any] = json.loads(json.dumps(facts))
    stored.check_plan({"command": provenance.command(), **plain})
    return plain


def _check_titles(suite: Suite) -> None:
    """Refuse titles that no row could hold: each is a line of a table. Raises BadInput."""
    entries = {f"model '{name}'": suite.entry(name).title for name in suite.models}
    for what, text in {"its title": suite.title, "its data": suite.load().name, **entries}.items():
        if not files.is_line(text):
            where = f"suite '{suite.name}', {what}"
            raise BadInput(f"{where}: {text!r:.100} is not one line of plain text: rename it")


def write_plan(path: Path, command: Sequence[str], planned: Mapping[str, Any]) -> None:
    """Store what a folder is begun with. Raises OSError."""
    stored.write(path, PLAN, {"command": list(command), **planned})


def is_collected(plan: Mapping[str, Any]) -> bool:
    """Return whether `alibench collect` made the folder with this plan: no command trained in it."""
    return bool(plan["command"][1:2] == [COLLECT])


def _begun(path: Path, planned: Mapping[str, Any], force: bool) -> tuple[str, ...]:
    """Return the command that began a folder with this plan; () if none did, or one with fewer seeds or, if
    that is forced, with something else.

    Raises BadInput for another plan.
    """
    if not (path / PLAN).exists():
        return ()
    try:
        begun = read_plan(path)
    except files.Damaged as damage:
        problem = f"--out {path} cannot be resumed ({damage});"
    else:
        collected, words = is_collected(begun), begun.pop("command")
        fewer = _of_fewer_seeds(begun, planned)
        different = differences(begun, fewer)
        if not different:
            began = provenance.command() if collected else words
            return tuple(began) if fewer == planned else ()
        problem = f"--out {path} was begun with something else: {different};"
        if _is_earlier(begun):
            earlier = "an earlier version of alibench (before 0.2): finish it with that version,"
            problem = f"--out {path} was begun by {earlier}"

    if not force:
        raise BadInput(f"{problem} start over with --fresh, or resume it all the same with --force")
    return ()


def _of_fewer_seeds(begun: Mapping[str, Any], planned: Mapping[str, Any]) -> dict[str, Any]:
    """Return a plan with the seeds that a folder was begun with, where it has more: they change none of
    those that are there.
    """
    suites = dict(planned["suites"])
    for name, suite in suites.items():
        before = begun["suites"].get(name, {}).get("seeds", suite["seeds"])
        suites[name] = suite | {"seeds": min(before, suite["seeds"])}
    return {**planned, "suites": suites}


def _is_earlier(begun: Mapping[str, Any]) -> bool:
    """Return whether a plan is from before benchmarks/ had rooms: its files have other names now."""
    return any(PurePosixPath(name).parent == PurePosixPath("benchmarks") for name in begun["code"])


def _moved(path: Path, planned: Mapping[str, Any]) -> Iterator[str]:
    """Yield a line for each suite whose data moved since the folder was begun."""
    try:
        begun = read_plan(path)
    except (OSError, files.Damaged):
        return
    for name, suite in planned["suites"].items():
        before = begun["suites"].get(name, {}).get("dataset")
        if before != suite["dataset"] and only_moved(name, begun, planned):
            now = f"its data are read from {suite['dataset']} now"
            yield f"suite '{name}': {now}; they hold what {before} held"


# -------------------- the folder


def fresh(out: Path | None, name: str) -> Path:
    """Make a folder that holds nothing yet. Raises BadInput rather than touch what is there."""
    path = out or unnamed(name)
    check_place(path)
    path.mkdir(parents=True, exist_ok=True)
    if holds(path):
        raise BadInput(f"--out {path} already holds files: name a new folder; nothing was touched")
    return path


def unnamed(name: str) -> Path:
    """Return a place for a fresh folder."""
    return RUNS / f"{name}-{datetime.now():%Y%m%d-%H%M%S}"


def destined(destination: Destination, name: str, planned: Mapping[str, Any], needed: int = 0) -> Path:
    """Return the folder that a command will write to, as it stands now; nothing is touched.

    `needed` are the bytes that will be written, roughly. Raises BadInput for a folder that holds something
    else, that was begun with something else, or without the space; and where there is no place for caches.
    """
    # Without a place for caches nothing could be trained.
    store.home()
    path = destination.out or unnamed(name)
    if destination.fresh:
        path = _unused(path)

    # The place itself: it lies apart from data, holds nothing else, and has room.
    stored.check_links(path)
    samples = [f"folder:{source.path}" for source in plugins.LOADED if source.name]
    check_apart(path, [*(suite["dataset"] for suite in planned["suites"].values()), *samples])
    _check_held(path, destination.resume)
    check_space(path, needed)
    check_place(path)

    # What it was begun with.
    _begun(path, planned, destination.force)
    for line in _moved(path, planned):
        say(line)
    return path


@contextmanager
def opened(destination: Destination, path: Path, planned: Mapping[str, Any]) -> Iterator[Output]:
    """Make the folder that a command is `destined` to, or resume it, and keep others out meanwhile.

    Raises BadInput, before anything is touched, for one that another process writes to, or wrote to in the
    meantime.
    """
    with alone(path):
        # Another process may have been quicker than the lock.
        _check_held(path, destination.resume)
        command = _begun(path, planned, destination.force)
        if not command:
            command = tuple(provenance.command())
            write_plan(path, command, planned)

        # Parts are left by whoever was killed while it wrote.
        output = Output(path, command)
        files.remove_parts(path)
        files.subfolder(path, "runs")
        try:
            yield output
        except (Interrupted, KeyboardInterrupt):
            say(f"to resume: {output.resume}")
            raise


@contextmanager
def alone(path: Path) -> Iterator[None]:
    """Make a folder, if it is not there, and keep others from writing to it meanwhile. Raises BadInput."""
    check_place(path)
    path.mkdir(parents=True, exist_ok=True)
    with ExitStack() as held:
        try:
            held.enter_context(files.locked(path / LOCK))
        except files.Busy:
            busy = f"--out {path} is being written to by another process"
            raise BadInput(f"{busy}: wait for it or name another folder") from None
        except (OSError, NotImplementedError) as error:
            problem = f"--out {path} cannot be locked ({error})"
            raise BadInput(f"{problem}: name a folder on another file system") from None
        yield


def holds(path: Path) -> Sequence[Path]:
    """Return what a folder holds, without the traces of a command that was killed as it began."""
    entries = list(path.iterdir()) if path.is_dir() else []
    others = [entry for entry in entries if entry.name not in (LOCK, "runs") and entry.suffix != ".part"]
    if others or not (runs := path / "runs").exists():
        return others
    return list(runs.iterdir()) if runs.is_dir() else [runs]


def _check_held(path: Path, resume: bool) -> None:
    held = holds(path)
    if held and not (path / PLAN).exists():
        raise BadInput(f"--out {path} already holds files, of no run: name a new folder; nothing was touched")
    if held and not resume:
        ways = "resume it with --resume, or start over next to it with --fresh"
        raise BadInput(f"--out {path} already holds files of a run: {ways}; nothing was touched")


def _unused(path: Path) -> Path:
    number, unused = 1, path
    while holds(unused):
        number += 1
        unused = path.resolve().with_name(f"{path.resolve().name}-{number}")
    if unused != path:
        say(f"{path} was begun already: this is {unused}")
    return unused


# -------------------- places that are refused before anything is made


def check_apart(path: Path, datasets: Iterable[str], option: str = "--out") -> None:
    """Refuse a place where what is written would be read as data. Raises BadInput."""
    for kind, _, place in (name.partition(":") for name in datasets):
        if kind in data_datasets.OPENED and place and data_datasets.OPENED[kind](place).reads(path):
            problem = f"{option} {path} lies in the folder of pictures {place}, and would be read with them"
            raise BadInput(f"{problem}: name a place outside it by {option}; nothing was touched")


def check_place(path: Path, option: str = "--out") -> None:
    """Refuse a place that no folder can be made in, as far as can be seen beforehand. Raises BadInput."""
    there = next(parent for parent in (path, *path.absolute().parents) if os.path.lexists(parent))
    if not there.is_dir():
        raise BadInput(f"{option} {path} is, or lies in, a file: name a folder")
    if not os.access(there, os.W_OK):
        reason = os.strerror(errno.EACCES)
        raise BadInput(f"{option} {path} cannot be written ({reason}): name another place by {option}")


def check_space(path: Path, needed: int) -> None:
    """Refuse to begin what will not fit; what is there already counts as a part of it. Raises BadInput."""
    there = sum(file.stat().st_size for file in path.rglob("*") if file.is_file()) if path.is_dir() else 0
    disk = shutil.disk_usage(next(parent for parent in (path, *path.absolute().parents) if parent.is_dir()))
    if disk.total and needed - there > disk.free:
        sizes = f"{(needed - there) / 1e9:.1f} GB, {disk.free / 1e9:.1f} GB are free"
        raise BadInput(f"--out {path} needs about {sizes}: make room or name a folder on another disk")
