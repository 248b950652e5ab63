"""Arrays as other tools save them: each name, type and format gives the same images, or a line says what to
save.
"""

import gzip
import io
import os
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch

from alibench.benchmarks.data import cache, datasets
from alibench.benchmarks.data.datasets import Options
from alibench.evaluation import files
from alibench.evaluation.data import Data
from alibench.evaluation.errors import BadInput
from alibench.evaluation.features.extractor import Extractor
from alibench.evaluation.metrics.fidelity import Against, Features
from alibench.evaluation.seeds import generator
from alibench.evaluation.settings import Settings

X = np.random.RandomState(0).randint(256, size=(30, 5, 4)).astype(np.uint8)
Y = np.arange(30) % 3


def read(path: Path, **options: int) -> Data:
    cache.forget()
    return datasets.load(f"npz:{path}", Options(**options))  # type: ignore[arg-type]


def save(folder: Path, **arrays: np.ndarray) -> Path:
    np.savez(folder / "set.npz", **arrays)  # type: ignore[arg-type]
    return folder / "set.npz"


def refused(path: Path, *told: str) -> None:
    """Check that a file is refused in one line."""
    with pytest.raises(BadInput) as caught:
        read(path)
    assert "\n" not in str(caught.value)
    assert all(part in str(caught.value) for part in told), caught.value


def pairs(loaded: Data) -> list[tuple[bytes, int]]:
    """Return all images with their labels, in no order."""
    splits = (loaded.train, loaded.validation, loaded.test)
    return sorted(
        (x.tobytes(), int(y)) for split in splits for x, y in zip(split.x.numpy(), split.y, strict=True)
    )


WANTED = sorted((x.tobytes(), int(y)) for x, y in zip(X, Y, strict=True))


# Names


@pytest.mark.parametrize(
    "names", ["x y", "X Y", "images labels", "arr_0 arr_1", "data target", "train_images train_labels"]
)
def test_arrays_of_every_name(tmp_path: Path, names: str) -> None:
    images, labels = names.split()
    loaded = read(save(tmp_path, **{images: X, labels: Y}))
    assert (pairs(loaded), loaded.classes) == (WANTED, 3)


@pytest.mark.parametrize("pattern", ["{k}_{s}", "{s}_{k}", "{K}_{s}"], ids=["x_train", "train_x", "X_train"])
@pytest.mark.parametrize(
    "splits", ["train validation test", "train val test", "train valid test", "training test"]
)
@pytest.mark.parametrize("kinds", ["x y", "images labels"])
def test_splits_of_every_name(tmp_path: Path, pattern: str, splits: str, kinds: str) -> None:
    parts = dict(zip(splits.split(), (slice(0, 20), slice(20, 26), slice(26, 30)), strict=False))
    arrays = {}
    for split, part in parts.items():
        for kind, array in zip(kinds.split(), (X, Y), strict=True):
            arrays[pattern.format(k=kind, K=kind.upper(), s=split)] = array[part]
    loaded = read(save(tmp_path, **arrays))
    last = [*parts.values()][-1]
    assert sorted(x.tobytes() for x in loaded.test.x.numpy()) == sorted(x.tobytes() for x in X[last])
    assert loaded.classes == 3


@pytest.mark.parametrize(
    "names", ["x images", "x y labels", "x test_images", "arr_0 arr_1 arr_2", "test_images", "y", "x weights"]
)
def test_names_that_do_not_say_what_they_hold(tmp_path: Path, names: str) -> None:
    path = save(tmp_path, **dict.fromkeys(names.split(), X))
    refused(path, f"set.npz: it holds {names.replace(' ', ', ')}: call arrays x and y, ")


@pytest.mark.parametrize(
    ("arrays", "told"),
    [
        ({"x": X.astype(complex)}, "x holds complex128 of shape (30, 5, 4), images must be uint8"),
        ({"x": X[0]}, "x holds uint8 of shape (5, 4)"),
        ({"x": X[..., None].repeat(2, 3)}, "x holds uint8 of shape (30, 5, 4, 2)"),
        ({"x": X[:, :0]}, "x holds uint8 of shape (30, 0, 4)"),
        ({"x": X[:0]}, "no images are left for the train split"),
        ({"x": X[:1]}, "no images are left for the train split"),
        ({"x": X, "y": Y[:29]}, "x holds 30 images, y 29 labels"),
        ({"x": X, "y": Y.astype(object)}, "cannot be read (Object arrays cannot be loaded"),
        ({"x_train": X, "y_train": Y, "x_test": X}, "with labels of every split or of none"),
        ({"x_train": X, "y_train": Y, "x_test": X, "y_test": Y + 1}, "y_test holds labels from 1 to "),
        ({"x_train": X, "x_test": X.reshape(30, 4, 5)}, "5x4 pixels, others are 4x5: resize all by --size N"),
        (
            {"x_train": X, "x_test": X / 2},
            "images of several types of numbers (x_train uint8, x_test float64)",
        ),
    ],
)
def test_arrays_that_cannot_be_used_are_named(
    tmp_path: Path, arrays: dict[str, np.ndarray], told: str
) -> None:
    refused(save(tmp_path, **arrays), "set.npz", told)


def test_what_is_no_npz_is_named(tmp_path: Path) -> None:
    refused(tmp_path / "set.npz", f"there is no file {tmp_path / 'set.npz'}")
    whole = save(tmp_path, x=X).read_bytes()
    for broken in (whole[: len(whole) // 2], b"", b"no archive", whole[:500] + b"?" + whole[501:]):
        (tmp_path / "set.npz").write_bytes(broken)
        refused(tmp_path / "set.npz", "set.npz cannot be read (", "save plain arrays by numpy.savez")


# Layouts


@pytest.mark.parametrize(
    ("shape", "read_as"),
    [
        ((7, 5), (1, 7, 5)),
        ((7, 5, 1), (1, 7, 5)),
        ((1, 7, 5), (1, 7, 5)),
        ((7, 5, 3), (3, 7, 5)),
        ((3, 7, 5), (3, 7, 5)),
    ],
)
def test_arrays_of_every_layout(tmp_path: Path, shape: tuple[int, ...], read_as: tuple[int, ...]) -> None:
    x = np.random.RandomState(0).randint(256, size=(30, *shape)).astype(np.uint8)
    loaded = read(save(tmp_path, x_train=x[:20], y_train=Y[:20], x_test=x[20:], y_test=Y[20:]))
    assert (loaded.name, loaded.shape, loaded.classes) == ("set", read_as, 3)
    expected = np.moveaxis(x, -1, 1) if shape[-1] in (1, 3) else x.reshape(30, *read_as)
    order = np.random.RandomState(0).permutation(10)  # of the seed, as a folder's
    assert np.array_equal(loaded.test.x, expected[20:][order])
    assert loaded.test.y.tolist() == Y[20:][order].tolist()
    assert pairs(loaded) == sorted((x.tobytes(), int(y)) for x, y in zip(expected, Y, strict=True))


def test_arrays_without_labels_are_split_by_seed(tmp_path: Path) -> None:
    path = save(tmp_path, x=X)
    loaded = read(path)
    assert [len(split) for split in (loaded.train, loaded.validation, loaded.test)] == [24, 3, 3]
    assert pairs(loaded) == sorted((x.tobytes(), -1) for x in X)
    assert loaded.classes == 0
    assert not torch.equal(loaded.test.x, read(path, seed=1).test.x)
    assert read(path, size=2, channels=3).shape == (3, 2, 2)


# Labels


@pytest.mark.parametrize(
    "y", [Y[:, None], np.eye(3)[Y], np.eye(3, dtype=bool)[Y], np.eye(3, dtype=int)[Y], Y.astype(np.uint8)]
)
def test_labels_in_a_column_or_one_hot(tmp_path: Path, y: np.ndarray) -> None:
    assert pairs(read(save(tmp_path, x=X, y=y))) == WANTED


def test_yes_and_no_are_two_classes(tmp_path: Path) -> None:
    assert read(save(tmp_path, x=X, y=Y > 0)).classes == 2


@pytest.mark.parametrize(
    "y",
    [
        *(Y - 1, Y * 2, Y / 2, Y[:, None, None]),
        *(np.ones((30, 3)), np.zeros((30, 3)), np.eye(3)[Y] / 2, np.eye(4)[Y + (Y > 0)]),
    ],
)
def test_other_tables_of_labels_are_refused(tmp_path: Path, y: np.ndarray) -> None:
    refused(save(tmp_path, x=X, y=y), "set.npz: y holds ", "labels must be integers (N,) from 0 without gaps")


# Types


@pytest.mark.parametrize("kind", [np.float32, np.float64, np.int64, np.int16, np.uint16])
def test_whole_numbers_from_0_to_255_are_pixels_whatever_their_type(tmp_path: Path, kind: type) -> None:
    assert pairs(read(save(tmp_path, x=X.astype(kind), y=Y))) == WANTED


@pytest.mark.parametrize("kind", [np.float16, np.float32, np.float64])
def test_floats_in_0_to_1_are_multiplied_by_255_aloud(
    tmp_path: Path, kind: type, capsys: pytest.CaptureFixture[str]
) -> None:
    loaded = read(save(tmp_path, x=(X / 255).astype(kind), y=Y))
    assert pairs(loaded) == WANTED
    told = f"{np.dtype(kind)} in [0, 1] was multiplied by 255"
    assert capsys.readouterr().err == f"alibench: data 'set': {told}\n"
    assert loaded.splits.endswith(f"; {told}")


def test_all_splits_are_converted_alike(tmp_path: Path) -> None:
    """A test split whose pictures happen to be dark is not taken for one in [0, 1]."""
    dark = X[20:] % 2
    loaded = read(save(tmp_path, x_train=X[:20].astype(float), x_test=dark.astype(float)))
    assert sorted(x.tobytes() for x in loaded.test.x.numpy()) == sorted(x.tobytes() for x in dark)


def test_masks_become_black_and_white(tmp_path: Path) -> None:
    expected = sorted((255 * (x > 100).astype(np.uint8)).tobytes() for x in X)
    for masks in (X > 100, (X > 100).astype(np.uint8), (X > 100).astype(np.int64), (X > 100).astype(float)):
        assert [image for image, _ in pairs(read(save(tmp_path, x=masks)))] == expected


@pytest.mark.parametrize(
    ("x", "told"),
    [
        (
            X / 127.5 - 1,
            "x holds float64 from -1 to 1, images must be uint8, or float in [0, 1]: save (x + 1)",
        ),
        (X / 2, "x holds float64 from 0 to 127.5, images"),
        (X * 4.0, "from 0 to 1020, images"),
        (X.astype(int) - 1, "x holds int64 from -1 to 254, images must be uint8"),
        (np.where(X.max() == X, np.nan, X / 255), "x holds float64 from nan to nan"),
        (np.where(X.max() == X, np.inf, X / 255), "x holds float64 from 0 to inf"),
        (X % 10, "the brightest pixel of all 30 pictures is 9 of 255: multiply all by 28"),
        (X * 0, "all 30 pictures are black"),
    ],
)
def test_other_numbers_are_refused_with_their_range(tmp_path: Path, x: np.ndarray, told: str) -> None:
    refused(save(tmp_path, x=x), "set.npz: ", told)


# Formats


def test_an_npy_holds_images_without_labels(tmp_path: Path) -> None:
    np.save(tmp_path / "mine.npy", X)
    loaded = read(tmp_path / "mine.npy")
    assert [image for image, _ in pairs(loaded)] == sorted(x.tobytes() for x in X)
    assert (loaded.name, loaded.classes) == ("mine", 0)


def idx(array: np.ndarray, code: int = 8) -> bytes:
    return (
        bytes([0, 0, code, array.ndim])
        + b"".join(n.to_bytes(4, "big") for n in array.shape)
        + array.tobytes()
    )


NAMES = {
    "mnist": "{split}-images-idx3-ubyte",
    "kaggle": "{split}-images.idx3-ubyte",
    "emnist": "emnist-letters-{split}-images-idx3-ubyte.gz",
}


@pytest.mark.parametrize("naming", NAMES)
@pytest.mark.parametrize("test", ["t10k", "test", ""])
def test_idx_files_are_read_with_what_lies_beside_them(tmp_path: Path, naming: str, test: str) -> None:
    name = NAMES[naming]
    pack = gzip.compress if name.endswith(".gz") else bytes
    for split, part in (("train", slice(0, 20)), (test, slice(20, 30))):
        if split:
            images = name.format(split=split)
            (tmp_path / images).write_bytes(pack(idx(X[part])))
            labels = images.replace("images", "labels").replace("idx3", "idx1")
            (tmp_path / labels).write_bytes(pack(idx(Y[part].astype(">i4"), 12)))
    loaded = read(tmp_path / name.format(split="train"))
    assert loaded.classes == 3
    if test:
        assert pairs(loaded) == WANTED
        assert len(loaded.test) == 10
    else:
        assert len(pairs(loaded)) == 20


def test_an_idx_file_alone_has_no_labels(tmp_path: Path) -> None:
    (tmp_path / "train-images-idx3-ubyte").write_bytes(idx(X))
    assert read(tmp_path / "train-images-idx3-ubyte").classes == 0


def test_a_folder_of_idx_files_is_told_how_they_are_named(tmp_path: Path) -> None:
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "train-images-idx3-ubyte").write_bytes(idx(X))
    with pytest.raises(
        BadInput, match="is an idx file, as MNIST comes: name that of the train images, npz:FILE"
    ):
        datasets.load(f"folder:{tmp_path / 'set'}")


def test_a_file_in_the_place_of_a_folder_and_a_folder_in_that_of_a_file(tmp_path: Path) -> None:
    path = save(tmp_path, x=X)
    with pytest.raises(
        BadInput, match=f"there is no folder {path}: name one by --data folder:PATH; arrays are npz:FILE"
    ):
        datasets.load(f"folder:{path}")
    refused(tmp_path, f"there is no file {tmp_path}: name an .npz or .npy; pictures are folder:PATH")


def npy(shape: tuple[int, ...], kind: str = "|u1", content: bytes = b"") -> bytes:
    written = io.BytesIO()
    np.lib.format.write_array_header_1_0(written, {"descr": kind, "fortran_order": False, "shape": shape})
    return written.getvalue() + content


class Harmful:
    """What makes a folder as soon as somebody unpickles it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple[object, ...]:
        return os.mkdir, (str(self.folder),)


def test_a_strangers_array_runs_nothing_and_takes_no_more_than_its_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(files.LIMIT, "0.001")  # 500 kB
    path = tmp_path / "x.npy"
    for content, told in (
        (npy((1000, 1000)), "claims to unpack to 1.0 MB, more than 0.5 MB"),
        (npy((10**12,), "<f8"), "claims to unpack to "),
        (npy((20, 4, 4), content=bytes(300)), "cannot be read ("),
        (
            npy((20,), "|O", pickle.dumps(Harmful(tmp_path / "made"))),
            "cannot be read (Object arrays cannot be loaded",
        ),
        (pickle.dumps(Harmful(tmp_path / "made")), "cannot be read (File is not a zip file)"),
        (idx(X)[:-1], "its header names 600 bytes, it holds more or less"),
        (idx(X) + b"?", "its header names 600 bytes, it holds more or less"),
        (bytes([0, 0, 8, 3]) + b"\xff" * 12, "claims to unpack to "),
        (gzip.compress(bytes([0, 0, 8, 3]) + b"\xff" * 12), "claims to unpack to "),
        (gzip.compress(idx(X) + bytes(10**7)), "it holds more"),
        (gzip.compress(idx(X))[:-30], "cannot be read ("),
        (bytes([0, 0, 8, 200]) + bytes(800), "it is not an .npz, .npy or idx file"),
        (bytes([0, 0, 7, 1]), "it is not an .npz, .npy or idx file"),
        (b"\0\0", "cannot be read ("),
    ):
        path.write_bytes(content)
        refused(path, "x.npy", told)
    assert not (tmp_path / "made").exists()


# Order


def means(x: torch.Tensor) -> tuple[torch.Tensor, None]:
    return x.float().flatten(1), None


def held_out_kid(loaded: Data, monkeypatch: pytest.MonkeyPatch) -> float:
    """Return the KID of the first 60 held-out images against the test split, on the pixels of 4 x 4."""
    pixels = Extractor("pixels", "0" * 64, 16, means)
    settings = Settings(samples=60)
    monkeypatch.setattr("alibench.evaluation.features.extractors.get", lambda *_: pixels)
    against = Against.of(loaded, settings, "test", torch.device("cpu"))
    seen = Features.of(loaded.validation.x[: settings.samples], against.extractor)
    rows = against.rows(seen)
    (kid,) = [row.value for row in rows if row.metric == "kid"]
    assert kid is not None
    return kid


def test_an_npz_sorted_by_class_gives_the_numbers_of_a_shuffled_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.RandomState(0)
    y = np.repeat(np.arange(10), 120)
    x = np.clip(rng.normal(20 * y[:, None, None] + 30, 10, (len(y), 4, 4)), 0, 255).astype(
        np.uint8
    )  # a class is a brightness
    kids = {}
    for name, order in (("sorted", np.arange(len(y))), ("shuffled", rng.permutation(len(y)))):
        loaded = read(save(tmp_path, x=x[order], y=y[order]))
        for split in (loaded.train, loaded.validation, loaded.test):
            assert set(split.y[:60].tolist()) == set(range(10))
        kids[name] = held_out_kid(loaded, monkeypatch)
        first = loaded.validation
        by_class = first.y.argsort(stable=True)  # what the sorted file gave before
        kids[f"{name}, in the order of classes"] = held_out_kid(
            Data("x", loaded.train, type(first)(first.x[by_class], first.y[by_class]), loaded.test, 10),
            monkeypatch,
        )
    assert abs(kids["sorted"] - kids["shuffled"]) < 0.1 * abs(
        kids["sorted, in the order of classes"] - kids["sorted"]
    )


@pytest.mark.parametrize(
    "given", [["train"], ["train", "test"], ["train", "validation"], ["train", "validation", "test"]]
)
def test_the_first_images_of_each_split_are_of_all_classes_whichever_splits_are_given(
    tmp_path: Path, given: list[str]
) -> None:
    rng = generator(0, "test")
    x = torch.randint(256, (300, 4, 4), generator=rng, dtype=torch.uint8).numpy()
    y = np.repeat(np.arange(3), 100)
    loaded = read(
        save(
            tmp_path, **{f"{kind}_{split}": array for split in given for kind, array in (("x", x), ("y", y))}
        )
    )
    for split in (loaded.train, loaded.validation, loaded.test):
        assert set(split.y[:15].tolist()) == {0, 1, 2}
    again = read(tmp_path / "set.npz", channels=1)
    assert torch.equal(again.train.x, loaded.train.x)
