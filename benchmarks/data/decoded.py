"""Decoded images on the disk: a folder of bare arrays with a header, mapped into memory.

Its arrays are compared with their checksum when they are opened, at about 2 GB/s: CIFAR-10 takes a tenth of a
second, CelebA one and a half.
"""

import hashlib
import math
import os
import shutil
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
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

FORMAT = 2  # of the files
HEADER = "header.json"

T = TypeVar("T")
Length = Annotated[int, Meta(ge=1, le=2**40)]
Side = Annotated[int, Meta(ge=1, le=2**16)]
BySplit = Annotated[dict[Literal["train", "validation", "test"], T], Meta(min_length=3)]


class LabelArray(msgspec.Struct, array_like=True, forbid_unknown_fields=True):
    """The type and shape of a split's labels, one of each image, or of each image and attribute."""

    kind: Literal["<i4", "<i8", "|u1"]
    images: Length
    attributes: Length | None = None


class DecodedHeader(msgspec.Struct):
    """What a folder of decoded images holds."""

    content: Sha256  # of the arrays, as Data.sha256
    source: Sha256  # of the files that they were read from
    classes: Annotated[int, Meta(ge=0, le=10_000_000)]
    class_names: list[str]
    splits: str
    x: BySplit[tuple[Length, Literal[1, 3], Side, Side]]
    y: BySplit[LabelArray]


# ---------- reading


def read_header(folder: Path) -> dict[str, Any]:
    """Return the header, as DecodedHeader says. Raises Damaged, or OSError."""
    header: dict[str, Any] = sealed.read_json(folder / HEADER, "cache", FORMAT, DecodedHeader)
    return header


def read(folder: Path, source: Source, options: Options, checked: bool = True) -> Data:
    """Return the data, mapped into memory. Where `checked`, damage raises Damaged."""
    try:
        header = read_header(folder)
        _check_shapes(folder, header)

        digest, splits = hashlib.sha256(), []
        for split in SPLITS:
            # the checksum is that of Data.sha256: images and labels of each split in turn
            x = _mapped(folder / f"{split}-x", "|u1", header["x"][split])
            kind, *shape = header["y"][split]
            y = _mapped(folder / f"{split}-y", kind, shape)
            if checked:
                digest.update(x.data)
                digest.update(y.data)
            splits.append(Split(torch.from_numpy(x), torch.from_numpy(y)))
        if checked and digest.hexdigest() != header["content"]:
            raise Damaged(f"{folder} is damaged: its arrays are not what was written")
    except (OSError, ValueError) as error:
        raise Damaged(f"{folder} is damaged: {error}") from None

    about = {key: header[key] for key in ("classes", "splits", "content")}
    about |= {"extractor": source.extractor(options), "class_names": tuple(header["class_names"])}
    train, validation, test = splits
    return Data(source.name, train, validation, test, **about)


def _check_shapes(folder: Path, header: Mapping[str, Any]) -> None:
    # a header that somebody else made may be of any shape
    if len({tuple(shape[1:]) for shape in header["x"].values()}) > 1:
        raise Damaged(f"{folder / HEADER} does not name images of one size")
    if any(header["y"][split][1] != header["x"][split][0] for split in SPLITS):
        raise Damaged(f"{folder / HEADER} does not name a label of each image")


def _mapped(path: Path, kind: str, shape: Sequence[int]) -> np.ndarray:
    """Return the array in a file. Raises Damaged if it is of another size, or OSError."""
    with files.opened(path, links=False) as file:
        if os.fstat(file.fileno()).st_size != math.prod(shape) * np.dtype(kind).itemsize:
            raise Damaged(f"{path} is damaged: it is not of the size that its header names")
        # "c": torch wants arrays that could be written to; nothing would reach the file
        return np.memmap(file, kind, "c", shape=tuple(shape))


# ---------- writing


def write(folder: Path, contents: Contents, source: Source, options: Options, source_sha256: str) -> None:
    """Decode all images into a new folder. Raises BadInput for one that is broken or of another size."""
    # the shape, and how numbers become 0 to 255, are those of the whole set
    pictures, size = [part.images for part in contents.parts], options.size or source.size
    headers = images.headers(pictures)
    shape = images.common_shape(source.where, pictures, headers, size, options.channels)
    deep = [picture for picture, header in zip(chain(*pictures), headers, strict=True) if header.deep]
    levels = images.find_levels(source.where, chain(*pictures), deep, shape[0])
    needed = len(headers) * math.prod(shape)
    _check_space(folder, source.name, needed)

    stream = images.decode_all(pictures, size, shape, levels)
    progress = iter(tracked(stream, len(headers), f"decoding {source.name}"))
    parts = dict(zip(SPLITS, contents.parts, strict=True))
    with writing(f"the cache of '{source.name}', {needed:,} bytes,", folder.parent):
        folder.mkdir(parents=True)
        content, copies = _write_arrays(folder, parts, progress)
        notes = [*contents.notes, *_about_pixels(headers, levels), *_about_copies(parts, copies)]
        # files may be called anything
        notes = [files.one_line(note).encode(errors="backslashreplace").decode() for note in notes]
        for note in notes:
            say(f"data '{source.name}': {note}")

        header = {
            "content": content,
            "source": source_sha256,
            "classes": contents.classes,
            "class_names": contents.class_names,
            "splits": "; ".join([contents.splits, *notes]),
            "x": {split: [len(part), *shape] for split, part in parts.items()},
            "y": {split: [part.y.dtype.str, *part.y.shape] for split, part in parts.items()},
        }
        sealed.write_json(folder / HEADER, "cache", FORMAT, header)


def _write_arrays(
    folder: Path, parts: Mapping[str, Part], stream: Iterator[np.ndarray]
) -> tuple[str, Counter[str]]:
    """Write all images and labels; return their hash, and each split's number of copies of train images."""
    digest, train, copies = hashlib.sha256(), set[bytes](), Counter[str]()
    for split, part in parts.items():
        # images, compared with those of train by a hash
        with _new_file(folder / f"{split}-x") as file:
            for image in islice(stream, len(part)):
                digest.update(image.data)
                file.write(image.data)

                pixels = hashlib.blake2b(image.data, digest_size=16).digest()
                if split == "train":
                    train.add(pixels)
                else:
                    copies[split] += pixels in train

        # labels
        with _new_file(folder / f"{split}-y") as file:
            y = np.ascontiguousarray(part.y)
            digest.update(y.data)
            file.write(y.data)
    return digest.hexdigest(), copies


def _about_pixels(headers: Sequence[images.PictureHeader], levels: images.Levels) -> Iterator[str]:
    """Yield a line for each unusual kind of pictures, and what was done with it."""
    number = f"{len(headers):,}"
    flags = ((header.animated, header.transparent, header.deep) for header in headers)
    animated, transparent, deep = map(sum, zip(*flags, strict=True))
    if animated:
        yield f"{animated:,} of {number} pictures hold several frames or pages: the first of each was taken"
    if transparent:
        yield f"{transparent:,} of {number} pictures can be transparent: they were put on {images.BACKGROUND}"
    if deep and levels.bits < images.FULL.bits:
        yield f"{deep:,} pictures use {levels.bits} of 16 bits: their upper 8 were taken"
    if levels.binary:
        yield "no pixel was brighter than 1 of 255: the pictures were taken for masks, in which 1 became 255"


def _about_copies(parts: Mapping[str, Part], copies: Mapping[str, int]) -> Iterator[str]:
    """Yield how many images a model was trained on that it is judged by."""
    for split, count in copies.items():
        if count:
            yield f"{count:,} of {len(parts[split]):,} {split} images are exact copies of train images"


def _check_space(folder: Path, name: str, needed: int) -> None:
    # the folder itself is not made yet
    place = next(parent for parent in folder.absolute().parents if parent.is_dir())
    disk = shutil.disk_usage(place)
    if disk.total and needed > disk.free:
        raise BadInput(
            f"the cache of '{name}' needs {needed / 1e9:.1f} GB in {folder.parent}, {disk.free / 1e9:.1f} GB "
            "are free: make room or set ALIBENCH_DATA"
        )


def tracked(items: Iterable[T], total: int, description: str) -> Iterable[T]:
    """Yield items under a progress bar, where stderr is a terminal."""
    console = Console(stderr=True)
    return track(items, description, total, console=console, transient=True, disable=not console.is_terminal)


@contextmanager
def writing(what: str, folder: Path) -> Iterator[None]:
    """Make BadInput of what a full disk or a locked folder raises. A memory map would be killed."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or error
        raise BadInput(
            f"cannot write {what} to {folder} ({reason}): make room or set ALIBENCH_DATA"
        ) from None


@contextmanager
def _new_file(path: Path) -> Iterator[IO[bytes]]:
    """Open a new file that is on the disk, not only on its way, once it is closed."""
    with open(path, "wb") as file:
        yield file
        # to the disk: the rename that follows would be there after a crash, the contents not
        file.flush()
        os.fsync(file.fileno())
