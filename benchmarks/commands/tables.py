"""`alibench tables`: the papers' tables and an overview."""

from pathlib import Path

import click
from rich.console import Console

from alibench.benchmarks.commands.command import Command
from alibench.benchmarks.commands.declaring import option
from alibench.benchmarks.commands.publishing import as_facts, line, show
from alibench.benchmarks.running import outputs
from alibench.benchmarks.running.answers import Answer
from alibench.results import formats, papers

EXAMPLES = ("alibench tables", "alibench tables --from out other --out paper")


@click.command("tables", cls=Command, examples=EXAMPLES)
@option("--from DIR ...", "what --out named; default: the committed results, results/reference/", "sources")
@option("--out DIR", "folder for the tables; default: a fresh one")
def command(console: Console, sources: tuple[Path, ...], out: Path | None) -> Answer:
    """Carry out the command. Raises BadInput rather than touch what is there."""
    made = papers.sheets(papers.read(papers.folders(sources)))
    folder = outputs.fresh(out, "tables")
    formats.write(folder, made)
    show(console, made)
    line(console, f"Everything is in {folder}: tables.md, tables.html, tables/")
    return Answer(facts={"out": folder, "tables": as_facts(made)})
