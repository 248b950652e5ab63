"""Tensors kept between runs, looked up by what they were made of, and the folder that holds them."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from pathlib import Path

import platformdirs
from torch import Tensor

from alibench.evaluation import files, sealed
from alibench.evaluation.errors import BadInput

VERSION = 1  # of a file of statistics


_keeping = ContextVar("keeping", default=True)


def home() -> Path:
    """Return the folder of downloads and caches. Raises BadInput if the user has no home and names none."""
    try:
        return Path(os.environ.get("ALIBENCH_DATA") or platformdirs.user_cache_dir("alibench")).expanduser()
    except RuntimeError:
        remedy = "name a folder by ALIBENCH_DATA=DIR"
        raise BadInput(f"no home folder is known for downloads and caches: {remedy}") from None


def kept(name: str, compute: Callable[[], dict[str, Tensor]]) -> dict[str, Tensor]:
    """Return the tensors of `compute`, on the CPU, from the file of that name if there is one.

    A file that is damaged, or another key's, is made again; a folder that cannot be written to costs time
    alone.
    """
    path = home() / "statistics" / f"{name}.safetensors"
    with suppress(OSError, files.Damaged):
        tensors, about = sealed.read_tensors(path, "statistics", VERSION, dict[str, str])
        if about["key"] == name:
            return tensors

    # Not there, or not to be trusted.
    tensors = {entry: tensor.contiguous() for entry, tensor in compute().items()}
    if _keeping.get():
        with suppress(OSError):
            path.parent.mkdir(parents=True, exist_ok=True)
            sealed.write_tensors(path, "statistics", VERSION, tensors, {"key": name})
    return tensors


def is_unwritten() -> bool:
    """Return whether nothing new may be kept now."""
    return not _keeping.get()


@contextmanager
def unwritten() -> Iterator[None]:
    """Look up what is kept, and keep nothing new meanwhile."""
    before = _keeping.set(False)
    try:
        yield
    finally:
        _keeping.reset(before)
