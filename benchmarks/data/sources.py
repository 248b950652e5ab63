"""A dataset as it lies on the disk, before its images are decoded, and its first kind: a folder of pictures.

A source names its files and says which image, with which label, belongs to which split. arrays.py and
published.py have the other kinds; cache.py decodes what they name.
"""

import os
import re
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar, Literal

import numpy as np
from msgspec import Meta

from alibench.evaluation.errors import BadInput
from alibench.evaluation.files import Size, Unsafe, is_line
from alibench.evaluation.messages import listed

SPLITS = ("train", "validation", "test")
SPLIT_NAMES = {  # of folders and arrays, in small letters
    **{"train": "train", "training": "train", "test": "test", "testing": "test"},
    **{"validation": "validation", "valid": "validation", "val": "validation"},
}
# what other programs leave among pictures, in small letters
SIDE_FILES, SIDE_FOLDERS = ("thumbs.db", "desktop.ini", "ehthumbs.db"), ("__macosx", "@eadir")
SIDE_ENDINGS = (".csv", ".tsv", ".txt", ".json", ".jsonl", ".xml", ".md", ".yaml", ".yml")
# the end of an idx file's name, as MNIST has it
IDX = re.compile(r"idx\d-ubyte(\.gz)?$")
# a folder that somebody may mean as a split, or as one of two domains, as trainA
NEARLY_A_SPLIT = re.compile(
    rf"({'|'.join(SPLIT_NAMES)}|dev|eval)([ _-]?(set|data|images|imgs|pictures)|[ab])", re.IGNORECASE
)


@dataclass(frozen=True)
class Options:
    """How images are read; a suite's [data] table."""

    # pixels of the shorter side, the square in the middle is kept; 0: images stay as they are
    size: Annotated[int, Meta(ge=0, le=1024)] = 0
    channels: Literal[0, 1, 3] = 0  # 0: grey if all are grey, else colour
    seed: Annotated[int, Meta(ge=0, lt=2**32)] = 0  # of the splits that a source does not have itself
    resplit: bool = False  # every run deals those splits anew, by this seed plus its own
    anomaly: Annotated[int, Meta(ge=-1)] = -1  # the class that is left out of train; none, or the table's own


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
    """The splits of a source, each in a fixed random order, so that its first n images are a random draw."""

    train: Part
    validation: Part
    test: Part
    splits: str  # how they were made, in a line
    classes: int = 0
    class_names: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()  # what the user should know besides, each in a line

    @property
    def parts(self) -> tuple[Part, Part, Part]:
        """The splits in the order of SPLITS."""
        return self.train, self.validation, self.test


class Source(ABC):
    """A dataset as it lies on the disk."""

    name: str
    where: str  # the place that messages name
    size: ClassVar[int] = 0  # what Options.size stands for if it is 0
    largest: ClassVar[Size] = "unpacked"  # how large one of its files may be

    @abstractmethod
    def files(self) -> dict[str, str]:
        """Return the paths of all files by names that are unique within the source. Raises BadInput."""

    def reads(self, path: Path) -> bool:
        """Return whether a new file at that path would become one of the source's."""
        return False

    @abstractmethod
    def read(self, files: Mapping[str, str], seed: int) -> Contents:
        """Return the splits of what `files` returned. Raises BadInput."""

    def extractor(self, options: Options) -> str:
        """Return the shipped feature extractor for images that are read so; "" if there is none."""
        return ""


@contextmanager
def reading() -> Iterator[None]:
    """Make BadInput of what goes wrong when files are looked at."""
    try:
        yield
    except Unsafe as problem:
        raise BadInput(str(problem)) from None
    except OSError as error:
        raise BadInput(f"cannot read {error.filename}: {error.strerror}") from None


def walk(folder: str, prefix: str = "", skipped: list[str] | None = None) -> Iterator[str]:
    """Yield the pictures below a folder, as names/with/slashes, in order. Raises BadInput.

    Links are followed. Hidden files are left out; the names of other programs' files are added to `skipped`.
    """
    here = os.path.normpath(os.path.join(folder, prefix))
    try:
        # sorted: the order of files decides which image falls into which split
        entries = sorted((entry.name, entry.is_dir(), entry.is_file()) for entry in os.scandir(here))
    except OSError as error:
        raise BadInput(f"cannot read the folder {here}: {error.strerror}") from None

    # what is not a picture
    visible = [entry for entry in entries if not entry[0].startswith(".")]
    kept = [entry for entry in visible if not _is_side(entry[0], entry[1])]
    if skipped is not None:
        skipped += [prefix + name for name, is_folder, _ in visible if _is_side(name, is_folder)]
    if not kept:
        problem = "holds no pictures" if visible else "is empty"
        raise BadInput(f"the folder {here} {problem}: put images into it or remove it")

    # files and, at most two levels deep, folders: a split and a class
    for name, is_folder, is_file in kept:
        path = os.path.join(here, name)
        if is_file:
            yield prefix + name
        elif not is_folder:
            raise BadInput(f"{path} is a pipe, a device or a broken link, not a file: remove it")
        elif prefix.count("/") < 2:
            yield from walk(folder, f"{prefix}{name}/", skipped)
        else:
            raise BadInput(f"{path} lies too deep: class folders hold images alone")


def _is_side(name: str, is_folder: bool) -> bool:
    small = name.lower()
    if is_folder:
        return small in SIDE_FOLDERS
    return small in SIDE_FILES or small.endswith(SIDE_ENDINGS)


def shuffled(part: Part, seed: int) -> Part:
    """Return a part in the random order of that seed."""
    return part[np.random.RandomState(seed).permutation(len(part))]


def complete(given: Mapping[str, Part], seed: int, where: str) -> tuple[Part, Part, Part, str]:
    """Return the three splits, each in random order, and a line that says how they were made.

    A split that is not given is dealt from train, an equal share of every class. Raises BadInput for an
    empty one.
    """
    # labels are dealt in the order that train gets, so that a class's own order has no influence
    train = given["train"]
    order = np.random.RandomState(seed).permutation(len(train))
    tenth, rule = _tenths(train.y[order], seed), f"within each class by seed {seed}"
    held_out = {split: shuffled(part, seed) for split, part in given.items() if split != "train"}

    if len(held_out) == 2:
        parts = train[order], held_out["validation"], held_out["test"]
        splits = "train / validation / test, as given"
    elif held_out:
        # ImageNet's validation images are what papers test on
        ((name, test),) = held_out.items()
        parts = train[order[tenth > 0]], train[order[tenth == 0]], test
        tested = "test" if name == "test" else "validation, as there is no test"
        splits = f"nine tenths of train / a tenth of train, {rule} / {tested}"
    else:
        parts = train[order[tenth % 5 > 0]], train[order[tenth == 0]], train[order[tenth == 5]]
        splits = f"eight tenths / a tenth / a tenth, {rule}"

    # a tenth of a few images may be none
    for split, part in zip(SPLITS, parts, strict=True):
        if not len(part):
            raise BadInput(f"{where}: no images are left for the {split} split: add some")
    return *parts, splits


def _tenths(y: np.ndarray, seed: int) -> np.ndarray:
    """Return a random tenth, 0 to 9, for each sample; each holds a tenth of every class, give or take one."""
    # a random order within each class, the classes one after the other
    order = np.random.RandomState(seed).permutation(len(y))
    order = order[np.argsort(y[order], kind="stable")]
    tenth = np.empty(len(y), dtype=int)
    tenth[order] = np.arange(len(y)) % 10
    return tenth


class Folder(Source):
    """A folder of images; class folders become labels, train/, validation/ (or val/) and test/ the splits.

    Hidden files and other programs' side files do not count; every other file has to be an image.
    """

    def __init__(self, path: str) -> None:
        self.where = os.path.abspath(os.path.expanduser(path))
        self.name = os.path.basename(self.where)
        self.skipped: list[str] = []  # side files that `files` met

    def files(self) -> dict[str, str]:
        """Return all files that count."""
        if not os.path.isdir(self.where):
            raise BadInput(
                f"there is no folder {self.where}: name one by --data folder:PATH; arrays are npz:FILE"
            )

        self.skipped = []
        return {name: os.path.join(self.where, name) for name in walk(self.where, skipped=self.skipped)}

    def reads(self, path: Path) -> bool:
        """Return whether a new file at that path would become a part of the folder."""
        # where links lead to; hidden files do not count
        here, there = Path(os.path.realpath(self.where)), Path(os.path.realpath(path))
        return there.is_relative_to(here) and not any(
            name.startswith(".") for name in there.relative_to(here).parts
        )

    def read(self, files: Mapping[str, str], seed: int) -> Contents:
        """Return the splits; the classes are those of train, in the order of their names."""
        if packed := next((path for name, path in files.items() if IDX.search(name)), None):
            raise BadInput(
                f"{packed} is an idx file, as MNIST comes: name that of the train images, npz:FILE"
            )
        by_split = self._by_split(files)
        labels = {split: [name.rpartition("/")[0] for name in names] for split, names in by_split.items()}
        class_names = self._classes(labels)

        # train's classes number the labels of all splits
        number = {name: c for c, name in enumerate(class_names)} or {"": -1}
        parts = {}
        for split, names in by_split.items():
            y = np.array([number[label] for label in labels[split]])
            parts[split] = Part(np.array([*names.values()], dtype=object), y)

        notes = (f"passed over, as they are not pictures: {listed(self.skipped)}",) if self.skipped else ()
        return Contents(*complete(parts, seed, self.where), len(class_names), tuple(class_names), notes)

    def _by_split(self, files: Mapping[str, str]) -> dict[str, dict[str, str]]:
        """Return each split's files by their names below its folder. Raises BadInput."""
        folders = sorted({name.partition("/")[0] for name in files if "/" in name})
        split_of = {name: SPLIT_NAMES[name.lower()] for name in folders if name.lower() in SPLIT_NAMES}
        self._check_splits(folders, split_of)
        if not split_of:
            return {"train": dict(files)}  # to be dealt out

        by_split: dict[str, dict[str, str]] = {}
        for name, path in files.items():
            folder, _, below = name.partition("/")
            if folder not in split_of or not below:
                raise BadInput(
                    f"{path} lies beside the folders train, validation or val, and test: move it away"
                )
            by_split.setdefault(split_of[folder], {})[below] = path
        return by_split

    def _check_splits(self, folders: Sequence[str], split_of: Mapping[str, str]) -> None:
        """Refuse splits under names that would make them classes, and a set of splits that is not one."""
        # one such folder may be a class, several are splits
        nearly = [name for name in folders if NEARLY_A_SPLIT.fullmatch(name)]
        if len(nearly) > 1 or (nearly and split_of):
            raise BadInput(
                f"{self.where}: {listed(nearly)} seem to be splits: rename those of one dataset to train, "
                "validation or test; or, if they are classes, otherwise"
            )

        # train is needed, and each split once
        if split_of and ("train" not in split_of.values() or len({*split_of.values()}) < len(split_of)):
            raise BadInput(
                f"{self.where}: the folders of splits are train, validation or val (not both) and test, "
                f"here are {listed([*split_of])}; mend them"
            )

    def _classes(self, labels: Mapping[str, Sequence[str]]) -> list[str]:
        """Return the names of train's classes, none for loose images. Raises BadInput."""
        known = sorted(set(labels["train"]))
        for split, of_images in labels.items():
            odd = [f"'{name or '.'}'" for name in sorted({*of_images}) if "/" in name or name not in known]
            if odd or ("" in known and len(known) > 1):
                there = listed(odd or [f"'{name or '.'}'" for name in known])
                raise BadInput(
                    f"{self.where}: {split} has images in {there}: class folders hold images alone, the same "
                    "in all splits, and none lie beside them"
                )

        # loose images have no class
        names = [] if known == [""] else known
        if steering := next((name for name in names if not is_line(name)), None):
            raise BadInput(f"{self.where}: the class folder {steering!r} is not plain text: rename it")
        return names
