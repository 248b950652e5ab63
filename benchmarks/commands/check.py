"""`alibench check`: is a model of the user's what the loop needs?"""

from dataclasses import asdict
from functools import partial
from pathlib import Path

import click
from rich.console import Console

from alibench.benchmarks.checkup import checkup
from alibench.benchmarks.commands import options
from alibench.benchmarks.commands.command import Command
from alibench.benchmarks.commands.declaring import FILE, option
from alibench.benchmarks.running.answers import Answer

ABOUT = "FILE is a Python file that defines models."
EXAMPLES = ("alibench check my_model.py", "alibench check my_model.py --suite grid25_easy --steps 1000")


@click.command("check", cls=Command, about=ABOUT, examples=EXAMPLES)
@click.argument("file", type=FILE)
@option(
    "--suite NAME",
    "whose data, networks and recipe they get; default: digits",
    default="digits",
    shell_complete=options.suites,
)
@option("--steps N", "of the training; default: 200", default=200)
@option("--models MODEL ...", "only these of the file")
def command(console: Console, file: Path, suite: str, steps: int, models: tuple[str, ...]) -> Answer:
    """Carry out the command: exit code 1 if something is missing. Raises BadInput."""
    show = partial(console.print, highlight=False, soft_wrap=True)
    results = checkup.examine_file(file, suite, steps, models, show)
    passed = all(result.ok for result in results)
    return Answer(int(not passed), {"checks": [asdict(result) for result in results]})
