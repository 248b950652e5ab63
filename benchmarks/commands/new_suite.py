"""`alibench new-suite`: a suite for anyone's pictures."""

import shlex
from pathlib import Path

import click
from rich.console import Console

from alibench.benchmarks.commands import options
from alibench.benchmarks.commands.command import Command
from alibench.benchmarks.commands.declaring import option
from alibench.benchmarks.commands.publishing import line
from alibench.benchmarks.config import pictures as config_pictures
from alibench.benchmarks.config import toml
from alibench.benchmarks.running import outputs
from alibench.benchmarks.running.answers import Answer

ABOUT = "folder:PATH is a folder of pictures, or of a folder for each class; npz:PATH works too."
EXAMPLES = (
    "alibench new-suite folder:pictures",
    "alibench new-suite folder:pictures --size 32 --out mine.toml",
)


@click.command("new-suite", cls=Command, about=ABOUT, examples=EXAMPLES)
@click.argument("pictures", metavar="folder:PATH", shell_complete=options.DATA)
@option("--out FILE", "default: NAME.toml in this folder, by the pictures'")
@options.size
@options.channels
def command(
    console: Console, pictures: str, out: Path | None, size: int | None, channels: int | None
) -> Answer:
    """Carry out the command. Raises BadInput; no file is overwritten."""
    # Mistakes in the file's name before anything is read.
    if out is not None:
        config_pictures.check_path(out)
    outputs.check_apart(out or Path("suite.toml"), [pictures])

    made = config_pictures.make(pictures, size, channels)
    path = out or Path(f"{made.name}.toml")
    config_pictures.write(made, path)

    run = shlex.join(["alibench", "run", str(path)])
    written = f"{toml.printable(str(path))} is written. What it would do, and a run of it:"
    line(console, f"{made.summary}\n\n{written}\n  {run} --dry-run\n  {run}")
    return Answer(facts={"suite": str(path), **made.facts})
