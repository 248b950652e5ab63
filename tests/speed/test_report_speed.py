"""What the report of five models and five seeds takes: `nox -s speed`. Nothing here asserts a time."""

from pathlib import Path
from typing import Any

import pytest

from alibench.benchmarks.commands.cli import main
from alibench.results import report
from tests.conftest import SETTINGS

pytestmark = pytest.mark.speed
MODELS = ("ali", "bigan", "gan", "vae", "aae")


@pytest.mark.parametrize("suite", ["digits", "grid25_easy"])
def test_report(benchmark: Any, suite: str, tmp_path: Path) -> None:
    """From the files of 25 runs to the page; curves have as many ticks as those of a full training."""
    settings = [part for setting in (*SETTINGS[1:], "steps=50") for part in ("--set", setting)]
    out = tmp_path / "out"
    assert (
        main(
            [
                "run",
                suite,
                "--models",
                *MODELS,
                "--seeds",
                "5",
                "--device",
                "cpu",
                *settings,
                "--out",
                str(out),
            ]
        )
        == 0
    )
    benchmark.pedantic(report.write, (out,), rounds=5, warmup_rounds=1)
    size = (out / report.NAME).stat().st_size
    benchmark.extra_info["page, MB"] = size / 1e6
    print(f"\nreport of {suite}: {benchmark.stats.stats.median:.1f} s, {size / 1e6:.1f} MB")
