"""Folders of pictures: what is read is what is there, once, or a line says which file is at fault."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from alibench.benchmarks.data import images
from alibench.evaluation.data import Data
from tests.benchmarks.data.folders import draw, numbers, read, refused, splits

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
