"""Ctrl-C and SIGTERM end a command with checkpoints; a dead worker or a full disk ends its run alone."""

import os
import re
import shlex
import signal
import time
from pathlib import Path

import pytest

from tests.faults.trial import LIMIT, SETTINGS, Trial, Undisturbed, asked

pytestmark = pytest.mark.faults
LONG = ("steps=1000000", *SETTINGS[1:])


def training(trial: Trial, runs: int = 2) -> None:
    """Wait until runs are being trained."""
    deadline = time.monotonic() + LIMIT
    while len(list(trial.out.glob("runs/*/checkpoints/round-*"))) < 2 * runs:
        assert time.monotonic() < deadline
        time.sleep(0.05)


SIGTERM = pytest.param(signal.SIGTERM, 143, id="SIGTERM", marks=pytest.mark.whole)


@pytest.mark.parametrize(("number", "code"), [pytest.param(signal.SIGINT, 130, id="Ctrl-C"), SIGTERM])
def test_a_request_ends_all_after_their_step_and_names_the_command_to_resume(
    number: signal.Signals, code: int, images: Path, tmp_path: Path
) -> None:
    trial = Trial(tmp_path / "trial", images)
    process = trial.start(settings=LONG)  # hours
    training(trial)
    # as a terminal and a scheduler do: to the whole group
    os.killpg(process.pid, number)
    assert process.wait(LIMIT) == code, trial.said
    assert "ending after the current step, with checkpoints; once more to end at once" in trial.said
    assert "Traceback" not in trial.said
    assert "digits-ali-seed0: stopped" in trial.said
    (words,) = re.findall(r"alibench: to resume: alibench (.+)", trial.said)
    assert shlex.split(words)[-3:] == ["--out", str(trial.out), "--resume"]
    assert not list(trial.out.rglob("*.part"))
    for name in ("ali", "vae"):
        kept = sorted(trial.out.glob(f"runs/digits-{name}-seed0/checkpoints/round-*"))
        assert len(kept) == 2
        assert kept[1].name > kept[0].name


@pytest.mark.whole
def test_what_ended_on_request_resumes(undisturbed: Undisturbed, images: Path, tmp_path: Path) -> None:
    trial = Trial(tmp_path / "trial", images)
    process = trial.start()
    training(trial, runs=1)
    process.terminate()
    assert process.wait(LIMIT) == 143, trial.said
    trial.check(undisturbed.rows)


@pytest.mark.whole
def test_a_second_request_ends_at_once(images: Path, tmp_path: Path) -> None:
    trial = Trial(tmp_path / "trial", images)
    process = trial.start(settings=LONG)
    training(trial)
    os.kill(process.pid, signal.SIGSTOP)  # both arrive before it can do anything about the first
    os.kill(process.pid, signal.SIGTERM)
    os.kill(process.pid, signal.SIGINT)
    os.kill(process.pid, signal.SIGCONT)
    assert process.wait(LIMIT) == 130, trial.said
    assert "alibench: ended at once; finished runs and checkpoints are kept" in trial.said
    assert "Traceback" not in trial.said


@pytest.mark.parametrize("retries", [pytest.param(0, marks=pytest.mark.whole), 1])
def test_a_worker_that_dies_fails_its_run_alone(
    retries: int, undisturbed: Undisturbed, images: Path, tmp_path: Path
) -> None:
    trial = Trial(tmp_path / "trial", images)
    dies = ("process", "digits-ali-seed0/checkpoints", 40)  # in the midst of training
    code = trial.start("--retries", str(retries), kill=dies).wait(LIMIT)
    died = "digits-ali-seed0: failed: its process died (killed by signal 9, as by a system out of memory)"
    assert died in trial.said
    if retries:
        assert code == 0, trial.said
        assert f"{died}; it is tried again" in trial.said
        trial.compare(undisturbed.rows)
        return

    assert code == 1, trial.said
    assert set(trial.rows().model) >= {"vae", "raw pixels"}  # the others are there
    assert "ali" not in set(trial.rows().model)
    again = f"Try again what failed: alibench run digits --models ali vae --seeds 1 --data folder:{images}"
    assert again in trial.said
    trial.check(undisturbed.rows)


@pytest.mark.whole
def test_a_full_disk_leaves_the_last_checkpoint(
    undisturbed: Undisturbed, images: Path, tmp_path: Path
) -> None:
    trial = Trial(tmp_path / "trial", images)
    assert trial.start(kill=("all", "digits-ali-seed0/checkpoints", 40)).wait(LIMIT) == -signal.SIGKILL
    before = set(trial.out.glob("runs/digits-ali-seed0/checkpoints/round-*"))
    size = max(path.stat().st_size for path in trial.out.rglob("round-*"))
    assert trial.start("--resume", largest=size - 1).wait(LIMIT) == 1, trial.said
    full = (
        "failed: nothing more can be written (File too large); its last checkpoint is kept: make room, resume"
    )
    assert full in trial.said
    assert "Traceback" not in trial.said
    assert set(trial.out.glob("runs/digits-ali-seed0/checkpoints/round-*")) == before
    trial.check(undisturbed.rows)


def test_of_two_starts_at_once_one_runs_and_one_refuses(
    images: Path, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    starts, short = asked(request, "--starts", 10, 1), ("steps=2", "batch=8", 'metrics=["reconstruction"]')
    for number in range(starts):
        trial = Trial(tmp_path / str(number), images)
        both = [trial.start("--resume", settings=short) for _ in range(2)]
        assert sorted(process.wait(LIMIT) for process in both) == [0, 2], trial.said
        refused = "is being written to by another process: wait for it or name another folder"
        assert trial.said.count(refused) == 1
        assert len(trial.rows())
    print(f"\n{starts} of {starts}: one ran, one refused")
