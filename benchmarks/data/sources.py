"""Where images come from, before they are decoded: anyone's folders. arrays.py has arrays, published.py
published sets.

A source names its files and says which image, with which label, stands in which split; cache.py decodes and
keeps them.
"""

import os
import re
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar, Literal

import numpy as np
from msgspec import Meta

from alibench.evaluation.errors import BadInput
from alibench.evaluation.files import Size, is_line
from alibench.evaluation.messages import listed

SPLITS = ("train", "validation", "test")
SPLIT_NAMES = {  # what folders and arrays are called, in small letters
    **{"train": "train", "training": "train", "test": "test", "testing": "test"},
    **{"validation": "validation", "valid": "validation", "val": "validation"},
}
# what other programs leave beside pictures, in small letters
SIDE_FILES, SIDE_FOLDERS = ("thumbs.db", "desktop.ini", "ehthumbs.db"), ("__macosx", "@eadir")
SIDE_ENDINGS = (".csv", ".tsv", ".txt", ".json", ".jsonl", ".xml", ".md", ".yaml", ".yml")
IDX = re.compile(r"idx\d-ubyte(\.gz)?$")  # the end of a file's name, as MNIST has it


@dataclass(frozen=True)
class Options:
    """How images are read; a suite's [data] table."""

    size: Annotated[int, Meta(ge=0, le=1024)] = (
        0  # of the shorter side, the middle square of it is kept; 0: as they are
    )
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
    """All that a source says about its images.

    Each split is in a fixed random order: whoever takes its first n images takes a random draw of them.
    """

    train: Part
    validation: Part
    test: Part
    splits: str  # how they were made, in a line
    classes: int = 0
    class_names: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()  # what else is to be said of them, each in a line


class Source(ABC):
    """A data set as it lies on the disk."""

    name: str
    where: str  # what messages call it
    size: ClassVar[int] = 0  # what Options.size is if it is 0
    largest: ClassVar[Size] = "unpacked"  # how large one of its files may be

    @abstractmethod
    def files(self) -> dict[str, str]:
        """Return the paths of all files, by the names that tell them apart within the source. Raises
        BadInput.
        """

    def reads(self, path: Path) -> bool:
        """Return whether a file at that path, which is not one of the source's, would count as one of them."""
        return False

    @abstractmethod
    def read(self, files: Mapping[str, str], seed: int) -> Contents:
        """Return which image stands where, given what `files` returned. Raises BadInput."""

    def extractor(self, options: Options) -> str:
        """Return the extractor that comes with the project for the images as they are read; nothing, if none
        does.
        """
        return ""


def walk(folder: str, prefix: str = "", beside: list[str] | None = None) -> Iterator[str]:
    """Yield the pictures below a folder, as names/with/slashes; hidden files are left out. Raises BadInput.

    What other programs leave beside pictures is passed over, and its names are added to `beside`. Links are
    followed. What is neither a folder nor a regular file is refused.
    """
    here = os.path.normpath(os.path.join(folder, prefix))
    try:
        entries = sorted((entry.name, entry.is_dir(), entry.is_file()) for entry in os.scandir(here))
    except OSError as error:
        raise BadInput(f"cannot read the folder {here}: {error.strerror}") from None

    seen = [entry for entry in entries if not entry[0].startswith(".")]
    kept = [entry for entry in seen if not _is_beside(entry[0], entry[1])]
    if beside is not None:
        beside += [prefix + name for name, is_folder, _ in seen if _is_beside(name, is_folder)]
    if not kept:
        what = "holds no pictures" if seen else "is empty"
        raise BadInput(f"the folder {here} {what}: put images into it or remove it")

    for name, is_folder, is_file in kept:
        if is_file:
            yield prefix + name
        elif not is_folder:
            raise BadInput(
                f"{os.path.join(here, name)} is a pipe, a device or a broken link, not a file: remove it"
            )
        elif prefix.count("/") < 2:
            yield from walk(folder, f"{prefix}{name}/", beside)
        else:
            raise BadInput(f"{os.path.join(here, name)} lies too deep: class folders hold images alone")


def _is_beside(name: str, is_folder: bool) -> bool:
    small = name.lower()
    if is_folder:
        return small in SIDE_FOLDERS
    return small in SIDE_FILES or small.endswith(SIDE_ENDINGS)


def tenths(y: np.ndarray, seed: int) -> np.ndarray:
    """Return which tenth, 0 to 9, each sample falls into by chance; each has a tenth of every class, give or
    take one.
    """
    order = np.random.RandomState(seed).permutation(len(y))
    order = order[np.argsort(y[order], kind="stable")]
    tenth = np.empty(len(y), dtype=int)
    tenth[order] = np.arange(len(y)) % 10
    return tenth


def shuffled(part: Part, seed: int) -> Part:
    """Return a part in the random order of that seed."""
    return part[np.random.RandomState(seed).permutation(len(part))]


def complete(given: Mapping[str, Part], seed: int, where: str) -> tuple[Part, Part, Part, str]:
    """Return the three splits, each in random order, and how they were made; what is not given is dealt from
    train.

    Raises BadInput.
    """
    train = given["train"]
    order = np.random.RandomState(seed).permutation(len(train))
    tenth, rule = tenths(train.y[order], seed), f"within each class by seed {seed}"
    held_out = {split: shuffled(part, seed) for split, part in given.items() if split != "train"}

    if len(given) == 3:
        parts, splits = (
            (train[order], held_out["validation"], held_out["test"]),
            "train / validation / test, as given",
        )
    elif "test" in given:
        parts = train[order[tenth > 0]], train[order[tenth == 0]], held_out["test"]
        splits = f"nine tenths of train / a tenth of train, {rule} / test"
    elif "validation" in given:  # as ImageNet comes: its validation images are what papers test on
        parts = train[order[tenth > 0]], train[order[tenth == 0]], held_out["validation"]
        splits = f"nine tenths of train / a tenth of train, {rule} / validation, as there is no test"
    else:
        parts = train[order[tenth % 5 > 0]], train[order[tenth == 0]], train[order[tenth == 5]]
        splits = f"eight tenths / a tenth / a tenth, {rule}"

    for split, part in zip(SPLITS, parts, strict=True):
        if not len(part):
            raise BadInput(f"{where}: no images are left for the {split} split: add some")
    return *parts, splits


class Folder(Source):
    """A folder of images; class folders become labels, and train/, validation/ (or val/) and test/ the
    splits, if there.

    Hidden files and what other programs leave beside pictures do not count; every other file has to be an
    image.
    """

    # one of two collections, as image-to-image translation has them
    DOMAIN: ClassVar = re.compile(r"(train|test|val)[ab]", re.IGNORECASE)
    # what is called nearly as a split is
    NEARLY: ClassVar = re.compile(
        rf"({'|'.join(SPLIT_NAMES)}|dev|eval)[ _-]?(set|data|images|imgs|pictures)", re.IGNORECASE
    )

    def __init__(self, path: str) -> None:
        self.where = os.path.abspath(os.path.expanduser(path))
        self.name = os.path.basename(self.where)
        self.beside: list[str] = []  # names of what was passed over

    def files(self) -> dict[str, str]:
        """Return all files that count."""
        if os.path.isfile(self.where):
            raise BadInput(f"{self.where} is a file: unpack it, or write npz:{self.where} if it holds arrays")
        if not os.path.isdir(self.where):
            raise BadInput(f"there is no folder {self.where}: name one by --data folder:PATH")
        self.beside = []
        return {name: os.path.join(self.where, name) for name in walk(self.where, beside=self.beside)}

    def reads(self, path: Path) -> bool:
        """Return whether a file at that path would count as a part of the folder, were it there."""
        here, there = Path(os.path.realpath(self.where)), Path(os.path.realpath(path))
        return there.is_relative_to(here) and not any(
            name.startswith(".") for name in there.relative_to(here).parts
        )

    def read(self, files: Mapping[str, str], seed: int) -> Contents:
        """Return the splits; the classes are train's, in the order of their names."""
        if packed := next((path for name, path in files.items() if IDX.search(name)), None):
            raise BadInput(
                f"{packed} is an idx file, as MNIST comes: name the file with the train images, npz:FILE"
            )
        by_split = self._by_split(files)
        labels = {split: [name.rpartition("/")[0] for name in names] for split, names in by_split.items()}
        known = sorted(set(labels["train"]))
        for split, found in labels.items():
            self._check(split, set(found), known)

        class_names = [] if known == [""] else known
        if steering := next((name for name in class_names if not is_line(name)), None):
            raise BadInput(
                f"{self.where}: the class folder {steering!r} is not one line of plain text: rename it"
            )
        number = {name: c for c, name in enumerate(class_names)} or {"": -1}
        given = {}
        for split, names in by_split.items():
            images, y = (
                np.array([*names.values()], dtype=object),
                np.array([number[label] for label in labels[split]]),
            )
            given[split] = Part(images, y)

        notes = (f"passed over, as they are not pictures: {listed(self.beside)}",)
        parts = complete(given, seed, self.where)
        return Contents(*parts, len(class_names), tuple(class_names), notes if self.beside else ())

    def _by_split(self, files: Mapping[str, str]) -> dict[str, dict[str, str]]:
        """Return each split's files, by their names below its folder."""
        folders = sorted({name.partition("/")[0] for name in files if "/" in name})
        split_of = {
            folder: SPLIT_NAMES[folder.lower()] for folder in folders if folder.lower() in SPLIT_NAMES
        }
        self._check_split_names(folders, split_of)
        if not split_of:
            return {"train": dict(files)}

        by_split: dict[str, dict[str, str]] = {}
        for name, path in files.items():
            place, _, below = name.partition("/")
            if place not in split_of or not below:
                raise BadInput(
                    f"{path} lies beside the folders train, validation or val, and test: move it away"
                )
            by_split.setdefault(split_of[place], {})[below] = path
        return by_split

    def _check_split_names(self, folders: Sequence[str], split_of: Mapping[str, str]) -> None:
        """Refuse folders that would be taken for classes, and are splits under other names."""
        if any(self.DOMAIN.fullmatch(name) and name.lower().startswith("train") for name in folders):
            named = [name for name in folders if self.DOMAIN.fullmatch(name)]
            raise BadInput(
                f"{self.where}: {listed(named)} are two collections, A and B: make a folder for one of "
                "them, and in it "
                "rename trainA to train and testA to test"
            )
        nearly = [name for name in folders if self.NEARLY.fullmatch(name)]
        if len(nearly) > 1 or (nearly and split_of):
            raise BadInput(
                f"{self.where}: {listed(nearly)} seem to be splits: rename them to train, validation or "
                "test; or, if they "
                "are classes, otherwise"
            )
        if split_of and ("train" not in split_of.values() or len({*split_of.values()}) < len(split_of)):
            raise BadInput(
                f"{self.where}: the folders of splits are train, validation or val (not both) and test, "
                "here are "
                f"{listed([*split_of])}; mend them"
            )

    def _check(self, split: str, found: set[str], known: list[str]) -> None:
        for label in sorted(found):
            if "/" in label:
                raise BadInput(f"{self.where}: {label} lies too deep: class folders hold images alone")
        if "" in found and len(found) > 1:
            raise BadInput(
                f"{self.where}: {split} has loose images beside class folder '{max(found)}': move them into "
                "one"
            )
        if strange := sorted(found - set(known)):
            what = f"the class '{strange[0]}'" if strange[0] else "images without a class folder"
            raise BadInput(
                f"{self.where}: {split} has {what}, train has not: both must have the same classes"
            )
