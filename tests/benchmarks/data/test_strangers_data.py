"""Pictures, arrays, weights and caches that someone else made: nothing in them runs, hangs, fills the memory
or passes for something else. Files are real; a test that would wait for ever is ended by an alarm.
"""

import io
import json
import os
import re
import signal
import socket
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from alibench.benchmarks.commands.cli import main
from alibench.benchmarks.data import cache, datasets, decoded, images, published, samples
from alibench.benchmarks.data.datasets import Options
from alibench.benchmarks.training.checkpoints import Checkpoints
from alibench.evaluation import files, pictures, sealed, store
from alibench.evaluation.data import Data
from alibench.evaluation.errors import BadInput
from alibench.evaluation.features import extractors, perceptual
from alibench.evaluation.settings import Settings
from alibench.results import stored

PATIENCE = 20  # seconds
TERABYTE = 10**12


@pytest.fixture(autouse=True)
def place(tmp_path: Path) -> Iterator[Path]:
    """Give each test an end; return a folder for its files."""

    def end(number: int, frame: object) -> None:
        pytest.fail("it waits")  # which nothing takes for an error of its own

    (tmp_path / "files").mkdir()
    before = signal.signal(signal.SIGALRM, end)
    signal.alarm(PATIENCE)
    yield tmp_path / "files"
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


def draw(folder: Path, count: int = 20, colour: int = 0) -> Path:
    """Write so many pictures of two classes, all of one size on the disk; return their folder."""
    for n in range(count):
        (folder / "ab"[n % 2]).mkdir(parents=True, exist_ok=True)
        Image.new("L", (4, 4), colour + n).save(folder / "ab"[n % 2] / f"{n:03}.bmp")
    return folder


def refused(told: str, act: Callable[[], object]) -> None:
    """Check that something is refused in one line that holds `told`."""
    with pytest.raises(BadInput) as caught:
        act()
    assert told in str(caught.value)
    assert "\n" not in str(caught.value)


# ---------------------------------------------------------------------------------------------- formats


def test_the_documentation_lists_the_formats_that_are_opened(place: Path) -> None:
    text = (Path(__file__).parents[3] / "docs" / "own-data.md").read_text()
    (listed,) = re.findall(r"^Formats are ([\w, ]+?), told by", text, re.MULTILINE)
    names = re.split(r", | and ", listed)
    known = Image.registered_extensions()
    assert {known[f".{name.lower()}"] for name in names} == set(images.FORMATS)
    for name in names:
        path = place / f"picture.{name.lower()}"
        Image.new("1" if name == "PBM" else "L", (5, 4), 1).save(path)
        assert images.decode(str(path), 0, 1).shape == (1, 4, 5)
        assert images.header(str(path))[:2] == (5, 4)
    Image.new("L", (5, 4), 9).save(place / "packed.tiff", compression="tiff_lzw")
    assert (images.decode(str(place / "packed.tiff"), 0, 1) == 9).all()


EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n%%EOF\n"


@pytest.mark.parametrize(
    "raw", [EPS, EPS.replace(b" EPSF-3.0", b""), b"%PDF-1.4\n1 0 obj\n<<>>\nendobj\n%%EOF\n"]
)
def test_no_program_is_started_for_a_picture(
    raw: bytes, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (place / "bin").mkdir()
    (place / "bin" / "gs").write_text(f"#!/bin/sh\ntouch {place / 'mark'}\n")
    (place / "bin" / "gs").chmod(0o755)
    monkeypatch.setenv("PATH", f"{place / 'bin'}{os.pathsep}{os.environ['PATH']}")
    draw(place / "set")
    (place / "set" / "a" / "000.jpg").write_bytes(raw)
    with pytest.raises(BadInput) as caught:
        datasets.load(f"folder:{place / 'set'}")
    assert not (place / "mark").exists()
    assert "000.jpg cannot be read as an image (not PNG, JPEG, " in str(caught.value)


# -------------------- no files, or too large


def spoil(path: Path, how: str) -> None:
    """Put something in a file's place that is not a file, or far too large a one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    match how:
        case "pipe":
            os.mkfifo(path)
        case "device":
            path.symlink_to("/dev/null")  # as good as /dev/zero, which would fill the memory
        case "socket":
            with socket.socket(socket.AF_UNIX) as made:
                made.bind(os.path.relpath(path))
        case "terabyte":
            path.touch()
            os.truncate(path, TERABYTE)


SAID = {
    "pipe": "a pipe",
    "device": "a device",
    "socket": "a device",
    "terabyte": "holds 1000.00 GB, more than ",
}


@pytest.mark.parametrize("how", SAID)
def test_only_files_of_a_bounded_size_are_opened(
    how: str, place: Path, monkeypatch: pytest.MonkeyPatch, digits: Data
) -> None:
    monkeypatch.chdir(place)  # a socket's path is short

    def check(path: Path, act: Callable[[], object]) -> None:
        spoil(path, how)
        refused(str(path), act)
        with pytest.raises(
            BadInput, match=rf"{SAID[how]}|No such device"
        ):  # which a socket is, once it is opened
            act()

    draw(place / "set")
    for name in (f"folder:{place / 'set'}", f"folder:{place / 'set' / 'a'}"):
        check(place / "set" / "a" / "000.bmp", lambda name=name: datasets.load(name))  # type: ignore[misc]
    check(place / "set.npz", lambda: datasets.load(f"npz:{place / 'set.npz'}"))
    raw = store.home() / "raw"
    for name in published.MNIST.needed:
        (raw / name).parent.mkdir(parents=True, exist_ok=True)
        (raw / name).touch()
    check(raw / published.MNIST.needed[0], lambda: datasets.load("mnist"))
    (raw / published.MNIST.needed[0]).unlink()
    check(raw / published.MNIST.by_hand[1], lambda: datasets.load("mnist"))
    check(place / "inception.pth", lambda: inception(place / "inception.pth", digits))
    (place / perceptual.CHANNELS).touch()
    check(place / perceptual.VGG, lambda: perceptual.load(Settings(perceptual=str(place))))
    check(place / "samples" / "0.png", lambda: samples.read(place / "samples", (1, 4, 4)))


def inception(path: Path, digits: Data) -> None:
    extractors.get(digits, Settings(extractor="inception", inception=str(path)))


@pytest.mark.parametrize("how", SAID)
def test_a_suite_that_is_not_a_file_is_refused_by_the_command(
    how: str, place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(place)
    spoil(place / "suite.toml", how)
    assert main(["run", "suite.toml"]) == 2
    assert re.fullmatch(
        r"alibench: cannot read suite 'suite.toml': (is a folder, a pipe|holds 1000|No such device).*\n",
        capsys.readouterr().err,
    )


def test_a_link_to_a_picture_is_one_and_a_broken_link_is_not(place: Path) -> None:
    (draw(place / "set") / "a" / "000.bmp").rename(place / "000.bmp")
    (place / "set" / "a" / "000.bmp").symlink_to(place / "000.bmp")
    assert len(datasets.load(f"folder:{place / 'set'}").train) == 16
    (place / "000.bmp").unlink()
    refused(
        "a/000.bmp is a pipe, a device or a broken link", lambda: datasets.load(f"folder:{place / 'set'}")
    )


def test_a_picture_that_unpacks_to_too_much_is_not_unpacked(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(files.LIMIT, "0.001")
    (draw(place / "set") / "a" / "000.bmp").unlink()
    Image.new("L", (2000, 2000)).save(place / "set" / "a" / "000.png")
    told = "000.png unpacks to 16.0 MB, more than 0.5 MB: if you trust it, set ALIBENCH_LIMIT=1"
    refused(told, lambda: images.header(str(place / "set" / "a" / "000.png")))
    refused(told, lambda: datasets.load(f"folder:{place / 'set'}", Options(size=4)))


def test_pictures_of_another_size_are_not_decoded(place: Path) -> None:
    Image.new("L", (4000, 4000)).save(place / "large.png")
    for number in range(64):
        os.link(place / "large.png", draw(place / "set") / "a" / f"{number}.png")
    start = time.monotonic()
    refused("4x4 pixels, others are 4000x4000", lambda: datasets.load(f"folder:{place / 'set'}"))
    assert time.monotonic() - start < 2


def npz(path: Path, **members: bytes) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, raw in members.items():
            archive.writestr(f"{name}.npy", raw)
    return path


def header(shape: tuple[int, ...], kind: str = "|u1") -> bytes:
    written = io.BytesIO()
    np.lib.format.write_array_header_1_0(written, {"descr": kind, "fortran_order": False, "shape": shape})
    return written.getvalue()


def test_arrays_that_unpack_to_too_much_are_not_unpacked(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small, zeros = header((100, 4, 4)) + bytes(range(100)) * 16, header((10**6, 4, 4)) + bytes(16 * 10**6)
    packed = npz(place / "set.npz", x=zeros)
    assert packed.stat().st_size < 20_000
    monkeypatch.setenv(files.LIMIT, "0.01")
    refused(
        "set.npz unpacks to 16.0 MB, more than 5.0 MB: if you trust it, set ",
        lambda: datasets.load(f"npz:{packed}"),
    )
    for shape, kind in (((10**12,), "<i8"), ((10**15,), "|S0")):
        npz(packed, x=small, y=header(shape, kind))
        refused("set.npz claims to unpack to ", lambda: datasets.load(f"npz:{packed}"))
    npz(packed, x=b"not an array")
    refused("set.npz cannot be read", lambda: datasets.load(f"npz:{packed}"))
    monkeypatch.setenv(files.LIMIT, "1")
    assert datasets.load(f"npz:{npz(packed, x=small)}").shape == (1, 4, 4)


def test_weights_that_unpack_to_too_much_are_not_unpacked(
    place: Path, digits: Data, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.save({"weight": torch.zeros(10**6)}, place / "stored.pth")
    packed = place / "packed.pth"
    with (
        zipfile.ZipFile(place / "stored.pth") as was,
        zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive,
    ):
        for name in was.namelist():
            archive.writestr(name, was.read(name))
    monkeypatch.setenv(files.LIMIT, "0.0001")
    refused("packed.pth unpacks to 4.0 MB, more than 0.8 MB: if you", lambda: inception(packed, digits))


# ---------------------------------------------------------------------------------------------- caches


def caches() -> list[Path]:
    return sorted(path.parent for path in (store.home() / "cache").glob("*/header.json"))


def test_other_pixels_under_the_same_name_size_and_time_are_seen(place: Path) -> None:
    draw(place / "set")
    time.sleep(cache.TICK / 1e9)
    before = datasets.load(f"folder:{place / 'set'}")
    for path in (place / "set").rglob("*.bmp"):
        state = path.stat()
        Image.new("L", (4, 4), 200).save(path)
        os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns))
        assert (path.stat().st_size, path.stat().st_mtime_ns) == (state.st_size, state.st_mtime_ns)
    after = datasets.load(f"folder:{place / 'set'}")
    assert (after.train.x == 200).all()
    assert after.sha256 != before.sha256


def test_what_changes_in_the_moment_it_is_read_is_read_again(place: Path) -> None:
    for colour in range(0, 200, 20):  # all within a tick of a coarse clock
        assert int(datasets.load(f"folder:{draw(place / 'set', colour=colour)}").train.x.min()) >= colour


def test_a_header_of_another_shape_is_not_mapped(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    content = datasets.load(f"folder:{draw(place / 'set')}").sha256
    (folder,) = caches()
    body = json.loads((folder / "header.json").read_text())["cache"]
    for damage in (
        [],
        {**body, "x": {**body["x"], "train": [-16, 1, 4, 4]}},
        {**body, "x": {**body["x"], "train": [2**62, 1, 4, 4]}},
        {**body, "x": {split: [shape[0], 1, 4, 65_536] for split, shape in body["x"].items()}},
        {**body, "x": {**body["x"], "test": [2, 1, 2, 8]}},
        {**body, "x": {"train": body["x"]["train"]}},
        {**body, "y": {**body["y"], "train": ["|O", 16]}},
        {**body, "y": {**body["y"], "train": ["<i8", 17]}},
        {**body, "classes": -1},
        {**body, "class_names": "ab"},
        {**body, "content": 7},
    ):
        sealed.write_json(folder / "header.json", "cache", decoded.FORMAT, damage)
        cache.forget()
        assert datasets.load(f"folder:{place / 'set'}").sha256 == content
        assert re.fullmatch(r"alibench: the cache of 'set' is built again: .*\n", capsys.readouterr().err), (
            damage
        )
    spoil(folder / "test-y", "pipe")
    cache.forget()
    assert datasets.load(f"folder:{place / 'set'}").sha256 == content
    assert "is a folder, a pipe or a device" in capsys.readouterr().err


def test_data_are_loaded_anew_once_their_files_change(place: Path) -> None:
    name = f"folder:{draw(place / 'set', 40)}"
    time.sleep(cache.TICK / 1e9)
    before = datasets.load(name)
    assert datasets.load(name) is before
    with cache.settled():
        draw(place / "set", 50)
        assert len(datasets.load(name).train) == 40
        with cache.settled():
            draw(place / "set", 60)
        assert len(datasets.load(name).train) == 40
    assert len(datasets.load(name).train) == 48
    assert datasets.load("digits") is datasets.load("digits")


def test_samples_are_read_anew_once_their_files_change(place: Path) -> None:
    draw(place / "set", 4)
    assert len(samples.read(place / "set", (1, 4, 4))) == 4
    draw(place / "set", 6)
    assert len(samples.read(place / "set", (1, 4, 4))) == 6


# -------------------- what a run names


def trained_on(place: Path, dataset: str, sha256: str) -> Path:
    """Write a run as someone else would send it, and return its folder."""
    folder = place / "run"
    folder.mkdir()
    sealed.write_tensors(folder / "model.safetensors", "model", 1, {"weight": torch.zeros(1)})
    config = {
        "name": "digits",
        "models": ["ali"],
        "metrics": ["reconstruction"],
        "seeds": 1,
        "dataset": dataset,
    }
    names = {"run_id": "run", "suite": "digits", "model": "ali", "title": "ALI", "dataset": "set"}
    origin: dict[str, Any] = {
        **{**names, "seed": 0, "step": 1, "weights": "", "commit": "", "versions": {}, "device": "cpu"},
        **{"command": "alibench", "data_sha256": sha256, "config": {**config, "data": {"size": 8}}},
        "weights_sha256": files.sha256(folder / "model.safetensors"),
    }
    stored.write(folder, stored.ORIGIN, origin)
    return folder


def test_a_path_that_a_run_names_is_opened_only_if_its_data_were_read_before(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    name = f"folder:{draw(place / 'my set')}"
    sha256 = datasets.load(name, Options(size=8)).sha256
    known = caches()
    run = trained_on(place, name, sha256)
    datasets.check_known(stored.read_origin(run))  # they were
    (known[0] / "header.json").unlink()
    spoil(place / "my set" / "a" / "000.bmp", "pipe")
    assert main(["evaluate", str(run)]) == 2
    told = capsys.readouterr().err
    assert f"run run names the data '{name}'" in told
    assert "so it was not opened" in told
    assert told.count("\n") == 1
    spoil(place / "my set" / "a" / "000.bmp", "nothing")
    draw(place / "my set")
    assert told.rstrip().endswith("name it by --data")
    main(["evaluate", str(run), "--data", name])  # whoever names a path trusts it
    assert caches() == known
    datasets.check_known(stored.read_origin(run))


BODY = {
    "x": torch.zeros(50, 1, 8, 8, dtype=torch.uint8),
    "y": torch.zeros(50, dtype=torch.int64),
    "reconstructions": torch.zeros(50, 1, 8, 8, dtype=torch.uint8),
    "samples": torch.zeros(100, 1, 8, 8, dtype=torch.uint8),
    "codes": torch.zeros(50, 4),
    "latent": torch.zeros(90, 4),
    "latent_y": torch.zeros(90, dtype=torch.int64),
    "interpolations": torch.zeros(8, 11, 1, 8, 8, dtype=torch.uint8),
}
POINTS = {
    "x": torch.zeros(50, 2),
    "y": torch.full((50,), -1),
    "samples": torch.full((70, 2), float("nan")),  # of a model that failed; they are not drawn
    "interpolations": torch.zeros(500, 11, 2),
}


@pytest.mark.parametrize(
    "damage",
    [
        {"x": torch.zeros(50, 1, 8, 8)},
        {"x": torch.zeros(50, 2, 8, 8, dtype=torch.uint8)},
        {"x": torch.full((50, 2), float("inf"))},
        {"y": torch.zeros(50)},
        {"y": torch.zeros(49, dtype=torch.int64)},
        {"y": torch.arange(-1, 49)},
        {"reconstructions": torch.zeros(49, 1, 8, 8, dtype=torch.uint8)},
        {"samples": torch.zeros(9, 3, 8, 8, dtype=torch.uint8)},
        {"codes": torch.zeros(50, 4).bfloat16()},
        {"codes": torch.zeros(50)},
        {"latent_y": torch.zeros(91, dtype=torch.int64)},
        {"interpolations": torch.zeros(26, 11, 1, 8, 8, dtype=torch.uint8)},
        {"other": torch.zeros(1)},
    ],
)
def test_arrays_of_another_kind_are_not_drawn(damage: dict[str, torch.Tensor], place: Path) -> None:
    for whole in (BODY, POINTS):
        pictures.write(place, whole)
        assert {name: array.shape for name, array in pictures.read(place).items()} == {
            n: t.shape for n, t in whole.items()
        }
    pictures.write(place, {**BODY, **damage})
    with pytest.raises(files.Damaged, match=r"arrays.safetensors is not what alibench writes \(.*\)$"):
        pictures.read(place)


OUTCOME: dict[str, Any] = {
    "seconds": 1.5,
    "updates": {"encoder": 3},
    "curves": [{"phase": "a", "step": 1}],
    "resumed": [],
}
ABOUT: dict[str, Any] = {
    "phase": 0,
    "step": 3,
    "seconds": 1,
    "judges": [None],
    "outcomes": [OUTCOME],
    "lost": {"0": "b"},
}


@pytest.mark.parametrize(
    "damage",
    [
        {"phase": "0"},
        {"step": -1},
        {"judges": None},
        {"outcomes": {}},
        {"outcomes": [{**OUTCOME, "other": 1}]},
        {"outcomes": [{**OUTCOME, "curves": [[]]}]},
        {"lost": {"x": "b"}},
    ],
)
def test_a_checkpoint_of_another_kind_is_not_used(
    damage: dict[str, Any], place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    kept = Checkpoints(place / "checkpoints", {"seeds": [0]})
    kept.write(1, {"x": torch.zeros(1)}, ABOUT)
    kept.write(2, {"x": torch.ones(1)}, {**ABOUT, **damage})
    found = kept.newest()
    assert found is not None
    assert found[0]["x"] == 0
    assert re.fullmatch(r"alibench: .*round-000000002.safetensors is not what .*\n", capsys.readouterr().err)


def test_a_folder_in_a_checkpoints_place_is_none(place: Path) -> None:
    kept = Checkpoints(place / "checkpoints", {"seeds": [0]})
    (place / "checkpoints" / "round-000000003.safetensors").mkdir(parents=True)
    assert kept.newest() is None
    for rounds in (1, 2, 3):
        kept.write(rounds + 3, {"x": torch.zeros(1)}, ABOUT)


def test_checkpoints_are_not_written_through_a_link(place: Path) -> None:
    (place / "precious").mkdir()
    (place / "precious" / "round-1.safetensors").write_text("mine")
    (place / "checkpoints").symlink_to(place / "precious")
    kept = Checkpoints(place / "checkpoints", {})
    refused("checkpoints is a symbolic link", kept.newest)
    refused("checkpoints is a symbolic link", lambda: kept.write(1, {}, ABOUT))
    assert [path.name for path in (place / "precious").iterdir()] == ["round-1.safetensors"]
