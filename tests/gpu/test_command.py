"""A whole command on the device: worker processes, stacked seeds, checkpoints, every metric, a stop and its resumption."""

import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from evaluation import files
from results import rows
from tests.gpu.cases import SMALL

pytestmark = pytest.mark.gpu

ROOT = Path(__file__).parents[2]
MODELS, SEEDS = ("ali", "vae"), (0, 1)
STEPS = 300 if SMALL else 3000
SETTINGS = (f"steps={STEPS}", "evaluation.draws=2", *(['metrics=["reconstruction", "health"]'] if SMALL else []))
LONGEST = 100  # seconds that a command may take
ENDED_BY_SIGTERM = 143


def start(out: Path, device: torch.device, *more: str) -> "subprocess.Popen[bytes]":
    command = [sys.executable, "-m", "benchmarks", "run", "digits", "--models", *MODELS, "--seeds", str(len(SEEDS))]
    command += [part for setting in SETTINGS for part in ("--set", setting)]
    command += ["--device", str(device), "--out", str(out), "--checkpoint-every", "0.5", *more]
    return subprocess.Popen(command, cwd=ROOT)


def stop_in_the_midst(process: "subprocess.Popen[bytes]", out: Path) -> None:
    """Ask a command to end as soon as one of its trainings has a checkpoint."""
    end = time.monotonic() + LONGEST
    while process.poll() is None and time.monotonic() < end and not list(out.rglob("round-*.safetensors")):
        time.sleep(0.02)
    process.terminate()
    assert process.wait(LONGEST) == ENDED_BY_SIGTERM


def test_a_stopped_command_resumes_to_what_it_would_have_had(device: torch.device, tmp_path: Path) -> None:
    whole, pieces = tmp_path / "whole", tmp_path / "pieces"
    assert start(whole, device).wait(LONGEST) == 0
    stop_in_the_midst(start(pieces, device), pieces)
    assert start(pieces, device, "--resume").wait(LONGEST) == 0
    resumed = 0
    for run in (f"digits-{name}-seed{seed}" for name in MODELS for seed in SEEDS):
        expected, found = (
            files.read_tensors(out / "runs" / run / "model.safetensors", "model", 1)[0] for out in (whole, pieces)
        )
        assert all(torch.equal(found[key], expected[key]) for key in expected)
        resumed += len(rows.read_origin(pieces / "runs" / run)["resumed"])
    assert resumed
    measured, expected_rows = rows.read(pieces), rows.read(whole)
    assert (measured.metric == expected_rows.metric).all()
    assert (pieces / "tables.md").exists()
    assert (pieces / "report.html").exists()
