"""The cache of decoded data: made once, found again, made anew once it or the files changed."""

import hashlib
import multiprocessing
import os
import resource
import shutil
import time
from collections.abc import Callable, Mapping
from multiprocessing.queues import SimpleQueue
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from alibench.benchmarks.data import cache, decoded, images
from alibench.benchmarks.data.datasets import Options
from alibench.benchmarks.data.sources import Contents, Folder
from alibench.evaluation import sealed
from alibench.evaluation.data import Data
from alibench.evaluation.errors import BadInput
from alibench.evaluation.store import home
from tests.benchmarks.data.folders import caches, draw, read, refused, splits


def test_the_hash_is_that_of_pixels_and_labels_and_follows_one_pixel(tmp_path: Path) -> None:
    draw(tmp_path / "set", {"a": 20, "b": 20})
    data = read(tmp_path / "set")
    digest = hashlib.sha256()
    for split in splits(data):
        digest.update(split.x.numpy().tobytes() + split.y.numpy().tobytes())
    assert data.sha256 == digest.hexdigest()
    with Image.open(tmp_path / "set" / "a" / "0.png") as image:
        image.putpixel((1, 1), (9, 9, 9))
        image.save(tmp_path / "set" / "a" / "0.png")
    assert read(tmp_path / "set").sha256 != data.sha256


def test_touched_copied_and_moved_files_find_their_cache(tmp_path: Path) -> None:
    draw(tmp_path / "set", {"a": 20, "b": 20})
    data, built = read(tmp_path / "set"), caches()
    os.utime(tmp_path / "set" / "a" / "0.png", (1, 1))
    shutil.copytree(tmp_path / "set", tmp_path / "copy")
    for name in ("set", "copy"):
        again = read(tmp_path / name)
        assert (again.name, again.sha256) == (name, data.sha256)
    (tmp_path / "copy").rename(tmp_path / "moved")
    assert read(tmp_path / "moved").sha256 == data.sha256
    assert caches() == built
    (tmp_path / "moved" / "a").rename(tmp_path / "moved" / "c")
    assert read(tmp_path / "moved").class_names == ("b", "c")


def test_a_folder_and_the_one_folder_in_it_are_two_data_sets(tmp_path: Path) -> None:
    draw(tmp_path / "set", {"a": 20})
    assert read(tmp_path / "set").classes == 1
    assert read(tmp_path / "set" / "a").classes == 0


def test_known_files_are_not_hashed_again_and_a_damaged_hash_is_made_again(tmp_path: Path) -> None:
    draw(tmp_path / "set", {"a": 20})
    content = read(tmp_path / "set").sha256
    assert not (
        home() / "cache" / "hashes"
    ).exists()  # they are too new: another change might not show in their times
    time.sleep(cache.TICK / 1e9)
    assert read(tmp_path / "set").sha256 == content
    (memory,) = (home() / "cache" / "hashes").iterdir()
    raw = memory.read_text()
    for damaged in (raw.replace(raw[-10], "0" if raw[-10] != "0" else "1"), "0" * 64, "[]", ""):
        memory.write_text(damaged)
        assert read(tmp_path / "set").sha256 == content
        assert memory.read_text() == raw
    assert len(caches()) == 1
    sealed.write_json(memory, "hash", cache.HASH, "0" * 64)
    read(tmp_path / "set")
    assert len(caches()) == 2  # it was believed


def test_writing_to_images_changes_no_cache(tmp_path: Path) -> None:
    draw(tmp_path / "set", {"a": 20})
    read(tmp_path / "set").train.x.zero_()
    assert read(tmp_path / "set").train.x.sum() > 0


def change(name: str, was: str, becomes: str) -> Callable[[Path], object]:
    return lambda folder: (folder / name).write_text((folder / name).read_text().replace(was, becomes))


def flipped(folder: Path) -> None:
    content = bytearray((folder / "test-x").read_bytes())
    content[len(content) // 2] ^= 1
    (folder / "test-x").write_bytes(content)


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda folder: os.truncate(folder / "train-x", 500), "it is not of the size that its header names"),
        (lambda folder: (folder / "test-y").unlink(), "No such file"),
        (lambda folder: (folder / "header.json").write_text("{"), "header.json is damaged"),
        (flipped, "is damaged: its arrays are not what was written"),
        (change("header.json", '"classes": 2', '"classes": 3'), "header.json is damaged"),
        (
            change("header.json", f'"version": {decoded.FORMAT}', '"version": 0'),
            f"header.json has version 0 of the format, this is {decoded.FORMAT}",
        ),
    ],
)
def test_a_damaged_cache_is_built_again_aloud(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], damage: Callable[[Path], None], reason: str
) -> None:
    draw(tmp_path / "set", {"a": 20, "b": 20})
    content = read(tmp_path / "set").sha256
    capsys.readouterr()
    (name,) = caches()
    damage(home() / "cache" / name)
    data = read(tmp_path / "set")
    error = capsys.readouterr().err
    assert error.startswith("alibench: the cache of 'set' is built again: ")
    assert str(home() / "cache" / name) in error
    assert reason in error
    assert error.count("\n") == 1
    assert (data.sha256, len(data.train), data.classes) == (content, 32, 2)
    assert [*caches()] == [name]
    read(tmp_path / "set")
    assert capsys.readouterr().err == ""


def test_a_full_disk_leaves_nothing(tmp_path: Path) -> None:
    draw(tmp_path / "set", {"a": 20}, size=(64, 64))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))  # the system refuses to write more into a file
    try:
        refused(
            f"cannot write the cache of 'set', 245,760 bytes, to {home() / 'cache'} (File too large)",
            tmp_path / "set",
        )
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert caches() == {}
    assert len(read(tmp_path / "set").train) == 16


def test_a_home_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    draw(tmp_path / "set", {"a": 20})
    (tmp_path / "file").write_text("precious")
    monkeypatch.setenv("ALIBENCH_DATA", str(tmp_path / "file"))
    refused("make room or set ALIBENCH_DATA", tmp_path / "set")


def test_an_interruption_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    draw(tmp_path / "set", {"a": 20})
    decode = images.decode

    def interrupted(source: str, *options: Any) -> np.ndarray:
        if "13" in source:
            raise KeyboardInterrupt
        return decode(source, *options)

    monkeypatch.setattr(images, "decode", interrupted)
    with pytest.raises(KeyboardInterrupt):
        read(tmp_path / "set")
    assert caches() == {}


class Disturbed(Folder):
    """A folder with which something happens while it is read."""

    def __init__(self, path: Path, event: Callable[[], object]) -> None:
        super().__init__(str(path))
        self.event = event

    def read(self, files: Mapping[str, str], seed: int) -> Contents:
        self.event()
        return super().read(files, seed)


def test_files_that_change_while_they_are_read_are_not_trusted(tmp_path: Path) -> None:
    draw(tmp_path / "set", {"a": 20})
    source = Disturbed(tmp_path / "set", lambda: draw(tmp_path / "set", {"a": 1}, first=100))
    with pytest.raises(BadInput, match="set changed while it was read"):
        cache.load(source, Options())
    assert caches() == {}


def test_a_builder_that_comes_second_takes_what_is_there(tmp_path: Path) -> None:
    draw(tmp_path / "set", {"a": 20})
    first: list[Data] = []
    inner = Disturbed(tmp_path / "set", lambda: None)
    second = cache.load(
        Disturbed(tmp_path / "set", lambda: first.append(cache.load(inner, Options()))), Options()
    )
    assert second.sha256 == first[0].sha256
    assert torch.equal(second.train.x, first[0].train.x)
    assert len(caches()) == 1


def build_at_once(path: Path, start: Barrier, found: "SimpleQueue[tuple[str, int]]") -> None:
    start.wait()
    data = read(path)
    found.put((data.sha256, int(data.train.x.sum())))


def test_two_processes_build_at_once(tmp_path: Path) -> None:
    draw(tmp_path / "set", {"a": 1500}, size=(32, 32))
    context = multiprocessing.get_context("fork")  # a fresh process would import for seconds
    start, found = context.Barrier(2), context.SimpleQueue()
    both = [context.Process(target=build_at_once, args=(tmp_path / "set", start, found)) for _ in range(2)]
    for process in both:
        process.start()
    for process in both:
        process.join(60)
    assert [process.exitcode for process in both] == [0, 0]
    data = read(tmp_path / "set")
    assert found.get() == found.get() == (data.sha256, int(data.train.x.sum()))
    assert len(caches()) == 1


def test_too_little_space_is_said_before_anything_is_decoded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    draw(tmp_path / "set", {"a": 20}, size=(64, 64))
    free = shutil.disk_usage(tmp_path)._replace(free=245_759)  # a byte less than the images take
    monkeypatch.setattr(shutil, "disk_usage", lambda place: free)
    refused("the cache of 'set' needs 0.0 GB in ", tmp_path / "set")
    assert caches() == {}
    monkeypatch.setattr(shutil, "disk_usage", lambda place: free._replace(free=245_760))
    assert len(read(tmp_path / "set").train) == 16
