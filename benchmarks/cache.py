"""Decoded images as memory-mapped arrays, written once and found by the content of their source.

A cache is a folder of bare arrays with a header, named after the hash of its source's files, the options and what is done
with them. It is written beside its place and renamed into it, so what stands there is whole. All the same it is compared
with its checksums when it is opened (at about 2 GB/s: CIFAR-10 takes a tenth of a second, CelebA one and a half), and a
damaged cache is built again, aloud.

Hashing 60,000 files takes seconds, so hashes are kept too, by the files' paths, sizes and times. Files that were touched,
copied or moved are hashed again and find the same cache.
"""

import hashlib
import json
import os
import shutil
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict
from itertools import chain, islice
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch
from rich.console import Console
from rich.progress import track

from benchmarks import images
from benchmarks.sources import SPLITS, Contents, Options, Source
from evaluation import files
from evaluation.base import BadInput, Data, Split
from evaluation.files import Damaged
from evaluation.store import home

FORMAT = 2  # of a cache's files
READING = 1  # how images are split and decoded; raised when the same files and options begin to give other arrays


def load(source: Source, options: Options) -> Data:
    """Return the source's data from its cache, which is built if it is not there. Raises BadInput."""
    found = source.files()
    stamp = _stamp(found)
    content = _content(found, stamp, source.name)
    folder = _folder() / _sha256(json.dumps([READING, type(source).__name__, asdict(options), content]))
    if folder.exists():
        try:
            return _open(folder, source.name)
        except Damaged as problem:
            print(f"alibench: the cache of '{source.name}' is built again: {problem}", file=sys.stderr)
    contents = source.read(found, options.seed)
    files.remove_parts(folder.parent, of_the_dead=True)
    temporary = files.part_of(folder)
    try:
        _write(temporary, contents, source, options, content)
        if _stamp(source.files()) != stamp:
            raise BadInput(f"{source.where} changed while it was read: try again")
        _publish(temporary, folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return _open(folder, source.name)


def _folder() -> Path:
    return home() / "cache"


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _track(items: Iterable[Any], total: int, description: str) -> Iterable[Any]:
    console = Console(stderr=True)
    return track(items, description, total, console=console, transient=True, disable=not console.is_terminal)


@contextmanager
def _writing(what: str) -> Iterator[None]:
    """Explain what a full disk or a locked folder raises. A write through a memory map would be killed instead."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or error
        raise BadInput(f"cannot write {what} to {_folder()} ({reason}): make room or set ALIBENCH_DATA") from None


def _stamp(found: Mapping[str, str]) -> str:
    """Return what changes when a file is changed, touched, moved or renamed."""
    try:
        states = [(state.st_size, state.st_mtime_ns) for state in map(os.stat, found.values())]
    except OSError as error:
        raise BadInput(f"cannot read {error.filename}: {error.strerror}") from None
    return _sha256(json.dumps([[*found.items()], states]))


def _content(found: Mapping[str, str], stamp: str, name: str) -> str:
    """Return the hash of all files and their names, remembered by the stamp."""
    memory = _folder() / "hashes" / stamp
    with suppress(OSError):
        if len(known := memory.read_text()) == 64:  # a crash of the machine may leave it empty
            return known
    hashes = {}
    for file, path in _track(found.items(), len(found), f"hashing {name}"):
        digest = hashlib.sha256()
        try:
            with open(path, "rb", buffering=0) as opened:  # hashlib.file_digest takes ten times as long on small files
                while chunk := opened.read(1 << 20):
                    digest.update(chunk)
        except OSError as error:
            raise BadInput(f"cannot read {path}: {error.strerror}") from None
        hashes[file] = digest.hexdigest()
    content = _sha256(json.dumps(hashes))
    with _writing("a hash of the files"):
        memory.parent.mkdir(parents=True, exist_ok=True)
        files.replace(memory, content)
    return content


def _write(folder: Path, contents: Contents, source: Source, options: Options, content: str) -> None:
    """Decode all images into the arrays of a new cache. Raises BadInput for one that is broken or of another size."""
    parts = [getattr(contents, split) for split in SPLITS]
    size, channels = options.size or source.size, options.channels
    if not channels:
        channels = 1 if all(map(images.is_grey, chain.from_iterable(part.images for part in parts))) else 3
    shape = images.decode(contents.train.images[0], size, channels).shape
    count = sum(map(len, parts))
    needed = count * int(np.prod(shape))
    _check_space(source.name, needed)
    decoded = chain.from_iterable(images.decode_all(part.images, size, channels) for part in parts)
    stream = iter(_track(decoded, count, f"decoding {source.name}"))
    digest = hashlib.sha256()  # as Data.sha256
    with _writing(f"the cache of '{source.name}', {needed:,} bytes,"):
        folder.mkdir(parents=True)
        for split, part in zip(SPLITS, parts, strict=True):
            with _file(folder / f"{split}-x") as file:
                for origin, image in zip(part.images, islice(stream, len(part)), strict=True):
                    if image.shape != shape:
                        where = origin if isinstance(origin, str) else f"{source.where}: an image of {split}"
                        raise BadInput(
                            f"{where} is {_dimensions(image.shape)}, others are {_dimensions(shape)}: resize all by --size N"
                        )
                    digest.update(image.data)
                    file.write(image)
            with _file(folder / f"{split}-y") as file:
                y = np.ascontiguousarray(part.y)
                digest.update(y.data)
                file.write(y.data)
        body = {
            "content": digest.hexdigest(),
            "source": content,
            "classes": contents.classes,
            "class_names": contents.class_names,
            "splits": contents.splits,
            "x": {split: [len(part), *shape] for split, part in zip(SPLITS, parts, strict=True)},
            "y": {split: [part.y.dtype.str, *part.y.shape] for split, part in zip(SPLITS, parts, strict=True)},
        }
        files.write_json(folder / "header.json", "cache", FORMAT, body)


def _check_space(name: str, needed: int) -> None:
    """Refuse to decode what will not fit. Raises BadInput."""
    place = next(folder for folder in (_folder(), *_folder().absolute().parents) if folder.is_dir())
    disk = shutil.disk_usage(place)
    if disk.total and needed > disk.free:
        raise BadInput(
            f"the cache of '{name}' needs {needed / 1e9:.1f} GB in {_folder()}, {disk.free / 1e9:.1f} GB are free: "
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


def _open(folder: Path, name: str) -> Data:
    """Return a cache's data, mapped into memory. Raises Damaged if they are not what was written."""
    try:
        body = files.read_json(folder / "header.json", "cache", FORMAT)
        digest, splits = hashlib.sha256(), []
        for split in SPLITS:
            # "c": torch wants arrays that could be written to; nothing would reach the file
            x = np.memmap(folder / f"{split}-x", np.uint8, "c", shape=tuple(body["x"][split]))
            kind, *shape = body["y"][split]
            y = np.fromfile(folder / f"{split}-y", kind).reshape(shape)
            digest.update(x.data)
            digest.update(y.data)
            splits.append(Split(torch.from_numpy(x), torch.from_numpy(y)))
        if digest.hexdigest() != body["content"]:
            raise Damaged(f"{folder} is damaged: its arrays are not what was written")
        train, validation, test = splits
        about = {key: body[key] for key in ("classes", "splits", "content")}
        return Data(name, train, validation, test, class_names=tuple(body["class_names"]), **about)
    except (OSError, ValueError) as error:
        raise Damaged(f"{folder} is damaged: {error}") from None
