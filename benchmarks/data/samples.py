"""Samples of a model that was trained elsewhere: a folder of images, or an array in an .npz or .npy.

They are taken as they are, in exactly the data's shape: resized ones, or colours made grey, have another FID.
"""

import os
from collections.abc import Iterable
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
COLOURED = (
    "has colours, the data are grey: samples are not made grey here, since FID would not see their colours; "
    "give grey ones, or a suite of data with colours"
)
RESIZED = "resized ones would have another FID"


def shown(path: Path) -> str:
    """Return a path as a user reads it: from the working folder, where it lies below that."""
    return str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)


def is_array(path: Path) -> bool:
    """Return whether samples are one file of arrays, not a folder."""
    return path.suffix.lower() in ARRAYS and not path.is_dir()


def sample_files(path: Path) -> dict[str, str]:
    """Return the files of samples by their names. Raises BadInput if there are none."""
    if not is_array(path):
        if path.is_file():
            raise BadInput(
                f"{shown(path)} is not a folder of images, or an .npz or .npy of samples: name one"
            )
        return {name: os.path.join(path, name) for name in sources.walk(str(path))}
    if not path.exists():
        raise BadInput(
            f"there is no file {shown(path)}: name an .npz or .npy of samples, or a folder of images"
        )
    return {path.name: str(path)}


def count(path: Path) -> int:
    """Return the number of samples. Raises BadInput."""
    return len(_array(path)) if is_array(path) else len(sample_files(path))


class StoredSamples:
    """Samples of a model that was trained elsewhere, drawn as a model draws them."""

    def __init__(self, path: Path, shape: tuple[int, ...]) -> None:
        self.path = path
        self.x = read(path, shape)
        self.order, self.rng = torch.empty(0, dtype=torch.long), torch.Generator()

    def sample(self, n: int, rng: torch.Generator) -> Tensor:
        """Return n random samples (n, ...), images in [0, 1]; a generator gives all before it repeats any."""
        if n > len(self.x):
            raise BadInput(f"{n} samples are needed, {shown(self.path)} holds {len(self.x)} images")
        # a new generator, or a used-up order, begins a new order
        if rng is not self.rng or n > len(self.order):
            self.order, self.rng = torch.randperm(len(self.x), generator=rng), rng
        drawn, self.order = self.order[:n], self.order[n:]
        return as_float(self.x[drawn])


def read(path: Path, shape: tuple[int, ...]) -> Tensor:
    """Return all samples (N, *shape), uint8 or float. Raises BadInput for others."""
    if len(shape) != 3 and not is_array(path):
        raise BadInput(f"{shown(path)} holds images, the data are points: name a suite of images")

    def make(state: cache.FilesState) -> Tensor:
        if is_array(path):
            x = _shaped(_array(path), shape, shown(path))
        else:
            x = _decoded(_paths(state.paths.values()), shape)
        # data of such masks become black and white; these would be black next to them
        if x.dtype == torch.uint8 and x.max() == 1:
            raise BadInput(
                f"{shown(path)}: no pixel is brighter than 1 of 255: multiply masks of 0 and 1 by 255"
            )
        return x

    return cache.of_files((path, shape), lambda: cache.look(sample_files(path), "unpacked"), make)


# ---------- arrays


def _array(path: Path) -> np.ndarray:
    """Return the array of samples in a file. Raises BadInput."""

    def make(state: cache.FilesState) -> np.ndarray:
        held = arrays.read(str(path))
        names = [name for name in NAMES if name in held] if len(held) > 1 else [*held]
        if len(names) != 1:
            raise BadInput(
                f"{shown(path)} holds the arrays {', '.join(held) or 'none'}: keep one, or call the samples "
                "'samples'"
            )
        array = held[names[0]]
        if not array.ndim or not len(array):
            raise BadInput(f"{shown(path)} holds no samples, an array of shape {array.shape}")
        return array

    return cache.of_files((path, "array"), lambda: cache.look(sample_files(path), "unpacked"), make)


def _shaped(array: np.ndarray, shape: tuple[int, ...], where: str) -> Tensor:
    """Return an array as samples (N, *shape). Raises BadInput."""
    # type
    of_images, floats = len(shape) == 3, array.dtype.kind == "f"
    form = "(N, H, W), (N, H, W, C) or (N, C, H, W)" if of_images else f"(N, {shape[0]})"
    if not floats and (array.dtype != np.uint8 or not of_images):
        kinds = "uint8, or floats in [0, 1]" if of_images else "floats"
        raise BadInput(
            f"{where} holds {array.dtype} of shape {array.shape}: samples must be {kinds}, of {form}"
        )

    # layout and shape
    if of_images:
        array = _channels_first(array, shape)
        if array.ndim == 4 and array.shape[2:] == shape[1:]:
            array = _with_channels(array, shape[0], where)
    if array.shape[1:] != shape:
        raise BadInput(
            f"{where} holds samples of shape {array.shape[1:]}, the data have {shape}: give samples of "
            f"their shape, {form}; {RESIZED}"
        )

    # range
    x = torch.from_numpy(np.array(array, dtype=np.float32 if floats else np.uint8))
    if floats and (reason := unfit(x, of_images)):
        remedy = "give uint8, or floats in [0, 1]" if "outside" in reason else "leave them out"
        raise BadInput(f"{where}: {reason}: {remedy}")
    return x


def _channels_first(array: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Return images (N, H, W) or (N, H, W, C) as (N, C, H, W); others as they are."""
    if array.ndim == 3:
        return array[:, None]
    if array.ndim == 4 and array.shape[1:] != shape and array.shape[3] in (1, 3):
        return np.moveaxis(array, 3, 1)
    return array


def _with_channels(array: np.ndarray, channels: int, where: str) -> np.ndarray:
    """Return images (N, C, H, W) with the data's channels; grey is repeated. Raises BadInput for colours."""
    if channels == 1 and array.shape[1] == 3:
        if not (array == array[:, :1]).all():
            raise BadInput(f"{where} {COLOURED}")
        return array[:, :1]
    return array.repeat(3, 1) if channels == 3 and array.shape[1] == 1 else array


# ---------- folders of images


def _paths(paths: Iterable[str]) -> np.ndarray:
    return np.array([*paths], dtype=object)


def _decoded(paths: np.ndarray, shape: tuple[int, ...]) -> Tensor:
    channels, height, width = shape
    if channels == 1 and (path := _first_in_colour(paths)):
        raise BadInput(f"{shown(Path(path))} {COLOURED}")

    # all of exactly the data's shape
    x = []
    for path, image in zip(paths, images.decode_all([paths], 0, channels, shape), strict=True):
        if image.shape != shape:
            raise BadInput(
                f"{shown(Path(path))} is {image.shape[2]}x{image.shape[1]} pixels, the data are "
                f"{width}x{height}: give samples of their size; {RESIZED}"
            )
        x.append(image)
    return torch.from_numpy(np.stack(x))


def _first_in_colour(paths: np.ndarray) -> str:
    """Return the first image with a pixel that is not grey; "" if there is none."""
    for path, header in zip(paths, images.headers(paths), strict=True):
        if not header.grey:
            pixels = images.decode(path, 0, 3)
            if not (pixels == pixels[:1]).all():
                return str(path)
    return ""


# ---------- remarks


def notes(path: Path, shape: tuple[int, ...], dataset: str) -> list[str]:
    """Return what the readers of samples' numbers have to know, each in a line."""
    # numbers and colours
    lines = []
    if is_array(path):
        array = _array(path)
        if array.dtype.kind == "f" and len(shape) == 3:
            lines.append("floats, taken as they are, black 0 and white 1")
        grey = array.ndim == 3 or (array.ndim == 4 and 1 in (array.shape[1], array.shape[3]))
    else:
        grey = all(header.grey for header in images.headers(_paths(sample_files(path).values())))
    if grey and shape[0] == 3 and len(shape) == 3:
        lines.append("grey, the data have colours: repeated to 3 channels")

    # losses on one side alone
    form = LOSSLESS if is_array(path) else _form(sample_files(path).values())
    source = datasets.source_of(dataset)
    if {form, _form(source.files().values()) if source else LOSSLESS} == {LOSSY, LOSSLESS}:
        difference = "JPEG, the data are not" if form == LOSSY else "without loss, the data are JPEG"
        lines.append(f"{difference}: what JPEG loses moves FID and KID; give them in the data's form")
    return lines


def _form(paths: Iterable[str]) -> str:
    """Return LOSSY or LOSSLESS if all images are that; "" if some are. Other files do not count."""
    # a hundred files, evenly spread, are enough
    names = [*paths]
    lossy = {_is_lossy(name) for name in names[:: max(1, len(names) // LOOKED_AT)]} - {None}
    return LOSSLESS if lossy <= {False} else LOSSY if lossy == {True} else ""


def _is_lossy(path: str) -> bool | None:
    """Return whether an image was stored with loss, by its first bytes; None if it is not an image."""
    try:
        with files.opened(path) as file:
            start = file.read(MAGIC)
    except OSError:
        return None
    if start.startswith(b"\xff\xd8\xff") or (start.startswith(b"RIFF") and start.endswith(b"WEBPVP8 ")):
        return True
    lossless = (b"\x89PNG", b"BM", b"GIF8", b"II*\0", b"MM\0*", b"RIFF", b"P4", b"P5", b"P6")
    return False if start.startswith(lossless) else None
