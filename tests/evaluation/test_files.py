"""Files that a run writes: damage anywhere in them is noticed or harmless, and none can run code."""

import io
import os
import pickle
import random
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from alibench import load_run
from alibench.benchmarks.commands.cli import main
from alibench.benchmarks.data import datasets as sets
from alibench.benchmarks.data import decoded
from alibench.benchmarks.data.sources import Folder
from alibench.benchmarks.running import outputs, trained
from alibench.benchmarks.training.checkpoints import Checkpoints
from alibench.evaluation import files, pictures, sealed, store
from alibench.evaluation.data import Data
from alibench.evaluation.errors import BadInput
from alibench.evaluation.features import classifiers, extractors
from alibench.evaluation.settings import Settings
from alibench.results import baseline, rows
from alibench.results.baseline import Baseline
from tests.conftest import TINY, build, in_this_process
from tests.results.test_baseline import make

OUTCOME = {"seconds": 1.5, "updates": {"encoder": 3}, "curves": [{"phase": "a", "loss": 0.5}], "resumed": []}
BEGUN: dict[str, Any] = {"phase": 0, "step": 3, "seconds": 1.5, "judges": [None], "lost": {}}
BEGUN |= {"outcomes": [OUTCOME]}
PLACES = 25  # of each file, at random


@pytest.fixture(scope="module")
def home_of(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make one of every kind of file, and return their folder."""
    place = tmp_path_factory.mktemp("files")
    rng = np.random.RandomState(0)
    y = np.arange(120) % 2  # the second class is brighter, which a classifier can learn
    x = rng.randint(128, size=(120, 8, 8), dtype=np.uint8) + 127 * y.astype(np.uint8)[:, None, None]
    np.savez(place / "set.npz", x=x, y=y)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ALIBENCH_DATA", str(place / "home"))
        assert main(["fit-extractor", f"npz:{place / 'set.npz'}"]) == 0
        words = [
            "run",
            "digits",
            *TINY,
            "--data",
            f"npz:{place / 'set.npz'}",
            "--models",
            "ali",
            "--seeds",
            "1",
        ]
        words += ["--set", "batch=20", "--set", 'metrics=["fidelity"]', "--out", str(place / "out")]
        with in_this_process():
            assert main(words) == 0
        store.kept("mine", lambda: {"mu": torch.randn(8), "sigma": torch.randn(8, 8).double()})
    model = build("ali")
    Checkpoints(place / "checkpoints", {}, every=0.0).write(3, model.state_dict(), BEGUN)
    baseline.write(place / "gate.json", make())
    return place


RUN = Path("out/runs/digits-ali-seed0")
ROOT = Path(__file__).parents[2]


def comparable(found: Any) -> Any:
    """Return what can be compared by ==, of what a reader returns."""
    if isinstance(found, torch.Tensor):
        return files.digest(found)
    if isinstance(found, np.ndarray):
        return comparable(torch.from_numpy(found.copy()))
    if isinstance(found, dict):
        return {key: comparable(value) for key, value in found.items()}
    if isinstance(found, tuple | list):
        return [comparable(value) for value in found]
    if isinstance(found, Data):
        parts = (found.train, found.validation, found.test)
        return [comparable([part.x, part.y]) for part in parts], found.class_names
    return found


def cached(place: Path) -> Any:
    folder = next(path for path in (place / "home" / "cache").iterdir() if (path / "header.json").exists())
    return decoded.read(folder, Folder("set"), sets.Options())


def statistics(place: Path) -> Any:
    return sealed.read_tensors(place / "home/statistics/mine.safetensors", "statistics", store.VERSION)


def classifier(place: Path) -> Any:
    path = next((place / "home" / "extractors").iterdir())
    return sealed.read_tensors(path, classifiers.KIND, classifiers.VERSION)


def checkpoint(place: Path) -> Any:
    path = place / "checkpoints" / "round-000000003.safetensors"
    raw = path.read_bytes()
    newest = Checkpoints(place / "checkpoints", {}).newest()
    path.write_bytes(raw)  # a damaged one is removed
    if newest is None:
        raise files.Damaged
    return newest


def read_baseline(place: Path) -> Any:
    found: Baseline = baseline.read(place / "gate.json")
    return [found.cells, found.settings, found.data_sha256, found.suite, found.origin]


# file -> how it is read
READERS: dict[str, Callable[[Path], Any]] = {
    "checkpoints/*": checkpoint,
    f"{RUN}/model.safetensors": lambda place: trained.weights(place / RUN / "model.safetensors"),
    f"{RUN}/training.json": lambda place: trained.kept(place / RUN),
    f"{RUN}/arrays.safetensors": lambda place: pictures.read(place / RUN),
    f"{RUN}/run.json": lambda place: rows.read_origin(place / RUN),
    f"{RUN}/rows.json": lambda place: rows.read_run(place / RUN),
    "out/plan.json": lambda place: outputs.read_plan(place / "out"),
    "gate.json": read_baseline,
    "home/cache/*/header.json": cached,
    "home/cache/*/test-x": cached,
    "home/cache/*/train-y": cached,
    "home/statistics/mine.safetensors": statistics,
    "home/extractors/*": classifier,
}


@pytest.fixture
def place(home_of: Path, tmp_path: Path) -> Path:
    """Return a copy of the files."""
    return Path(shutil.copytree(home_of, tmp_path / "place"))


@pytest.mark.parametrize("pattern", READERS)
def test_a_bit_that_flips_and_an_end_that_is_missing_are_noticed_or_harmless(
    pattern: str, place: Path
) -> None:
    (path,) = place.glob(pattern)
    raw, rng, read = path.read_bytes(), random.Random(pattern), READERS[pattern]
    expected = comparable(read(place))
    noticed = 0
    for number in range(PLACES):
        damaged = bytearray(raw)
        if number % 5 == 0:
            del damaged[rng.randrange(len(raw)) :]
        else:
            damaged[rng.randrange(len(raw))] ^= 1 << rng.randrange(8)
        path.write_bytes(damaged)
        try:
            assert comparable(read(place)) == expected
        except (files.Damaged, BadInput):
            noticed += 1
    assert noticed > PLACES / 2
    path.write_bytes(raw)
    assert comparable(read(place)) == expected


# ---------------------------------------------------------------------------------------------- nothing runs


class Payload:
    """What runs a command when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.mark),)


def payloads(mark: Path) -> dict[str, bytes]:
    """Return a pickle that makes a folder, bare, as torch and as numpy store it."""
    torched, arrays = io.BytesIO(), io.BytesIO()
    torch.save({"weight": Payload(mark)}, torched)
    np.save(arrays, np.array([Payload(mark)], dtype=object), allow_pickle=True)
    return {"pickle": pickle.dumps(Payload(mark)), "torch": torched.getvalue(), "numpy": arrays.getvalue()}


def test_the_payloads_do_run_where_they_are_unpickled(tmp_path: Path) -> None:
    for kind, raw in payloads(tmp_path / "mark").items():
        (tmp_path / "file").write_bytes(raw)
        if kind == "pickle":
            pickle.loads(raw)
        elif kind == "torch":
            torch.load(tmp_path / "file", weights_only=False)
        else:
            np.load(tmp_path / "file", allow_pickle=True)
        (tmp_path / "mark").rmdir()


@pytest.mark.parametrize("pattern", READERS)
@pytest.mark.parametrize("kind", ["pickle", "torch", "numpy"])
def test_a_payload_in_place_of_a_file_does_not_run(
    pattern: str, kind: str, place: Path, tmp_path: Path
) -> None:
    mark = tmp_path / "mark"
    (path,) = place.glob(pattern)
    path.write_bytes(payloads(mark)[kind])
    with pytest.raises((files.Damaged, BadInput)):
        READERS[pattern](place)
    assert not mark.exists()


@pytest.mark.parametrize("kind", ["pickle", "torch", "numpy"])
@pytest.mark.parametrize("suffix", ["pth", "safetensors"])
def test_a_payload_as_an_extractors_weights_does_not_run(
    kind: str, suffix: str, digits: Data, tmp_path: Path
) -> None:
    file = tmp_path / f"weights.{suffix}"
    file.write_bytes(payloads(tmp_path / "mark")[kind])
    with pytest.raises(BadInput, match=r"holds more than tensors|cannot be read"):
        extractors.get(digits, Settings(extractor="inception", inception=str(file)))
    assert not (tmp_path / "mark").exists()


@pytest.mark.parametrize("kind", ["pickle", "torch", "numpy"])
def test_a_payload_as_data_or_as_a_run_does_not_run(kind: str, place: Path, tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    for path in (place / "set.npz", place / RUN / "model.safetensors"):
        path.write_bytes(payloads(mark)[kind])
    with pytest.raises(BadInput):
        sets.load(f"npz:{place / 'set.npz'}")
    with pytest.raises(BadInput):
        load_run(place / RUN)
    assert not mark.exists()


def test_nothing_that_is_loaded_is_unpickled() -> None:
    # torch's own files are read as tensors alone, numpy's without objects
    for room in ("models", "benchmarks", "evaluation", "results"):
        for path in (ROOT / room).rglob("*.py"):
            source = path.read_text()
            assert "import pickle" not in source, path
            assert "allow_pickle=True" not in source, path
            loaded = re.findall(r"(?<!safetensors\.)torch\.load\(", source)
            assert len(loaded) == source.count("weights_only=True"), path


# -------------------- whole or not there


def test_a_part_that_a_killed_writer_left_is_removed_by_the_next(tmp_path: Path) -> None:
    program = (
        "import os, signal, sys\nfrom pathlib import Path\nfrom alibench.evaluation import files\n"
        "os.fsync = lambda file: os.kill(os.getpid(), signal.SIGKILL)\n"
        "files.replace(Path(sys.argv[1]) / 'file', 'new')\n"
    )
    files.replace(tmp_path / "file", "old")
    subprocess.run([sys.executable, "-c", program, str(tmp_path)], cwd=ROOT, check=False)
    assert [path.suffix for path in tmp_path.glob(".*")] == [".part"]
    assert (tmp_path / "file").read_text() == "old"
    mine = files.part_of(tmp_path / "other")  # of a writer who lives
    mine.write_text("half")
    files.replace(tmp_path / "file", "new")
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(["file", mine.name])
    assert (tmp_path / "file").read_text() == "new"


def test_a_part_that_cannot_be_removed_keeps_nobody_from_writing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as dead:
        dead.wait()
    part = tmp_path / f".file.01234567.{files._host()}-{dead.pid}.part"
    part.write_text("another user's")

    def refuse(path: Path, missing_ok: bool = False) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(Path, "unlink", refuse)
    files.replace(tmp_path / "file", "new")
    assert (tmp_path / "file").read_text() == "new"
    monkeypatch.undo()
    files.replace(tmp_path / "file", "newer")
    assert not part.exists()


def test_equal_contents_make_equal_files(tmp_path: Path) -> None:
    tensors = {"b": torch.ones(3), "a": torch.zeros(2, dtype=torch.int64), "c": torch.tensor(1.0).bfloat16()}
    for name in ("one", "two"):
        sealed.write_tensors(tmp_path / name, "kind", 1, tensors, {"x": [1, 2], "y": "z"})
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()
    found, about = sealed.read_tensors(tmp_path / "one", "kind", 1)
    assert comparable(found) == comparable(tensors)
    assert about == {"x": [1, 2], "y": "z"}


def test_a_file_of_another_version_or_kind_is_named(tmp_path: Path) -> None:
    sealed.write_json(tmp_path / "a.json", "kind", 2, {"x": 1})
    sealed.write_tensors(tmp_path / "a.safetensors", "kind", 2, {"x": torch.ones(1)})
    for name, read in (("a.json", sealed.read_json), ("a.safetensors", sealed.read_tensors)):
        with pytest.raises(files.Damaged, match=r"a\.\w+ has version 2 of the format, this is 3"):
            read(tmp_path / name, "kind", 3)
        with pytest.raises(files.Damaged, match=r"a\.\w+ is damaged"):
            read(tmp_path / name, "other", 2)


def test_tensors_that_share_memory_are_stored_apart(tmp_path: Path) -> None:
    x = torch.arange(4.0)
    sealed.write_tensors(tmp_path / "file", "kind", 1, {"x": x, "again": x, "half": x[:2]})
    found, _ = sealed.read_tensors(tmp_path / "file", "kind", 1)
    assert (found["again"].tolist(), found["half"].tolist()) == ([0, 1, 2, 3], [0, 1])


def test_a_lock_is_free_again_when_its_process_is_killed(tmp_path: Path) -> None:
    program = (
        "import sys, time\nfrom pathlib import Path\nfrom alibench.evaluation import files\n"
        "with files.locked(Path(sys.argv[1])):\n    print('held', flush=True)\n    time.sleep(60)\n"
    )
    lock = tmp_path / ".lock"
    command = [sys.executable, "-c", program, str(lock)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE) as other:
        assert other.stdout.readline() == b"held\n"
        with pytest.raises(files.Busy), files.locked(lock):
            raise AssertionError
        other.kill()
        other.wait()
        with files.locked(lock):
            pass
