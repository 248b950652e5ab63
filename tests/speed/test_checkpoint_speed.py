"""What checkpoints cost, and going on from one: `nox -s speed`. Nothing here asserts a time."""

import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from statistics import median

import pytest
import torch

from alibench.benchmarks.training.checkpoints import EVERY, Checkpoints
from alibench.benchmarks.training.loop import train_together
from alibench.benchmarks.training.outcomes import Member
from alibench.benchmarks.training.stopping import Stopped
from tests.speed import sides
from tests.speed.conftest import Speeds
from tests.speed.sides import CIFAR10, DIGITS, Shape

pytestmark = pytest.mark.speed
PERIODS = 2.5  # of the default time between checkpoints, that is trained for
ROUNDS = 5


def train(shape: Shape, steps: int, device: str, kept: Checkpoints | None = None) -> float:
    """Train ALI for some steps, or what a checkpoint leaves of them; return the seconds of the whole call."""
    start = time.perf_counter()
    recipe = replace(sides.recipe(shape, "fp32", execution="graphs"), steps=steps)
    members, split = [Member(sides.build(shape, "ali"), 0)], sides.loaded(shape).train
    train_together(members, split, recipe, torch.device(device), checkpoints=kept)
    return time.perf_counter() - start


@pytest.mark.parametrize("shape", [CIFAR10, DIGITS], ids=lambda shape: shape.name)
def test_checkpoints(speeds: Speeds, device: str, shape: Shape, tmp_path: Path) -> None:
    """A training of some minutes with checkpoints as by default; then resuming from one before its end."""
    train(shape, 3, device)
    few, many = (train(shape, steps, device) for steps in (3, 13))
    steps = round(PERIODS * EVERY / ((many - few) / 10))
    kept = Checkpoints(tmp_path / "checkpoints", {})
    took = train(shape, steps, device, kept)
    sizes = [path.stat().st_size for path in kept.folder.iterdir()]
    fresh, resumed = [], []
    for number in range(ROUNDS):
        folder = tmp_path / str(number)
        stopping = Checkpoints(folder, {})
        stopping.request.made = True
        with pytest.raises(Stopped):
            train(shape, 2, device, stopping)
        fresh.append(train(shape, 1, device))
        resumed.append(train(shape, 2, device, Checkpoints(folder, {})))

    figures = {"training_seconds": took, "written": len(sizes), "mb": max(sizes) / 1e6}
    figures |= {"seconds_each": kept.seconds / len(sizes), "share_of_training_%": 100 * kept.seconds / took}
    more = median(b - a for a, b in zip(fresh, resumed, strict=True))
    speeds.add("checkpoints", networks=shape.name, **figures, seconds_more_to_go_on=more, rounds=ROUNDS)


def test_command_that_goes_on(speeds: Speeds, tmp_path: Path) -> None:
    """`alibench run --resume` of finished runs makes tables and pictures: against the bare interpreter."""
    command = ["-m", "alibench", "run", "digits", "--seeds", "1", "--set", "steps=100"]
    command += ["--out", str(tmp_path / "out")]
    subprocess.run([sys.executable, *command], check=True, capture_output=True)
    cases: dict[str, list[str]] = {
        "interpreter and imports": ["-c", "import alibench.benchmarks.commands.cli"],
        "the tables alone (alibench table)": ["-m", "alibench", "table", str(tmp_path / "out")],
        "run --resume, all finished": [*command, "--resume"],
    }
    times: dict[str, list[float]] = {case: [] for case in cases}

    for _ in range(ROUNDS):
        for case, arguments in cases.items():
            start = time.perf_counter()
            subprocess.run([sys.executable, *arguments], check=True, capture_output=True)
            times[case].append(time.perf_counter() - start)

    bare = times["interpreter and imports"]
    for case, taken in times.items():
        more = median(a - b for a, b in zip(taken, bare, strict=True))
        speeds.add("resuming", command=case, seconds=median(taken), seconds_more=more, rounds=ROUNDS)
