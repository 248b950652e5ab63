"""What the command line takes: commands, their options, and one line for a mistake. What they do is in cli.py."""

import argparse
from typing import Any, NoReturn

from benchmarks import outputs, regression
from evaluation.base import BadInput


class Parser(argparse.ArgumentParser):
    """One line for a mistake, not a page of usage; options by their full names, so that a new one changes no command."""

    def __init__(self, **options: Any) -> None:
        super().__init__(allow_abbrev=False, **options)

    def error(self, message: str) -> NoReturn:
        raise BadInput(f"{message}; see '{self.prog} --help'")


def parser() -> argparse.ArgumentParser:
    """Return the parser of the whole command line."""
    whole = Parser(prog="alibench", description="Compare ALI with its relatives: train, evaluate, print the tables.")
    commands = whole.add_subparsers(dest="command", required=True, metavar="COMMAND", parser_class=Parser)

    def image_options(sub: argparse.ArgumentParser) -> None:
        sub.add_argument("--size", type=int, metavar="N", help="resize and crop images to N x N")
        sub.add_argument("--channels", type=int, choices=(1, 3), help="turn images grey (1) or into colour (3)")

    def suite_options(name: str, text: str) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=text, description=text)
        sub.add_argument("suite", help="a built-in suite (see 'alibench list') or a TOML file")
        sub.add_argument("--models", nargs="+", default=[], metavar="MODEL", help="only these rows of the suite's tables")
        sub.add_argument("--device", help="cpu, cuda, cuda:1 or mps; default: the best there is")
        outputs.add_arguments(sub)
        sub.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="override a field of the suite")
        sub.add_argument(
            "--scale", type=float, default=1.0, metavar="SHARE", help="train for this share of the suite's steps"
        )
        sub.add_argument("--data", metavar="NAME", help="other data: a built-in set, folder:PATH or npz:PATH")
        text = "of training: fp32, tf32 (CUDA) or bf16; default: the suite's, fp32. Evaluation is always in fp32"
        sub.add_argument("--precision", choices=("fp32", "tf32", "bf16"), help=text)
        image_options(sub)
        return sub

    sub = suite_options("run", "train, evaluate, print and write the tables of a suite")
    sub.add_argument("--seeds", type=int, metavar="N", help="seeds 0 to N-1; default: the suite's number")
    suite_options("tune", "give every model the suite's tuning trials, judged on validation")
    text = "evaluate trained models again, by other metrics or settings, without training"
    sub = commands.add_parser("evaluate", help=text, description=text)
    sub.add_argument("folder", type=outputs.place, metavar="DIR", help="what --out named, or one run of it (DIR/runs/RUN)")
    sub.add_argument("--metrics", nargs="+", default=[], metavar="METRIC", help="default: those of the suite")
    sub.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="evaluation.KEY=VALUE")
    sub.add_argument("--device", help="cpu, cuda, cuda:1 or mps; default: the best there is")
    outputs.add_arguments(sub, trains=False)
    commands.add_parser("list", help="list models, suites, data sets and metrics")
    sub = commands.add_parser("table", help="make the tables again from stored rows, without training")
    sub.add_argument("folder", type=outputs.place, metavar="DIR", help="what --out named")
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
    sub.add_argument("--out", type=outputs.place, metavar="DIR", help="folder for the tables; default: a fresh one")
    text = "train fresh seeds of a small suite and compare them with its baseline; exit code 1 if something got worse"
    regression.add_arguments(commands.add_parser("regression", help=text, description=text))
    sub = commands.add_parser("fit-extractor", help="fit a data set's feature extractor again and store its weights")
    sub.add_argument("dataset", help="a data set (see 'alibench list'), folder:PATH or npz:PATH")
    image_options(sub)
    return whole
