"""What the documentation says of speed is what was measured."""

from pathlib import Path

from tests.speed.report import summary

ROOT = Path(__file__).parents[2]
FIGURES = ROOT / "results" / "reference" / "speed"


def test_the_speed_table_is_made_from_the_committed_figures() -> None:
    assert summary(FIGURES) in (ROOT / "docs" / "speed.md").read_text()
