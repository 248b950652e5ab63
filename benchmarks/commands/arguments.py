"""What the command line takes: commands, their options, and one line for a mistake. What they do is in
cli.py.
"""

import argparse
import difflib
from collections.abc import Sequence
from dataclasses import fields, is_dataclass
from typing import Any, NoReturn, get_args, get_origin

from alibench.benchmarks.checkup import checkup
from alibench.benchmarks.commands import completion, regression
from alibench.benchmarks.config import pictures
from alibench.benchmarks.config.schema import Suite
from alibench.benchmarks.running import collecting, engines, outputs
from alibench.benchmarks.training.recipe import Recipe
from alibench.evaluation.errors import BadInput, check_name
from alibench.evaluation.settings import Settings

EXIT_CODES = """
exit codes:
  0         done
  1         a run failed, the gate found a regression, or check or collect found
            something missing
  2         bad input, said in one line, and nothing was written; or no room to
            write what is printed
  3         a run diverged
  130, 143  ended by Ctrl-C, by SIGTERM; --resume goes on
  141       whoever read the output went away; --resume goes on"""
# what stands below each command's help; they can be pasted, so remarks are the shell's comments
EXAMPLES = {
    "": (
        "alibench list                               # suites, models, metrics, data",
        "alibench run quick                          # train, evaluate, show tables",
        "alibench run digits --models ali --dry-run  # how long would it take?",
        "alibench evaluate out --metrics svm         # measure again what run made",
    ),
    "run": (
        "alibench run quick",
        "alibench run folder:pictures --dry-run       # a suite made for your own",
        "alibench run digits --models ali vae --seeds 1 --set recipe.lr=1e-3 --out new",
        "alibench run mine.toml --plugin my_model.py",
    ),
    "tune": (
        "alibench tune digits --models ali vae --out tuned",
        "alibench tune digits --set 'search.lr=[1e-3, 2e-3]' --dry-run",
    ),
    "evaluate": (
        "alibench evaluate out --metrics svm neighbours",
        "alibench evaluate out/runs/digits-ali-seed0 --set evaluation.labels=200",
        "alibench evaluate from-a-colleague --data folder:pictures",
    ),
    "check": ("alibench check my_model.py", "alibench check my_model.py --suite grid25_easy --steps 1000"),
    "list": ("alibench list", "alibench list --plugin my_model.py", "alibench list --json"),
    "table": ("alibench table out", "alibench table out --json"),
    "report": ("alibench report out", "alibench report out other --out both.html"),
    "tables": ("alibench tables", "alibench tables --from out other --out paper"),
    "collect": (
        "alibench collect out                         # tables of what is finished",
        "alibench collect desktop laptop --out all",
    ),
    "regression": (
        "alibench regression --dry-run",
        "alibench regression --seeds 5 --out gate",
        "alibench regression mine.toml --update-baseline",
    ),
    "fit-extractor": ("alibench fit-extractor mnist", "alibench fit-extractor folder:pictures --size 32"),
    "new-suite": (
        "alibench new-suite folder:pictures",
        "alibench new-suite folder:pictures --size 32 --out mine.toml",
    ),
    "completion": (
        "alibench completion bash > ~/.local/share/bash-completion/completions/alibench",
        "alibench completion zsh > ~/.zfunc/_alibench",
        "alibench completion tcsh > ~/.alibench.tcsh",
    ),
}


def _is_table(kind: Any) -> bool:
    return get_origin(kind) is dict or any(map(is_dataclass, (kind, *get_args(kind))))


LIKE = 0.8  # how near to an option a misspelt one must be, by difflib, to be taken for it
# settings of a suite, which --set takes by their full names, where users look for an option
SETTINGS = {f.name: f"evaluation.{f.name}" for f in fields(Settings)} | {
    f.name: f.name
    for f in (*fields(Recipe), *fields(Suite))
    if f.name not in ("name", "gate") and not _is_table(f.type)
}
LISTS = {f.name for f in fields(Suite) if str(f.type).startswith("list")}


class Help(argparse.RawDescriptionHelpFormatter):
    """Wraps a description as argparse does, and leaves lines of their own as they are."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        fill = argparse.RawDescriptionHelpFormatter if "\n" in text else argparse.HelpFormatter
        return fill._fill_text(self, text, width, indent)


class Parser(argparse.ArgumentParser):
    """One line for a mistake, not a page of usage; options by their full names, so that a new one changes no
    command.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(allow_abbrev=False, formatter_class=Help, **options)

    def error(self, message: str) -> NoReturn:
        raise BadInput(f"{message}; see '{self.prog} --help'")

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> tuple[Any, list[str]]:
        """Refuse at once what this command does not know: its parent could not say what was meant."""
        known, unknown = super().parse_known_args(args, namespace)
        if unknown:
            option = next((word.partition("=")[0] for word in unknown if word.startswith("-")), "")
            self.error(f"unrecognized arguments: {' '.join(unknown)}{self._hint(option)}")
        return known, unknown

    def _hint(self, option: str) -> str:
        """Say what stands in for an option that this command does not have; nothing, if that is not known."""
        key = SETTINGS.get(option.removeprefix("--").replace("-", "_"), "")
        # evaluate takes settings of the evaluation alone
        if (
            "--set" in self._option_string_actions
            and key.startswith("evaluation." * self.prog.endswith(" evaluate"))
            and key
        ):
            value = '\'["A", "B"]\'' if key in LISTS else "VALUE"
            return f" (it is a setting: --set {key}={value})"
        close = difflib.get_close_matches(option, self._option_string_actions, 1, LIKE)
        return f" (did you mean '{close[0]}'?)" if close else ""

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        if action.choices is not None and value not in action.choices:
            try:
                check_name(str(value), map(str, action.choices), "invalid choice:")
            except BadInput as problem:
                raise argparse.ArgumentError(action, str(problem)) from None


def named(text: str) -> tuple[str, str]:
    """Return a name and what it stands for. Raises ArgumentTypeError if one of them is not there."""
    name, _, rest = text.partition("=")
    if not name or not rest:
        raise argparse.ArgumentTypeError(f"'{text}' is not NAME=FOLDER or NAME=FILE.npz")
    return name, rest


def examples(lines: Sequence[str]) -> str:
    """Return what stands below a command's help."""
    return "\n".join(["examples:", *(f"  {line}" for line in lines)])


def parser() -> argparse.ArgumentParser:
    """Return the parser of the whole command line."""
    text = "Compare ALI with its relatives: train, evaluate, print the tables. 'alibench COMMAND --help' says more."
    whole = Parser(prog="alibench", description=text, epilog=examples(EXAMPLES[""]) + "\n" + EXIT_CODES)
    commands = whole.add_subparsers(dest="command", required=True, metavar="COMMAND", parser_class=Parser)

    def image_options(sub: argparse.ArgumentParser) -> None:
        sub.add_argument("--size", type=int, metavar="N", help="resize and crop images to N x N")
        sub.add_argument(
            "--channels", type=int, choices=(1, 3), help="turn images grey (1) or into colour (3)"
        )

    def suite_options(name: str, text: str) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=text, description=text)
        own = ", or pictures of your own, folder:PATH or npz:PATH" if name == "run" else ""
        sub.add_argument("suite", help=f"a built-in suite (see 'alibench list') or a TOML file{own}")
        sub.add_argument(
            "--models", nargs="+", default=[], metavar="MODEL", help="only these rows of the suite's tables"
        )
        sub.add_argument("--device", help="cpu, cuda, cuda:1 or mps; default: the best there is")
        outputs.add_arguments(sub)
        engines.add_arguments(sub, arrays=name == "run")
        sub.add_argument(
            "--set", action="append", default=[], metavar="KEY=VALUE", help="override a field of the suite"
        )
        sub.add_argument(
            "--scale",
            type=float,
            default=1.0,
            metavar="SHARE",
            help="train for this share of the suite's steps",
        )
        sub.add_argument("--data", metavar="NAME", help="other data: a built-in set, folder:PATH or npz:PATH")
        text = "of training: fp32, tf32 (CUDA), bf16, or auto, the default: tf32 where the GPU has it; evaluation is in fp32"
        sub.add_argument("--precision", choices=("auto", "fp32", "tf32", "bf16"), help=text)
        image_options(sub)
        text = "also write the curves as TensorBoard's events, for 'tensorboard --logdir DIR'; needs the package tensorboard"
        sub.add_argument("--tensorboard", action="store_true", help=text)
        return sub

    sub = suite_options("run", "train, evaluate, print and write the tables of a suite")
    sub.add_argument("--seeds", type=int, metavar="N", help="seeds 0 to N-1; default: the suite's number")
    suite_options("tune", "give every model the suite's tuning trials, judged on validation")
    text = "evaluate trained models again, by other metrics or settings, without training"
    sub = commands.add_parser("evaluate", help=text, description=text)
    sub.add_argument(
        "folder", type=outputs.place, metavar="DIR", help="what --out named, or one run of it (DIR/runs/RUN)"
    )
    sub.add_argument("--metrics", nargs="+", default=[], metavar="METRIC", help="default: those of the suite")
    sub.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="evaluation.KEY=VALUE")
    text = "where the data lie now, if not where they lay in training: folder:PATH or npz:PATH with the same content"
    sub.add_argument("--data", metavar="NAME", help=text)
    sub.add_argument("--device", help="cpu, cuda, cuda:1 or mps; default: the best there is")
    outputs.add_arguments(sub, trains=False)
    engines.add_arguments(sub)
    text = "train a model of your own for a moment, and say what it lacks of what a model here must be"
    checkup.add_arguments(commands.add_parser("check", help=text, description=text))
    text = "list models, suites, data sets and metrics"
    commands.add_parser("list", help=text, description=text)
    text = "make the tables again from stored rows, without training"
    sub = commands.add_parser("table", help=text, description=text)
    sub.add_argument("folder", type=outputs.place, metavar="DIR", help="what --out named")
    text = "make the report again, one page for a browser; of several outputs, side by side"
    sub = commands.add_parser("report", help=text, description=text)
    sub.add_argument("folders", nargs="+", type=outputs.place, metavar="DIR", help="what --out named")
    text = "file for the page; default: report.html in DIR, in a fresh folder for several"
    sub.add_argument("--out", type=outputs.place, metavar="FILE", help=text)
    text = "make the papers' tables and an overview of each data set, from stored rows, without training"
    sub = commands.add_parser("tables", help=text, description=text)
    sub.add_argument(
        "--from",
        dest="sources",
        nargs="+",
        type=outputs.place,
        default=[],
        metavar="DIR",
        help="what --out named; default: the committed results, results/reference/",
    )
    sub.add_argument(
        "--out", type=outputs.place, metavar="DIR", help="folder for the tables; default: a fresh one"
    )
    text = "bring the runs of several machines together and make tables, pictures and report of all"
    collecting.add_arguments(commands.add_parser(outputs.COLLECT, help=text, description=text))
    text = "train fresh seeds of a small suite and compare them with its baseline; exit code 1 if something got worse"
    regression.add_arguments(commands.add_parser("regression", help=text, description=text))
    text = "fit a data set's feature extractor again and store its weights"
    sub = commands.add_parser("fit-extractor", help=text, description=text)
    sub.add_argument("dataset", help="a data set (see 'alibench list'), folder:PATH or npz:PATH")
    image_options(sub)
    text = "look at pictures of your own and write a suite for them, to be changed and run"
    sub = commands.add_parser("new-suite", help=text, description=text)
    pictures.add_arguments(sub)
    image_options(sub)
    text = "print a script that completes commands, options, suites and metrics in a shell"
    sub = commands.add_parser("completion", help=text, description=text)
    sub.add_argument("shell", choices=completion.SHELLS, help="which one")
    for name in ("run", "evaluate", "tune", "regression", "list"):
        text = "a Python file with models of your own (docs/own-model.md); may be given several times"
        commands.choices[name].add_argument(
            "--plugin", action="append", default=[], metavar="FILE", help=text
        )
    for name in ("run", "evaluate"):
        text = "images that a model made elsewhere, a folder, .npz or .npy, as samples of NAME; may be given several times"
        commands.choices[name].add_argument(
            "--samples", action="append", default=[], type=named, metavar="NAME=PATH", help=text
        )
    for name, sub in commands.choices.items():
        sub.epilog = sub.epilog or examples(EXAMPLES.get(name, ()))
        if name != "completion":
            sub.add_argument(
                "--json", action="store_true", help="print one JSON document, and all else on stderr"
            )
    return whole
