"""Folders of pictures as phones, scanners and other tools leave them: the right pixels, or a line with what
is wrong.
"""

import io
import os
import re
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from alibench.benchmarks.commands.cli import main
from alibench.benchmarks.config import loading, pictures, plugins
from alibench.benchmarks.data import cache, datasets
from alibench.benchmarks.data.datasets import Options
from alibench.benchmarks.running import outputs
from alibench.benchmarks.running.provenance import of
from alibench.evaluation import files
from alibench.evaluation.data import Data
from alibench.evaluation.errors import BadInput
from alibench.evaluation.features import classifier_networks, classifiers, fitting


def pixels(n: int, levels: int = 256) -> np.ndarray:
    """Return a picture of noise, the n-th, in which the largest number is there."""
    x = np.random.RandomState(n).randint(levels, size=(6, 6))
    x[n % 6, 0] = levels - 1
    return x.astype(np.uint8 if levels <= 256 else np.uint16)


def draw(folder: Path, count: int = 20, first: int = 0, levels: int = 256) -> Path:
    """Write so many different grey pictures, and return their folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for n in range(first, first + count):
        Image.fromarray(pixels(n, levels)).save(folder / f"{n}.png")
    return folder


def read(folder: Path, **options: int) -> Data:
    cache.forget()
    return datasets.load(f"folder:{folder}", Options(**options))  # type: ignore[arg-type]


def images(loaded: Data) -> dict[bytes, int]:
    """Return all pictures, and how often each is there."""
    found: dict[bytes, int] = {}
    for split in (loaded.train, loaded.validation, loaded.test):
        for x in split.x.numpy():
            found[x.tobytes()] = found.get(x.tobytes(), 0) + 1
    return found


def refused(folder: Path, *told: str) -> str:
    """Check that a folder is refused in one line, and return it."""
    with pytest.raises(BadInput) as caught:
        read(folder)
    assert "\n" not in str(caught.value)
    assert all(part in str(caught.value) for part in told), caught.value
    return str(caught.value)


def said(capsys: pytest.CaptureFixture[str], loaded: Data, line: str) -> None:
    """Check that a line was said once, and that the provenance holds it."""
    assert capsys.readouterr().err == f"alibench: data '{loaded.name}': {line}\n"
    assert loaded.splits.endswith(f"; {line}")


# Numbers


@pytest.mark.parametrize("channels", [1, 3])
def test_masks_of_0_and_1_become_black_and_white(
    tmp_path: Path, channels: int, capsys: pytest.CaptureFixture[str]
) -> None:
    loaded = read(draw(tmp_path / "set", levels=2), channels=channels)
    expected = [(255 * pixels(n, 2)[None].repeat(channels, 0)).tobytes() for n in range(20)]
    assert sorted(images(loaded)) == sorted(expected)
    said(
        capsys,
        loaded,
        "no pixel was brighter than 1 of 255: the pictures were taken for masks, in which 1 became 255",
    )
    # they are resized after that, so that there is something between the two
    assert len(read(tmp_path / "set", size=4).train.x.unique()) > 5


def test_one_bright_picture_among_dark_ones_leaves_them_as_they_are(tmp_path: Path) -> None:
    Image.fromarray(pixels(77)).save(draw(tmp_path / "set", levels=2) / "bright.png")
    assert pixels(3, 2)[None].tobytes() in images(read(tmp_path / "set"))


@pytest.mark.parametrize(("bits", "shift"), [(9, 2), (10, 2), (12, 4), (14, 6), (15, 8), (16, 8)])
def test_of_16_bits_those_are_taken_that_the_set_uses(
    tmp_path: Path, bits: int, shift: int, capsys: pytest.CaptureFixture[str]
) -> None:
    loaded = read(draw(tmp_path / "set", levels=1 << bits))
    assert sorted(images(loaded)) == sorted(
        (pixels(n, 1 << bits) >> shift).astype(np.uint8).tobytes() for n in range(20)
    )
    if shift < 8:
        said(capsys, loaded, f"20 pictures use {shift + 8} of 16 bits: their upper 8 were taken")
    assert capsys.readouterr().err == ""


def test_a_16_bit_pgm_is_read_as_the_png_is(tmp_path: Path) -> None:
    png = read(draw(tmp_path / "png", levels=1 << 16))
    (tmp_path / "pgm").mkdir()
    for n in range(20):
        raw = pixels(n, 1 << 16).astype(">u2").tobytes()
        (tmp_path / "pgm" / f"{n}.pgm").write_bytes(b"P5 6 6 65535\n" + raw)
    assert images(read(tmp_path / "pgm")) == images(png)


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P", "L", "RGB"])
def test_what_is_transparent_is_white_however_it_is_stored(
    tmp_path: Path, mode: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "set").mkdir()
    for n in range(20):
        grey = np.full((4, 6), 100 + n, np.uint8)
        grey[:2] = 7  # hidden
        image = Image.fromarray(grey)
        more = {}
        if mode in ("RGBA", "LA"):
            image = image.convert(mode)
            image.putalpha(Image.fromarray(np.where(grey == 7, 0, 255).astype(np.uint8)))
        else:
            image = image.convert(mode)
            hidden = image.getpixel((0, 0))
            more = {"transparency": hidden}
        image.save(tmp_path / "set" / f"{n}.png", **more)
    loaded = read(tmp_path / "set", channels=1)
    assert (loaded.train.x[:, :, :2] == 255).all()
    assert loaded.train.x[:, :, 2:].max() < 125
    said(capsys, loaded, "20 of 20 pictures can be transparent: they were put on white")


@pytest.mark.parametrize("ending", ["gif", "tiff"])
def test_of_several_frames_the_first_is_taken_and_it_is_said(
    tmp_path: Path, ending: str, capsys: pytest.CaptureFixture[str]
) -> None:
    draw(tmp_path / "set")
    for n in range(3):
        first, *others = (Image.fromarray(pixels(100 * n + k)) for k in range(1, 4))
        first.save(tmp_path / "set" / f"{n}.{ending}", save_all=True, append_images=others)
        (tmp_path / "set" / f"{n}.png").unlink()
    loaded = read(tmp_path / "set", channels=1)
    assert {pixels(100 * n + 1).tobytes() for n in range(3)} <= set(images(loaded))
    said(capsys, loaded, "3 of 20 pictures hold several frames or pages: the first of each was taken")


def test_a_16_bit_grey_that_stands_for_nothing_is_white(tmp_path: Path) -> None:
    draw(tmp_path / "set", levels=1 << 16)
    wide = np.full((6, 6), 40_000, np.uint16)
    wide[0] = 5
    path = tmp_path / "set" / "0.png"
    Image.fromarray(wide).save(path)
    # the grey that stands for nothing, a chunk of its own: Pillow 10 cannot write it
    written, chunk = path.read_bytes(), b"tRNS" + struct.pack(">H", 5)
    start = written.index(b"IDAT") - 4
    framed = struct.pack(">I", 2) + chunk + struct.pack(">I", zlib.crc32(chunk))
    path.write_bytes(written[:start] + framed + written[start:])
    expected = np.full((6, 6), 40_000 >> 8, np.uint8)
    expected[0] = 255
    assert expected.tobytes() in images(read(tmp_path / "set"))


# Copies


def test_copies_across_splits_are_counted_and_stand_in_the_provenance(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    draw(tmp_path / "set" / "train", 30)
    draw(tmp_path / "set" / "val", 10, first=30)
    draw(tmp_path / "set" / "test", 8, first=28)  # 28 and 29 are in train, the others in val
    loaded = read(tmp_path / "set")
    said(capsys, loaded, "2 of 8 test images are exact copies of train images")
    (suite,) = loading.load("digits", only=["vae"])
    suite = loading.replace(suite, dataset=f"folder:{tmp_path / 'set'}", metrics=["reconstruction"])
    assert of(suite, "vae", 0, ["alibench"], torch.device("cpu"), None)["data_splits"] == loaded.splits
    read(tmp_path / "set")
    assert capsys.readouterr().err == ""  # it was said when they were decoded
    assert pictures.make(f"folder:{tmp_path / 'set'}").data.splits == loaded.splits


# Names


@pytest.mark.parametrize("length", [190, 222, 223, 255])
def test_a_folders_name_may_be_as_long_as_the_system_allows(tmp_path: Path, length: int) -> None:
    for name in "ab":
        draw(tmp_path / ("猫" * 10 + "l" * (length - 30)) / name, 10, first=ord(name))
    loaded = read(next(path for path in tmp_path.iterdir() if path.name != "home"))
    path, _ = fitting.save(classifier_networks.network_for(loaded), loaded, "a test")
    assert path.exists()
    assert len(os.fsencode(path.name)) <= files.LONGEST_NAME
    assert path == classifiers.path(loaded)


def test_names_that_are_not_utf8_are_read_and_as_classes_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, digits: Data
) -> None:
    folder = os.fsencode(draw(tmp_path / "set"))
    os.rename(os.path.join(folder, b"3.png"), os.path.join(folder, b"caf\xe9.png"))
    assert pixels(3).tobytes() in images(read(tmp_path / "set"))
    with plugins.meanwhile():
        plugins.load_samples("theirs", tmp_path / "set")
        assert len(plugins.contents()["samples of theirs"]) == 64
    for c in (b"caf\xe9", b"tea"):
        draw(Path(os.fsdecode(os.path.join(os.fsencode(tmp_path), b"classes", c))), 10, first=c[0])
    refused(tmp_path / "classes", "the class folder 'caf\\udce9' is not plain text: rename it")


def exif(*entries: tuple[int, int, int, int]) -> bytes:
    """Return an EXIF block of entries (tag, type, count, value)."""
    block = (
        b"II*\0"
        + struct.pack("<IH", 8, len(entries))
        + b"".join(struct.pack("<HHII", *entry) for entry in entries)
    )
    return b"Exif\0\0" + block + bytes(4)


@pytest.mark.parametrize(
    "block",
    [
        exif((0x112, 13, 1, 8), (0x112, 6, 1, 0)),
        exif((0x112, 9, 1, 8), (0x11A, 7, 2, 6)),
        exif((0x8769, 6, 2, 1000)),
        b"Exif\0\0II*",
    ],
)
def test_a_picture_with_a_damaged_exif_block_is_read(tmp_path: Path, block: bytes) -> None:
    draw(tmp_path / "set")
    raw = io.BytesIO()
    Image.fromarray(pixels(99)).save(raw, "JPEG", exif=block)
    (tmp_path / "set" / "phone.jpg").write_bytes(raw.getvalue())
    assert sum(images(read(tmp_path / "set")).values()) == 21


# Outputs among the pictures


@pytest.mark.parametrize(
    ("command", "place"),
    [
        ("run folder:pictures", "pictures/out"),
        ("run digits --data folder:pictures", "link/out"),
        ("run digits --data folder:pictures", ""),
        ("new-suite folder:pictures", "link/out.toml"),
    ],
)
def test_an_output_among_the_pictures_is_refused_before_anything_is_written(
    tmp_path: Path,
    command: str,
    place: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    before = sorted(draw(tmp_path / "pictures", 60).iterdir())
    (tmp_path / "link").symlink_to(tmp_path / "pictures")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(outputs, "RUNS", tmp_path / "pictures" / "results")  # where no --out is given
    run = ["--models", "vae", "--set", "steps=2", "--set", "batch=9", "--device", "cpu"]
    more = (run if command.startswith("run") else []) + (["--out", place] if place else [])
    assert main([*command.split(), *more]) == 2
    *before_it, told = capsys.readouterr().err.splitlines()
    assert all("is left out" in line for line in before_it)
    refusal = r"lies in the folder of pictures \S*pictures, and would be read with them: name a place outside"
    assert re.search(refusal, told)
    assert sorted((tmp_path / "pictures").iterdir()) == before


def test_a_hidden_place_and_one_beside_the_pictures_are_none_of_them(tmp_path: Path) -> None:
    draw(tmp_path / "set")
    for place in (".out", "../out", "../set2/out", "../set.toml"):
        outputs.check_apart(
            tmp_path / "set" / place, [f"folder:{tmp_path / 'set'}", "digits", "folder:", "npz:set"]
        )


def test_caches_among_the_pictures_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALIBENCH_DATA", str(draw(tmp_path / "set") / "home"))
    refused(
        tmp_path / "set",
        "set/home lies in the folder of pictures ",
        ": name a place outside it by ALIBENCH_DATA",
    )
    assert len([*(tmp_path / "set").iterdir()]) == 20


# Splits and what lies beside pictures


@pytest.mark.parametrize(
    ("train", "validation", "test"),
    [("Train", "Valid", "Test"), ("training", "validation", "testing"), ("TRAIN", "VAL", "TEST")],
)
def test_splits_in_any_letters(tmp_path: Path, train: str, validation: str, test: str) -> None:
    for i, split in enumerate((train, validation, test)):
        draw(tmp_path / "set" / split, 5 + i, first=10 * i)
    loaded = read(tmp_path / "set")
    assert [len(split) for split in (loaded.train, loaded.validation, loaded.test)] == [5, 6, 7]
    assert (loaded.classes, loaded.splits) == (0, "train / validation / test, as given")


@pytest.mark.parametrize(
    ("folders", "told"),
    [
        ("trainA trainB testA testB", "testA, testB, trainA, trainB seem to be splits: rename those of one"),
        ("training_set test_set", "test_set, training_set seem to be splits: rename those"),
        ("train test_images", "test_images seem to be splits: rename those"),
        (
            "train Train test",
            "the folders of splits are train, validation or val (not both) and test, here are",
        ),
        (
            "Test other",
            "the folders of splits are train, validation or val (not both) and test, here are Test;",
        ),
    ],
)
def test_splits_under_other_names_are_not_taken_for_classes(tmp_path: Path, folders: str, told: str) -> None:
    for i, name in enumerate(folders.split()):
        draw(tmp_path / "set" / name, 10, first=10 * i)
    refused(tmp_path / "set", told)


def test_classes_that_only_begin_as_splits_do_are_classes(tmp_path: Path) -> None:
    for i, name in enumerate(("train station", "test tube", "valley")):
        draw(tmp_path / "set" / name, 10, first=10 * i)
    assert read(tmp_path / "set").class_names == ("test tube", "train station", "valley")


def test_what_other_programs_leave_beside_pictures_is_passed_over_aloud(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for i, name in enumerate("ab"):
        draw(tmp_path / "set" / name, 30, first=30 * i)
    before = images(read(tmp_path / "set"))
    names = (
        "labels.csv",
        "a/Thumbs.db",
        "a/desktop.ini",
        "b/README.txt",
        "b/1.JSON",
        ".DS_Store",
        "b/.DS_Store",
    )
    for name in (*names, "__MACOSX/a/._1.png", "a/@eaDir/1.jpg"):
        (tmp_path / "set" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "set" / name).write_text("not a picture")
    capsys.readouterr()
    loaded = read(tmp_path / "set", channels=1)
    assert images(loaded) == before
    assert loaded.classes == 2
    listed = "__MACOSX, labels.csv, a/@eaDir, a/Thumbs.db and 3 more"
    said(capsys, loaded, f"passed over, as they are not pictures: {listed}")
    assert f"passed over, as they are not pictures: {listed}" in " ".join(
        pictures.make(f"folder:{tmp_path / 'set'}").lines
    )
    built = len([*(tmp_path / "home" / "cache").glob("*/header.json")])
    (tmp_path / "set" / "labels.csv").write_text("other labels")
    read(tmp_path / "set", channels=1)
    assert (
        len([*(tmp_path / "home" / "cache").glob("*/header.json")]) == built
    )  # they are no part of the data


def test_what_is_passed_over_may_be_called_anything(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = os.fsencode(draw(tmp_path / "set"))
    Path(os.fsdecode(os.path.join(folder, b"a\x1b[31m\n\xff.csv"))).write_text("")
    said(capsys, read(tmp_path / "set"), "passed over, as they are not pictures: a\\x1b[31m \\udcff.csv")


def test_a_class_with_nothing_but_such_files_is_named(tmp_path: Path) -> None:
    draw(tmp_path / "set" / "a")
    (tmp_path / "set" / "b").mkdir()
    (tmp_path / "set" / "b" / "Thumbs.db").write_text("")
    refused(tmp_path / "set", "set/b holds no pictures: put images into it or remove it")


@pytest.mark.parametrize("cut", [0, 40])
def test_all_broken_pictures_are_named_at_once(tmp_path: Path, cut: int) -> None:
    for i, name in enumerate("ab"):
        draw(tmp_path / "set" / name, 20, first=20 * i)
    for n in (3, 4, 5, 25, 26, 27, 28):
        path = tmp_path / "set" / "ab"[n // 20] / f"{n}.png"
        path.write_bytes(path.read_bytes()[:-cut] if cut else b"no picture")
    told = refused(
        tmp_path / "set", "set/a/3.png cannot be read as an image (", ": mend, convert or remove it; "
    )
    assert told.endswith("; 7 files in all cannot be read: a/3.png, a/4.png, a/5.png, b/25.png and 3 more")


@pytest.mark.parametrize("brand", ["heic", "mif1", "avif"])
def test_a_phones_format_is_named_with_its_remedy(tmp_path: Path, brand: str) -> None:
    picture = draw(tmp_path / "set") / "IMG_1.HEIC"
    picture.write_bytes(b"\0\0\0\x18ftyp" + brand.encode() + b"\0\0\0\0mif1heic")
    told = f"{picture} cannot be read as an image (HEIC or AVIF, not PNG, "
    assert refused(tmp_path / "set", told).endswith("): convert it to PNG or JPEG")


# Order


def test_a_folders_contents_are_those_of_earlier_versions(tmp_path: Path) -> None:
    for i, name in enumerate("ab"):
        draw(tmp_path / "set" / name, 30, first=30 * i)
    assert cache.READING > 1
    assert read(tmp_path / "set").sha256 == "a9640d082d907834285b4d1ecf83ea2f535f9dacb9d9d47f411b8cf23bd3dc08"


def test_endings_in_capitals_print_colours_and_grey_with_alpha_are_read(tmp_path: Path) -> None:
    folder = tmp_path / "mixed"
    folder.mkdir()
    for number in range(20):
        grey = Image.fromarray(pixels(number))
        (grey.convert("LA") if number % 2 else grey).save(folder / f"{number}.PNG")
    assert read(folder).shape == (1, 6, 6)
    Image.new("CMYK", (6, 6), (0, 255, 255, 0)).save(folder / "red.JPG", quality=95)
    with_colour = read(folder)
    assert with_colour.shape == (3, 6, 6)
    reddest = max(
        (x for part in (with_colour.train, with_colour.validation, with_colour.test) for x in part.x),
        key=redness,
    )
    assert redness(reddest) > 200


def redness(image: torch.Tensor) -> float:
    """Return by how much the red of an image (3, H, W) lies over its green."""
    return float(image[0].float().mean() - image[1].float().mean())
