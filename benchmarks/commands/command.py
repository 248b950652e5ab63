"""What all commands have in common: how their words are read, what is loaded first, and how they end."""

import difflib
import signal
import sys
from collections import deque
from collections.abc import Sequence
from contextlib import nullcontext
from importlib.metadata import PackageNotFoundError, distribution
from typing import Any

import click
from click.exceptions import Exit
from rich.console import Console

from alibench.benchmarks.commands import streams
from alibench.benchmarks.config import blame, plugins
from alibench.benchmarks.data import cache
from alibench.benchmarks.running import forecast, torchrun, worker
from alibench.benchmarks.running.answers import Answer
from alibench.benchmarks.running.runner import Interrupted
from alibench.benchmarks.training import peers
from alibench.evaluation import files
from alibench.evaluation.errors import BadInput
from alibench.evaluation.messages import say

LIKE = 0.8  # how near to an option a misspelt one must be, by difflib, to be taken for it


class Valued(click.Option):
    """An option with a value, which is not the next option."""

    def type_cast_value(self, ctx: click.Context, value: Any) -> Any:
        """Return the value by its type. Raises UsageError."""
        if isinstance(value, str) and value.startswith("--"):
            ctx.fail(f"Option '{self.opts[0]}' requires an argument")
        return super().type_cast_value(ctx, value)


class Several(Valued):
    """An option that takes all words up to the next option, as in `--models ali vae`."""

    def __init__(self, *names: Any, **attributes: Any) -> None:
        super().__init__(*names, **attributes | {"multiple": True})


class Command(click.Command):
    """A command; its help is the line of `alibench --help`, `about` its arguments, options and `examples`."""

    def __init__(self, *names: Any, about: str = "", examples: Sequence[str], **attributes: Any) -> None:
        json = click.Option(["--json"], is_flag=True, help="print one JSON document, and all else on stderr")
        attributes["params"] += [json] * (attributes["name"] != "completion")
        super().__init__(*names, **attributes | {"help": about})
        self.examples = examples

    def format_help_text(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the line that `alibench --help` has, then what its arguments are."""
        for text in filter(None, (self.short_help, self.help)):
            formatter.write_paragraph()
            with formatter.indentation():
                formatter.write_text(text)

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the examples line by line, so that they can be pasted."""
        formatter.write("\n".join(["\nexamples:", *(f"  {line}" for line in self.examples), ""]))

    # -------------------- its words

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Read the words of a command line. Raises UsageError, which names the option that was meant."""
        try:
            return super().parse_args(ctx, self._separated(ctx, args))
        except click.NoSuchOption as mistake:
            name = mistake.option_name
            ctx.fail(f"{ctx.info_name} has no option '{name}'{self._hint(name)}")
        except click.BadOptionUsage as mistake:
            ctx.fail(mistake.message)

    def _separated(self, ctx: click.Context, args: Sequence[str]) -> list[str]:
        """Return the words as click takes them: `--models=a --models=b` for `--models a b`."""
        several = {name for param in self.params if isinstance(param, Several) for name in param.opts}
        words, separated = deque(args), list[str]()
        while words and words[0] != "--":
            word = words.popleft()
            name, equals, _ = word.partition("=")
            if name not in several:
                separated.append(word)
                continue

            values = [] if not equals else [word]
            while words and not equals and not words[0].startswith("-"):
                values.append(f"{name}={words.popleft()}")
            if not values and not ctx.resilient_parsing:
                ctx.fail(f"Option '{name}' requires an argument")
            # An option that is repeated takes its last values, like any other.
            separated = [earlier for earlier in separated if not earlier.startswith(f"{name}=")] + values
        return separated + list(words)

    def _hint(self, name: str) -> str:
        """Return a hint for an option that is not there: the nearest one, or how a setting is changed."""
        options = [name for param in self.params for name in param.opts if isinstance(param, click.Option)]
        if close := difflib.get_close_matches(name, options, 1, LIKE):
            return f" (did you mean '{close[0]}'?)"
        return " (settings are changed by --set KEY=VALUE)" if "--set" in options else ""

    # -------------------- its work

    def invoke(self, ctx: click.Context) -> Answer:
        """Carry out the command; an end on request is an answer. Raises BadInput."""
        with plugins.meanwhile(), cache.settled():
            try:
                # Of torchrun's processes the first runs the command, the others train with it.
                if peers.rank():
                    torchrun.follow()
                    return Answer()
                _check_installed()
                return self._carried_out(dict(ctx.params))

            # Why other processes, or all, end.
            except peers.Lost as problem:
                say(str(problem))
                return Answer(1, {"error": str(problem)})
            except Interrupted as end:
                name = signal.Signals(end.signal).name
                return Answer(128 + end.signal, {"error": f"ended by {name}"})

            # What main ends by, and what came out of a plug-in or the system.
            except (files.Damaged, files.Unsafe) as problem:
                raise BadInput(str(problem)) from None
            except (BadInput, streams.Unwritable, KeyboardInterrupt, Exit, click.ClickException):
                raise
            except BaseException as error:
                if not (reason := blame.in_plugin(error) or _of_place(error)):
                    raise
                raise BadInput(reason) from None
            finally:
                if peers.world() > 1 and not peers.rank():
                    torchrun.dismiss()

    def _carried_out(self, options: dict[str, Any]) -> Answer:
        """Load the models of the user's, then call the command with the other options and a console."""
        # Plug-ins first: suites may name their models.
        for path in options.pop("plugin", ()):
            plugins.load(path)
            streams.fill()  # what it closed
        for name, folder in options.get("samples", ()):
            plugins.load_samples(name, folder)

        # A log has no width of its own, and takes no bars and colours, whatever CI says. Markup is off, since
        # users write titles.
        as_json = options.pop("json", False)
        is_terminal = (sys.stderr if as_json else sys.stdout).isatty()
        look: dict[str, Any] = {} if is_terminal else {"width": 160, "force_terminal": False}
        console = Console(stderr=as_json, markup=False, **look)

        # What was begun, or trained before, is compared with the data themselves
        outlines = self.name in ("run", "tune") and not options["resume"]
        with forecast.dry(outlines) if options.get("dry_run") else nullcontext():
            assert self.callback is not None
            answer: Answer = self.callback(console=console, **options)
            return answer


def _of_place(error: BaseException) -> str:
    """Return a line for what the system refuses at a path, or for a full disk; "" for any other error."""
    if not isinstance(error, OSError) or (error.filename is None and error.errno not in worker.FULL):
        return ""
    named = error.filename is not None
    problem = f"{error.filename} cannot be read or written" if named else "nothing more can be written"
    return f"{problem} ({error.strerror}): mend that, or name another place"


def _check_installed() -> None:
    """Refuse to work where the command is installed as it was before 0.2. Raises BadInput."""
    try:
        scripts = distribution("alibench").entry_points.select(group="console_scripts", name="alibench")
    except PackageNotFoundError:  # a checkout that is not installed
        return
    if any(script.value == "benchmarks.cli:main" for script in scripts):
        raise BadInput(
            "alibench is installed as it was before 0.2: renew that by: pip install -e . (in the checkout)"
        )
