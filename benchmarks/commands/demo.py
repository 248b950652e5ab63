"""`alibench demo`: a small suite from nothing to a report, which opens in a browser."""

import os
import sys
import webbrowser
from collections.abc import Mapping
from pathlib import Path

import click
from rich.console import Console

from alibench.benchmarks.commands import options, run
from alibench.benchmarks.commands.command import Command
from alibench.benchmarks.commands.declaring import option
from alibench.benchmarks.commands.options import Effort, Location
from alibench.benchmarks.commands.publishing import line
from alibench.benchmarks.config import loading
from alibench.benchmarks.running.answers import Answer
from alibench.benchmarks.running.outputs import Destination

SUITE = "demo"
ABOUT = "Nothing is downloaded. The report opens by itself on a desktop, not over SSH or in CI."
EXAMPLES = ("alibench demo", "alibench demo --out first --no-open")


@click.command("demo", cls=Command, about=ABOUT, examples=EXAMPLES)
@options.destination
@option("--no-open", "leave the report to be opened by you")
def command(console: Console, destination: Destination, no_open: bool) -> Answer:
    """Carry out the command. Raises BadInput before anything is written."""
    suites = loading.load(SUITE)
    for suite in suites:
        line(console, f"{suite.title}: {suite.expect}")
    engine = Location(device=None, on=None).engine(suites)
    answer = run.train(SUITE, suites, engine, destination, Effort(retries=0), console, kept={})

    if "report" in answer.facts and not no_open:
        show(answer.facts["report"], console)
    return answer


def show(report: Path, console: Console) -> None:
    """Open a page in a browser, if somebody sits before it."""
    # With --json a program reads, and the console is stderr.
    if console.is_terminal and not console.stderr and has_screen(os.environ):
        webbrowser.open(report.resolve().as_uri())


def has_screen(environment: Mapping[str, str]) -> bool:
    """Return whether a window would appear before whoever typed the command."""
    if environment.get("CI"):
        return False
    # X11 and Wayland reach over SSH; the other systems would open the window on the far side.
    if sys.platform not in ("darwin", "win32"):
        return bool(environment.get("DISPLAY") or environment.get("WAYLAND_DISPLAY"))
    return "SSH_CONNECTION" not in environment
