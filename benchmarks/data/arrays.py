"""Images that come as arrays: .npz and .npy files of numpy, and idx files as MNIST's.

The sizes that headers claim are looked at before anything is unpacked, and nothing is unpickled.
"""

import gzip
import io
import math
import os
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO

import numpy as np

from alibench.benchmarks.data.sources import IDX, SPLIT_NAMES, Contents, Part, Source, complete
from alibench.evaluation.errors import BadInput
from alibench.evaluation.files import Unsafe, check_size, opened

# what arrays are called, in small letters
KINDS = {
    **dict.fromkeys(("x", "images", "image", "data"), "x"),
    **dict.fromkeys(("y", "labels", "label", "targets", "target"), "y"),
}
UNNAMED = {"arr_0": ("x", ""), "arr_1": ("y", "")}  # as numpy.savez calls what was given no name
IDX_KINDS = {8: "u1", 9: "i1", 11: ">i2", 12: ">i4", 13: ">f4", 14: ">f8"}  # of numbers, in an idx file
CHUNK = 1024  # images that are converted together

Arrays = dict[str, np.ndarray]


class Npz(Source):
    """An .npz of images x and labels y, or x_train, y_train, x_test and so on; an .npy of images; or idx
    files as MNIST's.

    `images`, `labels` and numpy's own `arr_0`, `arr_1` are x and y, too, and a split's name may stand before
    or after: `train_images`, as MedMNIST has it. Labels may be missing; they are integers (N,) or (N, 1) from
    0 without gaps, or one-hot (N, K). Images are (N, H, W), (N, H, W, C) or (N, C, H, W) with 1 or 3
    channels, the last axis is tried first; uint8, or any other numbers that are whole and from 0 to 255, or
    float in [0, 1], which is multiplied by 255.

    Beside an idx file `train-images...` its `train-labels...` are read, and `t10k-` or `test-` as the test
    split.
    """

    def __init__(self, path: str) -> None:
        self.where = os.path.abspath(os.path.expanduser(path))
        self.name = Path(path).name.removesuffix(".gz").removesuffix(".npz").removesuffix(".npy")

    def files(self) -> dict[str, str]:
        """Return the one file; of idx files those that lie beside it, too."""
        if not os.path.exists(self.where):
            raise BadInput(f"there is no file {self.where}")
        if os.path.isdir(self.where):
            raise BadInput(
                f"{self.where} is a folder: write folder:{self.where} for pictures, or name a file of "
                "arrays in it"
            )
        return {"npz": self.where, **self._idx_files()}

    def _idx_files(self) -> dict[str, str]:
        """Return the files of labels and of the test split, by the names of their arrays."""
        folder, name = os.path.split(self.where)
        if "images" not in name or not IDX.search(name):
            return {}
        labels = name.replace("images", "labels").replace("idx3", "idx1")
        wanted = {"y": [labels]}
        if "train" in name:
            tests = ("t10k", "test")
            wanted["x_test"] = [name.replace("train", test) for test in tests]
            wanted["y_test"] = [labels.replace("train", test) for test in tests]

        found: dict[str, str] = {}
        for key, names in wanted.items():
            both = [other for each in names for other in (each, each.removesuffix(".gz"), f"{each}.gz")]
            paths = [path for other in both if os.path.isfile(path := os.path.join(folder, other))]
            found |= {key: paths[0]} if paths else {}
        return found

    def read(self, files: Mapping[str, str], seed: int) -> Contents:
        """Return the splits."""
        arrays = self._arrays(files)
        names = self._names(arrays)
        x, y = ({split: key for (kind, split), key in names.items() if kind == which} for which in "xy")
        if y and y.keys() != x.keys():
            raise BadInput(
                f"{self.where}: labels are {', '.join(sorted(y.values()))} alone: give them for every x or "
                "for none"
            )

        images = {key: self._laid_out(key, arrays[key]) for key in x.values()}
        images, notes = self._as_uint8(images)
        labels = {key: self._one_number(arrays[key]) for key in y.values()}
        classes = len(np.unique(labels[y["train"]])) if y else 0
        given = {}
        for split, key in x.items():
            count = len(images[key])
            numbers = self._labels(y[split], labels[y[split]], classes) if y else np.full(count, -1)
            if len(numbers) != count:
                raise BadInput(f"{self.where}: {key} holds {count} images, {y[split]} {len(numbers)} labels")
            given[split] = Part(images[key], numbers)
        return Contents(*complete(given, seed, self.where), classes, notes=notes)

    # -------------------- what a file holds

    def _arrays(self, files: Mapping[str, str]) -> Arrays:
        arrays: Arrays = {}
        for name, path in files.items():
            found = read(path)
            if len(files) > 1:  # idx files, of one array each
                key = {"npz": "x", "y": "y"}.get(name, name)
                found = {
                    f"{key}_train" if key in "xy" and "x_test" in files else key: array
                    for array in found.values()
                }
            arrays |= found
        return arrays

    def _names(self, arrays: Arrays) -> dict[tuple[str, str], str]:
        """Return the name of each array by what it holds: x or y, and the split. Raises BadInput."""
        names: dict[tuple[str, str], str] = {}
        unknown = []
        for key in arrays:
            role = UNNAMED.get(key) or _role(key)
            if role is None:
                unknown.append(key)
                continue
            if role in names:
                what = "images" if role[0] == "x" else "labels"
                raise BadInput(f"{self.where}: '{names[role]}' and '{key}' both hold {what}: leave one out")
            names[role] = key

        whole = ("x", "") in names  # to be split here
        unknown += [
            key
            for (_, split), key in names.items()
            if bool(split) == whole and ("x", "train" * (not whole)) in names
        ]
        if unknown:
            raise BadInput(
                f"{self.where}: unknown array '{min(unknown)}'; known are x and y, images and labels, arr_0 "
                "and arr_1, or "
                "x_train, y_train, train_images and so on"
            )
        if not whole and ("x", "train") not in names:
            held = ", ".join(arrays) or "none"
            raise BadInput(f"{self.where}: there is neither an array x_train nor x; it holds {held}")
        return {(kind, split or "train"): key for (kind, split), key in names.items()}

    # -------------------- images and labels

    def _laid_out(self, key: str, x: np.ndarray) -> np.ndarray:
        """Return images as (N, H, W) or (N, H, W, 3)."""
        images = x
        if x.ndim == 4 and x.shape[3] not in (1, 3):
            images = np.moveaxis(x, 1, 3)
        if images.ndim == 4 and images.shape[3] == 1:
            images = images[..., 0]
        is_number = x.dtype.kind in "buif"
        if (
            not is_number
            or images.ndim not in (3, 4)
            or images.shape[3:] not in ((), (3,))
            or 0 in images.shape[1:]
        ):
            raise BadInput(
                f"{self.where}: {key} holds {x.dtype} of shape {x.shape}, images must be uint8 of (N, H, "
                "W), (N, H, W, C) "
                "or (N, C, H, W) with 1 or 3 channels"
            )
        return images

    def _as_uint8(self, images: Arrays) -> tuple[Arrays, tuple[str, ...]]:
        """Return images as uint8, and what there is to say of it; all splits are converted alike. Raises
        BadInput.
        """
        kinds = {key: x.dtype for key, x in images.items()}
        if len({*kinds.values()}) > 1:
            both = ", ".join(f"{key} {kind}" for key, kind in kinds.items())
            raise BadInput(f"{self.where}: images of several types of numbers ({both}): save all as uint8")
        kind = next(iter(kinds.values()))
        if kind == np.uint8:
            return images, ()
        if kind.kind == "b":
            return {key: x.view(np.uint8) * np.uint8(255) for key, x in images.items()}, (
                "bool became 0 and 255",
            )

        ends = [float(end) for x in images.values() if x.size for end in (x.min(), x.max())] or [0.0]
        low, high = (
            min(ends),
            max(ends),
        )  # of which one is NaN if any number is, but for the order: asked below
        bounded = all(map(math.isfinite, ends)) and low >= 0
        if bounded and kind.kind == "f" and high <= 1:
            notes = (f"{kind} in [0, 1] was multiplied by 255",)
            return {key: _converted(x, 255) for key, x in images.items()}, notes
        if bounded and high <= 255 and all(map(_is_whole, images.values())):
            return {key: _converted(x, 1) for key, x in images.items()}, ()
        raise BadInput(f"{self.where}: {', '.join(images)} holds {kind} {_remedy(ends)}")

    def _one_number(self, y: np.ndarray) -> np.ndarray:
        """Return labels (N, 1) or one-hot (N, K) as (N,); others as they are."""
        if y.ndim != 2 or y.dtype.kind not in "buif":
            return y
        if y.shape[1] == 1:
            return y[:, 0]
        one_hot = np.isin(y, (0, 1)).all() and (np.count_nonzero(y, axis=1) == 1).all()
        return y.argmax(1) if one_hot else y

    def _labels(self, key: str, y: np.ndarray, classes: int) -> np.ndarray:
        if y.dtype.kind not in "biu" or y.ndim != 1 or not np.isin(y, np.arange(classes)).all():
            raise BadInput(
                f"{self.where}: {key} holds {y.dtype} of shape {y.shape}, labels must be integers (N,) from "
                "0 without gaps, "
                "in all splits the same; or one-hot (N, K)"
            )
        return y.astype(np.int64)


def _role(key: str) -> tuple[str, str] | None:
    """Return what a name says: x or y, and the split, which may be none."""
    words = key.lower().split("_")
    kinds, splits = ([names[word] for word in words if word in names] for names in (KINDS, SPLIT_NAMES))
    if len(kinds) != 1 or len(splits) > 1 or len(words) > len(kinds) + len(splits):
        return None
    return kinds[0], splits[0] if splits else ""


def _is_whole(x: np.ndarray) -> bool:
    chunks = (x[start : start + CHUNK] for start in range(0, len(x), CHUNK))
    return x.dtype.kind in "iu" or all(bool((chunk == np.rint(chunk)).all()) for chunk in chunks)


def _converted(x: np.ndarray, factor: int) -> np.ndarray:
    """Return numbers times a factor as uint8."""
    converted = np.empty(x.shape, np.uint8)
    for start in range(0, len(x), CHUNK):
        converted[start : start + CHUNK] = np.rint(x[start : start + CHUNK].astype(np.float64) * factor)
    return converted


def _remedy(ends: list[float]) -> str:
    """Say between what ends numbers lie, and how they become images."""
    if not all(map(math.isfinite, ends)):
        return "that is not finite: find out where it comes from"
    low, high = min(ends), max(ends)
    if low >= -1 and high <= 1:
        how = "(x + 1) / 2"
    else:
        how = "x / 255" if low >= 0 and high <= 255 else f"(x - {low:.4g}) / {high - low:.4g}"
    return f"from {low:.4g} to {high:.4g}, images must be uint8, or float in [0, 1]: save {how}"


def _unreadable(path: str, what: str, error: Exception) -> BadInput:
    return BadInput(f"{path}: {what} cannot be read ({error}): save plain arrays by numpy.savez")


# ------------------------------------------------------------------------------------------------ formats


def read(path: str) -> Arrays:
    """Return the arrays of an .npz, an .npy or an idx file by their names; one without a name is x. Raises
    BadInput.
    """
    try:
        with opened(path, "unpacked") as file:
            start = file.read(6)
            file.seek(0)
            return _reader(start)(path, file)
    except BadInput:
        raise
    except Unsafe as problem:
        raise BadInput(str(problem)) from None
    except (
        Exception
    ) as error:  # a broken archive shows as whatever it breaks: OSError, BadZipFile, zlib.error, EOFError
        raise _unreadable(path, "the file", error) from None


def _reader(start: bytes) -> Callable[[str, IO[bytes]], Arrays]:
    """Return what reads a file that begins so. Raises ValueError."""
    if start[:2] == b"PK":
        return _read_npz
    if start == b"\x93NUMPY":
        return _read_npy
    if start[:2] in (b"\0\0", b"\x1f\x8b"):
        return _read_idx
    raise ValueError("it is not an .npz, .npy or idx file")


def _read_npz(path: str, file: IO[bytes]) -> Arrays:
    with zipfile.ZipFile(file) as archive:
        check_size(path, "unpacks to", sum(member.file_size for member in archive.infolist()), "unpacked")
        claimed = 0
        for member in archive.infolist():
            with archive.open(member) as array:
                claimed += _claimed(array)
        check_size(path, "claims to unpack to", claimed, "unpacked")
    file.seek(0)
    arrays: Arrays = {}
    with np.load(file, allow_pickle=False) as archive:
        for key in archive.files:
            try:
                arrays[key] = archive[key]
            except Exception as error:
                raise _unreadable(path, key, error) from None
    return arrays


def _read_npy(path: str, file: IO[bytes]) -> Arrays:
    check_size(path, "claims to unpack to", _claimed(file), "unpacked")
    file.seek(0)
    return {"x": np.load(file, allow_pickle=False)}


def _claimed(array: IO[bytes]) -> int:
    """Return how many bytes an array in numpy's format has by its header."""
    version = np.lib.format.read_magic(array)
    header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, _, kind = header(array)
    return math.prod(shape) * max(1, kind.itemsize)


def _read_idx(path: str, file: IO[bytes]) -> Arrays:
    """Read an idx file: two zeros, the kind of numbers, the number of axes, the length of each, and the
    numbers.
    """
    raw = io.BufferedReader(file)  # type: ignore[type-var]
    stream = gzip.GzipFile(fileobj=raw) if raw.peek(2)[:2] == b"\x1f\x8b" else raw
    *zeros, code, axes = stream.read(4)
    if zeros != [0, 0] or code not in IDX_KINDS or not 1 <= axes <= 4:
        raise ValueError("it is not an .npz, .npy or idx file")

    shape = tuple(int.from_bytes(stream.read(4), "big") for _ in range(axes))
    kind = np.dtype(IDX_KINDS[code])
    count = math.prod(shape) * kind.itemsize
    check_size(path, "claims to unpack to", count, "unpacked")
    content = stream.read(count + 1)
    if len(content) != count:
        raise ValueError(
            f"its header names {count:,} bytes, it holds {'more' if len(content) > count else 'less'}"
        )
    return {"x": np.frombuffer(content, kind).reshape(shape)}
