"""A whole command on the device: workers, stacked seeds, checkpoints, metrics, a stop and its resumption."""

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch

from alibench.evaluation import sealed
from alibench.results import rows
from tests.gpu.cases import SMALL

pytestmark = pytest.mark.gpu

ROOT = Path(__file__).parents[2]
# in small one seed, few steps and one metric, and a checkpoint after every step
MODELS, SEEDS, STEPS, EVERY = (("vae",), (0,), 100, 0.0) if SMALL else (("ali", "vae"), (0, 1), 5000, 0.2)
SETTINGS = (f"steps={STEPS}", "evaluation.draws=2", *(['metrics=["reconstruction"]'] if SMALL else []))
RUNS = [f"digits-{name}-seed{seed}" for name in MODELS for seed in SEEDS]
LONGEST = 100  # seconds that a command may take
ENDED_BY_SIGTERM = 143


@contextmanager
def started(out: Path, device: torch.device, *more: str) -> Iterator["subprocess.Popen[bytes]"]:
    """Start a command; it is ended where the test is."""
    command = [
        sys.executable,
        "-m",
        "alibench",
        "run",
        "digits",
        "--seeds",
        str(len(SEEDS)),
        "--models",
        *MODELS,
    ]
    command += [part for setting in SETTINGS for part in ("--set", setting)]
    command += ["--device", str(device), "--out", str(out), "--checkpoint-every", str(EVERY), *more]
    process = subprocess.Popen(command, cwd=ROOT)
    try:
        yield process
    finally:
        process.terminate()
        process.wait(LONGEST)


def stop_in_the_midst(process: "subprocess.Popen[bytes]", out: Path) -> None:
    """Ask a command to end as soon as one of its trainings has a checkpoint."""
    end = time.monotonic() + LONGEST
    while process.poll() is None and time.monotonic() < end and not list(out.rglob("round-*.safetensors")):
        time.sleep(0.02)
    process.terminate()
    assert process.wait(LONGEST) == ENDED_BY_SIGTERM


@pytest.fixture(scope="module")
def resumed(device: torch.device, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return what a command leaves that was stopped and resumed."""
    out = tmp_path_factory.mktemp("stopped") / "out"
    with started(out, device) as command:
        stop_in_the_midst(command, out)
    with started(out, device, "--resume") as command:
        assert command.wait(LONGEST) == 0
    return out


@pytest.mark.usefixtures("device")
def test_a_stopped_command_resumes(resumed: Path) -> None:
    assert any(rows.read_origin(resumed / "runs" / run)["resumed"] for run in RUNS)
    assert set(rows.read(resumed).model) >= set(MODELS)
    assert (resumed / "tables.md").exists()
    assert (resumed / "report.html").exists()


@pytest.mark.skipif(SMALL, reason="one more command; running/test_resume.py asks the same on a CPU")
def test_it_comes_to_the_weights_of_one_that_nobody_stopped(
    resumed: Path, device: torch.device, tmp_path: Path
) -> None:
    with started(tmp_path / "whole", device) as command:
        assert command.wait(LONGEST) == 0
    for run in RUNS:
        expected, found = (
            sealed.read_tensors(out / "runs" / run / "model.safetensors", "model", 1)[0]
            for out in (tmp_path / "whole", resumed)
        )
        assert all(torch.equal(found[key], expected[key]) for key in expected)
