"""Data that a program hands over: arrays, tensors, torch's datasets, Hugging Face's, or a place.

What is in memory is written into the cache, as an .npz named after its content, and read from there like a
file of the user's. So it has a hash, worker processes find it, and a run on it can be resumed.
"""

import io
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from alibench.benchmarks.data import datasets
from alibench.benchmarks.data.sources import SPLIT_NAMES
from alibench.evaluation import files, store
from alibench.evaluation.errors import BadInput
from alibench.evaluation.messages import listed

# The names of a dataset's columns, or of an item's entries.
IMAGES = ("image", "img", "x", "images", "pixel_values")
LABELS = ("label", "labels", "y", "target", "fine_label")
# What a refusal calls arrays that lie in the cache, by the kind in their file's name.
CALLED = {"arrays": "the data given", "samples": "the array of samples"}
WANTED = "give a name, a path, arrays x and y, or a dataset of torch or Hugging Face"


def name_of(data: Any) -> str:
    """Return the name by which suites know some data, which are written into the cache if need be.

    data: a name ("digits", "folder:PATH"); a path of a folder, an .npz or a table's .csv; images x (N, H, W),
    (N, H, W, C) or (N, C, H, W), uint8 or floats in [0, 1], or points x (N, D); a pair (x, y) with labels
    (N,); a mapping of arrays or datasets by split, {"x_train": ..., "y_train": ...} or {"train": ...}; or a
    dataset whose items are x, pairs (x, y), or mappings of an image and a label. Raises BadInput.
    """
    if isinstance(data, str | Path):
        return _placed(data)
    # An .npz may hold what is not a number, and no model learns from that.
    held = _arrays(data)
    for name, array in held.items():
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            raise BadInput(f"{name} holds numbers that are not finite: leave them out, or replace them")
    # points have two axes
    is_table = all(array.ndim <= 2 for array in held.values()) and "x" in held
    path = _kept(held, "arrays")
    name = f"{'table' if is_table else 'npz'}:{path}"
    try:
        datasets.load(name)
    except BadInput as problem:
        raise BadInput(in_words(str(problem))) from None
    return name


def samples_path(samples: Any) -> Path:
    """Return where samples (N, ...) lie: their path, or that of an array in the cache. Raises BadInput."""
    if isinstance(samples, str | Path):
        return Path(samples)
    return _kept({"samples": _array("samples", samples)}, "samples")


def in_words(message: str) -> str:
    """Return a message about what was handed over in place of its file, which no caller ever saw."""
    kept = rf"(?:(?:npz|table):)?{re.escape(str(_home()))}/(arrays|samples)-[0-9a-f]{{64}}/\1\.npz"
    return re.sub(kept, lambda found: CALLED[found[1]], message)


def _placed(data: str | Path) -> str:
    """Return the name of data that have a name or lie somewhere. Raises BadInput."""
    name, kind = str(data), str(data).partition(":")[0]
    if name in datasets.DATASETS or kind in datasets.PLACES:
        return name
    path = Path(data).expanduser()
    # a place without its kind
    if path.is_dir():
        return f"folder:{path}"
    if path.is_file():
        return f"{'table' if path.suffix == '.csv' else 'npz'}:{path}"
    if isinstance(data, Path) or os.sep in name:
        raise BadInput(f"there is no folder or file {name}: {WANTED}")
    return name  # datasets.load names the nearest one


def _arrays(data: Any) -> dict[str, np.ndarray]:
    """Return x and y, or x_train, y_train and so on. Raises BadInput."""
    if is_array(data):
        return {"x": _array("x", data)}
    if isinstance(data, tuple | list) and len(data) == 2 and all(map(is_array, data)):
        return {name: _array(name, part) for name, part in zip("xy", data, strict=True)}
    if isinstance(data, Mapping):
        return _of_mapping(data)
    if hasattr(data, "__getitem__") and hasattr(data, "__len__"):
        return _of_dataset("the dataset", data)
    raise BadInput(f"a {type(data).__name__} is not data that can be read: {WANTED}")


def _of_mapping(data: Mapping[Any, Any]) -> dict[str, np.ndarray]:
    """Return arrays by their own names, and those of datasets by the names of their splits."""
    held = dict[str, np.ndarray]()
    for name, part in data.items():
        if is_array(part):
            held[str(name)] = _array(str(name), part)
        elif str(name) in SPLIT_NAMES:
            of_split = _of_dataset(f"'{name}'", part)
            held |= {f"{kind}_{SPLIT_NAMES[str(name)]}": array for kind, array in of_split.items()}
        else:
            raise BadInput(f"'{name}' is not an array, nor a split called train, validation or test")
    return held


def _of_dataset(what: str, data: Any) -> dict[str, np.ndarray]:
    """Return the items of a dataset as arrays x and, if they have labels, y. Raises BadInput."""
    pairs, named = [], len(data)
    for i in range(named):
        try:
            item = data[i]
        except IndexError:
            short = f"{what} ends after {i:,} of the {named:,} items that it names"
            raise BadInput(f"{short}: mend its length") from None
        pairs.append(_pair(what, item))
        # before the others are read
        if not i:
            _check_size(what, named * pairs[0][0].nbytes)

    # one shape for all: what is resized here would be another dataset
    images = [image for image, _ in pairs]
    shapes = sorted({image.shape for image in images}, key=str)
    if len(shapes) != 1:
        found = listed([str(shape) for shape in shapes]) or "none"
        raise BadInput(f"{what} has items of {len(shapes)} shapes ({found}): bring all to one size first")
    labels = [label for _, label in pairs]
    if None in labels:
        return {"x": np.stack(images)}
    return {"x": np.stack(images), "y": np.array(labels)}


def _pair(what: str, item: Any) -> tuple[np.ndarray, int | None]:
    """Return an item's image, and its label if it has one. Raises BadInput."""
    # a mapping as Hugging Face's, a pair as torch's, or an image alone
    label = None
    if isinstance(item, Mapping):
        image = next((item[name] for name in IMAGES if name in item), None)
        label = next((item[name] for name in LABELS if name in item), None)
        if image is None:
            raise BadInput(f"{what} has items of {listed([*map(str, item)])}: call the image 'image' or 'x'")
    elif isinstance(item, tuple | list):
        image, label = (*item, None)[:2]
    else:
        image = item

    try:
        return _array("x", image), None if label is None else int(label)
    except (TypeError, ValueError):
        kinds = f"{type(image).__name__} with the label {label!r:.40}"
        raise BadInput(f"{what} has an item that is not an image with a class: {kinds}") from None


def is_array(thing: Any) -> bool:
    """Return whether something is an array of numpy or a tensor."""
    return isinstance(thing, np.ndarray | torch.Tensor)


def _array(name: str, thing: Any) -> np.ndarray:
    """Return an array, a tensor on any device or a picture of Pillow's as an array. Raises BadInput."""
    if isinstance(thing, torch.Tensor):
        thing = thing.detach().cpu()
        thing = (thing.float() if thing.dtype == torch.bfloat16 else thing).numpy()
    if getattr(thing, "mode", "") == "P":  # Pillow's palettes: the numbers are of colours
        thing = thing.convert("RGB")
    array = np.asarray(thing)
    if array.dtype.kind not in "buif":
        raise BadInput(f"{name} holds {array.dtype}: numbers are needed, uint8 or floats in [0, 1]")
    return array


def _check_size(what: str, count: int) -> None:
    """Refuse more bytes than may be read. Raises BadInput."""
    try:
        files.check_size(what, "would hold", count, "unpacked")
    except files.Unsafe as problem:
        raise BadInput(str(problem)) from None


def _home() -> Path:
    """Return the folder in the cache that has what was handed over."""
    return store.home() / "given"


def _kept(held: Mapping[str, np.ndarray], kind: str) -> Path:
    """Return the file in the cache that has these arrays, written if it is not there. Raises BadInput."""
    # in order, and writable for torch, which warns of others
    content = {name: np.require(array, requirements=["C", "W"]) for name, array in sorted(held.items())}
    described = [part for name, array in content.items() for part in (f"{name} {array.dtype}", array)]
    digest = files.digest(*(part if isinstance(part, str) else torch.from_numpy(part) for part in described))
    path = _home() / f"{kind}-{digest}" / f"{kind}.npz"
    _check_size(kind, sum(array.nbytes for array in content.values()))
    try:
        if not path.exists():
            packed = io.BytesIO()
            np.savez(packed, **content)  # type: ignore[arg-type]
            path.parent.mkdir(parents=True, exist_ok=True)
            files.replace(path, packed.getvalue())
    except OSError as error:
        problem = f"{path} cannot be written ({error.strerror or error})"
        raise BadInput(f"{problem}: make room, or name another folder by ALIBENCH_DATA") from None
    return path
