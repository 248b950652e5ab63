"""`alibench fit-extractor`: a dataset's feature extractor again."""

import click
from rich.console import Console

from alibench.benchmarks.commands import options
from alibench.benchmarks.commands.command import Command
from alibench.benchmarks.commands.publishing import line
from alibench.benchmarks.config import parsing, pictures
from alibench.benchmarks.data import datasets
from alibench.benchmarks.running.answers import Answer

ABOUT = "DATASET is a dataset (see 'alibench list'), folder:PATH or npz:PATH."
EXAMPLES = ("alibench fit-extractor mnist", "alibench fit-extractor folder:pictures --size 32")


@click.command("fit-extractor", cls=Command, about=ABOUT, examples=EXAMPLES)
@click.argument("dataset", shell_complete=options.DATA)
@options.size
@options.channels
def command(console: Console, dataset: str, size: int | None, channels: int | None) -> Answer:
    """Carry out the command. Raises BadInput."""
    named = {"size": size, "channels": channels}
    read = {key: value for key, value in named.items() if value is not None}
    loaded = datasets.load(dataset, parsing.parse(read, datasets.Options, f"dataset '{dataset}'"))
    path, accuracy = pictures.fit_extractor(dataset, read, loaded)
    line(console, f"{path}: {accuracy}")
    return Answer(facts={"path": path, "accuracy": accuracy})
