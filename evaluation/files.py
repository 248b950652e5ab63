"""Files that are whole or not there.

Only regular files of bounded size are read, and writing stays below a folder. A file is written next to its
place, brought to the disk and renamed into it: a writer that is killed leaves the old one, and a `.part` that
the next writer removes. sealed.py has the formats.
"""

import hashlib
import json
import os
import re
import shutil
import socket
import stat
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Annotated, Any, Literal

import torch
from filelock import FileLock, Timeout
from msgspec import Meta
from torch import Tensor

LIMIT = "ALIBENCH_LIMIT"  # the environment's factor for what may be read; 1 if it is not set
Size = Literal["text", "arrays", "unpacked"]
LARGEST: dict[Size, int] = {  # bytes
    "text": 64_000_000,  # JSON, CSV, TOML, Python: it takes ten times as much memory
    "arrays": 8_000_000_000,  # safetensors and weights, as they lie on the disk
    "unpacked": 500_000_000,  # arrays of a zipped file, which may itself be a thousand times smaller
}

NAME = re.compile(r"\w[\w .+()-]{0,39}")  # of a suite or a model: folders and files are called by it
# what could steer a terminal: control characters but tab and line break, and marks that turn the direction
_CONTROLS = r"\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069"
CONTROL = re.compile(f"[{_CONTROLS}]")

Name = Annotated[str, Meta(pattern=rf"\A(?:{NAME.pattern})\Z")]
RunName = Annotated[str, Meta(pattern=r"\A\w[\w .+()-]{0,119}\Z")]  # suite, model and kind of job, joined
LONGEST_LINE = 2000  # characters
_LINE = rf"\A[^\n\t{_CONTROLS}]*\Z"
Line = Annotated[str, Meta(pattern=_LINE, max_length=LONGEST_LINE)]
Count = Annotated[int, Meta(ge=0, le=2**53)]
Seed = Annotated[int, Meta(ge=0, lt=2**32)]
Sha256 = Annotated[str, Meta(pattern=r"\A[0-9a-f]{64}\Z")]


class Damaged(Exception):
    """A file is not what was written, or is of another version; the message says which and how."""


class Unsafe(OSError):
    """A path must not be read or written; `strerror` says why."""

    def __init__(self, path: Path | str, why: str) -> None:
        super().__init__(None, why, str(path))

    def __str__(self) -> str:
        return f"{self.filename} {self.strerror}"


class Busy(Exception):
    """Another process holds a lock."""


# -------------------- what may be read


def largest(size: Size) -> int:
    """Return how many bytes of a kind of file may be read. Raises Unsafe if the factor is not a number."""
    text = os.environ.get(LIMIT) or "1"
    try:
        return int(LARGEST[size] * float(text))
    except (ValueError, OverflowError):
        raise Unsafe(LIMIT, f"is '{text}', not a factor such as 2") from None


def check_size(path: Path | str, what: str, count: int, size: Size) -> None:
    """Raise Unsafe, naming the limit and how to raise it, for more bytes than may be read."""
    if count > (most := largest(size)):
        factor = -(-count // LARGEST[size])
        more = f"{what} {_bytes(count)}, more than {_bytes(most)}"
        raise Unsafe(path, f"{more}: if you trust it, set {LIMIT}={factor}")


def _bytes(count: int) -> str:
    return f"{count / 1e9:.2f} GB" if count >= 1e9 else f"{count / 1e6:.1f} MB"


@contextmanager
def opened(path: Path | str, size: Size | None = None, links: bool = True) -> Iterator[IO[bytes]]:
    """Open a regular file to be read, of a bounded size if one is named. Raises OSError.

    Raises Unsafe for a folder, a pipe or a device, without waiting for it, and without `links` for a symbolic
    link.
    """
    if not links and os.path.islink(path):
        raise Unsafe(path, "is a symbolic link: put in its place what it points to")

    # without O_NONBLOCK a pipe that nobody writes to would be waited for
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    with open(descriptor, "rb", buffering=0) as file:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise Unsafe(path, "is a folder, a pipe or a device, not a file: remove it")
        if size:
            check_size(path, "holds", status.st_size, size)
        yield file


def read(path: Path | str, size: Size = "text", links: bool = True) -> bytes:
    """Return a regular file's bytes. Raises OSError."""
    with opened(path, size, links) as file:
        return file.readall()  # type: ignore[attr-defined]


def sha256(path: Path | str, size: Size | None = "arrays", links: bool = True) -> str:
    """Return the SHA-256 of a regular file. Raises OSError."""
    digest = hashlib.sha256()
    with opened(path, size, links) as file:
        # hashlib.file_digest takes ten times as long on small files.
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


def sha256_of(*contents: bytes | memoryview | str) -> str:
    """Return the SHA-256 of bytes and texts, one after another."""
    digest = hashlib.sha256()
    for content in contents:
        digest.update(content.encode() if isinstance(content, str) else content)
    return digest.hexdigest()


def digest(*parts: str | Tensor) -> str:
    """Return a hash of texts and tensors, with their types and shapes: the same for equal parts alone."""
    total = hashlib.sha256()
    for part in parts:
        text = part if isinstance(part, str) else f"{part.dtype} {tuple(part.shape)}"
        # With its length, so that no two lists run together.
        total.update(f"{len(text)} {text}".encode())
        if isinstance(part, Tensor):
            total.update(part.detach().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return total.hexdigest()


# -------------------- texts


def is_line(text: str) -> bool:
    """Return whether a text fits `Line`, and can be written: a file's name may not be UTF-8."""
    return len(text) <= LONGEST_LINE and re.search(_LINE, text) is not None and encodable(text)


def one_line(text: str) -> str:
    """Return a text as `Line` allows it: in one line, without control characters, not too long."""
    return printable(" ".join(text.split()))[:LONGEST_LINE]


def printable(text: str) -> str:
    """Return a text in which nothing steers a terminal: control characters are escaped as Python does."""
    return CONTROL.sub(lambda sign: sign[0].encode("unicode_escape").decode(), text)


def encodable(body: Any) -> bool:
    """Return whether all texts of a JSON body can be written as UTF-8."""
    try:
        json.dumps(body, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return False
    return True


# -------------------- what may be written


def child(folder: Path, name: str) -> Path:
    """Return a path directly below a folder. Raises Unsafe for a name that leads elsewhere."""
    if name in ("", os.curdir, os.pardir) or Path(name).name != name or "\0" in name:
        raise Unsafe(folder, f"has no place for '{printable(name)}': a name is needed, not a path")
    return folder / name


def subfolder(folder: Path, *names: str) -> Path:
    """Return a folder below another, made if it is not there. Raises Unsafe for a symbolic link."""
    for name in names:
        folder = child(folder, name)
        if folder.is_symlink():
            raise Unsafe(folder, "is a symbolic link: put in its place what it points to")
        folder.mkdir(parents=True, exist_ok=True)
    return folder


def replace(path: Path, content: bytes | str) -> None:
    """Write a file so that readers see the old or the new one, whole, also after a crash. Raises OSError."""
    if path.is_dir() and not path.is_symlink():
        raise Unsafe(path, "is a folder in the place of a file: remove it")

    # Written and brought to the disk under another name; the rename is what readers see.
    remove_parts(path.parent, of_the_dead=True)
    part = part_of(path)
    try:
        with part.open("xb") as file:
            file.write(content.encode() if isinstance(content, str) else content)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


@contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """Yield a folder to fill, which is renamed to `path` at the end, whole or not at all. Raises OSError.

    What is written into it has to be on the disk by then, as `replace` leaves it.
    """
    remove_parts(path.parent, of_the_dead=True)
    part = part_of(path)
    try:
        part.mkdir()
        yield part
        part.rename(path)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    sync_folder(path.parent)


_PART = re.compile(r"\..+\.[0-9a-f]{8}\.(?P<host>[^.]+)-(?P<process>\d+)\.part", re.DOTALL)
LONGEST_NAME = 255  # bytes of a file's name


def part_of(path: Path) -> Path:
    """Return this process's own name for a file that will be renamed to `path`."""
    ending = f".{uuid.uuid4().hex[:8]}.{_host()}-{os.getpid()}.part"
    return path.with_name(f".{fitting(path.name, f'.{ending}')}{ending}")


def fitting(name: str, ending: str) -> str:
    """Return as much of a name as a file's name has room for before an ending."""
    room = LONGEST_NAME - len(os.fsencode(ending))
    raw = os.fsencode(name)
    return name if len(raw) <= room else raw[:room].decode(errors="ignore")


def sync_folder(folder: Path) -> None:
    """Bring a rename to the disk, where the system can."""
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def remove_parts(folder: Path, of_the_dead: bool = False) -> None:
    """Remove the parts, by the names of `part_of`, that killed writers left below a folder.

    Nobody else may write to the folder; or, `of_the_dead`, only parts of this machine's dead processes are
    removed, and only in the folder itself.
    """
    for place, folders, names in os.walk(folder):  # which follows no links
        for name in (*names, *folders):
            part = _PART.fullmatch(name)
            if part and (not of_the_dead or (part["host"] == _host() and not _lives(part["process"]))):
                _remove(Path(place, name))

        if of_the_dead:
            return
        folders[:] = [name for name in folders if not _PART.fullmatch(name)]


def _remove(part: Path) -> None:
    with suppress(OSError):  # another is removing it, or it is another user's
        if part.is_dir() and not part.is_symlink():
            shutil.rmtree(part)
        else:
            part.unlink()


def _host() -> str:
    return socket.gethostname().replace(".", "_")


def _lives(process: str) -> bool:
    # on Windows a signal of 0 is Ctrl-C
    if os.name == "nt":
        return True
    try:
        os.kill(int(process), 0)
    except ProcessLookupError:
        return False
    except (OSError, ValueError, OverflowError):
        # another user's, or a number that is not a process: nothing of it is removed
        return True
    return True


@contextmanager
def locked(path: Path, wait: float = 0.0) -> Iterator[None]:
    """Hold a lock, which the system takes from a process that dies. Raises Busy after `wait` seconds."""
    # a link's target would be emptied
    if os.path.lexists(path) and not stat.S_ISREG(os.lstat(path).st_mode):
        raise Unsafe(path, "is not a regular file: remove it")

    # The file stays: to remove it would let two processes hold two locks of one name.
    lock = FileLock(path)
    try:
        lock.acquire(timeout=wait, poll_interval=0.02)
    except Timeout:
        raise Busy(str(path)) from None
    try:
        yield
    finally:
        lock.release()
