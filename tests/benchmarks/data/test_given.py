"""Data that a program hands over become a file of the user's, whatever they were."""

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import IterableDataset, TensorDataset

import alibench
from alibench.benchmarks.data import datasets, given
from alibench.evaluation.errors import BadInput

RNG = np.random.RandomState(0)
X = RNG.randint(256, size=(90, 6, 6), dtype=np.uint8)
Y = np.arange(90) % 3


class Pictures:
    """A dataset as Hugging Face's: a length, and items that are mappings of a picture and its class."""

    def __init__(self, mode: str = "L", length: int = 90, sides: tuple[int, ...] = (6,)) -> None:
        self.mode, self.length, self.sides = mode, length, sides

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, i: int) -> dict[str, Any]:
        if i >= 90:
            raise IndexError(i)
        picture = Image.fromarray(X[i]).resize((self.sides[i % len(self.sides)],) * 2)
        return {"image": picture.convert(self.mode), "label": int(Y[i])}


def floats() -> torch.Tensor:
    """The same images as ToTensor gives them, (N, 1, 6, 6) in [0, 1], with a gradient."""
    return torch.from_numpy(X[:, None] / np.float32(255)).requires_grad_()


READ_ONLY = X.copy()
READ_ONLY.flags.writeable = False


@pytest.mark.parametrize(
    "make",
    [
        lambda: (X, Y),
        lambda: (READ_ONLY, torch.from_numpy(Y)),
        lambda: {"x": X, "y": Y},
        lambda: (X[:, :, ::-1][:, :, ::-1], Y),  # another order in memory
        lambda: (floats(), Y),
        lambda: TensorDataset(floats().detach(), torch.from_numpy(Y)),
        Pictures,
    ],
    ids=["arrays", "read-only", "mapping", "strided", "floats", "torch", "hugging face"],
)
def test_the_same_pictures_are_the_same_data_however_they_come(make: Callable[[], Any]) -> None:
    data = datasets.load(given.name_of(make()))
    expected = datasets.load(given.name_of((X, Y)))
    assert data.shape == (1, 6, 6)
    assert data.classes == 3
    for split in ("train", "validation", "test"):
        ours, theirs = getattr(data, split), getattr(expected, split)
        assert torch.equal(ours.x, theirs.x)
        assert torch.equal(ours.y, theirs.y)


def test_every_picture_is_in_one_split_with_its_label() -> None:
    data = datasets.load(given.name_of((X, Y)))
    pictures = {image.tobytes(): label for image, label in zip(X, Y, strict=True)}
    splits = (data.train, data.validation, data.test)
    pairs = [(x.numpy().tobytes(), int(y)) for part in splits for x, y in zip(part.x, part.y, strict=True)]
    assert len(pairs) == len(pictures) == len({image for image, _ in pairs})
    assert all(pictures[image] == label for image, label in pairs)


def test_splits_that_are_given_are_kept() -> None:
    name = given.name_of({"train": Pictures(), "test": Pictures(length=20)})
    data = datasets.load(name)
    assert len(data.test) == 20
    assert len(data.train) + len(data.validation) == 90
    assert {x.numpy().tobytes() for x in data.test.x} == {x.tobytes() for x in X[:20]}


def test_palettes_are_colours_and_points_are_a_table() -> None:
    assert datasets.load(given.name_of(Pictures("P"))).shape == (3, 6, 6)
    points = RNG.standard_normal((200, 5)).astype(np.float32)
    data = datasets.load(given.name_of((points, np.arange(200) % 2)))
    assert not data.images
    assert data.shape == (5,)


def test_equal_arrays_are_one_file_and_others_are_another() -> None:
    assert given.name_of((X, Y)) == given.name_of((X.copy(), Y.copy()))
    assert given.name_of((X, Y)) != given.name_of((X, (Y + 1) % 3))
    assert given.name_of(X) != given.name_of((X, Y))


def test_a_file_in_the_cache_is_called_by_the_whole_hash() -> None:
    # a part of it would take one dataset for another one day, in silence
    assert re.search(r"arrays-[0-9a-f]{64}/", given.name_of((X, Y)))


class Large(Pictures):
    """More pictures than may be read, which counts how many are."""

    asked = 0

    def __getitem__(self, i: int) -> dict[str, Any]:
        self.asked += 1
        return super().__getitem__(0)


def test_more_than_may_be_read_is_refused_before_it_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    large = Large(length=10**9)
    with pytest.raises(BadInput, match="ALIBENCH_LIMIT"):
        given.name_of(large)
    assert large.asked == 1
    monkeypatch.setenv("ALIBENCH_LIMIT", "1e-6")
    with pytest.raises(BadInput, match="ALIBENCH_LIMIT"):
        given.name_of((X[::-1], Y))


def test_a_cache_that_cannot_be_written_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("ALIBENCH_DATA", str(tmp_path / "file"))
    with pytest.raises(BadInput, match="make room, or name another folder by ALIBENCH_DATA"):
        given.name_of((X, Y))


def test_names_and_places_stay_what_they_are(tmp_path: Path) -> None:
    np.savez(tmp_path / "mine.npz", x=X, y=Y)
    assert given.name_of("digits") == "digits"
    assert given.name_of("folder:anywhere") == "folder:anywhere"
    assert given.name_of(tmp_path) == f"folder:{tmp_path}"
    assert given.name_of(tmp_path / "mine.npz") == f"npz:{tmp_path / 'mine.npz'}"


class Stream(IterableDataset[torch.Tensor]):
    """A dataset without a length."""

    def __iter__(self) -> Iterator[torch.Tensor]:
        return iter(torch.zeros(3, 8, 8))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (X * 1.5, "up to 255"),
        (X.astype(np.float32) / 127.5 - 1, r"\[-1, 1\]"),
        (np.where(X > 250, np.nan, X / 255), "not finite"),
        (X[..., None].repeat(5, -1), "shape"),
        ((X, Y[:80]), "90 images"),
        ((X, Y + 1), f"labels from 1 to {Y.max() + 1}, labels must be integers"),
        (np.array([["a"]]), "numbers are needed"),
        (Pictures(length=100), "ends after 90 of the 100 items"),
        (Pictures(sides=(6, 7)), "2 shapes"),
        (Stream(), "not data that can be read"),
        ([["cat"], "dog"], "numbers are needed"),
        ([(X[0], "cat")], "not an image with a class"),
        ({"pictures": Pictures()}, "'pictures' is not an array"),
        (3, "a int is not data"),
        (Path("nowhere") / "at all", "there is no folder or file"),
    ],
)
def test_what_cannot_be_read_is_refused_in_a_line(data: Any, message: str) -> None:
    with pytest.raises(BadInput, match=message) as problem:
        given.name_of(data)
    assert "\n" not in str(problem.value)
    assert "arrays.npz" not in str(problem.value)  # which the caller has never seen


@pytest.mark.parametrize(
    ("samples", "message"),
    [
        (X, r"^the array of samples: it holds samples of shape \(1, 6, 6\), the data have \(1, 8, 8\)"),
        (np.full((500, 8, 8), np.nan), "^the array of samples: 500 of 500 are not finite"),
        (np.zeros((20, 8, 8), np.uint8), "there are 20 in the array of samples$"),
    ],
)
def test_what_is_wrong_with_samples_is_said_of_the_array(samples: np.ndarray, message: str) -> None:
    with pytest.raises(BadInput, match=message):
        alibench.evaluate(samples, "digits", metrics=["fidelity"])
