"""Bad input is refused in one line with exit code 2, and nothing is written; other failures are as plain."""

import json
import os
import pwd
from collections.abc import Callable, Iterable
from pathlib import Path

import click
import pytest
import torch
from PIL import Image

from alibench.benchmarks.commands.cli import COMMANDS, main
from alibench.benchmarks.data import datasets
from alibench.benchmarks.running import runner
from alibench.benchmarks.running.jobs import Job
from alibench.benchmarks.running.outcomes import Outcome, Status, failed
from alibench.evaluation import files
from alibench.evaluation.data import Data, Split
from alibench.results import report
from tests.benchmarks.data.folders import pictures
from tests.conftest import TINY, sets

SUITE = """
title = "t"
source = "s"
expect = "e"
dataset = "digits"
networks = "digits"
latent = 4
models = ["ali"]
metrics = ["reconstruction"]
[recipe]
steps = 4
"""

BAD = {
    "metric without its data": (["run", "digits", "--set", 'metrics=["modes"]'], "is not a known mixture"),
    "no such folder": (["run", "cifar10", "--data", "folder:nowhere"], "nowhere"),
    "a share above one": (["run", "digits", "--scale", "2"], "above 0 and at most 1"),
    "size of points": (["run", "grid25", "--size", "8"], "takes no options"),
    "unknown option of the networks": (
        ["run", "digits", "--set", "network.widths=paper"],
        "networks 'digits' has no option 'widths'",
    ),
    "labels for no prior of its own": (
        ["run", "digits", "--set", "prior=uniform", "--models", "vae"],
        "not 'uniform'",
    ),
    "networks of another shape": (["run", "digits", "--set", "networks=plane"], "take data of shape"),
    "discrete latents": (["run", "quick", "--set", "prior=bernoulli"], "there are: normal, uniform"),
    "batch larger than train": (
        ["run", "digits", "--set", "batch=5000"],
        "larger than the 1087 training samples",
    ),
    "unknown option of a model": (
        ["run", "digits", "--set", "model.gan.options.regresion=1.0"],
        "did you mean 'regression'?",
    ),
    "wrong option of a model": (["run", "digits", "--set", "model.gan.options.regression='x'"], "regression"),
    "unknown table of a model": (
        ["run", "digits", "--set", "model.gan.recipy.lr=1.0"],
        "did you mean 'recipe'?",
    ),
    "too few labels": (
        ["run", "digits", "--set", "evaluation.labels=10"],
        "evaluation.labels = 10: it must be between 50",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_line_exit_code_2_and_nothing_written(
    case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    arguments, message = BAD[case]
    out = ["--out", "out"] if arguments[0] in ("run", "tune") else []
    assert main([*arguments, *out]) == 2
    captured = capsys.readouterr()
    assert message in captured.err
    assert captured.err.startswith("alibench: ")
    assert captured.err.count("\n") == 1
    assert captured.out == ""
    assert not list(tmp_path.iterdir())


def truncated(folder: Path) -> None:
    path = next(folder.rglob("003.png"))
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def of_two_sizes(folder: Path) -> None:
    Image.new("RGB", (9, 8)).save(next(folder.rglob("003.png")))


FOLDERS = {
    "truncated image": (truncated, [], "003.png cannot be read as an image"),
    "mixed sizes": (of_two_sizes, [], "resize all by --size"),
    "not an image": (lambda folder: (folder / "class0" / "notes.pdf").write_text("x"), [], "notes.pdf"),
    "empty class": (lambda folder: (folder / "class9").mkdir(), [], "class9 is empty"),
    "fewer images than the batch": (
        lambda folder: None,
        [],
        "batch 100 is larger than the 48 training samples",
    ),
    "images of another size": (
        lambda folder: None,
        ["--set", "networks=cifar10"],
        "--size and --channels change images",
    ),
    "nothing to measure": (
        *(lambda folder: None, ["--set", 'metrics=["modes"]', "--set", "batch=8"]),
        "no metric of the suite can be measured",
    ),
}


@pytest.mark.parametrize("case", FOLDERS)
def test_a_bad_folder_is_named_in_one_line_and_nothing_is_written(
    case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("ALIBENCH_DATA", str(tmp_path / "data"))
    folder = pictures(tmp_path / "mine", 8, 3)
    spoil, more, message = FOLDERS[case]
    spoil(folder)
    out = tmp_path / "out"
    assert main(["run", "digits", "--data", f"folder:{folder}", *more, "--out", str(out)]) == 2
    captured = capsys.readouterr()
    (line,) = [line for line in captured.err.splitlines() if "is left out" not in line]
    assert message in line
    assert not out.exists()


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has CUDA")
def test_no_gpu_for_cuda(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "quick", "--device", "cuda", "--out", str(tmp_path / "out")]) == 2
    assert "device 'cuda' is not on this machine; usable here: cpu" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_discrete_data_are_refused_before_anything_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def bits() -> Data:
        split = Split(torch.randint(2, (100, 64)), torch.zeros(100, dtype=torch.long))
        return Data("bits", split, split, split, classes=1)

    monkeypatch.setitem(datasets.DATASETS, "bits", bits)
    suite = tmp_path / "mine.toml"
    suite.write_text(SUITE.replace('dataset = "digits"', 'dataset = "bits"'))
    assert main(["run", str(suite), "--out", str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err
    assert "dataset 'bits' holds int64" in error
    assert "continuous" in error
    assert error.count("\n") == 1
    assert list(tmp_path.iterdir()) == [suite]


def test_an_out_that_is_a_file_or_cannot_be_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "file"
    file.write_text("precious")
    for out in (file, file / "below"):
        assert main(["run", "digits", *TINY, "--out", str(out)]) == 2
        assert "a file" in capsys.readouterr().err
    assert file.read_text() == "precious"
    locked = tmp_path / "locked"
    locked.mkdir(mode=0o500)
    unwritable = (
        Path("/proc/alibench") if os.access(locked, os.W_OK) else locked / "out"
    )  # root may write anywhere else
    assert main(["run", "digits", *TINY, "--out", str(unwritable)]) == 2
    error = capsys.readouterr().err
    assert "written (" in error
    assert error.count("\n") == 1


def test_what_only_cuda_has_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["run", "digits", "--set", "precision=tf32", "--device", "cpu", "--out", str(tmp_path / "out")]
    assert main(words) == 2
    assert "precision 'tf32' is CUDA's, not of 'cpu': use fp32 or bf16" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


# -------------------- what goes wrong elsewhere


def test_runs_that_all_fail_are_exit_code_1(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def run(work: Iterable[Job], *others: object) -> dict[str, Outcome]:
        return {
            job.run_id: Outcome(Status.DIVERGED, "no run")
            if job.kind == "throughput"
            else failed("for a test")
            for job in work
        }

    monkeypatch.setattr(runner, "run", run)
    monkeypatch.chdir(tmp_path)
    judged = sets("metrics=['reconstruction']", "search.judged_by=['reconstruction_error']")
    for words in (
        ["run", "digits", "--seeds", "1"],
        ["tune", "digits", "--models", "vae", *judged],
        ["regression", "gate"],
    ):
        assert main([*words, "--device", "cpu", "--out", words[0], "--json"]) == 1
        captured = capsys.readouterr()
        told = json.loads(captured.out)
        assert (told["exit_code"], told["out"]) == (1, words[0])
        assert all(outcome.startswith(("failed", "diverged")) for outcome in told["runs"].values())
        assert "alibench:" not in captured.err


@pytest.mark.parametrize("length", [240, 255, 256, 5000])
def test_a_long_name_of_an_output_is_made_or_refused_in_one_line(
    length: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(
        runner, "run", lambda work, *others: {job.run_id: failed("for a test") for job in work}
    )
    monkeypatch.chdir(tmp_path)
    words = ["run", "digits", "--models", "vae", "--seeds", "1", *TINY, "--out", "a" * length]
    made = length <= 255
    assert main(words) == (1 if made else 2)
    assert len(list(tmp_path.iterdir())) == made
    capsys.readouterr()
    assert main([*words, "--fresh"]) == (1 if length == 240 else 2)
    assert capsys.readouterr().err.count("\n") <= 1
    for options in (["report", "."], ["new-suite", "folder:."]):
        assert main([*options, "--out", "b" * length]) == 2
        assert capsys.readouterr().err.count("\n") == 1
    assert {path.name[0] for path in tmp_path.iterdir()} <= {"a"}


@pytest.mark.parametrize("length", [240, 255, 256])
def test_a_long_name_of_a_report_is_made_or_refused_in_one_line(
    length: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(report, "page", lambda folders: ("a page", []))
    out = tmp_path / ("b" * length)
    code = main(["report", ".", "--out", str(out)])
    assert code == (2 if length > 255 else 0)
    assert [path.name for path in tmp_path.iterdir()] == [out.name] * (code == 0)
    assert capsys.readouterr().err.count("\n") == (code == 2)


def test_without_a_home_folder_a_place_for_caches_is_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def getpwuid(number: int) -> None:
        raise KeyError(f"getpwuid(): uid not found: {number}")

    for name in ("ALIBENCH_DATA", "HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(pwd, "getpwuid", getpwuid)
    out = tmp_path / "out"
    assert main(["run", "digits", *TINY, "--out", str(out)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.endswith("name a folder by ALIBENCH_DATA=DIR")
    assert not out.exists()
    assert main(["list"]) == 0


def replace_list(function: Callable[..., None], monkeypatch: pytest.MonkeyPatch) -> None:
    """Let `alibench list` call a function."""
    command = COMMANDS.get_command(click.Context(COMMANDS), "list")
    monkeypatch.setattr(command, "callback", function)


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (files.Damaged("a/run.json is damaged"), "alibench: a/run.json is damaged\n"),
        (
            PermissionError(13, "Permission denied", "a/b"),
            "alibench: a/b cannot be read or written (Permission denied): ",
        ),
        (
            OSError(28, "No space left on device"),
            "alibench: nothing more can be written (No space left on device): ",
        ),
    ],
)
def test_damage_and_a_refusing_system_are_one_line_wherever_they_are_met(
    error: Exception, told: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def command(**options: object) -> None:
        raise error

    replace_list(command, monkeypatch)
    assert main(["list"]) == 2
    message = capsys.readouterr().err
    assert message.startswith(told)
    assert message.count("\n") == 1


@pytest.mark.parametrize(
    "mistake", [RuntimeError("of ours"), OSError("of ours"), ConnectionResetError(104, "of ours")]
)
def test_a_mistake_of_ours_keeps_its_traceback(mistake: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    def command(**options: object) -> None:
        raise mistake

    replace_list(command, monkeypatch)
    with pytest.raises(type(mistake), match="of ours"):
        main(["list"])
