"""What is kept between runs, all below one folder: where it is, and tensors that are looked up by what they
were made of.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from pathlib import Path

import msgspec
import platformdirs
from torch import Tensor

from alibench.evaluation import files
from alibench.evaluation.errors import BadInput

VERSION = 1  # of a file of statistics


class About(msgspec.Struct):
    """What a file of statistics says of itself."""

    key: str


_keeping = ContextVar("keeping", default=True)


def home() -> Path:
    """Return the folder of downloads and caches. Raises BadInput where the user has no home folder and names
    no other.
    """
    try:
        return Path(os.environ.get("ALIBENCH_DATA") or platformdirs.user_cache_dir("alibench")).expanduser()
    except RuntimeError:
        raise BadInput(
            "no home folder is known for downloads and caches: name a folder by ALIBENCH_DATA=DIR"
        ) from None


def kept(name: str, compute: Callable[[], dict[str, Tensor]]) -> dict[str, Tensor]:
    """Return what `compute` gives, tensors on the CPU, from the file of that key if there is one.

    A file that is damaged, or not this key's, is made again; a folder that cannot be written to costs time,
    nothing else.
    """
    path = home() / "statistics" / f"{name}.safetensors"
    with suppress(OSError, files.Damaged):
        tensors, about = files.read_tensors(path, "statistics", VERSION, About)
        if about["key"] == name:
            return tensors
    tensors = {entry: tensor.contiguous() for entry, tensor in compute().items()}
    if _keeping.get():
        with suppress(OSError):
            path.parent.mkdir(parents=True, exist_ok=True)
            files.write_tensors(path, "statistics", VERSION, tensors, {"key": name})
    return tensors


def is_unwritten() -> bool:
    """Return whether nothing new is to be kept now."""
    return not _keeping.get()


@contextmanager
def unwritten() -> Iterator[None]:
    """Look up what is kept, and keep nothing new meanwhile."""
    before = _keeping.set(False)
    try:
        yield
    finally:
        _keeping.reset(before)
