"""Images that come as arrays: .npz and .npy files of numpy, and idx files as MNIST's.

The sizes that headers claim are checked before anything is unpacked, and nothing is unpickled.
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

# names of arrays, in small letters
KINDS = {
    **dict.fromkeys(("x", "images", "image", "data"), "x"),
    **dict.fromkeys(("y", "labels", "label", "targets", "target"), "y"),
}
UNNAMED = {"arr_0": ("x", ""), "arr_1": ("y", "")}  # numpy.savez's names for what got none
IDX_KINDS = {8: "u1", 9: "i1", 11: ">i2", 12: ">i4", 13: ">f4", 14: ">f8"}  # of numbers, in an idx file
CHUNK = 1024  # images that are converted together

Arrays = dict[str, np.ndarray]


class Npz(Source):
    """An .npz of x and y, or x_train, y_train, x_test and so on; an .npy of images; or idx files as MNIST's.

    Labels may be missing. docs/own-data.md lists the names, layouts and types that are read. Next to an idx
    file `train-images...` its labels are read, and `t10k-` or `test-` as the test split.
    """

    def __init__(self, path: str) -> None:
        self.where = os.path.abspath(os.path.expanduser(path))
        self.name = Path(path).name.removesuffix(".gz").removesuffix(".npz").removesuffix(".npy")

    def files(self) -> dict[str, str]:
        """Return the file as "npz"; of idx files also the others, by the names of their arrays."""
        if not os.path.exists(self.where):
            raise BadInput(f"there is no file {self.where}")
        if os.path.isdir(self.where):
            raise BadInput(
                f"{self.where} is a folder: write folder:{self.where} for pictures, or name a file in it"
            )
        return {"npz": self.where, **_idx_files(*os.path.split(self.where))}

    def read(self, files: Mapping[str, str], seed: int) -> Contents:
        """Return the splits."""
        arrays = _read_all(files)
        try:
            parts, classes, notes = _parts(arrays)
        except ValueError as problem:
            raise BadInput(f"{self.where}: {problem}") from None
        return Contents(*complete(parts, seed, self.where), classes, notes=notes)


def _idx_files(folder: str, name: str) -> dict[str, str]:
    """Return the labels and the test split that lie next to an idx file, by the names of their arrays."""
    if "images" not in name or not IDX.search(name):
        return {}
    # idx3 has three axes, idx1 has one
    labels = name.replace("images", "labels").replace("idx3", "idx1")
    wanted = {"y": [labels]}
    if "train" in name:
        tests = ("t10k", "test")
        wanted["x_test"] = [name.replace("train", test) for test in tests]
        wanted["y_test"] = [labels.replace("train", test) for test in tests]

    files: dict[str, str] = {}
    for key, names in wanted.items():
        # each may be packed or not, whatever the first is
        either = [other for each in names for other in (each, each.removesuffix(".gz"), f"{each}.gz")]
        paths = [path for other in either if os.path.isfile(path := os.path.join(folder, other))]
        files |= {key: paths[0]} if paths else {}
    return files


def _read_all(files: Mapping[str, str]) -> Arrays:
    """Return the arrays of an .npz, or of several idx files by the names that an .npz would give them."""
    if len(files) == 1:
        return read(*files.values())
    train = "_train" if "x_test" in files else ""
    names = {"npz": f"x{train}", "y": f"y{train}"}
    return {names.get(key, key): array for key, path in files.items() for array in read(path).values()}


# ---------- from arrays to images and labels; what cannot be used is a ValueError


def _parts(arrays: Arrays) -> tuple[dict[str, Part], int, tuple[str, ...]]:
    """Return the splits, the number of classes, and notes on how the numbers were converted."""
    names = _names(arrays)
    x, y = ({split: key for (kind, split), key in names.items() if kind == which} for which in "xy")
    if y and y.keys() != x.keys():
        alone = ", ".join(sorted(y.values()))
        raise ValueError(f"labels are {alone} alone: give them for every x or for none")

    # all splits are converted alike, and have train's classes
    images, notes = _as_uint8({key: _with_channels_last(key, arrays[key]) for key in x.values()})
    labels = {key: _one_number(arrays[key]) for key in y.values()}
    classes = len(np.unique(labels[y["train"]])) if y else 0

    parts = {}
    for split, key in x.items():
        count = len(images[key])
        numbers = _labels(y[split], labels[y[split]], classes) if y else np.full(count, -1)
        if len(numbers) != count:
            raise ValueError(f"{key} holds {count} images, {y[split]} {len(numbers)} labels")
        parts[split] = Part(images[key], numbers)
    return parts, classes, notes


def _names(arrays: Arrays) -> dict[tuple[str, str], str]:
    """Return the name of each array by what it holds: "x" or "y", and the split."""
    names: dict[tuple[str, str], str] = {}
    unknown = []
    for key in arrays:
        role = UNNAMED.get(key) or _role(key)
        if role is None:
            unknown.append(key)
        elif role in names:
            what = "images" if role[0] == "x" else "labels"
            raise ValueError(f"'{names[role]}' and '{key}' both hold {what}: leave one out")
        else:
            names[role] = key

    # either all images in one array, or a split in each
    is_whole, has_train = ("x", "") in names, ("x", "train") in names
    if is_whole or has_train:
        unknown += [key for (_, split), key in names.items() if bool(split) == is_whole]
    if unknown:
        raise ValueError(
            f"unknown array '{min(unknown)}'; known are x and y, images and labels, arr_0 and arr_1, or "
            "x_train, y_train, train_images and so on"
        )
    if not is_whole and not has_train:
        raise ValueError(f"there is neither an array x_train nor x; it holds {', '.join(arrays) or 'none'}")
    return {(kind, split or "train"): key for (kind, split), key in names.items()}


def _role(key: str) -> tuple[str, str] | None:
    """Return what a name says, "x" or "y" and the split, which may be ""; None if it says neither."""
    # one word for the kind, at most one for the split, none besides
    words = key.lower().split("_")
    kinds, splits = ([names[word] for word in words if word in names] for names in (KINDS, SPLIT_NAMES))
    if len(kinds) != 1 or len(splits) > 1 or len(words) > len(kinds) + len(splits):
        return None
    return kinds[0], splits[0] if splits else ""


def _with_channels_last(key: str, x: np.ndarray) -> np.ndarray:
    """Return images as (N, H, W) or (N, H, W, 3)."""
    # the last axis is tried first, since most tools put channels there
    images = np.moveaxis(x, 1, 3) if x.ndim == 4 and x.shape[3] not in (1, 3) else x
    if images.ndim == 4 and images.shape[3] == 1:
        images = images[..., 0]

    is_image = images.ndim in (3, 4) and images.shape[3:] in ((), (3,)) and 0 not in images.shape[1:]
    if x.dtype.kind not in "buif" or not is_image:
        raise ValueError(
            f"{key} holds {x.dtype} of shape {x.shape}, images must be uint8 of (N, H, W), (N, H, W, C) "
            "or (N, C, H, W) with 1 or 3 channels"
        )
    return images


def _as_uint8(images: Arrays) -> tuple[Arrays, tuple[str, ...]]:
    """Return images as uint8, all splits converted alike, and a note on how."""
    kinds = {key: x.dtype for key, x in images.items()}
    if len({*kinds.values()}) > 1:
        several = ", ".join(f"{key} {kind}" for key, kind in kinds.items())
        raise ValueError(f"images of several types of numbers ({several}): save all as uint8")

    kind = next(iter(kinds.values()))
    if kind == np.uint8:
        return images, ()
    # masks
    if kind.kind == "b":
        black_and_white = {key: x.view(np.uint8) * np.uint8(255) for key, x in images.items()}
        return black_and_white, ("bool became 0 and 255",)

    # other numbers by their range; a NaN makes an end NaN, so that it is not bounded
    ends = [float(end) for x in images.values() if x.size for end in (x.min(), x.max())] or [0.0]
    bounded = all(map(math.isfinite, ends)) and min(ends) >= 0
    if bounded and kind.kind == "f" and max(ends) <= 1:
        return _converted(images, 255), (f"{kind} in [0, 1] was multiplied by 255",)
    if bounded and max(ends) <= 255 and all(map(_is_whole, images.values())):
        return _converted(images, 1), ()
    raise ValueError(f"{', '.join(images)} holds {kind} {_remedy(ends)}")


def _is_whole(x: np.ndarray) -> bool:
    chunks = (x[start : start + CHUNK] for start in range(0, len(x), CHUNK))
    return x.dtype.kind in "iu" or all(bool((chunk == np.rint(chunk)).all()) for chunk in chunks)


def _converted(images: Arrays, factor: int) -> Arrays:
    """Return numbers times a factor as uint8, by chunks that need little memory."""
    converted = {key: np.empty(x.shape, np.uint8) for key, x in images.items()}
    for key, x in images.items():
        for start in range(0, len(x), CHUNK):
            chunk = x[start : start + CHUNK].astype(np.float64)
            converted[key][start : start + CHUNK] = np.rint(chunk * factor)
    return converted


def _remedy(ends: list[float]) -> str:
    """Return between which ends numbers lie, and how they become images."""
    if not all(map(math.isfinite, ends)):
        return "that is not finite: find out where it comes from"
    # tanh's range, pixels that are not whole, or any other
    low, high = min(ends), max(ends)
    if low >= -1 and high <= 1:
        how = "(x + 1) / 2"
    else:
        how = "x / 255" if low >= 0 and high <= 255 else f"(x - {low:.4g}) / {high - low:.4g}"
    return f"from {low:.4g} to {high:.4g}, images must be uint8, or float in [0, 1]: save {how}"


def _one_number(y: np.ndarray) -> np.ndarray:
    """Return labels (N, 1) or one-hot (N, K) as (N,); others as they are."""
    if y.ndim != 2 or y.dtype.kind not in "buif":
        return y
    if y.shape[1] == 1:
        return y[:, 0]
    # one 1 in each row
    one_hot = np.isin(y, (0, 1)).all() and (np.count_nonzero(y, axis=1) == 1).all()
    return y.argmax(1) if one_hot else y


def _labels(key: str, y: np.ndarray, classes: int) -> np.ndarray:
    if y.dtype.kind not in "biu" or y.ndim != 1 or not np.isin(y, np.arange(classes)).all():
        raise ValueError(
            f"{key} holds {y.dtype} of shape {y.shape}, labels must be integers (N,) from 0 without gaps, "
            "in all splits the same; or one-hot (N, K)"
        )
    return y.astype(np.int64)


# ---------- formats of files


def read(path: str) -> Arrays:
    """Return the arrays of an .npz, .npy or idx file by name; a nameless one is "x". Raises BadInput."""
    try:
        with opened(path, "unpacked") as file:
            start = file.read(6)
            file.seek(0)
            return _reader(start)(path, file)
    except BadInput:
        raise
    except Unsafe as problem:
        raise BadInput(str(problem)) from None
    except Exception as error:  # whatever a broken archive breaks: OSError, BadZipFile, zlib.error, EOFError
        raise _unreadable(path, "the file", error) from None


def _unreadable(path: str, what: str, error: Exception) -> BadInput:
    return BadInput(f"{path}: {what} cannot be read ({error}): save plain arrays by numpy.savez")


def _reader(start: bytes) -> Callable[[str, IO[bytes]], Arrays]:
    """Return the reader of a file that begins so. Raises ValueError."""
    if start[:2] == b"PK":
        return _read_npz
    if start == b"\x93NUMPY":
        return _read_npy
    if start[:2] in (b"\0\0", b"\x1f\x8b"):
        return _read_idx
    raise ValueError("it is not an .npz, .npy or idx file")


def _read_npz(path: str, file: IO[bytes]) -> Arrays:
    # numpy makes room for what a header claims, whatever the file holds: both are checked first
    with zipfile.ZipFile(file) as archive:
        check_size(path, "unpacks to", sum(member.file_size for member in archive.infolist()), "unpacked")
        claimed = 0
        for member in archive.infolist():
            with archive.open(member) as array:
                claimed += _claimed(array)
        check_size(path, "claims to unpack to", claimed, "unpacked")

    # one by one, so that a broken array is named
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
    """Read two zeros, the kind of numbers, the number of axes, the length of each, and the numbers."""
    # packed or not: gzip has a magic number of its own
    raw = io.BufferedReader(file)  # type: ignore[type-var]
    stream = gzip.GzipFile(fileobj=raw) if raw.peek(2)[:2] == b"\x1f\x8b" else raw
    *zeros, code, axes = stream.read(4)
    if zeros != [0, 0] or code not in IDX_KINDS or not 1 <= axes <= 4:
        raise ValueError("it is not an .npz, .npy or idx file")

    shape = tuple(int.from_bytes(stream.read(4), "big") for _ in range(axes))
    kind = np.dtype(IDX_KINDS[code])
    count = math.prod(shape) * kind.itemsize
    check_size(path, "claims to unpack to", count, "unpacked")

    # one byte more than there should be shows whether the file ends here
    content = stream.read(count + 1)
    if len(content) != count:
        size = "more" if len(content) > count else "less"
        raise ValueError(f"its header names {count:,} bytes, it holds {size}")
    return {"x": np.frombuffer(content, kind).reshape(shape)}
