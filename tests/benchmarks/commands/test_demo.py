"""The demo: a short form of digits, whose report opens before whoever typed it and nobody else."""

import io
import webbrowser
from contextlib import redirect_stdout
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from alibench.benchmarks.commands import demo
from alibench.benchmarks.commands.cli import main
from alibench.benchmarks.config import loading
from tests.conftest import GATED


class Terminal(io.StringIO):
    """A terminal that shows nothing."""

    def isatty(self) -> bool:
        return True


def test_the_demo_is_suite_digits_but_for_its_length() -> None:
    (short,), (whole,) = loading.load(demo.SUITE), loading.load("digits")
    assert replace(short.recipe, steps=whole.recipe.steps) == whole.recipe
    assert replace(short.evaluation, draws=whole.evaluation.draws) == whole.evaluation
    assert (short.dataset, short.networks, short.latent) == (whole.dataset, whole.networks, whole.latent)
    assert set(short.models) < set(whole.models)
    assert (short.seeds, short.recipe.steps < whole.recipe.steps) == (1, True)


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What a browser was asked to open, on a machine with a screen."""
    pages: list[str] = []
    monkeypatch.setattr(demo, "has_screen", lambda environment: True)
    monkeypatch.setattr(webbrowser, "open", pages.append)
    return pages


def test_a_page_opens_on_a_terminal_alone(
    tmp_path: Path, opened: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    page = Path("a folder", "report.html")
    for console in (Console(file=io.StringIO()), Console(file=Terminal(), stderr=True)):
        demo.show(page, console)
    assert opened == []
    demo.show(page, Console(file=Terminal()))
    assert opened == [(tmp_path / page).as_uri()]
    assert "a%20folder" in opened[0]


@pytest.mark.commands
@pytest.mark.usefixtures("here")
def test_the_demo_ends_with_its_report_open_unless_that_is_not_wanted(
    tmp_path: Path, opened: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mine.toml").write_text(GATED)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(demo, "SUITE", "mine.toml")
    with redirect_stdout(Terminal()):
        assert main(["demo", "--out", "out"]) == 0
        assert opened == [(tmp_path / "out" / "report.html").as_uri()]
        assert main(["demo", "--out", "out", "--resume", "--no-open"]) == 0
        assert main(["demo", "--out", "out", "--resume", "--dry-run"]) == 0
    assert len(opened) == 1


@pytest.mark.parametrize(
    ("system", "environment", "seen"),
    [
        ("linux", {"DISPLAY": ":0"}, True),
        ("linux", {"WAYLAND_DISPLAY": "wayland-0"}, True),
        ("linux", {"SSH_CONNECTION": "a 1 b 2"}, False),
        ("linux", {"SSH_CONNECTION": "a 1 b 2", "DISPLAY": "localhost:10.0"}, True),
        ("linux", {"DISPLAY": ":0", "CI": "true"}, False),
        ("linux", {"DISPLAY": ""}, False),
        ("darwin", {}, True),
        ("darwin", {"SSH_CONNECTION": "a 1 b 2"}, False),
        ("win32", {"CI": "1"}, False),
    ],
)
def test_a_window_opens_where_somebody_sees_it(
    system: str, environment: dict[str, str], seen: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.platform", system)
    assert demo.has_screen(environment) is seen
