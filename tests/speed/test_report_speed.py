"""What the report of five models and five seeds takes: `nox -s speed`. Nothing here asserts a time."""

from pathlib import Path
from statistics import median

import pytest

from alibench.benchmarks.commands.cli import main
from alibench.results import report
from tests.conftest import SETTINGS
from tests.speed.sides import seconds

pytestmark = pytest.mark.speed
MODELS = ("ali", "bigan", "gan", "vae", "aae")


@pytest.mark.parametrize("suite", ["digits", "grid25_easy"])
def test_report(suite: str, tmp_path: Path) -> None:
    """From the files of 25 runs to the page; curves have as many ticks as those of a full training."""
    settings = [part for setting in (*SETTINGS[1:], "steps=50") for part in ("--set", setting)]
    out = tmp_path / "out"
    words = ["run", suite, "--models", *MODELS, "--seeds", "5", "--device", "cpu", *settings]
    assert main([*words, "--out", str(out)]) == 0
    times = [seconds(lambda: report.write(out), 1, "cpu") for _ in range(6)]  # the first is not warm
    size = (out / report.NAME).stat().st_size / 1e6
    print(f"\nreport of {suite}: {median(times[1:]):.1f} s, {size:.1f} MB")
