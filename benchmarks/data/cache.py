"""Decoded images as memory-mapped arrays, written once and found by the content of their source.

A cache is a folder of bare arrays with a header, named after the hash of its source's files, the options and
what is done with them. It is written beside its place and renamed into it, so what stands there is whole. All
the same it is compared with its checksums when it is opened (at about 2 GB/s: CIFAR-10 takes a tenth of a
second, CelebA one and a half), and a damaged cache is built again, aloud.

Hashing 60,000 files takes seconds, so hashes are kept too, by the files' paths, sizes, times and numbers.
Files that were touched, copied or moved are hashed again and find the same cache.

Within a process what was made of files is kept in memory, and made anew once they have changed.
"""

import hashlib
import json
import math
import os
import shutil
import time
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from itertools import chain, islice
from pathlib import Path
from typing import IO, Annotated, Any, Literal, TypeVar

import msgspec
import numpy as np
import torch
from msgspec import Meta
from rich.console import Console
from rich.progress import track

from alibench.benchmarks.data import images
from alibench.benchmarks.data.sources import SPLITS, Contents, Options, Part, Source
from alibench.evaluation import files, sealed
from alibench.evaluation.data import Data, Split
from alibench.evaluation.errors import BadInput
from alibench.evaluation.files import Damaged, Sha256
from alibench.evaluation.messages import say
from alibench.evaluation.store import home

FORMAT = 2  # of a cache's files
HEADER = "header.json"
READING = (
    2  # how images are split and decoded; raised when the same files and options begin to give other arrays
)
HASH = 1  # the format of a remembered hash
TICK = 2_000_000_000  # nanoseconds; no file system's clock is coarser

Made = TypeVar("Made")
Length = Annotated[int, Meta(ge=1, le=2**40)]
Side = Annotated[int, Meta(ge=1, le=2**16)]


class Labels(msgspec.Struct, array_like=True, forbid_unknown_fields=True):
    """How a split's labels lie in their file: of each image, or of each image and attribute."""

    kind: Literal["<i4", "<i8", "|u1"]
    images: Length
    attributes: Length | None = None


class Images(msgspec.Struct, array_like=True, forbid_unknown_fields=True):
    """How a split's images lie in their file."""

    images: Length
    channels: Literal[1, 3]
    height: Side
    width: Side


class Header(msgspec.Struct):
    """What a cache holds."""

    content: Sha256
    source: Sha256
    classes: Annotated[int, Meta(ge=0, le=10_000_000)]
    class_names: list[str]
    splits: str
    x: dict[Literal["train", "validation", "test"], Images]
    y: dict[Literal["train", "validation", "test"], Labels]


class Hash(msgspec.Struct):
    """What files were found to hold."""

    stamp: Sha256
    content: Sha256


# -------------------- within a process


@dataclass(frozen=True)
class Found:
    """Files by the names that tell them apart, as they were looked at."""

    files: Mapping[str, str]
    stamp: str  # what changes when one is changed, touched, moved, renamed or exchanged
    is_sure: bool  # whether a change from now on would show in it


_MADE: dict[Hashable, tuple[str, Any]] = {}  # what was made of files, with their stamp
_looked_at: set[Hashable] | None = None  # what of it is not looked at again for now


def of_files(key: Hashable, find: Callable[[], Found], make: Callable[[Found], Made]) -> Made:
    """Return what `make` gives for files, kept in memory under a key; made anew if they have changed.

    Raises what the two raise.
    """
    if _looked_at is not None and key in _looked_at:
        return _MADE[key][1]
    found = find()
    if key not in _MADE or _MADE[key][0] != found.stamp:
        _MADE[key] = found.stamp if found.is_sure else "", make(found)
    if _looked_at is not None:
        _looked_at.add(key)
    return _MADE[key][1]


@contextmanager
def settled() -> Iterator[None]:
    """Look at the same files once meanwhile: a command has the same data throughout, however many jobs ask
    for them.
    """
    global _looked_at
    before = _looked_at
    _looked_at = set() if before is None else before
    try:
        yield
    finally:
        _looked_at = before


def forget() -> None:
    """Drop what is kept in memory."""
    _MADE.clear()
    if _looked_at is not None:
        _looked_at.clear()


# ------------------------------------------------------------------------------------------------ on the disk


def find(source: Source) -> Found:
    """Look at a source's files. Raises BadInput."""
    return look(source.files(), source.largest)


def load(source: Source, options: Options, found: Found | None = None) -> Data:
    """Return the source's data from its cache, which is built if it is not there. Raises BadInput."""
    if source.reads(_folder()):
        raise BadInput(
            f"{home()} lies in the folder of pictures {source.where}: name a place outside it by "
            "ALIBENCH_DATA"
        )
    found = found or find(source)
    content = _content(found, source)
    folder = _place(source, options, content)
    if folder.exists():
        try:
            return _open(folder, source.name, source.extractor(options))
        except Damaged as problem:
            say(f"the cache of '{source.name}' is built again: {problem}")
    contents = source.read(found.files, options.seed)
    files.remove_parts(folder.parent, of_the_dead=True)
    temporary = files.part_of(folder)
    try:
        _write(temporary, contents, source, options, content)
        if find(source).stamp != found.stamp:
            raise BadInput(f"{source.where} changed while it was read: try again")
        _publish(temporary, folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return _open(folder, source.name, source.extractor(options))


def decoded(source: Source, options: Options, found: Found) -> Data | None:
    """Return the source's data if they are decoded and its hash is remembered: nothing is hashed, checked or
    written.
    """
    with suppress(OSError, Damaged):
        return _open(
            _place(source, options, _remembered(found)), source.name, source.extractor(options), checked=False
        )
    return None


def build(source: Source, options: Options, found: Found, folder: Path) -> Data:
    """Decode all images into a folder that is not there yet, and return the data. Raises BadInput."""
    _write(folder, source.read(found.files, options.seed), source, options, _hashed(found, source))
    return _open(folder, source.name, source.extractor(options))


def holds(content: str) -> bool:
    """Return whether data of that hash were read before, whatever they are called now."""
    for header in _folder().glob(f"*/{HEADER}"):
        with suppress(OSError, Damaged):
            if _header(header)["content"] == content:
                return True
    return False


def _folder() -> Path:
    return home() / "cache"


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _track(items: Iterable[Any], total: int, description: str) -> Iterable[Any]:
    console = Console(stderr=True)
    return track(items, description, total, console=console, transient=True, disable=not console.is_terminal)


@contextmanager
def _writing(what: str) -> Iterator[None]:
    """Explain what a full disk or a locked folder raises. A write through a memory map would be killed
    instead.
    """
    try:
        yield
    except OSError as error:
        reason = error.strerror or error
        raise BadInput(
            f"cannot write {what} to {_folder()} ({reason}): make room or set ALIBENCH_DATA"
        ) from None


@contextmanager
def _reading() -> Iterator[None]:
    try:
        yield
    except files.Unsafe as problem:
        raise BadInput(str(problem)) from None
    except OSError as error:
        raise BadInput(f"cannot read {error.filename}: {error.strerror}") from None


def look(paths: Mapping[str, str], largest: files.Size) -> Found:
    """Look at files, none of which is read. Raises BadInput, also for one that is too large."""
    now, states = time.time_ns(), list[tuple[int, ...]]()
    newest = 0
    with _reading():
        for path in paths.values():
            state = os.stat(path)
            files.check_size(path, "holds", state.st_size, largest)
            newest = max(newest, state.st_mtime_ns, state.st_ctime_ns)
            # whoever changes a file can set its time, and not the time of that: st_ctime_ns
            states.append((state.st_size, state.st_mtime_ns, state.st_ctime_ns, state.st_ino, state.st_dev))
    stamp = _sha256(json.dumps([[*paths.items()], states]))
    # of two changes in the same tick of the file system's clock only the first shows; on Windows st_ctime_ns
    # is the creation time, so that none shows where the time was set back
    return Found(paths, stamp, is_sure=newest < now - TICK and os.name != "nt")


def _place(source: Source, options: Options, content: str) -> Path:
    return _folder() / _sha256(json.dumps([READING, type(source).__name__, asdict(options), content]))


def _content(found: Found, source: Source) -> str:
    """Return the hash of all files and their names, remembered by the stamp."""
    with suppress(OSError, Damaged):  # then it is made again
        return _remembered(found)
    content = _hashed(found, source)
    if found.is_sure:
        with _writing("a hash of the files"):
            memory = _memory(found)
            memory.parent.mkdir(parents=True, exist_ok=True)
            sealed.write_json(memory, "hash", HASH, {"stamp": found.stamp, "content": content})
    return content


def _memory(found: Found) -> Path:
    return _folder() / "hashes" / found.stamp


def _remembered(found: Found) -> str:
    """Return the hash of all files and their names as it is remembered. Raises Damaged, or OSError, where it
    is not.
    """
    known = sealed.read_json(_memory(found), "hash", HASH, Hash)
    if not found.is_sure or known["stamp"] != found.stamp:
        raise Damaged(f"{_memory(found)} is of other files")
    return str(known["content"])


def _hashed(found: Found, source: Source) -> str:
    with _reading():
        tracked = _track(found.files.items(), len(found.files), f"hashing {source.name}")
        hashes = {name: files.sha256(path, source.largest) for name, path in tracked}
    return _sha256(json.dumps(hashes))


def _write(folder: Path, contents: Contents, source: Source, options: Options, content: str) -> None:
    """Decode all images into the arrays of a new cache. Raises BadInput for one that is broken or of another
    size.
    """
    parts = [getattr(contents, split) for split in SPLITS]
    pictures = [part.images for part in parts]
    if pictures[0].dtype == object:  # paths: all that cannot be read are named together
        pictures = [np.concatenate(pictures)]
    headers = images.headers(*pictures)
    size, channels = (
        options.size or source.size,
        options.channels or (1 if all(h.grey for h in headers) else 3),
    )

    # what becomes black and white, of the whole set
    deep = [picture for picture, header in zip(chain(*pictures), headers, strict=True) if header.deep]
    levels = images.find_levels(source.where, chain(*pictures), deep, channels)

    shape = images.decode(contents.train.images[0], size, channels, levels).shape
    count = sum(map(len, parts))
    needed = count * int(np.prod(shape))
    _check_space(source.name, needed)
    decoded = chain.from_iterable(images.decode_all(each, size, channels, shape, levels) for each in pictures)
    stream = iter(_track(decoded, count, f"decoding {source.name}"))
    digest = hashlib.sha256()  # as Data.sha256
    seen, copies = set[bytes](), dict[str, int]()  # of train; of the other splits
    with _writing(f"the cache of '{source.name}', {needed:,} bytes,"):
        folder.mkdir(parents=True)
        for split, part in zip(SPLITS, parts, strict=True):
            copies[split] = 0
            with _file(folder / f"{split}-x") as file:
                for origin, image in zip(part.images, islice(stream, len(part)), strict=True):
                    if image.shape != shape:
                        where = origin if isinstance(origin, str) else f"{source.where}: an image of {split}"
                        raise BadInput(
                            f"{where} is {_dimensions(image.shape)}, others are {_dimensions(shape)}: "
                            "resize all by --size N"
                        )
                    digest.update(image.data)
                    file.write(image)
                    pixels = hashlib.blake2b(image.data, digest_size=16).digest()
                    if split == "train":
                        seen.add(pixels)
                    else:
                        copies[split] += pixels in seen
            with _file(folder / f"{split}-y") as file:
                y = np.ascontiguousarray(part.y)
                digest.update(y.data)
                file.write(y.data)
        said = [*contents.notes, *_about_pixels(headers, levels), *_about_copies(copies, parts)]
        # files may be called anything
        notes = [files.one_line(note).encode(errors="backslashreplace").decode() for note in said]
        for note in notes:
            say(f"data '{source.name}': {note}")
        body = {
            "content": digest.hexdigest(),
            "source": content,
            "classes": contents.classes,
            "class_names": contents.class_names,
            "splits": "; ".join([contents.splits, *notes]),
            "x": {split: [len(part), *shape] for split, part in zip(SPLITS, parts, strict=True)},
            "y": {
                split: [part.y.dtype.str, *part.y.shape] for split, part in zip(SPLITS, parts, strict=True)
            },
        }
        sealed.write_json(folder / HEADER, "cache", FORMAT, body)


def _about_pixels(headers: Sequence[images.Header], levels: images.Levels) -> Iterator[str]:
    """Say what was done with pictures of unusual kinds."""
    several, transparent, deep = (sum(getattr(header, flag) for header in headers) for flag in images.UNUSUAL)
    if several:
        yield f"{several:,} of {len(headers):,} pictures hold several frames or pages: the first of each was taken"
    if transparent:
        yield f"{transparent:,} of {len(headers):,} pictures can be transparent: they were put on {images.BACKGROUND}"
    if deep and levels.bits < images.FULL.bits:
        yield f"{deep:,} pictures use {levels.bits} of 16 bits: their upper 8 were taken"
    if levels.binary:
        yield "no pixel was brighter than 1 of 255: the pictures were taken for masks, in which 1 became 255"


def _about_copies(copies: Mapping[str, int], parts: Sequence[Part]) -> Iterator[str]:
    """Say how many images a model was trained on that it is judged by."""
    for split, part in zip(SPLITS, parts, strict=True):
        if copies[split]:
            yield f"{copies[split]:,} of {len(part):,} {split} images are exact copies of train images"


def _check_space(name: str, needed: int) -> None:
    """Refuse to decode what will not fit. Raises BadInput."""
    place = next(folder for folder in (_folder(), *_folder().absolute().parents) if folder.is_dir())
    disk = shutil.disk_usage(place)
    if disk.total and needed > disk.free:
        raise BadInput(
            f"the cache of '{name}' needs {needed / 1e9:.1f} GB in {_folder()}, {disk.free / 1e9:.1f} GB "
            "are free: "
            "make room or set ALIBENCH_DATA"
        )


def _dimensions(shape: tuple[int, ...]) -> str:
    return f"{shape[2]}x{shape[1]} pixels"


@contextmanager
def _file(path: Path) -> Iterator[IO[bytes]]:
    """Give a new file that is on the disk, not only on its way, when it is closed."""
    with open(path, "wb") as file:
        yield file
        file.flush()
        os.fsync(file.fileno())


def _publish(temporary: Path, folder: Path) -> None:
    """Move a finished cache into its place, unless another process was first."""
    with _writing("a finished cache"):
        try:
            temporary.rename(folder)
        except OSError:
            if not folder.exists():
                raise
            try:
                _open(folder, "")
            except Damaged:
                shutil.rmtree(folder)
                temporary.rename(folder)
        files.sync_folder(folder.parent)


def _header(path: Path) -> dict[str, Any]:
    """Return a cache's header. Raises Damaged, or OSError."""
    body: dict[str, Any] = sealed.read_json(path, "cache", FORMAT, Header)
    shapes = [body["x"].get(split) for split in SPLITS]
    if not all(shapes) or len({tuple(shape[1:]) for shape in shapes}) > 1:
        raise Damaged(f"{path} does not name three splits of images of one size")
    if any(body["y"].get(split, [0, 0])[1] != shape[0] for split, shape in zip(SPLITS, shapes, strict=True)):
        raise Damaged(f"{path} does not name a label of each image")
    return body


def _mapped(path: Path, kind: str, shape: tuple[int, ...]) -> np.ndarray:
    """Return an array as it lies in a file. Raises Damaged if it is of another size, or OSError."""
    with files.opened(path, links=False) as file:
        if os.fstat(file.fileno()).st_size != math.prod(shape) * np.dtype(kind).itemsize:
            raise Damaged(f"{path} is damaged: it is not of the size that its header names")
        # "c": torch wants arrays that could be written to; nothing would reach the file
        return np.memmap(file, kind, "c", shape=shape)


def _open(folder: Path, name: str, extractor: str = "", checked: bool = True) -> Data:
    """Return a cache's data, mapped into memory. Raises Damaged if they are not what was written, where that
    is checked.
    """
    try:
        body = _header(folder / HEADER)
        digest, splits = hashlib.sha256(), []
        for split in SPLITS:
            x = _mapped(folder / f"{split}-x", "|u1", tuple(body["x"][split]))
            kind, *shape = body["y"][split]
            y = _mapped(folder / f"{split}-y", kind, tuple(shape))
            if checked:
                digest.update(x.data)
                digest.update(y.data)
            splits.append(Split(torch.from_numpy(x), torch.from_numpy(y)))
        if checked and digest.hexdigest() != body["content"]:
            raise Damaged(f"{folder} is damaged: its arrays are not what was written")
        train, validation, test = splits
        about = {key: body[key] for key in ("classes", "splits", "content")}
        about |= {"extractor": extractor, "class_names": tuple(body["class_names"])}
        return Data(name, train, validation, test, **about)
    except (OSError, ValueError) as error:
        raise Damaged(f"{folder} is damaged: {error}") from None
