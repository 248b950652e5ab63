"""Files that are whole or not there, say what they are, and run no code, whoever made them.

Tensors are kept as safetensors, all else as JSON. Each file carries the version of its format and a checksum of all that is
read from it, so that damage is noticed instead of becoming a number. A file is written beside its place, brought to the
disk and renamed into it: whoever is killed meanwhile leaves the old one, and a `.part` that the next writer removes.
"""

import hashlib
import json
import os
import shutil
import socket
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock, Timeout
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

LABEL = "alibench"  # the entry of a safetensors file's metadata that says what it is


class Damaged(Exception):
    """A file is not what was written, or is of another version; the message says which and how."""


class Busy(Exception):
    """Another process holds a lock."""


# ------------------------------------------------------------------------------------------------ whole or not there


def replace(path: Path, content: bytes | str) -> None:
    """Write a file so that a reader sees the old one or the new one, whole, also after a crash. Raises OSError."""
    remove_parts(path.parent, of_the_dead=True)
    part = part_of(path)
    try:
        with part.open("wb") as file:
            file.write(content.encode() if isinstance(content, str) else content)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def part_of(path: Path) -> Path:
    """Return where to write what will be renamed to `path`: a name of this process's own."""
    return path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.{_host()}-{os.getpid()}.part")


def sync_folder(folder: Path) -> None:
    """Bring a rename to the disk, where the system can."""
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def remove_parts(folder: Path, of_the_dead: bool = False) -> None:
    """Remove what killed writers left below a folder that nobody else writes to; or in it, of this machine's dead alone."""
    for part in folder.glob(".*.part") if of_the_dead else folder.rglob(".*.part"):
        host, _, process = part.name.split(".")[-2].rpartition("-")
        if not of_the_dead or (host == _host() and not _lives(process)):
            with suppress(OSError):  # another is removing it, or it is another user's
                if part.is_dir():
                    shutil.rmtree(part)
                else:
                    part.unlink()


def _host() -> str:
    return socket.gethostname().replace(".", "_")


def _lives(process: str) -> bool:
    if os.name == "nt":  # there a signal of 0 is Ctrl-C
        return True
    try:
        os.kill(int(process), 0)
    except ProcessLookupError:
        return False
    except (OSError, ValueError):
        return True
    return True


@contextmanager
def locked(path: Path, wait: float = 0.0) -> Iterator[None]:
    """Hold a lock, which the system takes from a process that dies. Raises Busy if it is not free in `wait` seconds."""
    lock = FileLock(path)
    try:
        lock.acquire(timeout=wait, poll_interval=0.02)
    except Timeout:
        raise Busy(str(path)) from None
    try:
        yield
    finally:
        lock.release()


# ------------------------------------------------------------------------------------------------ JSON


def write_json(path: Path, kind: str, version: int, body: Any, dumps: Callable[[Any], str] = json.dumps) -> None:
    """Write {"version", "sha256", KIND: body}; `dumps` lays out the body. Raises OSError."""
    text = dumps(body)
    replace(path, f'{{"version": {version}, "sha256": "{_sha256(text)}",\n"{kind}": {text}}}\n')


def read_json(path: Path, kind: str, version: int, dumps: Callable[[Any], str] = json.dumps) -> Any:
    """Return the body. Raises Damaged, or OSError if the file cannot be read."""
    try:
        stored = json.loads(path.read_bytes())
        if stored["version"] == version and stored["sha256"] == _sha256(dumps(stored[kind])):
            return stored[kind]
        found = stored["version"] if isinstance(stored["version"], int) else version
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        found = version
    raise _unusable(path, found, version)


def _unusable(path: Path, found: int, version: int) -> Damaged:
    if found != version:
        return Damaged(f"{path} has version {found} of the format, this is {version}")
    return Damaged(f"{path} is damaged")


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


# ------------------------------------------------------------------------------------------------ tensors


def digest(*parts: str | Tensor) -> str:
    """Return a hash of texts and tensors, of their types and shapes too: equal parts, and no others, have the same."""
    found = hashlib.sha256()
    for part in parts:
        text = part if isinstance(part, str) else f"{part.dtype} {tuple(part.shape)}"
        found.update(f"{len(text)} {text}".encode())
        if isinstance(part, Tensor):
            found.update(part.detach().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return found.hexdigest()


def write_tensors(
    path: Path, kind: str, version: int, tensors: Mapping[str, Tensor], about: Mapping[str, Any] | None = None
) -> None:
    """Write tensors, and what is JSON of them. Equal contents make equal files. Raises OSError."""
    kept: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        tensor = tensor.detach().cpu().contiguous()
        shared = {other.untyped_storage().data_ptr() for other in kept.values()}  # which safetensors refuses
        kept[name] = tensor.clone() if tensor.untyped_storage().data_ptr() in shared else tensor
    text = json.dumps(about or {})
    label = {"kind": kind, "version": version, "sha256": _content(kind, text, kept), "about": text}
    replace(path, save(kept, {LABEL: json.dumps(label)}))  # several entries would stand in random order


def read_tensors(path: Path, kind: str, version: int) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return the tensors, on the CPU, and what was said of them. Raises Damaged, or OSError if it cannot be read.

    A safetensors file can hold nothing else than tensors and text, so nothing in it can run.
    """
    found = version
    try:
        with safe_open(path, "pt") as file:
            label = json.loads((file.metadata() or {})[LABEL])
            found = int(label["version"]) if label["kind"] == kind else version
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 it is no dict
        if found == version and label["sha256"] == _content(kind, label["about"], tensors):
            return tensors, json.loads(label["about"])
    except (SafetensorError, KeyError, ValueError, TypeError, AttributeError, RuntimeError, RecursionError):
        pass
    raise _unusable(path, found, version)


def _content(kind: str, about: str, tensors: Mapping[str, Tensor]) -> str:
    return digest(kind, about, *(part for name in sorted(tensors) for part in (name, tensors[name])))
