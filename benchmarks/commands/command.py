"""What all commands have in common: how their words are read, what is loaded first, and how they end."""

import difflib
import signal
import sys
from collections import deque
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from importlib.metadata import PackageNotFoundError, distribution
from typing import Any

import click
from click.core import ParameterSource
from click.shell_completion import CompletionItem
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


class Several(click.Option):
    """An option that takes all words up to the next option, as in `--models ali vae`."""

    def __init__(self, *names: Any, **attributes: Any) -> None:
        super().__init__(*names, **attributes | {"multiple": True})


class Command(click.Command):
    """A command; its help is the line of `alibench --help`, `about` its arguments, options and `examples`.

    `settings` are assignments for its --set, by the name of the option that users may try instead.
    """

    def __init__(
        self,
        *names: Any,
        about: str = "",
        examples: Sequence[str],
        settings: Mapping[str, str] | None = None,
        **attributes: Any,
    ) -> None:
        json = click.Option(["--json"], is_flag=True, help="print one JSON document, and all else on stderr")
        attributes["params"] += [json] * (attributes["name"] != "completion")
        super().__init__(*names, **attributes | {"help": about})
        self.examples, self.settings = examples, settings or {}

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
        return super().parse_args(ctx, self._separated(ctx, args))

    def _separated(self, ctx: click.Context, args: Sequence[str]) -> list[str]:
        """Return the words as click takes them: `--models=a --models=b` for `--models a b`."""

        def refuse(problem: str) -> None:
            if not ctx.resilient_parsing:  # as for completion
                ctx.fail(problem)

        options = {name: option for option in self.get_params(ctx) for name in option.opts if name[0] == "-"}
        words, others, several = deque(args), list[str](), dict[str, list[str]]()
        while words and words[0] != "--":
            word = words.popleft()
            name, equals, value = word.partition("=")
            option = options.get(name)
            if not isinstance(option, click.Option):
                if word.startswith("-") and word != "-":
                    refuse(f"{ctx.info_name} has no option '{name}'{self._hint(name, options)}")
                others.append(word)
                continue

            # A flag, or one value.
            lacks_value = not equals and (not words or words[0].startswith("--"))
            if option.is_flag and equals:
                refuse(f"Option '{name}' does not take a value")
            elif lacks_value and not option.is_flag:
                refuse(f"Option '{name}' requires an argument")
            if option.is_flag or lacks_value:
                others.append(word)
                continue
            value = value if equals else words.popleft()

            # More values; an option that is repeated takes its last ones, like any other.
            if isinstance(option, Several):
                several[name] = [value]
                while words and not equals and not words[0].startswith("-"):
                    several[name].append(words.popleft())
            else:
                others.append(f"{name}={value}")
        return others + [f"{name}={value}" for name in several for value in several[name]] + list(words)

    def _hint(self, name: str, options: Mapping[str, Any]) -> str:
        """Return a hint for an option that is not there: a setting, the nearest option, or nothing."""
        if key := self.settings.get(name.removeprefix("--").replace("-", "_"), ""):
            return f" (it is a setting: --set {key})"
        close = difflib.get_close_matches(name, options, 1, LIKE)
        return f" (did you mean '{close[0]}'?)" if close else ""

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Return options, and more values of one that takes several and stands last."""
        items = super().shell_complete(ctx, incomplete)
        options = {param.name: param for param in self.params if isinstance(param, click.Option)}
        typed = [  # in their order
            options[name]
            for name in ctx.params
            if name in options and ctx.get_parameter_source(name) is ParameterSource.COMMANDLINE
        ]
        if not items and typed and isinstance(typed[-1], Several):
            return typed[-1].shell_complete(ctx, incomplete)
        return items

    # -------------------- its work

    def invoke(self, ctx: click.Context) -> Answer:
        """Carry out the command; a refusal or an end on request is an answer, a mistake of ours is raised."""
        with plugins.meanwhile(), cache.settled():
            try:
                # Of torchrun's processes the first runs the command, the others train with it.
                if peers.rank():
                    torchrun.follow()
                    return Answer()
                _check_installed()
                return self._carried_out(dict(ctx.params))

            # What the user can mend, and what was asked for.
            except (BadInput, files.Damaged, files.Unsafe) as problem:
                return _refusal(str(problem))
            except peers.Lost as problem:
                return _refusal(str(problem), 1)
            except Interrupted as end:
                name = signal.Signals(end.signal).name
                return Answer(128 + end.signal, {"error": f"ended by {name}"})

            # What main ends by, and what came out of a plug-in or the system.
            except (streams.Unwritable, KeyboardInterrupt, click.exceptions.Exit, click.ClickException):
                raise
            except BaseException as error:
                if not (reason := blame.in_plugin(error) or _of_place(error)):
                    raise
                return _refusal(reason)
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


def _refusal(reason: str, code: int = 2) -> Answer:
    """Print why a command ends; return it."""
    say(reason)
    return Answer(code, {"error": reason})


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
