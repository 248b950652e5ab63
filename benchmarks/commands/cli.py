"""The command line, `alibench COMMAND`, the same as `python -m alibench COMMAND`.

A command is a file in this folder, imported when it is called, so that help and mistakes need no torch.
"""

import importlib
import io
import os
import sys
from collections.abc import Sequence
from contextlib import nullcontext

import click
from click.exceptions import Exit
from click.shell_completion import CompletionItem, shell_complete

from alibench.benchmarks.commands import streams
from alibench.benchmarks.running.answers import Answer, stdout_for_facts
from alibench.evaluation.errors import BadInput, check_name

COMPLETE = "_ALIBENCH_COMPLETE"  # the variable by which a shell asks for completion
# The commands: the module of each is its name in this folder. Help texts stand here, so that the group's help
# imports none of them.
HELP = {
    "demo": "train ALI and a VAE on small digits and show the report, in at most two minutes",
    "run": "train and evaluate the models of a suite, make its tables, pictures and report",
    "tune": "give every model the suite's tuning trials, judged on validation",
    "evaluate": "evaluate trained models again, by other metrics or settings, without training",
    "sample": "draw samples of a trained run into pictures, an .npz, or one picture",
    "export": "write a trained run for others: weights by network, a card, ONNX or torch programs",
    "check": "train a model of your own for a moment, and list what it lacks of the contract",
    "list": "list models, suites, datasets and metrics",
    "table": "make the tables again from stored rows, without training",
    "report": "make the report again, one page for a browser; of several outputs, side by side",
    "compare": "compare outputs with the first of them, row by row: which differences are real?",
    "tables": "make the papers' tables and an overview of each dataset, from stored rows, without training",
    "collect": "bring the runs of several machines together and make tables, pictures and report of all",
    "regression": "train fresh seeds of a small suite and compare them with its baseline; exit code 1 if "
    "something got worse",
    "fit-extractor": "fit a dataset's feature extractor again and store its weights",
    "new-suite": "look at pictures of your own and write a suite for them, to be changed and run",
    "completion": "print a script that completes commands, options, suites and metrics in a shell",
}
# what the command prints without words
FIRST = """alibench demo          two models on small digits, a report in two minutes
alibench run digits    a whole suite; 'alibench list' names all suites
alibench report DIR    the report of earlier runs, of several DIRs side by side
alibench --help        all commands; 'alibench COMMAND --help' describes one"""
EPILOG = """examples:
  alibench list                               # suites, models, metrics, data
  alibench run quick                          # train, evaluate, make tables
  alibench run digits --models ali --dry-run  # how long would it take?
  alibench evaluate out --metrics svm         # measure again what run made

exit codes:
  0         done
  1         a run failed, the gate found a regression, compare --fail-on-worse
            something worse, or check or collect something missing
  2         bad input: one line, and nothing was written; or no room to write
            what is printed
  3         a run diverged
  130, 143  ended by Ctrl-C, by SIGTERM; --resume resumes it
  141       whoever read the output went away; --resume resumes it
"""


class Commands(click.Group):
    """All commands of HELP; the module of one is imported when it is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names of all commands, in the order of the help."""
        return list(HELP)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        """Return a command. Raises BadInput if it is not there, but in completion."""
        if name not in HELP:
            if not ctx.resilient_parsing:
                check_name(name, HELP, "unknown command")
            return None

        # The one place where a command's module, and with it torch, is imported.
        module = importlib.import_module(f"{__package__}.{name.replace('-', '_')}")
        command: click.Command = module.command
        command.short_help = HELP[name]
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the commands by their table, importing none."""
        with formatter.section("Commands"):
            formatter.write_dl(list(HELP.items()))

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write examples and exit codes line by line, as they stand."""
        formatter.write(f"\n{EPILOG}")

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Return the commands that a word may become, importing none."""
        names = (name for name in HELP if name.startswith(incomplete))
        items = [CompletionItem(name, help=HELP[name]) for name in names]
        return items + click.Command.shell_complete(self, ctx, incomplete)


COMMANDS = Commands(
    "alibench",
    help="Compare ALI with its relatives: train, evaluate, print the tables. 'alibench COMMAND --help' "
    "describes a command.",
    no_args_is_help=False,
    subcommand_metavar="COMMAND ...",
    context_settings={"help_option_names": ["-h", "--help"]},
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit code."""
    try:
        with streams.watched():
            if instruction := os.environ.get(COMPLETE):
                return shell_complete(COMMANDS, {}, "alibench", COMPLETE, instruction)
            return _main(sys.argv[1:] if arguments is None else list(arguments))
    except streams.Unwritable as lost:
        return lost.report()


def _main(words: list[str]) -> int:
    """Carry out a command line, and print the JSON document if one is asked for; return the exit code."""
    if not words:
        print(FIRST)
        return 0

    # Also of words that cannot be parsed: a program gets its document in any case.
    as_json = "--json" in words
    if isinstance(sys.stdout, io.TextIOWrapper):
        # A log in another encoding has "?" for signs that it lacks.
        sys.stdout.reconfigure(errors="replace")

    with stdout_for_facts() if as_json else nullcontext():
        try:
            answer = answered(words)
        except Exit as end:  # after --help
            return end.exit_code
        except BadInput as mistake:
            answer = _refusal(mistake)
        except KeyboardInterrupt:
            answer = _refusal(BadInput("ended at once; finished runs and checkpoints are kept"), 130)

    if as_json and _is_first():
        print(answer.document)
    return answer.code


def answered(words: list[str]) -> Answer:
    """Carry out a command line; return its answer. Raises BadInput, also for words that cannot be parsed."""
    _check_printable(words)
    try:
        # not COMMANDS.main, which would print pages of usage, and end the process by itself
        with COMMANDS.make_context("alibench", words) as context:
            answer: Answer = COMMANDS.invoke(context)
    except click.ClickException as mistake:
        raise BadInput(_line(mistake)) from None
    return answer


def _is_first() -> bool:
    """Return whether this process prints: the only one, or the first of those that torchrun started."""
    return "TORCHELASTIC_RUN_ID" not in os.environ or os.environ["RANK"] == "0"


def _check_printable(words: list[str]) -> None:
    """Refuse bytes that are not UTF-8, which arrive as lone surrogates, and zeros. Raises BadInput."""
    for word in words:
        if "\0" in word:
            raise BadInput(f"the argument '{word}' holds a zero byte: leave it out")
        if any("\ud800" <= sign <= "\udfff" for sign in word):
            problem = f"the argument '{word}' is not valid UTF-8, and cannot be printed"
            raise BadInput(f"{problem}: rename what it names")


def _line(mistake: click.ClickException) -> str:
    """Return one line for a mistake, in place of click's page of usage."""
    text = " ".join(mistake.format_message().split()).rstrip(".")
    context = getattr(mistake, "ctx", None)
    return f"{text[:1].lower()}{text[1:]}; see '{context.command_path if context else 'alibench'} --help'"


def _refusal(problem: BadInput, code: int = 2) -> Answer:
    """Print why a command ends; return it."""
    if _is_first():
        print(f"alibench: {problem}", file=sys.stderr, flush=True)
    return Answer(code, {"error": str(problem)})
