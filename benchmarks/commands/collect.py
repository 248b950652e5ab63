"""`alibench collect`: the runs of several machines in one folder, with tables, pictures and report."""

from pathlib import Path

import click
from rich.console import Console

from alibench.benchmarks.commands import options
from alibench.benchmarks.commands.command import Command
from alibench.benchmarks.commands.declaring import DIR, option
from alibench.benchmarks.commands.publishing import line, publish
from alibench.benchmarks.running import collecting
from alibench.benchmarks.running.answers import Answer

ABOUT = "DIR is a folder that --out named, on each machine."
EXAMPLES = (
    "alibench collect out                         # tables of what is finished",
    "alibench collect desktop laptop --out all",
)


@click.command("collect", cls=Command, about=ABOUT, examples=EXAMPLES)
@click.argument("folders", nargs=-1, required=True, type=DIR, metavar="DIR ...")
@option(
    "--out DIR", "for all runs, fresh or of an earlier collect; default: DIR itself, a fresh one for several"
)
@option("--force", "collect all the same where versions, code, data or settings differ")
@options.all_tables
def command(
    console: Console, folders: tuple[Path, ...], out: Path | None, force: bool, all_tables: bool
) -> Answer:
    """Carry out the command: exit code 1 if runs are missing. Raises BadInput."""
    with collecting.collected(folders, out, force, console) as collected:
        # damage and unfinished runs were printed already
        known = (*collected.damaged, f"{collected.out}: not finished")
        made = publish(collected.out, console, all_tables, lambda folder, damage: None, known)
        if collected.missing:
            line(console, collected.missing)
        return Answer(1 if collected.missing else 0, {**collected.facts, **made})
