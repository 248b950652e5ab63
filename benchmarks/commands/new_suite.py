"""`alibench new-suite`: a suite for anyone's pictures."""

from argparse import Namespace  # until the called function has explicit parameters
from pathlib import Path

import click
from rich.console import Console

from alibench.benchmarks.commands import options
from alibench.benchmarks.commands.command import Command
from alibench.benchmarks.commands.declaring import option
from alibench.benchmarks.config import pictures as config_pictures
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
    wanted = Namespace(pictures=pictures, out=out, size=size, channels=channels)
    return config_pictures.command(wanted, console)
