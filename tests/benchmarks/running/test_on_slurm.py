"""`--on slurm` writes a script for sbatch, whose elements make the rows of a local run."""

import os
import re
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from alibench.benchmarks.commands.cli import main
from alibench.benchmarks.running import outputs
from alibench.results import rows
from tests.conftest import TINY, in_this_process

ARGUMENTS = (
    "run",
    "digits",
    "--models",
    "vae",
    "--seeds",
    "2",
    *TINY,
    "--set",
    'metrics=["reconstruction","throughput"]',
)
SLURM = ("--on", "slurm", "--slurm", "partition=gpu day", "--slurm", "time=90")


def write(out: Path, *more: str) -> Path:
    assert main([*ARGUMENTS, *SLURM, *more, "--out", str(out)]) == 0
    return out / "slurm" / "array-1.sh"


def stub(folder: Path, name: str, says: str = "") -> Path:
    """Write a command that keeps what it is called with, and return where."""
    folder.mkdir(exist_ok=True)
    called = folder / f"{name}.called"
    (folder / name).write_text(f'#!/bin/sh\necho "$@" >> {called}\necho "{says}"\n')
    (folder / name).chmod(0o755)
    return called


def test_the_script_is_for_bash_and_asks_for_what_a_run_takes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["alibench", *ARGUMENTS, *SLURM, "--slurm=qos=low", "--submit"])
    setup = ("--slurm", "setup=module purge", "--slurm", "setup=module load cuda")
    more = ("--slurm", "qos=low", "--slurm", "ntasks_per_node=1", "--slurm", "exclusive=", *setup)
    script = write(tmp_path / "out", "--set", "resources.cpus=1.5", "--set", "resources.memory=4.2", *more)
    subprocess.run(["bash", "-n", str(script)], check=True)
    asked = {
        line.partition("--")[2] for line in script.read_text().splitlines() if line.startswith("#SBATCH")
    }
    # two trainings and the reference rows; speed is measured alone, and not here
    assert {
        "array=0-2%3",
        "job-name=digits",
        "cpus-per-task=2",
        "mem=5GB",
        "time=90",
        "qos=low",
        "ntasks-per-node=1",
        "exclusive",
        "requeue",
    } <= asked
    assert "partition='gpu day'" in asked
    assert "signal=B:USR2@90" in asked
    assert not any(line.startswith("gpus") for line in asked)
    assert script.read_text().index("\nmodule purge\nmodule load cuda\nexport OMP_NUM_THREADS=1\n")
    said = capsys.readouterr().out
    assert f"sbatch {script}  # 3 runs, an element each" in said
    (afterwards,) = re.findall(r"alibench (.+)  # afterwards: what is left, speed, and the tables", said)
    assert shlex.split(afterwards) == [*ARGUMENTS, "--out", str(tmp_path / "out"), "--resume"]


def test_a_percent_sign_in_the_folder_is_doubled_where_sbatch_would_fill_it_in(tmp_path: Path) -> None:
    out = tmp_path / "50%j 100%"
    script = write(out)
    asked = dict(
        line.removeprefix("#SBATCH --").split("=", 1)
        for line in script.read_text().splitlines()
        if line.startswith("#SBATCH --") and "=" in line
    )
    place = str(out / "slurm").replace("%", "%%")
    assert shlex.split(asked["output"]) == [f"{place}/%A_%a.out"]
    assert shlex.quote(str(out / "slurm" / "array-1.json")) in script.read_text()  # which the shell reads


def test_on_gpus_an_element_asks_for_one(tmp_path: Path) -> None:
    script = write(tmp_path / "out", "--device", "cuda")
    assert "#SBATCH --gpus-per-node=1\n" in script.read_text()
    assert "OMP_NUM_THREADS" not in script.read_text()


def test_a_dry_run_prints_the_script_and_writes_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*ARGUMENTS, *SLURM, "--dry-run", "--out", str(tmp_path / "out")]) == 0
    printed = capsys.readouterr().out
    assert not (tmp_path / "out").exists()
    assert printed.strip() == write(tmp_path / "out").read_text().strip()


@pytest.mark.usefixtures("here")
def test_what_is_finished_is_in_no_later_array(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    assert main([*ARGUMENTS, "--out", str(out)]) == 0
    capsys.readouterr()
    assert main([*ARGUMENTS, *SLURM, "--resume", "--out", str(out)]) == 0
    assert "all runs are finished" in capsys.readouterr().out
    assert not list((out / "slurm").iterdir())
    (out / "runs" / "digits-vae-seed1" / "rows.json").unlink()
    for number in (1, 2):  # the first may still wait for its turn
        assert main([*ARGUMENTS, *SLURM, "--resume", "--out", str(out)]) == 0
        assert "#SBATCH --array=0-0%1\n" in (out / "slurm" / f"array-{number}.sh").read_text()


def test_submit_sends_what_was_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    called = stub(tmp_path / "bin", "sbatch", "4711;cluster")
    monkeypatch.setenv("PATH", str(tmp_path / "bin"), prepend=os.pathsep)
    script = write(tmp_path / "out", "--submit")
    assert called.read_text() == f"--parsable {script}\n"
    assert f"{script}: 3 runs, an element each: sent as job 4711\n" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("--slurm", "time"), "--slurm takes KEY=VALUE, an option of sbatch, not 'time'"),
        (("--slurm=--time=90",), "--slurm takes KEY=VALUE, an option of sbatch, not '--time=90'"),
        (("--slurm", "comment=a\nrm -r x"), "--slurm takes KEY=VALUE"),
        (("--slurm", "open_mode=truncate"), "--slurm open_mode: an array of runs depends on it"),
        (("--slurm", "array_parallelism=0"), "array_parallelism=0: a number of elements, 1 or more"),
        (
            ("--device", "cuda:1"),
            "--device cuda:1: SLURM gives each element a device by itself: say cpu or cuda",
        ),
        (("--submit",), "there is no sbatch here"),
    ],
    ids=["value", "dashes", "lines", "fixed", "together", "device", "sbatch"],
)
def test_bad_input_is_named(
    arguments: tuple[str, ...],
    told: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert main([*ARGUMENTS, *SLURM, *arguments, "--out", str(tmp_path / "out")]) == 2
    assert told in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_the_device_must_be_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "digits", *SLURM, "--out", str(tmp_path / "out")]) == 2
    assert "--on slurm: say --device cuda or cpu" in capsys.readouterr().err


@pytest.mark.parametrize("option", [("--submit",), ("--slurm", "time=90")], ids=" ".join)
def test_options_of_an_array_go_with_one(
    option: tuple[str, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*ARGUMENTS, *option, "--out", str(tmp_path / "out")]) == 2
    assert "--submit and --slurm go with --on slurm: add it, or leave them out" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("command", ["evaluate", "tune"])
def test_other_commands_write_no_array(
    command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([command, "digits", "--on", "slurm", "--out", str(tmp_path / "out")]) == 2
    assert "slurm" in capsys.readouterr().err


# -------------------- the elements


@pytest.mark.commands
def test_its_elements_make_the_rows_of_a_local_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "__init__.py").write_text("raise RuntimeError('the wrong models')")
    monkeypatch.chdir(tmp_path)
    script = write(tmp_path / "out")
    # All at once, as on a cluster.
    elements = [
        subprocess.Popen(
            ["bash", str(script)], env=os.environ | {"SLURM_ARRAY_TASK_ID": str(i)}, stdout=subprocess.PIPE
        )
        for i in range(3)
    ]
    for element in elements:
        assert element.communicate(timeout=600)[0].strip().endswith(b": ok")
        assert element.returncode == 0
    for more in (("--out", str(tmp_path / "local")), ("--out", str(tmp_path / "out"), "--resume")):
        with in_this_process():
            assert main([*ARGUMENTS, *more]) == 0
    array, local = (rows.read(tmp_path / name) for name in ("out", "local"))
    timed = local.kind == "timing"
    assert array[~timed].equals(local[~timed])
    varying = ["value", "n"]  # n: how often a speed was measured
    assert array.drop(columns=varying).equals(local.drop(columns=varying))


@pytest.mark.commands
def test_an_element_whose_time_is_up_keeps_a_checkpoint_and_asks_to_be_queued_again(tmp_path: Path) -> None:
    script = write(tmp_path / "out", "--set", "steps=100000", "--checkpoint-every", "1e9")
    called = stub(tmp_path / "bin", "scontrol")
    path = f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}"
    environment = os.environ | {"PATH": path, "SLURM_ARRAY_JOB_ID": "4711", "SLURM_ARRAY_TASK_ID": "1"}
    process = subprocess.Popen(
        ["bash", str(script)], env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    training = tmp_path / "out" / "runs" / "digits-vae-seed1" / ".lock"
    while not training.exists():
        assert process.poll() is None, process.communicate()[0].decode()
        time.sleep(0.1)
    time.sleep(1.0)  # it has begun
    process.send_signal(signal.SIGUSR2)  # bash has given its place to Python
    said = process.communicate(timeout=60)[0].decode()
    assert "digits-vae-seed1: stopped" in said
    assert called.read_text() == "requeue 4711_1\n"
    assert len(list(training.parent.glob("checkpoints/round-*"))) == 1


@pytest.mark.commands
@pytest.mark.whole
def test_an_element_of_another_version_is_refused(tmp_path: Path) -> None:
    out = tmp_path / "out"
    script = write(out)
    plan = outputs.read_plan(out)
    command = plan.pop("command")
    outputs.write_plan(out, command, plan | {"versions": plan["versions"] | {"torch": "1.13"}})
    done = subprocess.run(
        ["bash", str(script)],
        env=os.environ | {"SLURM_ARRAY_TASK_ID": "0"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert (
        f"alibench: {out} was begun with something else: torch ('1.13', here '{torch.__version__}')\n"
        in done.stderr
    )
