"""Images that come as arrays: .npz and .npy files of numpy, and idx files as MNIST's.

The sizes that headers claim are checked before anything is unpacked, and nothing is unpickled.
"""

import gzip
import io
import math
import os
import zipfile
from collections.abc import Mapping
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
CODES = "z"  # the codes of samples, in what `alibench sample` writes: they are left aside
UNNAMED = {"arr_0": "x", "arr_1": "y"}  # numpy.savez's names for what got none
IDX_KINDS = {8: "u1", 9: "i1", 11: ">i2", 12: ">i4", 13: ">f4", 14: ">f8"}  # of numbers, in an idx file

Arrays = dict[str, np.ndarray]


class Npz(Source):
    """An .npz of x and y, or x_train, y_train, x_test and so on; an .npy of images; or idx files as MNIST's.

    Labels may be missing. docs/own-data.md lists the names, layouts and types that are read.
    """

    def __init__(self, path: str) -> None:
        self.where = os.path.abspath(os.path.expanduser(path))
        self.name = Path(path).name.removesuffix(".gz").removesuffix(".npz").removesuffix(".npy")

    def files(self) -> dict[str, str]:
        """Return the file as "npz", and what lies next to an idx file by the names of its arrays."""
        if not os.path.exists(self.where) or os.path.isdir(self.where):
            raise BadInput(f"there is no file {self.where}: name an .npz or .npy; pictures are folder:PATH")
        return {"npz": self.where, **_idx_files(*os.path.split(self.where))}

    def read(self, files: Mapping[str, str], seed: int) -> Contents:
        """Return the splits."""
        arrays = _read_all(files)
        arrays.pop(CODES, None)
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
        wanted["x_test"] = [name.replace("train", test) for test in ("t10k", "test")]
        wanted["y_test"] = [labels.replace("train", test) for test in ("t10k", "test")]

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
        return read(files["npz"])
    train = "_train" if "x_test" in files else ""
    names = {"npz": f"x{train}", "y": f"y{train}"}
    return {names.get(key, key): array for key, path in files.items() for array in read(path).values()}


# ---------- from arrays to images and labels; what cannot be used is a ValueError


def _parts(arrays: Arrays) -> tuple[dict[str, Part], int, tuple[str, ...]]:
    """Return the splits, the number of classes, and notes on how the numbers were converted."""
    x, y = _names(arrays)
    # all splits are converted alike, and have train's classes
    images, notes = _as_uint8({key: channels_last(key, arrays[key]) for key in x.values()})
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


def _names(arrays: Arrays) -> tuple[dict[str, str], dict[str, str]]:
    """Return the names of the arrays of images, and of those of labels, by their splits."""
    names: dict[str, dict[str, str]] = {"x": {}, "y": {}}
    for key in arrays:
        # one word for the kind, at most one for the split, none besides
        words = UNNAMED.get(key, key).lower().split("_")
        kinds, splits = ([known[word] for word in words if word in known] for known in (KINDS, SPLIT_NAMES))
        if len(kinds) == 1 and len(words) == 1 + len(splits) < 3:
            names[kinds[0]].setdefault(splits[0] if splits else "", key)

    # each array is one of them; all images are in one array, or a split in each
    x, y = names.values()
    is_known = len(x) + len(y) == len(arrays) and (not y or x.keys() == y.keys())
    if not is_known or ("" in x) + ("train" in x) != 1 or ("" in x and len(x) > 1):
        raise ValueError(
            f"it holds {', '.join(arrays) or 'nothing'}: call arrays x and y, images and labels, arr_0 and "
            "arr_1, or x_train, y_train, train_images and so on, with labels of every split or of none"
        )
    x, y = ({split or "train": key for split, key in named.items()} for named in (x, y))
    return x, y


def channels_last(key: str, x: np.ndarray) -> np.ndarray:
    """Return images as (N, H, W) or (N, H, W, 3). Raises ValueError for other arrays."""
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

    # numpy's ends are NaN where a number is, so that it lies between no two others
    ends = [float(end) for x in images.values() if x.size for end in (x.min(), x.max())] or [0.0]
    low, high = np.min(ends), np.max(ends)
    factor, note = 255, ""
    if kind.kind == "b":
        note = "bool became 0 and 255"
    elif kind.kind == "f" and low >= 0 and high <= 1:
        note = f"{kind} in [0, 1] was multiplied by 255"
    elif low >= 0 and high <= 255 and all((x == np.rint(x)).all() for part in images.values() for x in part):
        factor = 1
    else:
        raise ValueError(
            f"{', '.join(images)} holds {kind} from {low:.4g} to {high:.4g}, images must be uint8, or float "
            "in [0, 1]: save (x + 1) / 2 of numbers in [-1, 1], x / 255 of numbers up to 255"
        )

    def converted(x: np.ndarray) -> np.ndarray:
        # one by one, since float64 of all takes eight times the memory
        pixels = [np.rint(image.astype(np.float64) * factor).astype(np.uint8) for image in x]
        return np.array(pixels, np.uint8).reshape(x.shape)

    return {key: converted(x) for key, x in images.items()}, (note,) * bool(note)


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
    are_numbers = y.dtype.kind in "biu" and y.ndim == 1
    if not are_numbers or not np.isin(y, np.arange(classes)).all():
        held = f"{y.dtype} of shape {y.shape}"
        if are_numbers:
            held = f"labels from {y.min()} to {y.max()}"
        raise ValueError(
            f"{key} holds {held}, labels must be integers (N,) from 0 without gaps, in all splits the same; "
            "or one-hot (N, K)"
        )
    return y.astype(np.int64)


# ---------- formats of files


def read(path: str) -> Arrays:
    """Return the arrays of an .npz by name, or that of an .npy or idx file as "x". Raises BadInput."""
    try:
        with opened(path, "unpacked") as file:
            start = file.read(6)
            file.seek(0)
            if start[:2] in (b"\0\0", b"\x1f\x8b"):
                return {"x": _read_idx(path, file)}

            # numpy makes room for what a header claims, whatever the file holds
            is_npy = start == b"\x93NUMPY"
            claimed = _claimed(file) if is_npy else _claimed_by_all(path, file)
            check_size(path, "claims to unpack to", claimed, "unpacked")
            file.seek(0)
            held = np.load(file, allow_pickle=False)
            return {"x": held} if is_npy else dict(held)
    except Unsafe as problem:
        raise BadInput(str(problem)) from None
    except Exception as error:  # whatever a broken archive breaks: OSError, BadZipFile, zlib.error, EOFError
        raise BadInput(f"{path} cannot be read ({error}): save plain arrays by numpy.savez") from None


def _read_idx(path: str, file: IO[bytes]) -> np.ndarray:
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
        raise ValueError(f"its header names {count:,} bytes, it holds more or less")
    return np.frombuffer(content, kind).reshape(shape)


def _claimed_by_all(path: str, file: IO[bytes]) -> int:
    """Return how many bytes all arrays of an .npz have by their headers. Raises Unsafe for a packed flood."""
    with zipfile.ZipFile(file) as archive:
        members = archive.infolist()
        check_size(path, "unpacks to", sum(member.file_size for member in members), "unpacked")
        claimed = 0
        for member in members:
            with archive.open(member) as array:
                claimed += _claimed(array)
    return claimed


def _claimed(array: IO[bytes]) -> int:
    """Return how many bytes an array in numpy's format has by its header."""
    version = np.lib.format.read_magic(array)
    header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, _, kind = header(array)
    return math.prod(shape) * max(1, kind.itemsize)
