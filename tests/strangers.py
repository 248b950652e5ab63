"""Files as a stranger may send them: crafted, damaged, or not files at all; and how they are opened."""

import json
import os
import random
import shutil
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import chdir, contextmanager
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file

from alibench.benchmarks.running import trained
from alibench.evaluation import files, sealed
from alibench.results import baseline, stored

Dumps = Callable[[Any], str]
LAYOUTS: dict[str, tuple[str, int, Dumps]] = {  # a JSON file -> its kind, version and layout
    **{name: (stored.KINDS[name], stored.VERSIONS[name], stored.LAYOUTS[name]) for name in stored.LAYOUTS},
    "training.json": ("training", trained.VERSION, json.dumps),
    "mine.baseline.json": ("baseline", baseline.VERSION, baseline._body),
    "header.json": ("cache", 2, json.dumps),
}
# what stands in the place of an entry: other types, huge numbers, paths, a terminal's codes, HTML, formulas
VALUES: tuple[Any, ...] = (
    *(None, True, -1, 0, 7, 10**9, 10**30, 1e308, -1e308, float("nan"), float("inf"), 0.5),
    *("", "x", "../../escaped", "/tmp/escaped", "..", "a/b", "a\x00b", "\x1b[31mred\x1b[0m"),
    *("a|b\n<script>alert(1)</script>", "=1+1", "folder:/", "npz:/dev/zero", "x" * 5000, "ali", "nan"),
    "\ud800",
    *([], {}, [[]], [None], {"a": {}}, {"../x": 1}, [1, "x"], [10**9] * 3, [-1, 2]),
)


class Slow(BaseException):
    """An input took longer than it may; not an Exception, which a command could catch."""


@contextmanager
def within(seconds: int) -> Iterator[None]:
    """Raise Slow in whatever takes longer."""

    def late(number: int, frame: Any) -> None:
        raise Slow

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def listing(folder: Path) -> dict[str, tuple[Any, ...]]:
    """Return what a folder holds, links as links, so that any change of it is a difference."""
    found: dict[str, tuple[Any, ...]] = {}
    for place, folders, names in os.walk(folder):
        for name in (*folders, *names):
            path = Path(place, name)
            state = path.lstat()
            read = path.is_file() and not path.is_symlink() and state.st_size < 10**7
            raw = path.read_bytes() if read else b""
            found[str(path.relative_to(folder))] = (state.st_mode, raw)
    return found


def rewrite(path: Path, body: Any) -> None:
    """Write a JSON file with its checksum made anew, as whoever crafts one would."""
    kind, version, dumps = LAYOUTS[path.name]
    try:
        text = dumps(body)
    except (KeyError, TypeError, AttributeError, ValueError):  # its layout expects what is gone
        text = json.dumps(body)
    sha256 = files.sha256_of(text)
    path.write_text(f'{{"version": {version}, "sha256": "{sha256}",\n"{kind}": {text}}}\n')


def body_of(path: Path) -> Any:
    """Return what a JSON file says."""
    return json.loads(path.read_bytes())[LAYOUTS[path.name][0]]


def _places(body: Any, place: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    yield place
    entries = body.items() if isinstance(body, dict) else enumerate(body) if isinstance(body, list) else ()
    for key, value in entries:
        yield from _places(value, (*place, key))


def craft(path: Path, rng: random.Random) -> str:
    """Change an entry of a JSON file, or several, and its checksum; return what was done."""
    body, done = body_of(path), []
    for _ in range(rng.choice((1, 1, 1, 3))):
        places = list(_places(body))
        # as often above as far below, where most entries are
        depth = rng.randrange(1 + max(map(len, places)))
        place = rng.choice([place for place in places if len(place) == depth])
        value = deepcopy(rng.choice(VALUES))  # a list could be put into itself, and would stay changed
        if not place:
            body = value
        else:
            holder = body
            for key in place[:-1]:
                holder = holder[key]
            how = rng.randrange(4)
            if how == 0 and isinstance(holder, dict):
                del holder[place[-1]]
            elif how == 1 and isinstance(holder, dict):
                holder[value if isinstance(value, str) else "unknown"] = holder[place[-1]]
            else:
                holder[place[-1]] = value
        done.append(f"{'.'.join(map(str, place))} = {value!r:.60}")
    rewrite(path, body)
    return "; ".join(done)


def craft_tensors(path: Path, rng: random.Random) -> str:
    """Change a tensor of a safetensors file, and its checksum; return what was done."""
    with safe_open(path, "pt") as file:
        label = json.loads(file.metadata()[sealed.LABEL])
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 it is not a dict
    name = rng.choice(sorted(tensors))
    how, was = rng.randrange(6), tensors.pop(name)
    if how == 1:
        tensors["../unknown"] = was
    elif how == 2:
        tensors[name] = was.double().reshape(-1)[: rng.choice((0, 1, 5))].clone()
    elif how == 3:
        tensors[name] = torch.full_like(was.float(), rng.choice((float("nan"), float("inf"), 1e38)))
    elif how == 4:
        tensors[name] = was[None, None].clone()
    elif how == 5:
        tensors[name] = torch.zeros(was.shape, dtype=rng.choice((torch.int64, torch.bool, torch.float16)))
    if rng.random() < 0.2:
        label["about"] = json.dumps(rng.choice(VALUES))
    label["sha256"] = sealed._content(label["kind"], label["about"], tensors)
    save_file(tensors, path, {sealed.LABEL: json.dumps(label)})
    return f"{name}, way {how}"


def spoil(path: Path, rng: random.Random) -> str:
    """Put something in a file's place that is not what was written; return what."""
    raw = path.read_bytes()
    ways = "pipe device link folder empty cut deep text bit sparse gone socket"
    how = rng.choice(ways.split())
    path.unlink()
    if how == "pipe":
        os.mkfifo(path)
    elif how in ("device", "link"):
        path.symlink_to("/dev/zero" if how == "device" else "/etc/hostname")
    elif how == "folder":
        path.mkdir()
    elif how == "sparse":
        with path.open("wb") as file:
            file.truncate(10**12)
    elif how == "socket":
        with socket.socket(socket.AF_UNIX) as end, chdir(path.parent):  # its name is short
            end.bind(path.name)
    elif how != "gone":
        flipped = bytearray(raw or b"x")
        flipped[rng.randrange(len(flipped))] ^= 1 << rng.randrange(8)
        other = {"empty": b"", "cut": raw[: len(raw) // 2], "deep": b"[" * 200_000, "text": b"\x80\x04K\x01."}
        path.write_bytes(other.get(how, bytes(flipped)))
    return how


def mislead(out: Path, rng: random.Random, elsewhere: Path) -> str:
    """Put a link in an output that leads out of it, rename or copy a run; return what was done."""
    run = rng.choice([path for path in (out / "runs").iterdir() if path.is_dir()])
    folders = ("tables", "figures", "runs")
    how = rng.choice((*folders, "file", "run", "lock", "report.html", "renamed", "copied", "extra"))
    if how in folders:
        shutil.rmtree(out / how)
        (out / how).symlink_to(elsewhere, target_is_directory=True)
    elif how in ("lock", "report.html"):
        place = out / (".lock" if how == "lock" else how)
        place.unlink(missing_ok=True)
        place.symlink_to(elsewhere / "kept")
    elif how == "file":
        file = rng.choice([path for path in run.iterdir() if path.is_file()])
        file.unlink()
        file.symlink_to(elsewhere / "kept")
    elif how == "run":
        run.rename(elsewhere.parent / "moved")
        run.symlink_to(elsewhere.parent / "moved", target_is_directory=True)
    elif how == "renamed":
        run.rename(run.with_name("another"))
    elif how == "copied":
        shutil.copytree(run, run.with_name(run.name + " (copy)"))
    else:
        (run / "notes").symlink_to("/etc/hostname")
    return how


@dataclass(frozen=True)
class Opened:
    """What a command did with an input."""

    code: int
    said: str


def opened(call: Callable[[], int], capsys: Any, seconds: int) -> Opened:
    """Carry out a command; whatever escapes it fails the test."""
    capsys.readouterr()
    with within(seconds):
        code = call()
    out, err = capsys.readouterr()
    return Opened(code, out + err)
