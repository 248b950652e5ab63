"""`alibench table`: the tables of a folder again."""

from pathlib import Path

import click
from rich.console import Console

from alibench.benchmarks.commands import options
from alibench.benchmarks.commands.command import Command
from alibench.benchmarks.commands.declaring import DIR
from alibench.benchmarks.commands.publishing import as_facts, line, show_of
from alibench.benchmarks.running.answers import Answer
from alibench.evaluation.errors import BadInput
from alibench.results import rows, tables

ABOUT = "DIR is a folder that --out named."
EXAMPLES = ("alibench table out", "alibench table out --all", "alibench table out --json")


@click.command("table", cls=Command, about=ABOUT, examples=EXAMPLES)
@click.argument("folder", type=DIR, metavar="DIR")
@options.all_tables
def command(console: Console, folder: Path, all_tables: bool) -> Answer:
    """Carry out the command. Raises BadInput for a folder without finished runs, or a damaged one."""
    frame = rows.derive(folder)
    if frame.empty:
        raise BadInput(f"{folder} holds no finished runs")
    made = tables.write(folder, frame)
    show_of(folder, frame, made, all_tables, console)
    line(console, f"Tables are in {folder}: tables.md, tables.html, tables/")
    return Answer(facts={"out": folder, "tables": as_facts(made)})
