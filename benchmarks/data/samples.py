"""Samples of a model that was trained elsewhere: a folder of images, or an array in an .npz or .npy.

They are taken as they are, in exactly the data's shape: resized ones, or colours made grey, have another FID.
"""

import os
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from alibench.benchmarks.data import arrays, cache, datasets, images, sources
from alibench.evaluation.data import as_float, unfit
from alibench.evaluation.errors import BadInput

ARRAYS = (".npz", ".npy")
LOOKED_AT = 100  # files, whose headers say whether they lost something


def shown(path: Path) -> str:
    """Return a path as a user reads it: from the working folder, where it lies below that."""
    return str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)


def is_array(path: Path) -> bool:
    """Return whether samples are one file of arrays, not a folder."""
    return path.suffix.lower() in ARRAYS and not path.is_dir()


def sample_files(path: Path) -> dict[str, str]:
    """Return the files of samples by their names. Raises BadInput if there are none."""
    is_missing = is_array(path) and not path.exists()
    if is_missing or (path.is_file() and not is_array(path)):
        raise BadInput(f"{shown(path)} is not a folder of images, or an .npz or .npy of samples: name one")
    if is_array(path):
        return {path.name: str(path)}
    return {name: os.path.join(path, name) for name in sources.walk(str(path))}


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
            raise BadInput(f"{n} samples are needed, there are {len(self.x)} in {shown(self.path)}")
        # a new generator, or a used-up order, begins a new order
        if rng is not self.rng or n > len(self.order):
            self.order, self.rng = torch.randperm(len(self.x), generator=rng), rng
        drawn, self.order = self.order[:n], self.order[n:]
        return as_float(self.x[drawn])


def read(path: Path, shape: tuple[int, ...]) -> Tensor:
    """Return all samples (N, *shape), uint8 or float. Raises BadInput for others."""

    def make(state: cache.FilesState) -> Tensor:
        try:
            return _shaped(_array(path) if is_array(path) else _decoded(state.paths.values(), shape), shape)
        except ValueError as problem:
            raise BadInput(f"{shown(path)}: {problem}") from None

    return cache.of_files((path, shape), lambda: cache.look(sample_files(path), "unpacked"), make)


# ---------- from files to arrays; what cannot be used is a ValueError


def _array(path: Path) -> np.ndarray:
    """Return the array of samples in a file. Raises BadInput."""

    def make(state: cache.FilesState) -> np.ndarray:
        held = arrays.read(str(path))
        array = held.get("samples", held.get("x")) if len(held) > 1 else next(iter(held.values()), None)
        if array is None or not array.ndim or not len(array):
            raise BadInput(
                f"{shown(path)} holds the arrays {', '.join(held) or 'none'}: one is needed, alone or called "
                "'samples' or 'x', that holds some"
            )
        return array

    return cache.of_files((path, "array"), lambda: cache.look(sample_files(path), "unpacked"), make)


def _decoded(files: Iterable[str], shape: tuple[int, ...]) -> np.ndarray:
    """Return images of the data's size (N, H, W, C), grey if all are."""
    if len(shape) != 3:
        raise ValueError("it holds images, the data are points: name a suite of images")
    # as large as they are: the data's size is not forced on them
    paths = [np.array([*files], dtype=object)]
    found = images.common_shape("", paths, images.headers(paths), 0, 0)
    _check_shape((shape[0], *found[1:]), shape)
    return np.moveaxis(np.stack([*images.decode_all(paths, 0, found)]), 1, 3)


def _shaped(array: np.ndarray, shape: tuple[int, ...]) -> Tensor:
    """Return an array as samples (N, *shape)."""
    of_images, floats = len(shape) == 3, array.dtype.kind == "f"
    if not floats and (array.dtype != np.uint8 or not of_images):
        raise ValueError(f"it holds {array.dtype}, samples must be {'uint8, or ' * of_images}floats")

    # the data's channels
    if of_images:
        array = arrays.channels_last("it", array)
        array = np.moveaxis(array, 3, 1) if array.ndim == 4 else array[:, None]
        if shape[0] == 1 < array.shape[1] and (array != array[:, :1]).any():
            raise ValueError(
                "it has colours, the data are grey: samples are not made grey here, since FID would not see "
                "their colours; give grey ones, or a suite of data with colours"
            )
        array = array[:, :1] if shape[0] == 1 else np.broadcast_to(array, (len(array), 3, *array.shape[2:]))
    _check_shape(array.shape[1:], shape)

    # range
    x = torch.from_numpy(np.array(array, np.float32 if floats else np.uint8))
    if floats and (reason := unfit(x, of_images)):
        raise ValueError(f"{reason}: samples must be finite; images uint8, or floats in [0, 1]")
    # data of such masks become black and white; these would be black next to them
    if not floats and x.max() == 1:
        raise ValueError("no pixel is brighter than 1 of 255: multiply masks of 0 and 1 by 255")
    return x


def _check_shape(found: tuple[int, ...], shape: tuple[int, ...]) -> None:
    if found != shape:
        raise ValueError(
            f"it holds samples of shape {found}, the data have {shape}: give samples of their shape; resized "
            "ones would have another FID"
        )


# ---------- remarks


def notes(path: Path, dataset: str) -> list[str]:
    """Return what the readers of samples' numbers have to know, each in a line."""
    paths, source = sample_files(path).values(), datasets.source_of(dataset)
    lossy, of_data = _lossy(paths), _lossy(source.files().values() if source else ())
    # some of them: nothing is known
    if lossy == of_data or len(lossy) + len(of_data) > 2:
        return []
    difference = "JPEG, the data are not" if True in lossy else "without loss, the data are JPEG"
    return [f"{difference}: what JPEG loses moves FID and KID; give them in the data's form"]


def _lossy(paths: Iterable[str]) -> set[bool]:
    """Return whether images were stored with loss: yes, no or both. Other files hold what was not lost."""
    # a hundred files, evenly spread, are enough
    names = [*paths]
    looks = set()
    for name in names[:: max(1, len(names) // LOOKED_AT)]:
        with suppress(BadInput):
            looks.add(images.header(name).lossy)
    return looks or {False}
