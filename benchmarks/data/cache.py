"""Data that were made of files, found again by the files' content: on the disk, and in memory.

A dataset's cache is a folder of decoded images (decoded.py), named after the hash of the source's files, the
options and what is done with them. It is written next to its place and renamed into it, so what is there is
whole; a damaged cache is built again, aloud.

Hashing 60,000 files takes seconds, so hashes are kept too, by the files' paths, sizes, times and numbers.
Files that were touched, copied or moved are hashed again and find the same cache.
"""

import hashlib
import json
import os
import shutil
import time
from collections.abc import Callable, Hashable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

from alibench.benchmarks.data import decoded
from alibench.benchmarks.data.sources import Options, Source, reading
from alibench.evaluation import files, sealed
from alibench.evaluation.data import Data
from alibench.evaluation.errors import BadInput
from alibench.evaluation.files import Damaged, Sha256
from alibench.evaluation.messages import say
from alibench.evaluation.store import home

READING = 2  # raised when the same files and options begin to give other arrays
HASH = 2  # the format of a remembered hash
TICK = 2_000_000_000  # nanoseconds; no file system's clock is coarser

T = TypeVar("T")


@dataclass(frozen=True)
class FilesState:
    """Files, by names that are unique among them, as they were looked at."""

    paths: Mapping[str, str]
    stamp: str  # another one once a file is changed, touched, moved, renamed or exchanged
    is_sure: bool  # whether a change from now on would show in it


def look(paths: Mapping[str, str], largest: files.Size) -> FilesState:
    """Return the state of files, none of which is read. Raises BadInput, also for one that is too large."""
    now, newest, states = time.time_ns(), 0, list[tuple[int, ...]]()
    with reading():
        for path in paths.values():
            state = os.stat(path)
            files.check_size(path, "holds", state.st_size, largest)
            newest = max(newest, state.st_mtime_ns, state.st_ctime_ns)
            # whoever changes a file can set st_mtime_ns, but not st_ctime_ns
            states.append((state.st_size, state.st_mtime_ns, state.st_ctime_ns, state.st_ino, state.st_dev))
    stamp = _sha256(json.dumps([[*paths.items()], states]))

    # of two changes in the same tick of the file system's clock only the first shows; on Windows st_ctime_ns
    # is the creation time, so that none shows where the time was set back
    return FilesState(paths, stamp, is_sure=newest < now - TICK and os.name != "nt")


# ---------- in memory


_kept: dict[Hashable, tuple[str, Any]] = {}  # what was made of files, with their stamp
_settled: set[Hashable] | None = None  # keys whose files are not looked at again for now


def of_files(key: Hashable, find: Callable[[], FilesState], make: Callable[[FilesState], T]) -> T:
    """Return what `make` returns for files, kept under a key until they change. Raises what the two raise."""
    if _settled is None or key not in _settled:
        # made in the same tick as its files, it may be of older ones: "" matches no stamp
        state = find()
        if key not in _kept or _kept[key][0] != state.stamp:
            _kept[key] = state.stamp if state.is_sure else "", make(state)
        if _settled is not None:
            _settled.add(key)
    result: T = _kept[key][1]
    return result


@contextmanager
def settled() -> Iterator[None]:
    """Look at the same files once meanwhile: a command has the same data for all its jobs."""
    global _settled
    # within another `settled` its keys stay
    before = _settled
    _settled = set() if before is None else before
    try:
        yield
    finally:
        _settled = before


def forget() -> None:
    """Drop what is kept in memory."""
    _kept.clear()
    if _settled is not None:
        _settled.clear()


# ---------- on the disk


def find(source: Source) -> FilesState:
    """Look at a source's files. Raises BadInput."""
    return look(source.files(), source.largest)


def load(source: Source, options: Options, state: FilesState | None = None) -> Data:
    """Return the source's data from its cache, which is built if it is not there. Raises BadInput."""
    if source.reads(_home()):
        raise BadInput(
            f"{home()} lies in the folder of pictures {source.where}: name a place outside it by "
            "ALIBENCH_DATA"
        )
    # a whole cache of the same files and options
    state = state or find(source)
    content = _content(state, source)
    folder = _folder(source, options, content)
    if folder.exists():
        try:
            return decoded.read(folder, source, options)
        except Damaged as problem:
            say(f"the cache of '{source.name}' is built again: {problem}")
            with decoded.writing(f"the cache of '{source.name}'", folder.parent):
                shutil.rmtree(folder)

    # or a new one, in a folder of its own until it is finished
    contents = source.read(state.paths, options.seed)
    files.remove_parts(folder.parent, of_the_dead=True)
    temporary = files.part_of(folder)
    try:
        decoded.write(temporary, contents, source, options, content)
        if find(source).stamp != state.stamp:
            raise BadInput(f"{source.where} changed while it was read: try again")
        with decoded.writing("a finished cache", folder.parent):
            _publish(temporary, folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return decoded.read(folder, source, options)


def load_unhashed(source: Source, options: Options, state: FilesState) -> Data | None:
    """Return the source's data, unchecked, if they are decoded and their files' hash is known; else None."""
    with suppress(OSError, Damaged):
        return decoded.read(_folder(source, options, _remembered(state)), source, options, checked=False)
    return None


def holds(content: str) -> bool:
    """Return whether data of that hash were read before, whatever they are called now."""
    for header in _home().glob(f"*/{decoded.HEADER}"):
        with suppress(OSError, Damaged):
            if decoded.read_header(header.parent)["content"] == content:
                return True
    return False


def _home() -> Path:
    return home() / "cache"


def _folder(source: Source, options: Options, content: str) -> Path:
    return _home() / _sha256(json.dumps([READING, type(source).__name__, asdict(options), content]))


def _publish(temporary: Path, folder: Path) -> None:
    """Move a finished cache into its place, unless another process was first. Raises OSError."""
    # a rename onto a folder that is not empty fails
    try:
        temporary.rename(folder)
    except OSError:
        if not folder.exists():
            raise
    files.sync_folder(folder.parent)


# ---------- hashes of files


def _content(state: FilesState, source: Source) -> str:
    """Return the hash of all files and their names, remembered by the stamp where that is sure."""
    with suppress(OSError, Damaged):
        return _remembered(state)
    with reading():
        tracked = decoded.tracked(state.paths.items(), len(state.paths), f"hashing {source.name}")
        hashes = {name: files.sha256(path, source.largest) for name, path in tracked}
    content = _sha256(json.dumps(hashes))

    # a stamp that may hide a change is not worth remembering
    if state.is_sure:
        memory = _memory(state)
        with decoded.writing("a hash of the files", _home()):
            memory.parent.mkdir(parents=True, exist_ok=True)
            sealed.write_json(memory, "hash", HASH, content)
    return content


def _memory(state: FilesState) -> Path:
    return _home() / "hashes" / state.stamp


def _remembered(state: FilesState) -> str:
    """Return the remembered hash. Raises Damaged, or OSError, where there is none."""
    if not state.is_sure:
        raise Damaged("files may have changed since")
    content: str = sealed.read_json(_memory(state), "hash", HASH, Sha256)
    return content


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
