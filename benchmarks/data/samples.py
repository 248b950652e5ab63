"""Samples that a model elsewhere left: a folder of images, or an array of them in an .npz or .npy.

They are taken as they are, of exactly the data's shape: what resizes, or turns colours grey, changes FID.
"""

import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from alibench.benchmarks.data import arrays, cache, datasets, images, sources
from alibench.evaluation import files
from alibench.evaluation.data import as_float, unfit
from alibench.evaluation.errors import BadInput

ARRAYS = (".npz", ".npy")
NAMES = ("samples", "x", "images", "arr_0")  # of the array in an .npz that holds several
LOOKED_AT = 100  # files, whose first bytes say what they are
MAGIC = 16  # bytes
LOSSY, LOSSLESS = "JPEG", "without loss"


def shown(path: Path) -> str:
    """Return a path as a user reads it: from the working folder, where it lies below that."""
    return str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)


def is_array(path: Path) -> bool:
    """Return whether samples are one file of arrays, not a folder."""
    return path.suffix.lower() in ARRAYS and not path.is_dir()


def found(path: Path) -> dict[str, str]:
    """Return the files of samples by their names. Raises BadInput if there are none."""
    if is_array(path):
        if not path.exists():
            raise BadInput(
                f"there is no file {shown(path)}: name an .npz or .npy of samples, or a folder of images"
            )
        return {path.name: str(path)}
    if path.is_file():
        raise BadInput(
            f"{shown(path)} is not a folder of images, and not an .npz or .npy of samples: name one of these"
        )
    return {name: os.path.join(path, name) for name in sources.walk(str(path))}


def count(path: Path) -> int:
    """Return how many samples there are. Raises BadInput."""
    return len(_array(path)) if is_array(path) else len(found(path))


class Folder:
    """Stored samples, hidden files left aside, as those of a model."""

    def __init__(self, path: Path, shape: tuple[int, ...]) -> None:
        self.path = path
        self.x = read(path, shape)
        self.order, self.rng = torch.empty(0, dtype=torch.long), torch.Generator()

    def sample(self, n: int, rng: torch.Generator) -> Tensor:
        """Return n samples (n, ...) by chance, images in [0, 1]; none comes twice from one generator before
        all came.
        """
        if n > len(self.x):
            raise BadInput(f"{n} samples are needed, {shown(self.path)} holds {len(self.x)} images")
        if rng is not self.rng or n > len(self.order):
            self.order, self.rng = torch.randperm(len(self.x), generator=rng), rng
        drawn, self.order = self.order[:n], self.order[n:]
        return as_float(self.x[drawn])


def read(path: Path, shape: tuple[int, ...]) -> Tensor:
    """Return all samples (N, *shape), uint8 or float. Raises BadInput for what is not samples, or of another
    shape.
    """
    if len(shape) != 3 and not is_array(path):
        raise BadInput(f"{shown(path)} holds images, the data are points: name a suite of images")

    def make(found: cache.Found) -> Tensor:
        x = (
            _shaped(_array(path), shape, shown(path))
            if is_array(path)
            else _decoded(_paths(found.files), shape)
        )
        if x.dtype == torch.uint8 and x.max() == 1:
            raise BadInput(
                f"{shown(path)}: the brightest pixel of all samples is 1 of 255: multiply masks of 0 and 1 "
                "by 255"
            )
        return x

    return cache.of_files((path, shape), lambda: cache.look(found(path), "unpacked"), make)


# ------------------------------------------------------------------------------------------------ arrays


def _array(path: Path) -> np.ndarray:
    """Return the array of samples in a file. Raises BadInput."""

    def make(found: cache.Found) -> np.ndarray:
        held = arrays.read(str(path))
        named = [name for name in NAMES if name in held]
        if len(held) != 1 and len(named) != 1:
            raise BadInput(
                f"{shown(path)} holds the arrays {', '.join(held) or 'none'}: keep one, or call the samples "
                "'samples'"
            )
        array = held[named[0]] if len(held) > 1 else next(iter(held.values()))
        if not array.ndim or not len(array):
            raise BadInput(f"{shown(path)} holds no samples, an array of shape {array.shape}")
        return array

    return cache.of_files((path, "array"), lambda: cache.look(found(path), "unpacked"), make)


def _shaped(array: np.ndarray, shape: tuple[int, ...], where: str) -> Tensor:
    """Return an array as samples (N, *shape). Raises BadInput."""
    form = "(N, H, W), (N, H, W, C) or (N, C, H, W)" if len(shape) == 3 else f"(N, {shape[0]})"
    floats = array.dtype.kind == "f"
    if not floats and (array.dtype != np.uint8 or len(shape) != 3):
        kinds = "uint8, or floats in [0, 1]" if len(shape) == 3 else "floats"
        raise BadInput(
            f"{where} holds {array.dtype} of shape {array.shape}: samples must be {kinds}, of {form}"
        )
    if len(shape) == 3 and array.ndim == 3:
        array = array[:, None]
    elif len(shape) == 3 and array.ndim == 4 and array.shape[1:] != shape and array.shape[3] in (1, 3):
        array = np.moveaxis(array, 3, 1)
    if len(shape) == 3 and array.ndim == 4 and array.shape[2:] == shape[1:]:
        array = _channelled(array, shape[0], where)
    if array.shape[1:] != shape:
        raise BadInput(
            f"{where} holds samples of shape {array.shape[1:]}, the data have {shape}: give samples of "
            f"their shape, {form}; "
            "resized ones would have another FID"
        )
    x = torch.from_numpy(np.array(array, dtype=np.float32 if floats else np.uint8))
    if floats and (reason := unfit(x, len(shape) == 3)):
        remedy = "give uint8, or floats in [0, 1]" if "outside" in reason else "leave them out"
        raise BadInput(f"{where}: {reason}: {remedy}")
    return x


def _channelled(array: np.ndarray, channels: int, where: str) -> np.ndarray:
    """Return images (N, C, H, W) with the data's number of channels; grey ones are repeated. Raises BadInput
    for colours.
    """
    if channels == 1 and array.shape[1] == 3:
        if not (array == array[:, :1]).all():
            raise BadInput(f"{where} {_COLOURED}")
        return array[:, :1]
    return array.repeat(3, 1) if channels == 3 and array.shape[1] == 1 else array


# ------------------------------------------------------------------------------------------------ images

_COLOURED = (
    "has colours, the data are grey: samples are not made grey here, since FID would not see their colours; "
    "give grey ones, "
    "or a suite of data with colours"
)


def _paths(named: Mapping[str, str]) -> np.ndarray:
    """Return the paths of files as `images` takes them."""
    return np.array([*named.values()], dtype=object)


def _decoded(pictures: np.ndarray, shape: tuple[int, ...]) -> Tensor:
    channels, *size = shape
    if channels == 1 and (file := _coloured(pictures)):
        raise BadInput(f"{shown(Path(file))} {_COLOURED}")
    decoded = []
    for file, image in zip(pictures, images.decode_all(pictures, 0, channels, shape), strict=True):
        if list(image.shape[1:]) != size:
            height, width = image.shape[1:]
            raise BadInput(
                f"{shown(Path(file))} is {width}x{height} pixels, the data are {size[1]}x{size[0]}: give "
                "samples of their "
                "size; resized ones would have another FID"
            )
        decoded.append(image)
    return torch.from_numpy(np.stack(decoded))


def _coloured(pictures: np.ndarray) -> str:
    """Return the first image with a pixel that is not grey; nothing if there is none."""
    for file, header in zip(pictures, images.headers(pictures), strict=True):
        if not header.grey:
            pixels = images.decode(file, 0, 3)
            if not (pixels == pixels[:1]).all():
                return str(file)
    return ""


# -------------------- what is to be said


def notes(path: Path, shape: tuple[int, ...], dataset: str) -> list[str]:
    """Return what a reader of their numbers has to know of samples, in words."""
    told = []
    if is_array(path):
        array = _array(path)
        if array.dtype.kind == "f" and len(shape) == 3:
            told.append("floats, taken as they are, black 0 and white 1")
        grey = array.ndim == 3 or (array.ndim == 4 and 1 in (array.shape[1], array.shape[3]))
    else:
        grey = all(header.grey for header in images.headers(_paths(found(path))))
    if grey and shape[0] == 3 and len(shape) == 3:
        told.append("grey, the data have colours: repeated to 3 channels")
    own, others = formats(path), formats_of(dataset)
    if {own, others} == {LOSSY, LOSSLESS}:
        which = "JPEG, the data are not" if own == LOSSY else "without loss, the data are JPEG"
        told.append(f"{which}: what JPEG loses moves FID and KID; give them in the data's form")
    return told


def formats(path: Path) -> str:
    """Return whether samples are all JPEG, or none of them; nothing if some are."""
    return LOSSLESS if is_array(path) else _kind(found(path))


def formats_of(dataset: str) -> str:
    """Return the same of a data set's files; arrays lose nothing."""
    kind, _, path = dataset.partition(":")
    if kind in datasets.OPENED and path:
        return _kind(datasets.OPENED[kind](path).files())
    make = datasets.DATASETS.get(dataset)
    return _kind(make().files()) if isinstance(make, type) else LOSSLESS


def _kind(given: Mapping[str, str]) -> str:
    names = [*given.values()]
    lossy = [_is_lossy(name) for name in names[:: max(1, len(names) // LOOKED_AT)]]
    known = {each for each in lossy if each is not None}
    return LOSSLESS if known <= {False} else LOSSY if known == {True} else ""


def _is_lossy(name: str) -> bool | None:
    """Return whether a file is an image that lost something, by its first bytes; None if it is not an image."""
    try:
        with files.opened(name) as file:
            start = file.read(MAGIC)
    except OSError:
        return None
    if start.startswith(b"\xff\xd8\xff") or (start.startswith(b"RIFF") and start.endswith(b"WEBPVP8 ")):
        return True
    images = (b"\x89PNG", b"BM", b"GIF8", b"II*\0", b"MM\0*", b"RIFF", b"P4", b"P5", b"P6")
    return False if start.startswith(images) else None
