"""Folders, arrays and published sets: what is read is what is there, once, or a line says which file is at
fault.
"""

import gzip
import hashlib
import multiprocessing
import os
import pickle
import re
import resource
import shutil
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from http.server import BaseHTTPRequestHandler, HTTPServer
from multiprocessing.queues import SimpleQueue
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import scipy.io
import torch
from PIL import Image
from torchvision import datasets

from alibench.benchmarks.data import cache, decoded, images, published
from alibench.benchmarks.data.cache import forget
from alibench.benchmarks.data.datasets import Options, load
from alibench.benchmarks.data.sources import Contents, Folder, Part
from alibench.evaluation import sealed
from alibench.evaluation.data import Data, Split
from alibench.evaluation.errors import BadInput
from alibench.evaluation.store import home


def read(path: Path, kind: str = "folder", **options: int) -> Data:
    """Open a folder or an .npz as a new process would."""
    forget()
    return load(f"{kind}:{path}", Options(**options))  # type: ignore[arg-type]


def draw(
    root: Path, classes: Mapping[str, int], first: int = 0, size: tuple[int, int] = (5, 4)
) -> dict[int, str]:
    """Write so many images of each class, each of one colour of its own; return the class of each, by its
    number.
    """
    made: dict[int, str] = {}
    for name, count in classes.items():
        (root / name).mkdir(parents=True, exist_ok=True)
        for _ in range(count):
            n = first + len(made)
            Image.new("RGB", size, (n // 256, n % 256, 207)).save(root / name / f"{n}.png")
            made[n] = name
    return made


def numbers(split: Split) -> list[int]:
    """Return which images these are."""
    return [256 * int(x[0, 0, 0]) + int(x[1, 0, 0]) for x in split.x]


def splits(data: Data) -> list[Split]:
    return [data.train, data.validation, data.test]


def mixed(array: np.ndarray) -> np.ndarray:
    """Return what a published set holds in the order that its split gets."""
    return array[np.random.RandomState(0).permutation(len(array))]


def caches() -> dict[str, int]:
    """Return all caches, finished or not, with the times they were made."""
    return {
        path.name: path.stat().st_mtime_ns for path in (home() / "cache").glob("*") if path.name != "hashes"
    }


def refused(match: str, path: Path, kind: str = "folder", **options: int) -> None:
    """Check that the data are refused in one line that holds `match`, and that no cache comes of it."""
    before = caches()
    with pytest.raises(BadInput, match=re.escape(match)) as caught:
        read(path, kind, **options)
    assert "\n" not in str(caught.value)
    assert caches() == before


# Splits


def test_a_folder_is_split_once_completely_by_class_and_seed(tmp_path: Path) -> None:
    made = draw(tmp_path / "set", {"b": 200, "a": 100, "c": 15})
    data = read(tmp_path / "set")
    assert (data.name, data.classes, data.labels, data.class_names) == ("set", 3, 3, ("a", "b", "c"))
    assert data.splits == "eight tenths / a tenth / a tenth, within each class by seed 0"
    found = [n for split in splits(data) for n in numbers(split)]
    assert sorted(found) == sorted(made)
    for split, share in zip(splits(data), (0.8, 0.1, 0.1), strict=True):
        assert [data.class_names[y] for y in split.y] == [made[n] for n in numbers(split)]
        for c, count in enumerate((100, 200, 15)):
            assert abs((split.y == c).sum() - share * count) <= 1
        assert set(split.y[:10].tolist()) != {0}  # shuffled: the first ones are not of one class
    assert found == [n for split in splits(read(tmp_path / "set")) for n in numbers(split)]
    assert set(numbers(data.test)) != set(numbers(read(tmp_path / "set", seed=1).test))


@pytest.mark.parametrize("given", ["validation test", "val test", "val", "test"])
def test_given_splits_are_kept(tmp_path: Path, given: str) -> None:
    made = {"train": draw(tmp_path / "set" / "train", {"x": 30, "y": 30})}
    for i, name in enumerate(given.split(), 1):
        made[name] = draw(tmp_path / "set" / name, {"x": 3, "y": 2 + i}, first=1000 * i)
    data = read(tmp_path / "set")
    if len(made) == 3:
        assert [sorted(numbers(split)) for split in splits(data)] == [sorted(part) for part in made.values()]
    else:  # as ImageNet comes, validation stands for test
        assert sorted(numbers(data.test)) == sorted(made[given])
        assert torch.bincount(data.validation.y).tolist() == [3, 3]
        assert sorted(numbers(data.train) + numbers(data.validation)) == sorted(made["train"])
        assert data.splits.startswith(
            "nine tenths of train / a tenth of train, within each class by seed 0 / "
        )
    class_of = {n: name for part in made.values() for n, name in part.items()}
    for split in splits(data):
        assert [data.class_names[y] for y in split.y] == [class_of[n] for n in numbers(split)]


@pytest.mark.parametrize(("below", "classes"), [("only", 1), ("", 0)])
def test_one_class_or_no_labels(tmp_path: Path, below: str, classes: int) -> None:
    draw(tmp_path / "set", {below: 20})
    (tmp_path / "set" / ".hidden").write_text("not looked at")
    data = read(tmp_path / "set")
    assert (data.classes, data.labels, data.class_names) == (classes, classes, (below,) * classes)
    assert [len(split) for split in splits(data)] == [16, 2, 2]
    for split in splits(data):
        assert split.y.dtype == torch.int64
        assert set(split.y.tolist()) == {classes - 1}


def test_the_papers_splits_at_their_real_sizes(monkeypatch: pytest.MonkeyPatch) -> None:
    def contents(name: str, *sizes: int) -> Contents:
        parts = [Part(np.arange(n), np.arange(n)) for n in sizes]
        monkeypatch.setattr(published.PUBLISHED[name], "open", lambda self, download: (parts, []))
        monkeypatch.setattr(published.PUBLISHED[name], "unpacked", {})  # there are no files
        return published.PUBLISHED[name]().read({}, seed=0)

    for name in ("mnist", "fashion_mnist"):
        order = np.random.RandomState(42).permutation(60_000)
        split = contents(name, 60_000, 10_000)
        assert np.array_equal(split.train.y, mixed(order[:50_000]))
        assert np.array_equal(split.validation.y, mixed(order[50_000:]))
        assert np.array_equal(split.test.y, mixed(np.arange(10_000)))
    split = contents("cifar10", 50_000, 10_000)
    assert np.array_equal(split.train.y, mixed(np.arange(45_000)))
    assert np.array_equal(split.validation.y, mixed(np.arange(45_000, 50_000)))
    for name, sizes in (("svhn", (531_131, 73_257, 26_032)), ("celeba", (162_770, 19_867, 19_962))):
        split = contents(name, *sizes)
        assert (len(split.train), len(split.validation), len(split.test)) == sizes
    with pytest.raises(BadInput, match=r"'mnist' has .* images, not"):
        contents("mnist", 59_999, 10_000)


# Pixels


def everywhere(data: Data, shape: tuple[int, ...]) -> list[list[int]]:
    """Check all images' shape; return the colours of each, which must be the same all over it."""
    x = torch.cat([split.x for split in splits(data)])
    assert x.dtype == torch.uint8
    assert tuple(x.shape[1:]) == shape
    assert (x == x[..., :1, :1]).all()
    return x[..., 0, 0].tolist()


@pytest.mark.parametrize(
    ("mode", "colour", "expected"),
    [
        ("1", 1, [255]),
        ("L", 77, [77]),
        ("LA", (77, 255), [77]),
        ("LA", (77, 0), [255]),  # what cannot be seen is not learnt: behind it is white
        ("I;16", 77 * 256 + 200, [77]),
        ("RGB", (10, 20, 30), [10, 20, 30]),
        ("RGBA", (10, 20, 30, 255), [10, 20, 30]),
        ("RGBA", (10, 20, 30, 51), [206, 208, 210]),  # a fifth of it, and four fifths of white
        ("P", 0, [255, 255, 255]),
    ],
)
def test_every_mode_has_its_channels(tmp_path: Path, mode: str, colour: int, expected: list[int]) -> None:
    folder = tmp_path / "set"
    folder.mkdir()
    image = Image.new(mode, (3, 5), colour)
    options = {}
    if mode == "P":
        image.putpalette([9, 8, 7])
        options = {"transparency": b"\0"}  # a palette with alpha
    for n in range(6):
        image.save(folder / f"{n}.png", **options)
    assert everywhere(read(folder), (len(expected), 5, 3)) == [expected] * 6
    colours = expected * 3 if len(expected) == 1 else expected
    assert (
        everywhere(read(folder, channels=1), (1, 5, 3))
        == [[round(np.dot(colours, (0.299, 0.587, 0.114)))]] * 6
    )
    assert everywhere(read(folder, channels=3), (3, 5, 3)) == [colours] * 6


def test_photographs_stand_upright(tmp_path: Path) -> None:
    (tmp_path / "set").mkdir()
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by a quarter
    picture = Image.new("L", (16, 8))
    picture.paste(255, (0, 0, 8, 8))
    for n in range(6):
        picture.save(tmp_path / "set" / f"{n}.jpg", exif=exif, quality=100)
    x = read(tmp_path / "set").train.x[0, 0]
    assert x.shape == (16, 8)
    assert x[:8].min() > 250
    assert x[8:].max() < 5


def lanczos(n: int, to: int) -> np.ndarray:
    """Return the matrix (to, n) of a Lanczos-3 reduction, from its definition."""
    scale = n / to
    distance = (np.arange(n) + 0.5 - (np.arange(to)[:, None] + 0.5) * scale) / scale
    weights = np.where(abs(distance) < 3, np.sinc(distance) * np.sinc(distance / 3), 0)
    return weights / weights.sum(1, keepdims=True)


@pytest.mark.parametrize(("size", "width", "height"), [(8, 20, 33), (8, 33, 20), (64, 178, 218)])
def test_size_resizes_the_shorter_side_and_keeps_the_middle(
    tmp_path: Path, size: int, width: int, height: int
) -> None:
    pixels = np.random.RandomState(0).randint(256, size=(height, width, 3)).astype(np.uint8)
    Image.fromarray(pixels).save(tmp_path / "image.png")
    across, down = (
        (size, round(size * height / width)) if width < height else (round(size * width / height), size)
    )
    expected = np.einsum(
        "yh,xw,hwc->cyx", lanczos(height, down), lanczos(width, across), pixels.astype(float), optimize=True
    )
    left, top = (across - size) // 2, (down - size) // 2
    expected = np.clip(expected[:, top : top + size, left : left + size], 0, 255)
    assert (
        np.abs(images.decode(str(tmp_path / "image.png"), size, 3) - expected).max() < 4
    )  # Pillow rounds in between
    if size == 64:  # the paper's CelebA
        assert (across, down, left, top) == (64, 78, 0, 7)


def test_sizes_are_made_one(tmp_path: Path) -> None:
    draw(tmp_path / "set", {"a": 8}, size=(7, 13))
    draw(tmp_path / "set", {"b": 8}, first=8, size=(9, 6))
    refused("others are", tmp_path / "set")
    data = read(tmp_path / "set", size=6)
    assert data.shape == (3, 6, 6)
    assert sorted(n for split in splits(data) for n in numbers(split)) == list(range(16))


# Folders that cannot be used


def test_a_truncated_image_is_named(tmp_path: Path) -> None:
    draw(tmp_path / "set", {"a": 20})
    noise = np.random.RandomState(0).randint(256, size=(64, 64, 3)).astype(np.uint8)
    for name in ("cut.jpg", "cut.png"):
        path = tmp_path / "set" / "a" / name
        Image.fromarray(noise[:4, :5] if name == "cut.png" else noise).save(path)
        path.write_bytes(path.read_bytes()[:-40])
        refused(f"{path} cannot be read as an image", tmp_path / "set", size=4)
        path.unlink()


SPOILED: dict[str, tuple[Callable[[Path], object], str]] = {
    "text": (
        lambda root: (root / "a" / "notes.pdf").write_text("no image"),
        "notes.pdf cannot be read as an image (not PNG, JPEG, WEBP, BMP, GIF, TIFF, PPM): mend, convert or",
    ),
    "floats": (
        lambda root: Image.new("F", (5, 4)).save(root / "a" / "float.tiff"),
        "float.tiff cannot be read as an image (more than 16 bits",
    ),
    "empty class": (lambda root: (root / "empty").mkdir(), "empty is empty: put images into it or remove it"),
    "loose image": (
        lambda root: draw(root, {"": 1}),
        "train has images in '.', 'a', 'b': class folders hold",
    ),
    "class in a class": (lambda root: draw(root / "a", {"b": 1}), "train has images in 'a/b': class folders"),
    "no folder": (shutil.rmtree, "there is no folder"),
    "test": (lambda root: draw(root, {"test": 5}), "set: the folders of splits are"),
    "two": (
        lambda root: draw(root, {"train": 5, "val": 5, "validation": 5}),
        "set: the folders of splits are",
    ),
    "train": (lambda root: draw(root, {"train": 5}), "a/0.png lies beside the folders train, validation or"),
}


@pytest.mark.parametrize("how", SPOILED)
def test_folders_that_cannot_be_used_are_named(tmp_path: Path, how: str) -> None:
    draw(tmp_path / "set", {"a": 10, "b": 10})
    spoil, message = SPOILED[how]
    spoil(tmp_path / "set")
    refused(message, tmp_path / "set")


def test_too_few_images_for_three_splits_are_refused(tmp_path: Path) -> None:
    draw(tmp_path / "set", {"a": 5})
    refused("set: no images are left for the test split", tmp_path / "set")


@pytest.mark.parametrize(
    ("train", "test", "message"),
    [
        ({"a": 10}, {"b": 2}, "set: test has images in 'b': "),
        ({"a": 10}, {"": 2}, "set: test has images in '.': "),
        ({"": 10}, {"a": 2}, "set: test has images in 'a': "),
    ],
)
def test_classes_of_test_that_train_has_not(
    tmp_path: Path, train: dict[str, int], test: dict[str, int], message: str
) -> None:
    draw(tmp_path / "set" / "train", train)
    draw(tmp_path / "set" / "test", test)
    refused(message, tmp_path / "set")


# The cache


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


# Published sets


def idx(folder: Path, kind: str, array: np.ndarray) -> None:
    """Write an array in MNIST's format, packed as it is published."""
    header = bytes([0, 0, 8, array.ndim]) + b"".join(n.to_bytes(4, "big") for n in array.shape)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{kind}-ubyte.gz").write_bytes(gzip.compress(header + array.tobytes()))


@pytest.fixture
def small_mnist(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, np.ndarray]:
    """Publish 30 + 10 digits in a folder, with their checksums."""
    rng = np.random.RandomState(0)
    arrays = {}
    for part, n in (("train", 30), ("t10k", 10)):
        arrays[f"{part}-images-idx3"] = rng.randint(256, size=(n, 28, 28)).astype(np.uint8)
        arrays[f"{part}-labels-idx1"] = (np.arange(n) % 10).astype(np.uint8)
    for kind, array in arrays.items():
        idx(tmp_path / "published", kind, array)
    files = sorted((tmp_path / "published").iterdir())
    checksums = [(path.name, hashlib.md5(path.read_bytes()).hexdigest()) for path in files]
    monkeypatch.setattr(datasets.MNIST, "resources", checksums)
    monkeypatch.setattr(published.MNIST, "sizes", (25, 5, 10))
    contents = {path.stem: gzip.decompress(path.read_bytes()) for path in files}
    unpacked = {f"MNIST/raw/{name}": hashlib.sha256(raw).hexdigest() for name, raw in contents.items()}
    monkeypatch.setattr(published.MNIST, "unpacked", unpacked)
    return arrays


class Server(BaseHTTPRequestHandler):
    """Serves a folder, of every file so many bytes."""

    folder: ClassVar[Path]
    limit: ClassVar[int | None]

    def do_HEAD(self) -> None:
        self.send_response(200)
        self.end_headers()

    def do_GET(self) -> None:
        body = (self.folder / self.path.strip("/")).read_bytes()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[: self.limit])

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Server]]:
    """Serve what is published from this machine, whole."""
    Server.folder, Server.limit = tmp_path / "published", None
    with HTTPServer(("127.0.0.1", 0), Server) as http:
        monkeypatch.setattr(datasets.MNIST, "mirrors", [f"http://127.0.0.1:{http.server_port}/"])
        thread = threading.Thread(target=http.serve_forever, args=(0.01,))
        thread.start()
        yield Server
        http.shutdown()
        thread.join()


def test_mnist_is_downloaded_split_and_then_opened_from_its_cache(
    small_mnist: dict[str, np.ndarray], server: type[Server], monkeypatch: pytest.MonkeyPatch
) -> None:
    data = load("mnist")
    order = np.random.RandomState(42).permutation(30)
    x, y = small_mnist["train-images-idx3"], small_mnist["train-labels-idx1"]
    assert np.array_equal(data.train.x[:, 0], mixed(x[order[:25]]))
    assert np.array_equal(data.train.y, mixed(y[order[:25]]))
    assert np.array_equal(data.validation.x[:, 0], mixed(x[order[25:]]))
    assert np.array_equal(data.test.x[:, 0], mixed(small_mnist["t10k-images-idx3"]))
    assert (data.name, data.classes, len(data.class_names)) == ("mnist", 10, 10)
    assert load("mnist", Options(size=32, channels=3)).shape == (3, 32, 32)
    forget()
    monkeypatch.setattr(published.MNIST, "open", None)  # neither a download nor a reader is needed any more
    assert load("mnist").sha256 == data.sha256


def test_stacks_are_digits_of_their_own_split_as_channels(
    small_mnist: dict[str, np.ndarray], server: type[Server], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(published.StackedMNIST, "unpacked", published.MNIST.unpacked)
    digits, data = load("mnist"), load("stacked_mnist")
    for stacks, split in (
        (data.train, digits.train),
        (data.validation, digits.validation),
        (data.test, digits.test),
    ):
        assert len(stacks) == len(split)
        label = {image.numpy().tobytes(): int(y) for image, y in zip(split.x, split.y, strict=True)}
        for image, y in zip(stacks.x, stacks.y, strict=True):
            a, b, c = (label[channel[None].numpy().tobytes()] for channel in image)
            assert int(y) == 100 * a + 10 * b + c
    assert (data.classes, data.shape) == (1000, (3, 28, 28))
    assert torch.equal(load("stacked_mnist", Options()).train.x, data.train.x)
    assert not torch.equal(load("stacked_mnist", Options(seed=1)).train.x, data.train.x)


def test_a_download_that_breaks_is_not_trusted_later(
    small_mnist: dict[str, np.ndarray], server: type[Server]
) -> None:
    server.limit = 300
    for _ in range(2):
        with pytest.raises(
            BadInput, match=r"'mnist' cannot be downloaded \(.*train-images-idx3-ubyte.gz"
        ) as caught:
            load("mnist")
        assert "\n" not in str(caught.value)
        assert caches() == {}
    server.limit = None
    assert len(load("mnist").train) == 25


@pytest.mark.parametrize(
    ("name", "files"),
    [
        ("mnist", "MNIST/raw/train-images-idx3-ubyte.gz, MNIST/raw/train-labels-idx1-ubyte.gz"),
        ("fashion_mnist", "FashionMNIST/raw/train-images-idx3-ubyte.gz"),
        ("cifar10", "cifar-10-python.tar.gz"),
        ("svhn", "extra_32x32.mat, train_32x32.mat, test_32x32.mat"),
        ("celeba", "celeba/img_align_celeba (img_align_celeba.zip unpacked), celeba/list_attr_celeba.txt"),
    ],
)
def test_offline_the_message_says_what_goes_where(
    name: str, files: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    nowhere = "http://127.0.0.1:9/"  # nobody listens there
    monkeypatch.setattr(datasets.MNIST, "mirrors", [nowhere])
    monkeypatch.setattr(datasets.FashionMNIST, "mirrors", [nowhere])
    monkeypatch.setattr(datasets.CIFAR10, "url", f"{nowhere}cifar-10-python.tar.gz")
    sources = {split: [nowhere, *rest] for split, (_, *rest) in datasets.SVHN.split_list.items()}
    monkeypatch.setattr(datasets.SVHN, "split_list", sources)
    monkeypatch.setitem(sys.modules, "gdown", None)  # as where it is not installed
    with pytest.raises(BadInput) as caught:
        load(name)
    message = str(caught.value)
    assert message.startswith(f"dataset '{name}' cannot be downloaded (")
    assert f"put {files}" in message
    assert f" into {home() / 'raw'}, or try again with a network" in message
    assert "\n" not in message
    assert name != "celeba" or "'gdown' is required" in message


def _flipped(content: bytes) -> bytes:
    return content[:-1] + bytes([content[-1] ^ 1])


@pytest.mark.parametrize(
    "damage",
    [
        _flipped,  # one pixel: its header and its size are right
        lambda content: content[:5000],
        lambda content: gzip.compress(content),  # packed, under the name of what it holds
        lambda content: content[:16],
        lambda content: b"",
    ],
)
def test_damaged_raw_files_are_named(
    small_mnist: dict[str, np.ndarray], tmp_path: Path, damage: Callable[[bytes], bytes]
) -> None:
    raw = home() / "raw" / "MNIST" / "raw"
    shutil.copytree(tmp_path / "published", raw)
    assert len(load("mnist").train) == 25  # what was put there by hand is used

    # although the packed file lies beside it
    file = raw / "train-images-idx3-ubyte"
    file.write_bytes(damage(file.read_bytes()))
    forget()
    with pytest.raises(BadInput, match="'mnist' cannot be read") as caught:
        load("mnist")
    assert "(MNIST/raw/train-images-idx3-ubyte: not as published): remove MNIST/raw/" in str(caught.value)

    # the remedy helps, without a network
    for name in published.MNIST.needed:
        (home() / "raw" / name).unlink()
    assert len(load("mnist").train) == 25


def test_damaged_packed_files_are_named(
    small_mnist: dict[str, np.ndarray], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(datasets.MNIST, "mirrors", ["http://127.0.0.1:9/"])  # nobody listens there
    raw = home() / "raw" / "MNIST" / "raw"
    shutil.copytree(tmp_path / "published", raw)
    file = raw / "t10k-labels-idx1-ubyte.gz"
    file.write_bytes(_flipped(file.read_bytes()))
    with pytest.raises(BadInput, match=r"; not as published: MNIST/raw/t10k-labels-idx1-ubyte.gz\): put "):
        load("mnist")
    assert caches() == {}


def test_cifar10_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    folder, rng = home() / "raw" / "cifar-10-batches-py", np.random.RandomState(0)
    folder.mkdir(parents=True)
    x, y = rng.randint(256, size=(18, 3, 32, 32)).astype(np.uint8), np.arange(18) % 10

    def publish(name: str, content: dict[str, object]) -> list[str]:
        (folder / name).write_bytes(pickle.dumps(content))
        return [name, hashlib.md5((folder / name).read_bytes()).hexdigest()]

    batches = [
        publish(f"b{i}", {"data": x[i : i + 6].reshape(6, -1), "labels": [*y[i : i + 6]]}) for i in (0, 6, 12)
    ]
    _, checksum = publish("batches.meta", {"label_names": [*"abcdefghij"]})
    monkeypatch.setattr(datasets.CIFAR10, "train_list", batches[:2])
    monkeypatch.setattr(datasets.CIFAR10, "test_list", batches[2:])
    monkeypatch.setattr(
        datasets.CIFAR10, "meta", {"filename": "batches.meta", "key": "label_names", "md5": checksum}
    )
    monkeypatch.setattr(published.CIFAR10, "sizes", (9, 3, 6))
    data = load("cifar10")
    for split, part in zip(splits(data), (slice(9), slice(9, 12), slice(12, 18)), strict=True):
        assert np.array_equal(split.x, mixed(x[part]))
        assert split.y.tolist() == mixed(y[part]).tolist()
    assert data.class_names == tuple("abcdefghij")


def test_svhn_trains_on_its_extra_images(monkeypatch: pytest.MonkeyPatch) -> None:
    raw, rng = home() / "raw", np.random.RandomState(0)
    raw.mkdir(parents=True)
    sizes, arrays, sources = {"extra": 8, "train": 5, "test": 4}, {}, {}
    for split, n in sizes.items():
        arrays[split] = rng.randint(256, size=(n, 3, 32, 32)).astype(np.uint8)
        path = raw / f"{split}_32x32.mat"
        labels = np.arange(1, n + 1, dtype=np.uint8)[:, None]  # SVHN calls a 0 10
        scipy.io.savemat(
            path, {"X": arrays[split].transpose(2, 3, 1, 0), "y": np.where(labels == 8, 10, labels)}
        )
        sources[split] = ["", path.name, hashlib.md5(path.read_bytes()).hexdigest()]
    monkeypatch.setattr(datasets.SVHN, "split_list", sources)
    monkeypatch.setattr(published.SVHN, "sizes", tuple(sizes.values()))
    data = load("svhn")
    for split, array in zip(splits(data), arrays.values(), strict=True):
        assert np.array_equal(split.x, mixed(array))
    assert data.train.y.tolist() == mixed(np.array([1, 2, 3, 4, 5, 6, 7, 0])).tolist()
    assert data.class_names == tuple("0123456789")


def test_celeba_has_the_papers_crop_and_its_attributes(monkeypatch: pytest.MonkeyPatch) -> None:
    folder, rng = home() / "raw" / "celeba", np.random.RandomState(0)
    (folder / "img_align_celeba").mkdir(parents=True)
    names = [f"{n:06}.jpg" for n in range(1, 9)]
    for name in names:
        noise = Image.fromarray(rng.randint(256, size=(20, 16, 3)).astype(np.uint8))
        noise.resize((178, 218)).save(folder / "img_align_celeba" / name)
    attributes = rng.randint(2, size=(8, 40))
    rows = {name: " ".join(map(str, 2 * row - 1)) for name, row in zip(names, attributes, strict=True)}
    titles = " ".join(f"Attribute_{i}" for i in range(40))
    (folder / "list_attr_celeba.txt").write_text(
        f"8\n{titles} \n" + "".join(f"{n} {r}\n" for n, r in rows.items())
    )
    for table in ("list_bbox_celeba.txt", "list_landmarks_align_celeba.txt"):
        (folder / table).write_text("8\nx\n" + "".join(f"{name} 1\n" for name in names))
    (folder / "identity_CelebA.txt").write_text("".join(f"{name} 1\n" for name in names))
    parts = [0, 0, 0, 2, 1, 1, 0, 2]
    (folder / "list_eval_partition.txt").write_text(
        "".join(f"{n} {p}\n" for n, p in zip(names, parts, strict=True))
    )
    monkeypatch.setattr(
        datasets.CelebA, "file_list", [(i, None, name) for i, _, name in datasets.CelebA.file_list]
    )
    monkeypatch.setattr(published.CelebA, "sizes", (4, 2, 2))
    data = load("celeba")
    assert (data.shape, data.classes, data.labels) == ((3, 64, 64), 0, 40)
    assert data.class_names == tuple(titles.split())
    for split, published_so in zip(splits(data), ([0, 1, 2, 6], [4, 5], [3, 7]), strict=True):
        members = mixed(np.array(published_so))
        assert split.y.dtype == torch.uint8
        assert np.array_equal(split.y, attributes[members])
        for x, member in zip(split.x, members, strict=True):
            with Image.open(folder / "img_align_celeba" / names[member]) as image:
                whole = np.asarray(image.resize((64, 78), Image.Resampling.LANCZOS))
            assert np.array_equal(x, whole[7:71].transpose(2, 0, 1))
    (folder / "img_align_celeba" / names[2]).unlink()
    forget()
    with pytest.raises(BadInput, match=r"000003\.jpg cannot be read"):
        load("celeba")


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
