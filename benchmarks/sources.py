"""Where images come from, before they are decoded: anyone's folders and arrays. Published sets are in published.py.

A source names its files and says which image, with which label, stands in which split; cache.py decodes and keeps them.
"""

import math
import os
import zipfile
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Annotated, ClassVar, Literal

import numpy as np
from msgspec import Meta

from evaluation.base import BadInput
from evaluation.files import Size, Unsafe, check_size, is_line, opened

SPLITS = ("train", "validation", "test")


@dataclass(frozen=True)
class Options:
    """How images are read; a suite's [data] table."""

    size: Annotated[int, Meta(ge=0, le=1024)] = 0  # of the shorter side, the middle square of it is kept; 0: as they are
    channels: Literal[0, 1, 3] = 0  # 0: grey if all are grey, else colour
    seed: Annotated[int, Meta(ge=0, lt=2**32)] = 0  # of the splits that a source does not have itself


@dataclass(frozen=True)
class Part:
    """Images with their labels, not decoded yet."""

    images: np.ndarray  # paths (N,), or pixels (N, H, W) or (N, H, W, 3)
    y: np.ndarray  # classes (N,), all -1 if there are none; or binary attributes (N, A)

    def __len__(self) -> int:
        return len(self.y)

    def __getitem__(self, index: np.ndarray) -> "Part":
        return Part(self.images[index], self.y[index])


@dataclass(frozen=True)
class Contents:
    """All that a source says about its images."""

    train: Part
    validation: Part
    test: Part
    splits: str  # how they were made, in a line
    classes: int = 0
    class_names: tuple[str, ...] = ()


class Source(ABC):
    """A data set as it lies on the disk."""

    name: str
    where: str  # what messages call it
    size: ClassVar[int] = 0  # what Options.size is if it is 0
    largest: ClassVar[Size] = "unpacked"  # how large one of its files may be

    @abstractmethod
    def files(self) -> dict[str, str]:
        """Return the paths of all files, by the names that tell them apart within the source. Raises BadInput."""

    @abstractmethod
    def read(self, files: Mapping[str, str], seed: int) -> Contents:
        """Return which image stands where, given what `files` returned. Raises BadInput."""

    def extractor(self, options: Options) -> str:
        """Return the extractor that comes with the project for the images as they are read; nothing, if none does."""
        return ""


def walk(folder: str, prefix: str = "") -> Iterator[str]:
    """Yield the files below a folder, as names/with/slashes; hidden ones are no part of it. Raises BadInput.

    Links are followed. What is neither a folder nor a regular file is refused.
    """
    here = os.path.normpath(os.path.join(folder, prefix))
    try:
        entries = sorted((entry.name, entry.is_dir(), entry.is_file()) for entry in os.scandir(here))
    except OSError as error:
        raise BadInput(f"cannot read the folder {here}: {error.strerror}") from None
    entries = [entry for entry in entries if not entry[0].startswith(".")]
    if not entries:
        raise BadInput(f"the folder {here} is empty: put images into it or remove it")
    for name, is_folder, is_file in entries:
        if is_file:
            yield prefix + name
        elif not is_folder:
            raise BadInput(f"{os.path.join(here, name)} is a pipe, a device or a broken link, not a file: remove it")
        elif prefix.count("/") < 2:
            yield from walk(folder, f"{prefix}{name}/")
        else:
            raise BadInput(f"{os.path.join(here, name)} lies too deep: class folders hold images alone")


def tenths(y: np.ndarray, seed: int) -> np.ndarray:
    """Return which tenth, 0 to 9, each sample falls into by chance; each has a tenth of every class, give or take one."""
    order = np.random.RandomState(seed).permutation(len(y))
    order = order[np.argsort(y[order], kind="stable")]
    tenth = np.empty(len(y), dtype=int)
    tenth[order] = np.arange(len(y)) % 10
    return tenth


def complete(given: Mapping[str, Part], seed: int, where: str) -> tuple[Part, Part, Part, str]:
    """Return the three splits and how they were made; what is not given is dealt from train. Raises BadInput."""
    train = given["train"]
    tenth, rule = tenths(train.y, seed), f"within each class by seed {seed}"
    if len(given) == 3:
        parts, splits = (train, given["validation"], given["test"]), "train / validation / test, as given"
    elif "test" in given:
        parts = train[tenth > 0], train[tenth == 0], given["test"]
        splits = f"nine tenths of train / a tenth of train, {rule} / test"
    elif "validation" in given:  # as ImageNet comes: its validation images are what papers test on
        parts = train[tenth > 0], train[tenth == 0], given["validation"]
        splits = f"nine tenths of train / a tenth of train, {rule} / validation, as there is no test"
    else:
        parts = train[tenth % 5 > 0], train[tenth == 0], train[tenth == 5]
        splits = f"eight tenths / a tenth / a tenth, {rule}"
    for split, part in zip(SPLITS, parts, strict=True):
        if not len(part):
            raise BadInput(f"{where}: no images are left for the {split} split: add some")
    return *parts, splits


class Folder(Source):
    """A folder of images; class folders become labels, and train/, validation/ (or val/) and test/ the splits, if there.

    Hidden files do not count; every other file has to be an image. Each split is shuffled, so that the first images of it
    are of all classes.
    """

    PLACES: ClassVar = {"train": "train", "validation": "validation", "val": "validation", "test": "test"}

    def __init__(self, path: str) -> None:
        self.where = os.path.abspath(os.path.expanduser(path))
        self.name = os.path.basename(self.where)

    def files(self) -> dict[str, str]:
        """Return all files that are not hidden."""
        if not os.path.isdir(self.where):
            raise BadInput(f"there is no folder {self.where}: name one by --data folder:PATH")
        return {name: os.path.join(self.where, name) for name in walk(self.where)}

    def read(self, files: Mapping[str, str], seed: int) -> Contents:
        """Return the splits; the classes are train's, in the order of their names."""
        by_split = self._by_split(files)
        labels = {split: [name.rpartition("/")[0] for name in names] for split, names in by_split.items()}
        known = sorted(set(labels["train"]))
        for split, found in labels.items():
            self._check(split, set(found), known)
        class_names = [] if known == [""] else known
        if steering := next((name for name in class_names if not is_line(name)), None):
            raise BadInput(f"{self.where}: the class folder {steering!r} is not one line of plain text: rename it")
        number = {name: c for c, name in enumerate(class_names)} or {"": -1}
        given = {}
        for split, names in by_split.items():
            images, y = np.array([*names.values()], dtype=object), np.array([number[label] for label in labels[split]])
            given[split] = Part(images, y)[np.random.RandomState(seed).permutation(len(y))]
        return Contents(*complete(given, seed, self.where), len(class_names), tuple(class_names))

    def _by_split(self, files: Mapping[str, str]) -> dict[str, dict[str, str]]:
        """Return each split's files, by their names below its folder."""
        folders = {name.partition("/")[0] for name in files if "/" in name}
        if not folders & set(self.PLACES):
            return {"train": dict(files)}
        if "train" not in folders or {"validation", "val"} <= folders:
            raise BadInput(
                f"{self.where}: the folders of splits are train, validation or val (not both) and test; mend them"
            )
        by_split: dict[str, dict[str, str]] = {}
        for name, path in files.items():
            place, _, below = name.partition("/")
            if place not in self.PLACES or not below:
                raise BadInput(f"{path} lies beside the folders train, validation or val, and test: move it away")
            by_split.setdefault(self.PLACES[place], {})[below] = path
        return by_split

    def _check(self, split: str, found: set[str], known: list[str]) -> None:
        for label in sorted(found):
            if "/" in label:
                raise BadInput(f"{self.where}: {label} lies too deep: class folders hold images alone")
        if "" in found and len(found) > 1:
            raise BadInput(f"{self.where}: {split} has loose images beside class folder '{max(found)}': move them into one")
        if strange := sorted(found - set(known)):
            what = f"the class '{strange[0]}'" if strange[0] else "images without a class folder"
            raise BadInput(f"{self.where}: {split} has {what}, train has not: both must have the same classes")


def _check_unpacked(where: str, file: IO[bytes]) -> None:
    """Refuse an .npz whose arrays are too large, by its directory or by their headers. Raises Unsafe, and what it meets."""
    with zipfile.ZipFile(file) as archive:
        check_size(where, "unpacks to", sum(member.file_size for member in archive.infolist()), "unpacked")
        claimed = 0
        for member in archive.infolist():
            with archive.open(member) as array:
                version = np.lib.format.read_magic(array)
                header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
                shape, _, kind = header(array)
            claimed += math.prod(shape) * max(1, kind.itemsize)
        check_size(where, "claims to unpack to", claimed, "unpacked")


class Npz(Source):
    """An .npz of uint8 x_train with integer y_train, and so on for _test and _validation; or of x and y. No y: no labels.

    Images are (N, H, W), (N, H, W, C) or (N, C, H, W) with 1 or 3 channels; the last axis is tried first.
    """

    def __init__(self, path: str) -> None:
        self.where = os.path.abspath(os.path.expanduser(path))
        self.name = Path(path).stem

    def files(self) -> dict[str, str]:
        """Return the one file."""
        if not os.path.exists(self.where):
            raise BadInput(f"there is no file {self.where}")
        return {"npz": self.where}

    def read(self, files: Mapping[str, str], seed: int) -> Contents:
        """Return the splits."""
        arrays = self._arrays()
        suffixes = {"train": ""} if "x" in arrays else {split: f"_{split}" for split in SPLITS}
        if unknown := sorted(set(arrays) - {key + suffix for key in "xy" for suffix in suffixes.values()}):
            raise BadInput(f"{self.where}: unknown array '{unknown[0]}'; known are x and y, or x_train, y_train and so on")
        there = {split: suffix for split, suffix in suffixes.items() if f"x{suffix}" in arrays}
        if "train" not in there:
            raise BadInput(f"{self.where}: there is neither an array x_train nor x; it holds {', '.join(arrays) or 'none'}")
        labelled = {key for key in arrays if key.startswith("y")}
        if labelled and labelled != {f"y{suffix}" for suffix in there.values()}:
            raise BadInput(
                f"{self.where}: labels are {', '.join(sorted(labelled))} alone: give them for every x or for none"
            )
        classes = len(np.unique(arrays[f"y{there['train']}"])) if labelled else 0
        given = {}
        for split, suffix in there.items():
            images = self._images(f"x{suffix}", arrays[f"x{suffix}"])
            y = self._labels(f"y{suffix}", arrays[f"y{suffix}"], classes) if labelled else np.full(len(images), -1)
            if len(y) != len(images):
                raise BadInput(f"{self.where}: x{suffix} holds {len(images)} images, y{suffix} {len(y)} labels")
            given[split] = Part(images, y)
        return Contents(*complete(given, seed, self.where), classes)

    def _arrays(self) -> dict[str, np.ndarray]:
        arrays, key = {}, "the file"
        try:
            with opened(self.where, self.largest) as file:
                _check_unpacked(self.where, file)
                file.seek(0)
                with np.load(file, allow_pickle=False) as archive:
                    for key in archive.files:
                        arrays[key] = archive[key]
        except Unsafe as problem:
            raise BadInput(str(problem)) from None
        except Exception as error:  # a broken archive shows as whatever it breaks: OSError, BadZipFile, zlib.error, EOFError
            raise BadInput(f"{self.where}: {key} cannot be read ({error}): save plain arrays by numpy.savez") from None
        return arrays

    def _images(self, key: str, x: np.ndarray) -> np.ndarray:
        """Return images as (N, H, W) or (N, H, W, 3)."""
        images = x
        if x.ndim == 4 and x.shape[3] not in (1, 3):
            images = np.moveaxis(x, 1, 3)
        if images.ndim == 4 and images.shape[3] == 1:
            images = images[..., 0]
        if x.dtype != np.uint8 or images.ndim not in (3, 4) or images.shape[3:] not in ((), (3,)) or 0 in images.shape[1:]:
            raise BadInput(
                f"{self.where}: {key} holds {x.dtype} of shape {x.shape}, images must be uint8 of (N, H, W), (N, H, W, C) "
                "or (N, C, H, W) with 1 or 3 channels"
            )
        return images

    def _labels(self, key: str, y: np.ndarray, classes: int) -> np.ndarray:
        if y.dtype.kind not in "iu" or y.ndim != 1 or not np.isin(y, np.arange(classes)).all():
            raise BadInput(
                f"{self.where}: {key} holds {y.dtype} of shape {y.shape}, labels must be integers (N,) from 0 without gaps, "
                "in all splits the same"
            )
        return y.astype(np.int64)
