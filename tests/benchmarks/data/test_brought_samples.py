"""Samples that come as folders or arrays are those of the data's kind, or a line says what they are."""

import io
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from alibench.benchmarks.checkup import checkup
from alibench.benchmarks.config import loading, plugins
from alibench.benchmarks.data import datasets, samples
from alibench.evaluation import files
from alibench.evaluation.data import as_float
from alibench.evaluation.errors import BadInput
from alibench.evaluation.seeds import generator
from tests.benchmarks.config.test_plugins import nothing_left_behind

GREY, COLOUR = (1, 8, 8), (3, 8, 8)


@pytest.fixture(autouse=True)
def unplugged() -> Iterator[None]:
    """Leave no model of a test behind."""
    with nothing_left_behind():
        yield


def digits(n: int) -> np.ndarray:
    """Return images (n, 8, 8)."""
    return datasets.load("digits").train.x[:n, 0].numpy()


def coloured(n: int) -> np.ndarray:
    """Return images (n, 8, 8, 3) with colours."""
    x = digits(n)
    return np.stack([x, 255 - x, x // 2], -1)


def written(file: Path, *arrays: np.ndarray, **named: np.ndarray) -> Path:
    if file.suffix == ".npy":
        np.save(file, *arrays)
    else:
        np.savez(file, *arrays, **named)
    return file


def as_set(x: Tensor) -> set[bytes]:
    return {image.numpy().tobytes() for image in x}


FORMS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "(N, H, W)": lambda x: x,
    "(N, H, W, 1)": lambda x: x[..., None],
    "(N, 1, H, W)": lambda x: x[:, None],
    "(N, H, W, 3), grey": lambda x: np.repeat(x[..., None], 3, -1),
    "(N, 3, H, W), grey": lambda x: np.repeat(x[:, None], 3, 1),
    "floats": lambda x: (x / 255).astype(np.float32),
    "doubles": lambda x: x[:, None] / 255,
}


@pytest.mark.parametrize("ending", ["npz", "npy"])
@pytest.mark.parametrize("form", FORMS)
def test_arrays_of_any_form_are_the_same_samples(form: str, ending: str, tmp_path: Path) -> None:
    file = written(tmp_path / f"made.{ending}", FORMS[form](digits(30)))
    folder = samples.StoredSamples(file, GREY)
    rng = generator(0, "test")
    found = torch.cat([folder.sample(10, rng) for _ in range(3)])
    assert found.shape == (30, *GREY)
    torch.testing.assert_close(
        torch.stack(sorted(found, key=lambda x: x.flatten().tolist())),
        torch.stack(
            sorted(as_float(datasets.load("digits").train.x[:30]), key=lambda x: x.flatten().tolist())
        ),
    )


def test_of_several_arrays_the_one_called_samples_is_taken(tmp_path: Path) -> None:
    file = written(tmp_path / "made.npz", labels=np.zeros(5), samples=digits(5))
    assert as_set(samples.read(file, GREY)) == as_set(datasets.load("digits").train.x[:5])
    assert samples.count(file) == 5


def test_points_come_as_arrays(tmp_path: Path) -> None:
    points = np.random.RandomState(0).randn(20, 2)
    file = written(tmp_path / "points.npy", points)
    torch.testing.assert_close(samples.read(file, (2,)), torch.from_numpy(points).float())


def test_grey_samples_of_data_with_colours_are_repeated(tmp_path: Path) -> None:
    file = written(tmp_path / "made.npy", digits(5))
    x = samples.read(file, COLOUR)
    assert x.shape == (5, *COLOUR)
    assert torch.equal(x[:, 0], x[:, 2])


def test_colours_are_kept_where_the_data_have_them(tmp_path: Path) -> None:
    expected = torch.from_numpy(coloured(5)).permute(0, 3, 1, 2)
    for name, array in (("last", coloured(5)), ("first", np.moveaxis(coloured(5), 3, 1))):
        file = written(tmp_path / f"{name}.npy", array)
        assert torch.equal(samples.read(file, COLOUR), expected)


REFUSED = {
    "colours.npy": (coloured(3), "it has colours, the data are grey: samples are not made grey here"),
    "signed.npy": (digits(3) / 127.5 - 1, "images lie outside [0, 1]: from -1 to 1: samples must be finite"),
    "gaps.npy": (np.full((3, 8, 8), np.nan), "3 of 3 are not finite: samples must be finite"),
    "whole.npy": (digits(3).astype(np.int64), "it holds int64, samples must be uint8, or floats"),
    "large.npy": (
        np.zeros((3, 16, 8), np.uint8),
        "samples of shape (1, 16, 8), the data have (1, 8, 8): give",
    ),
    "flat.npy": (np.zeros((3, 64), np.uint8), "it holds uint8 of shape (3, 64), images must be uint8 of"),
    "none.npy": (digits(0), "one is needed, alone or called 'samples' or 'x', that holds some"),
    "one.npy": (np.array(1.0), "one is needed, alone or called 'samples' or 'x', that holds some"),
    "objects.npy": (np.array([{}, {}]), "cannot be read (Object arrays cannot be loaded when"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_an_array_that_cannot_be_samples_is_refused_by_name(name: str, tmp_path: Path) -> None:
    array, told = REFUSED[name]
    file = written(tmp_path / name, array)
    with pytest.raises(BadInput) as refused:
        samples.read(file, GREY)
    assert name in str(refused.value)
    assert told in str(refused.value)


def test_what_is_no_array_is_refused_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cases = [
        (
            written(tmp_path / "two.npz", a=digits(2), b=digits(2)),
            "holds the arrays a, b: one is needed, alone",
        ),
        (tmp_path / "nowhere.npz", "is not a folder of images, or an .npz"),
        (tmp_path / "text.txt", "is not a folder of images, or an .npz"),
    ]
    (tmp_path / "text.txt").write_text("x")
    (tmp_path / "torn.npy").write_bytes((written(tmp_path / "whole.npy", digits(9))).read_bytes()[:200])
    (tmp_path / "torn.npz").write_bytes(b"PK\3\4 and no more")
    cases += [(tmp_path / name, f"{name} cannot be read (") for name in ("torn.npy", "torn.npz")]
    # a header of a few bytes that claims a terabyte
    head = io.BytesIO()
    np.lib.format.write_array_header_1_0(head, {"descr": "|u1", "fortran_order": False, "shape": (10**12, 1)})
    (tmp_path / "claims.npy").write_bytes(head.getvalue())
    cases.append((tmp_path / "claims.npy", "claims to unpack to 1000.00 GB, more than 500.0 MB"))
    for file, told in cases:
        with pytest.raises(BadInput) as refused:
            samples.read(file, GREY)
        assert file.name in str(refused.value)
        assert told in str(refused.value)
    monkeypatch.setitem(files.LARGEST, "unpacked", 100)
    with pytest.raises(BadInput, match=r"whole\.npy holds 0\.0 MB, more than"):
        samples.read(tmp_path / "whole.npy", (1, 9, 9))


# ------------------------------------------------------------------------------------------------ folders


def folder(place: Path, ending: str, pixels: np.ndarray) -> Path:
    place.mkdir()
    for i, x in enumerate(pixels):
        Image.fromarray(x).save(place / f"{i}.{ending}")
    return place


def test_pictures_with_colours_are_not_made_grey(tmp_path: Path) -> None:
    grey = np.repeat(digits(3)[..., None], 3, -1)
    assert as_set(samples.read(folder(tmp_path / "grey", "png", grey), GREY)) == as_set(
        datasets.load("digits").train.x[:3]
    )
    mixed = folder(tmp_path / "mixed", "png", grey)
    Image.fromarray(coloured(1)[0]).save(mixed / "last.png")
    with pytest.raises(
        BadInput, match=r"mixed: it has colours, the data are grey: samples are not made grey here"
    ):
        samples.read(mixed, GREY)


@pytest.mark.parametrize("shape", [GREY, COLOUR])
def test_all_samples_that_cannot_be_read_are_named_at_once(shape: tuple[int, ...], tmp_path: Path) -> None:
    place = folder(tmp_path / "made", "png", digits(3))
    for name in ("a.png", "b.png"):
        (place / name).write_text("no picture")
    with pytest.raises(BadInput, match=r"2 files in all cannot be read: a\.png(,| and) b\.png"):
        samples.read(place, shape)


def test_what_jpeg_loses_on_one_side_alone_is_said(tmp_path: Path) -> None:
    x = digits(4)
    png, jpeg, webp = (folder(tmp_path / ending, ending, x) for ending in ("png", "jpg", "webp"))
    both = folder(tmp_path / "both", "png", x)
    Image.fromarray(x[0]).save(both / "0.jpg")
    array = written(tmp_path / "x.npy", x)
    (tmp_path / "renamed").mkdir()
    (tmp_path / "renamed" / "0.png").write_bytes(
        (jpeg / "0.jpg").read_bytes()
    )  # its content tells, not its name

    def said(path: Path, dataset: str) -> list[str]:
        return samples.notes(path, dataset)

    loses = ["JPEG, the data are not: what JPEG loses moves FID and KID; give them in the data's form"]
    keeps = [
        "without loss, the data are JPEG: what JPEG loses moves FID and KID; give them in the data's form"
    ]
    for lossy in (jpeg, webp, tmp_path / "renamed"):
        assert said(lossy, "digits") == said(lossy, f"folder:{png}") == loses
        assert said(lossy, f"folder:{jpeg}") == []
    for lossless in (png, array):
        assert said(lossless, f"folder:{jpeg}") == keeps
        assert said(lossless, "digits") == said(lossless, f"folder:{png}") == []
    assert said(both, "digits") == said(both, f"folder:{jpeg}") == []  # some of them: nothing is known


def test_it_is_said_once_a_run_and_kept_with_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    place = folder(tmp_path / "made", "jpg", digits(5))
    plugins.load_samples("made", place)
    (suite,) = loading.load("digits", ["evaluation.samples=5"], only=["vae", "made"])
    checkup.rehearse([suite])
    checkup.remark([suite])
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"alibench: --samples made={place}: the samples are JPEG, the data are not")
    assert plugins.notes(suite.kind("made"), "digits") == samples.notes(place, "digits")
    assert plugins.notes(suite.kind("vae"), "digits") == []


def test_masks_of_0_and_1_are_not_black(tmp_path: Path) -> None:
    """Data of such masks become black and white; samples at 1 of 255 would be black beside them."""
    masks = (digits(4) > 128).astype(np.uint8)
    for place in (written(tmp_path / "masks.npy", masks), folder(tmp_path / "masks", "png", masks)):
        with pytest.raises(BadInput, match="multiply masks of 0 and 1 by 255"):
            samples.read(place, GREY)
