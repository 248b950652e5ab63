"""What is kept between runs, all below one folder: where it is, and tensors that are looked up by what they were made of."""

import hashlib
import os
import uuid
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import platformdirs
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor


def home() -> Path:
    """Return the folder of downloads and caches."""
    return Path(os.environ.get("ALIBENCH_DATA") or platformdirs.user_cache_dir("alibench")).expanduser()


def key(*parts: str | Tensor) -> str:
    """Return a hash of texts and tensors, of their types and shapes too: equal parts, and no others, have the same."""
    digest = hashlib.sha256()
    for part in parts:
        text = part if isinstance(part, str) else f"{part.dtype} {tuple(part.shape)}"
        digest.update(f"{len(text)} {text}".encode())
        if isinstance(part, Tensor):
            digest.update(part.contiguous().numpy().data)
    return digest.hexdigest()


def kept(name: str, compute: Callable[[], dict[str, Tensor]]) -> dict[str, Tensor]:
    """Return what `compute` gives, tensors on the CPU, from the file of that key if there is one.

    A file that is damaged, or not this key's, is made again; a folder that cannot be written to costs time, nothing else.
    """
    path = home() / "statistics" / f"{name}.safetensors"
    with suppress(OSError, SafetensorError):
        return _read(path, name)
    tensors = {entry: tensor.contiguous() for entry, tensor in compute().items()}
    temporary = path.with_name(f".{path.stem}.{uuid.uuid4().hex}")
    with suppress(OSError, SafetensorError):  # a full disk shows as either
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            save_file(tensors, temporary, {"key": name, "content": _content(tensors)})
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
    return tensors


def _content(tensors: dict[str, Tensor]) -> str:
    return key(*(part for entry in sorted(tensors) for part in (entry, tensors[entry])))


def _read(path: Path, name: str) -> dict[str, Tensor]:
    """Return a file's tensors; a safetensors file can hold nothing else. Raises SafetensorError if it is not as written."""
    with safe_open(path, "pt") as file:
        metadata = file.metadata() or {}
        tensors = {entry: file.get_tensor(entry) for entry in file.keys()}  # noqa: SIM118 it is no dict
    if metadata.get("key") != name or metadata.get("content") != _content(tensors):
        raise SafetensorError(f"{path} is damaged")
    return tensors
