"""`alibench completion`: a script for a shell, by which it asks this command what a word may become."""

import click
from click.shell_completion import get_completion_class
from rich.console import Console

from alibench.benchmarks.commands.cli import COMMANDS, COMPLETE
from alibench.benchmarks.commands.command import Command
from alibench.benchmarks.running.answers import Answer

ABOUT = "SHELL is bash (4.4 or newer), zsh or fish."
EXAMPLES = (
    "alibench completion bash > ~/.local/share/bash-completion/completions/alibench",
    "alibench completion zsh > ~/.zfunc/_alibench",
    "alibench completion fish > ~/.config/fish/completions/alibench.fish",
)


@click.command("completion", cls=Command, about=ABOUT, examples=EXAMPLES)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]), metavar="SHELL")
def command(console: Console, shell: str) -> Answer:
    """Carry out the command."""
    completion = get_completion_class(shell)
    assert completion is not None
    print(completion(COMMANDS, {}, "alibench", COMPLETE).source())
    return Answer()
