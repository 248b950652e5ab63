"""The folder of a command's output: made, locked against a second writer, and gone on in only with what it
was begun with.

`plan.json` says what a folder was begun with: suites, data, device, versions and hashes of the code that
numbers depend on. A command that goes on must have the same, or its table would hold numbers of two kinds.
"""

import argparse
import errno
import json
import math
import os
import shlex
import shutil
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, redirect_stdout
from dataclasses import asdict, dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import torch

from alibench import results
from alibench.benchmarks.config import plugins
from alibench.benchmarks.config.schema import Suite
from alibench.benchmarks.data import datasets as data_datasets
from alibench.benchmarks.running import provenance
from alibench.benchmarks.running.runner import Interrupted
from alibench.benchmarks.training import checkpoints
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
class Answer:
    """What a command leaves: its exit code, and the facts that `--json` prints."""

    code: int = 0
    facts: Mapping[str, Any] = field(default_factory=dict)

    @property
    def document(self) -> str:
        """Return the facts and the exit code as JSON, without NaN and infinities: those are null."""
        return json.dumps(strict({**self.facts, "exit_code": self.code}), indent=1, allow_nan=False)


def strict(value: Any) -> Any:
    """Return facts as JSON knows them: null for what is no finite number, text for paths."""
    if isinstance(value, Mapping):
        return {str(key): strict(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [strict(part) for part in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return str(value) if isinstance(value, Path) else value


@contextmanager
def for_facts_alone() -> Iterator[None]:
    """Keep stdout clean: what anybody prints meanwhile, a library or a worker too, goes to stderr."""
    sys.stdout.flush()
    stdout = os.dup(1)
    os.dup2(2, 1)
    try:
        with redirect_stdout(sys.stderr):
            yield
    finally:
        os.dup2(stdout, 1)
        os.close(stdout)


@dataclass(frozen=True)
class Output:
    """A folder that this process alone writes to."""

    path: Path
    command: tuple[str, ...]  # that began it

    @property
    def resume(self) -> str:
        """Return the command that goes on."""
        return f"{rows.anew(self.command)} {shlex.join(['--out', str(self.path), '--resume'])}"


def place(text: str) -> Path:
    """Return a path of the command line, whether or not anything is there. Raises ArgumentTypeError if nobody
    could look.
    """
    try:
        os.stat(os.path.join(text, os.curdir))
    except (FileNotFoundError, NotADirectoryError):
        pass
    except OSError as error:
        raise argparse.ArgumentTypeError(
            f"'{text}' cannot be looked at ({error.strerror}): name another place"
        ) from None
    return Path(text)


def add_arguments(sub: argparse.ArgumentParser, trains: bool = True) -> None:
    """Declare the options of a command that writes runs."""
    sub.add_argument(
        "--out",
        type=place,
        metavar="DIR",
        help="folder for everything; default: a fresh one in results/runs/ of the checkout",
    )
    begun = sub.add_mutually_exclusive_group()
    begun.add_argument(
        "--resume", action="store_true", help="go on in --out, if it was begun: finished runs are skipped"
    )
    begun.add_argument(
        "--fresh", action="store_true", help="start over beside --out, in DIR-2 and so on, if it was begun"
    )
    text = "go on even where the suite, the code or a library is another than the folder was begun with"
    sub.add_argument("--force", action="store_true", help=text)
    text = "say what would be done, how long it would take and what it would write; do none of it"
    sub.add_argument("--dry-run", action="store_true", help=text)
    sub.add_argument(
        "--retries", type=int, default=0, metavar="N", help="try a run that failed again, N times; default: 0"
    )
    if trains:
        text = (
            f"from one checkpoint to the next, at least; 0: after every step; default: {checkpoints.EVERY:g}"
        )
        sub.add_argument(
            "--checkpoint-every", type=float, default=checkpoints.EVERY, metavar="SECONDS", help=text
        )


def check_arguments(given: argparse.Namespace) -> None:
    """Refuse what cannot be. Raises BadInput."""
    if given.resume and given.out is None:
        raise BadInput("--resume needs --out DIR, the folder to go on in")
    if given.force and not given.resume:
        raise BadInput(
            "--force goes with --resume: it goes on in a folder that was begun with something else"
        )
    if given.retries < 0:
        raise BadInput(f"--retries {given.retries}: a number of times, 0 or more")
    if not getattr(given, "checkpoint_every", 0.0) >= 0:
        raise BadInput(f"--checkpoint-every {given.checkpoint_every:g}: seconds, 0 or more")


def plan(suites: Iterable[Suite], device: torch.device, **more: Any) -> dict[str, Any]:
    """Return what the numbers of a command depend on, as plan.json has it. Raises BadInput for what could not
    be stored.
    """
    suites = list(suites)
    for suite in suites:
        _check_titles(suite)
    said = {
        "suites": {suite.name: asdict(suite) for suite in suites},
        "data": {suite.name: suite.load().sha256 for suite in suites},
        "device": device.type,
        "versions": provenance.versions(),
        "code": provenance.code(suites),
        **more,
    }
    plain: dict[str, Any] = json.loads(json.dumps(said))  # lists for tuples, as it is stored
    stored.check_plan({"command": provenance.command(), **plain})
    return plain


def _check_titles(suite: Suite) -> None:
    """Refuse what no row could hold: each is a line of a table. Raises BadInput."""
    entries = {f"model '{name}'": suite.entry(name).title for name in suite.models}
    for what, text in {"its title": suite.title, "its data": suite.load().name, **entries}.items():
        if not files.is_line(text):
            raise BadInput(
                f"suite '{suite.name}', {what}: {text!r:.100} is not one line of plain text: rename it"
            )


def fresh(out: Path | None, name: str) -> Path:
    """Make a folder that holds nothing yet. Raises BadInput rather than touch what is there."""
    path = out or RUNS / f"{name}-{datetime.now():%Y%m%d-%H%M%S}"
    _make(path)
    if holds(path):
        raise BadInput(f"--out {path} already holds files: name a new folder; nothing was touched")
    return path


def destined(given: argparse.Namespace, name: str, planned: Mapping[str, Any], needed: int = 0) -> Path:
    """Return the folder that a command will write to, as it stands now; nothing is touched.

    `needed` are the bytes that will be written, roughly. Raises BadInput for a folder that holds something
    else, that was begun with something else, or without the space; and where there is no place for caches.
    """
    check_arguments(given)
    store.home()
    path = given.out or RUNS / f"{name}-{datetime.now():%Y%m%d-%H%M%S}"
    if given.fresh:
        path = _unused(path)
    stored.check_links(path)
    samples = [f"folder:{source.path}" for source in plugins.LOADED if source.name]
    check_apart(path, [*(suite["dataset"] for suite in planned["suites"].values()), *samples])
    _check_held(path, given.resume)
    check_space(path, needed)
    check_place(path)
    _begun(path, planned, given.force)
    for line in _moved(path, planned):
        say(line)
    return path


@contextmanager
def opened(given: argparse.Namespace, path: Path, planned: Mapping[str, Any]) -> Iterator[Output]:
    """Make the folder that a command is `destined` to, or go on in it, and keep others out meanwhile.

    Raises BadInput, before anything is touched, for one that another process writes to, or wrote to in the
    meantime.
    """
    with alone(path):
        _check_held(path, given.resume)  # another may have been quicker
        output = Output(path, _command(path, planned, given.force))
        files.remove_parts(path)
        files.subfolder(path, "runs")
        try:
            yield output
        except (Interrupted, KeyboardInterrupt):
            say(f"to go on: {output.resume}")
            raise


@contextmanager
def alone(path: Path) -> Iterator[None]:
    """Make a folder, if it is not there, and keep others from writing to it meanwhile. Raises BadInput."""
    _make(path)
    with ExitStack() as held:
        try:
            held.enter_context(files.locked(path / LOCK))
        except files.Busy:
            raise BadInput(
                f"--out {path} is being written to by another process: wait for it or name another folder"
            ) from None
        except (OSError, NotImplementedError) as error:
            raise BadInput(
                f"--out {path} cannot be locked ({error}): name a folder on another file system"
            ) from None
        yield


def write_plan(path: Path, command: Sequence[str], planned: Mapping[str, Any]) -> None:
    """Say what a folder is begun with. Raises OSError."""
    stored.write(path, PLAN, {"command": list(command), **planned})


def is_collected(plan: Mapping[str, Any]) -> bool:
    """Return whether `alibench collect` made a folder with this plan: no command trained in it."""
    return bool(plan["command"][1:2] == [COLLECT])


def _command(path: Path, planned: Mapping[str, Any], force: bool) -> tuple[str, ...]:
    """Return the command that began the folder, once what it said is what this one says; or begin it."""
    if words := _begun(path, planned, force):
        return words
    command = provenance.command()
    write_plan(path, command, planned)
    return tuple(command)


def _begun(path: Path, planned: Mapping[str, Any], force: bool) -> tuple[str, ...]:
    """Return the command that began the folder; none if none did, or if forced and another. Raises BadInput."""
    if not (path / PLAN).exists():
        return ()
    try:
        begun = read_plan(path)
        collected, words = is_collected(begun), begun.pop("command")
        different = differences(begun, planned)
        if not different:
            return tuple(provenance.command() if collected else words)
        problem = f"--out {path} was begun with something else: {different}"
    except files.Damaged as damage:
        problem = f"--out {path} cannot be gone on in ({damage})"
    if not force:
        raise BadInput(f"{problem}; start over with --fresh, or go on all the same with --force")
    return ()


def _moved(path: Path, planned: Mapping[str, Any]) -> Iterator[str]:
    """Yield a line for each suite whose data lie elsewhere than when the folder was begun, with the same
    content.
    """
    try:
        begun = read_plan(path)
    except (OSError, files.Damaged):
        return
    for name, suite in planned["suites"].items():
        before = begun["suites"].get(name, {}).get("dataset")
        if before != suite["dataset"] and only_moved(name, begun, planned):
            yield f"suite '{name}': its data are read from {suite['dataset']} now; they hold what {before} held"


def holds(path: Path) -> Sequence[Path]:
    """Return what a folder holds, without what a command leaves that was killed before it began anything."""
    entries = list(path.iterdir()) if path.is_dir() else []
    return [entry for entry in entries if entry.name not in (LOCK, "runs") and entry.suffix != ".part"] or [
        run
        for entry in entries
        if entry.name == "runs"
        for run in (entry.iterdir() if entry.is_dir() else [entry])
    ]


def _check_held(path: Path, resume: bool) -> None:
    held = holds(path)
    if held and not (path / PLAN).exists():
        raise BadInput(f"--out {path} already holds files, of no run: name a new folder; nothing was touched")
    if held and not resume:
        raise BadInput(
            f"--out {path} already holds files of a run: go on in it with --resume, or start over beside it "
            "with --fresh; "
            "nothing was touched"
        )


def _unused(path: Path) -> Path:
    number, found = 1, path
    while holds(found):
        number += 1
        found = path.resolve().with_name(f"{path.resolve().name}-{number}")
    if found != path:
        say(f"{path} was begun already: this is {found}")
    return found


def check_apart(path: Path, datasets: Iterable[str]) -> None:
    """Refuse a place where what is written would be read as data. Raises BadInput."""
    for kind, _, place in (name.partition(":") for name in datasets):
        if kind in data_datasets.OPENED and place and data_datasets.OPENED[kind](place).reads(path):
            raise BadInput(
                f"--out {path} lies in the folder of pictures {place}, and would be read with them: name a "
                "place outside it "
                "by --out; nothing was touched"
            )


def check_place(path: Path) -> None:
    """Refuse a place that no folder can be made in, as far as can be seen without making it."""
    there = next(parent for parent in (path, *path.absolute().parents) if os.path.lexists(parent))
    if not there.is_dir():
        raise BadInput(f"--out {path} is, or lies in, a file: name a folder")
    if not os.access(there, os.W_OK):
        raise BadInput(
            f"--out {path} cannot be written ({os.strerror(errno.EACCES)}): name another folder with --out"
        )


def _make(path: Path) -> None:
    try:
        path.mkdir(parents=True, exist_ok=True)
        if not os.access(path, os.W_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    except (FileExistsError, NotADirectoryError):
        raise BadInput(f"--out {path} is, or lies in, a file: name a folder") from None
    except OSError as error:
        raise BadInput(
            f"--out {path} cannot be written ({error.strerror}): name another folder with --out"
        ) from None


def check_space(path: Path, needed: int) -> None:
    """Refuse to begin what will not fit. What is there already counts as a part of it."""
    there = sum(file.stat().st_size for file in path.rglob("*") if file.is_file()) if path.is_dir() else 0
    disk = shutil.disk_usage(next(parent for parent in (path, *path.absolute().parents) if parent.is_dir()))
    if disk.total and needed - there > disk.free:
        raise BadInput(
            f"--out {path} needs about {(needed - there) / 1e9:.1f} GB, {disk.free / 1e9:.1f} GB are free: "
            "make room or name a folder on another disk"
        )
