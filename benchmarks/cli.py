"""The command line, `alibench COMMAND`, the same as `python -m benchmarks COMMAND`; `alibench --help` lists the commands.

Exit codes: 0 done; 1 a run failed, or the gate found a regression; 2 bad input, said in one line before anything ran;
3 a run diverged; 130 interrupted.
"""

import argparse
import hashlib
import json
import shlex
import sys
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, NoReturn

import torch
from rich.console import Console
from rich.table import Table
from rich.text import Text

import models
import results
from benchmarks import config, data, regression, tuning
from benchmarks.jobs import Job
from benchmarks.provenance import command
from benchmarks.runner import run
from evaluation import METRICS, extractors
from evaluation.base import BadInput
from results import formats, papers, rows, tables
from results.formats import Sheet

RUNS = Path(results.__file__).parent / "runs"


class _Parser(argparse.ArgumentParser):
    """One line for a mistake, not a page of usage."""

    def error(self, message: str) -> NoReturn:
        raise BadInput(f"{message}; see '{self.prog} --help'")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="alibench", description="Compare ALI with its relatives: train, evaluate, print the tables.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND", parser_class=_Parser)

    def image_options(sub: argparse.ArgumentParser) -> None:
        sub.add_argument("--size", type=int, metavar="N", help="resize and crop images to N x N")
        sub.add_argument("--channels", type=int, choices=(1, 3), help="turn images grey (1) or into colour (3)")

    def suite_options(name: str, text: str) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=text, description=text)
        sub.add_argument("suite", help="a built-in suite (see 'alibench list') or a TOML file")
        sub.add_argument("--models", nargs="+", default=[], metavar="MODEL", help="only these rows of the suite's tables")
        sub.add_argument("--device", help="cpu, cuda, cuda:1 or mps; default: the best there is")
        sub.add_argument(
            "--out", type=Path, metavar="DIR", help="folder for everything that comes out; default: a fresh one"
        )
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
    sub.add_argument("folder", type=Path, metavar="DIR", help="what --out named, or one run of it (DIR/runs/RUN)")
    sub.add_argument("--metrics", nargs="+", default=[], metavar="METRIC", help="default: those of the suite")
    sub.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="evaluation.KEY=VALUE")
    sub.add_argument("--device", help="cpu, cuda, cuda:1 or mps; default: the best there is")
    sub.add_argument("--out", type=Path, metavar="DIR", help="folder for everything that comes out; default: a fresh one")
    commands.add_parser("list", help="list models, suites, data sets and metrics")
    sub = commands.add_parser("table", help="make the tables again from stored rows, without training")
    sub.add_argument("folder", type=Path, metavar="DIR", help="what --out named")
    text = "make the papers' tables and an overview of each data set, from stored rows, without training"
    sub = commands.add_parser("tables", help=text, description=text)
    sub.add_argument(
        "--from",
        dest="sources",
        nargs="+",
        type=Path,
        default=[],
        metavar="DIR",
        help="what --out named; default: the committed results, results/reference/",
    )
    sub.add_argument("--out", type=Path, metavar="DIR", help="folder for the tables; default: a fresh one")
    text = "train fresh seeds of a small suite and compare them with its baseline; exit code 1 if something got worse"
    regression.add_arguments(commands.add_parser("regression", help=text, description=text))
    sub = commands.add_parser("fit-extractor", help="fit a data set's feature extractor again and store its weights")
    sub.add_argument("dataset", help="a data set (see 'alibench list'), folder:PATH or npz:PATH")
    image_options(sub)
    return parser


def fresh(out: Path | None, name: str) -> Path:
    """Make the output folder. Raises BadInput rather than touch what is there."""
    if out is None:
        out = RUNS / f"{name}-{datetime.now():%Y%m%d-%H%M%S}"
    try:
        out.mkdir(parents=True, exist_ok=True)
        if any(out.iterdir()):
            raise BadInput(f"--out {out} already holds files: name a new folder; nothing was touched")
        (out / "runs").mkdir()
    except (FileExistsError, NotADirectoryError):
        raise BadInput(f"--out {out} is, or lies in, a file: name a folder") from None
    except OSError as error:
        raise BadInput(f"--out {out} cannot be written ({error.strerror}): name another folder with --out") from None
    return out


def show(console: Console, made: dict[str, Sheet]) -> None:
    """Print tables."""
    for name, (caption, frame, best, notes) in made.items():
        below = "\n".join([caption, *notes])
        table = Table(title=name, caption=below, caption_justify="left", title_justify="left", title_style="bold")
        table.add_column(str(frame.index.name or "model"))
        for column in frame.columns:
            table.add_column(column, justify="right")
        for index, cells, bold in zip(frame.index, frame.to_numpy(), best.to_numpy(), strict=True):
            table.add_row(
                str(index), *(Text(cell, "bold" if is_best else "") for cell, is_best in zip(cells, bold, strict=True))
            )
        console.print(table)


def _suites(arguments: argparse.Namespace, seeds: int | None = None) -> list[config.Suite]:
    named = {"data.size": arguments.size, "data.channels": arguments.channels, "recipe.precision": arguments.precision}
    overrides = [f"{key}={value}" for key, value in named.items() if value is not None]
    return config.load(
        arguments.suite, [*overrides, *arguments.set], arguments.models, seeds, arguments.scale, arguments.data
    )


def _run(arguments: argparse.Namespace, console: Console) -> int:
    suites = _suites(arguments, arguments.seeds)
    device = config.device(arguments.device)
    config.check_arithmetic(suites, device)
    out = fresh(arguments.out, Path(arguments.suite).stem)

    def job(kind: str, suite: config.Suite, name: str, seed: int) -> Job:
        return Job(kind, suite, name, seed, out, str(device), tuple(command()))  # type: ignore[arg-type]

    work = [job("run", s, name, seed) for s in suites for name in s.models for seed in s.training_seeds]
    work += [job("references", s, s.models[0], 0) for s in suites]
    work += [job("throughput", s, name, 0) for s in suites for name in s.models if "throughput" in s.metrics]
    return _carry_out(work, device, out, console)


def _carry_out(work: Sequence[Job], device: torch.device, out: Path, console: Console) -> int:
    """Do the jobs, write and show what came out; return the exit code."""
    outcomes = run(work, device, console)
    made = tables.write(out, rows.derive(out))
    _draw(out, work)
    show(console, made)
    console.print(
        f"\nEverything is in {out}: tables.md, tables.html, rows.csv, figures/, runs/", soft_wrap=True, highlight=False
    )
    return report(outcomes, console)


def report(outcomes: dict[str, str], console: Console) -> int:
    """Name what went wrong; return the exit code."""
    wrong = {run_id: outcome for run_id, outcome in outcomes.items() if outcome != "ok"}
    for run_id, outcome in wrong.items():
        console.print(f"{run_id} {outcome}", markup=False, highlight=False)
    if any(outcome.startswith("failed") for outcome in wrong.values()):
        return 1
    return 3 if wrong else 0


def _draw(out: Path, work: Sequence[Job]) -> None:
    """Draw a picture for each model of each suite, from its first seed that has one."""
    from results import figures  # matplotlib takes a moment to import

    (out / "figures").mkdir()
    drawn = set()
    for job in work:
        key = f"{job.suite.name}-{job.name}"
        if job.kind in ("run", "evaluation") and key not in drawn and (job.folder / "arrays.npz").exists():
            title = f"{job.suite.entry(job.name).title}, {job.suite.load().name}, seed {job.seed}"
            figures.draw(job.folder, title, out / "figures" / f"{key}.png")
            drawn.add(key)


def _trained(folder: Path) -> list[tuple[dict[str, Any], Path]]:
    """Return run.json and weights of the trained runs in a folder. Raises BadInput if there are none, or damaged ones."""
    places = [folder] if (folder / "run.json").exists() else sorted((folder / "runs").glob("*"))
    found = []
    for place in places:
        weights = place / "model.safetensors"
        if weights.exists() and (place / "run.json").exists():
            try:
                origin = json.loads((place / "run.json").read_text(encoding="utf-8"))
                intact = hashlib.sha256(weights.read_bytes()).hexdigest() == origin["weights_sha256"]
            except (ValueError, KeyError, OSError):
                intact = False
            if not intact:
                raise BadInput(f"{place} is damaged: its weights are not those that run.json names; run this run again")
            found.append((origin, weights))
    if not found:
        raise BadInput(f"{folder} holds no trained runs (model.safetensors): name a folder that 'alibench run --out' made")
    return found


def _evaluate(arguments: argparse.Namespace, console: Console) -> int:
    trained = _trained(arguments.folder)
    suites = {origin["suite"]: config.stored(origin, arguments.metrics, arguments.set) for origin, _ in trained}
    for origin, weights in trained:
        loaded = suites[origin["suite"]].load()
        if loaded.sha256 != origin["data_sha256"]:
            raise BadInput(f"{weights.parent}: its model was trained on other data than '{loaded.name}' holds now")
    device = config.device(arguments.device)
    out = fresh(arguments.out, "evaluation")

    def job(kind: str, suite: str, name: str, seed: int, **options: Any) -> Job:
        return Job(kind, suites[suite], name, seed, out, str(device), tuple(command()), **options)  # type: ignore[arg-type]

    work = [
        job("evaluation", origin["suite"], origin["model"], origin["seed"], weights=weights.absolute(), step=origin["step"])
        for origin, weights in trained
    ]
    work += [job("references", name, suite.models[0], 0) for name, suite in suites.items()]
    return _carry_out(work, device, out, console)


def _list(arguments: argparse.Namespace, console: Console) -> int:
    def listing(title: str, header: Sequence[str], lines: Sequence[Sequence[str]]) -> None:
        table = Table(*header, title=title, title_justify="left", title_style="bold")
        for line in lines:
            table.add_row(*line)
        console.print(table)

    yes = {True: "yes", False: "–"}
    listing(
        "models",
        ("name", "title", "encoder", "it draws z", "samples", "likelihood", "told labels", "learns classes", "source"),
        [
            (
                *(m.name, m.title, m.inference),
                *(yes[can] for can in (m.stochastic, m.generative, m.likelihood, m.conditional, m.semi_supervised)),
                m.source,
            )
            for m in models.REGISTRY.values()
        ],
    )
    tomls = [(name, config.read(name)[1]) for name in config.builtin()]
    listing("suites", ("name", "title", "expect"), [(name, t["title"], t["expect"]) for name, t in tomls])
    listing(
        "data sets",
        ("name", "what"),
        [*((name, (make.__doc__ or "").split("\n")[0]) for name, make in data.DATASETS.items()), *data.OPEN.items()],
    )
    listing(
        "metrics",
        ("name", "measures", "what"),
        [
            (name, ", ".join(column.title for column in module.COLUMNS), (module.__doc__ or "").split("\n")[0])
            for name, module in METRICS.items()
        ],
    )
    return 0


def _table(arguments: argparse.Namespace, console: Console) -> int:
    if not (arguments.folder / "runs").is_dir():
        raise BadInput(f"{arguments.folder} holds no runs: name a folder that 'alibench run --out' made")
    try:
        frame = rows.derive(arguments.folder)
    except rows.Damaged as damage:
        raise BadInput(str(damage)) from None
    if frame.empty:
        raise BadInput(f"{arguments.folder} holds no finished runs")
    show(console, tables.write(arguments.folder, frame))
    return 0


def _tables(arguments: argparse.Namespace, console: Console) -> int:
    made = papers.sheets(papers.read(papers.folders(arguments.sources)))
    out = fresh(arguments.out, "tables")
    formats.write(out, made)
    show(console, made)
    console.print(f"\nEverything is in {out}: tables.md, tables.html, tables/", soft_wrap=True, highlight=False)
    return 0


def _regression(arguments: argparse.Namespace, console: Console) -> int:
    return regression.command(arguments, console, lambda: fresh(arguments.out, f"regression-{Path(arguments.suite).stem}"))


def _tune(arguments: argparse.Namespace, console: Console) -> int:
    suites = _suites(arguments)
    device = config.device(arguments.device)
    config.check_arithmetic(suites, device)
    for suite in suites:
        if suite.search is None:
            raise BadInput(f"suite '{suite.name}' has no [search] table: it says which trials every model gets")
    out = fresh(arguments.out, f"tune-{Path(arguments.suite).stem}")
    outcomes: dict[str, str] = {}
    for suite in suites:
        trials, outcome = tuning.tune(suite, out, device, console)
        outcomes |= outcome
        rows.replace_file(out / f"{suite.name}.csv", trials.to_csv(index=False))
        show(console, {suite.name: formats.plain("judged on validation", trials.set_index("model").map(str))})
    console.print(f"Trials are in {out}", soft_wrap=True, highlight=False)
    return report(outcomes, console)


def _fit_extractor(arguments: argparse.Namespace, console: Console) -> int:
    given = {key: value for key in ("size", "channels") if (value := getattr(arguments, key)) is not None}
    loaded = data.load(arguments.dataset, config.parse(given, data.Options, f"data set '{arguments.dataset}'"))
    words = ["alibench", "fit-extractor", arguments.dataset, *(f"--{key}={value}" for key, value in given.items())]
    network = extractors.fit(loaded, config.device(None))
    path, accuracy = extractors.save(network, loaded, shlex.join(words))
    console.print(f"{path}: {accuracy}", soft_wrap=True, highlight=False)
    return 0


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit code."""
    console = Console(width=None if sys.stdout.isatty() else 160)  # a log has no width of its own
    commands = {
        "run": _run,
        "evaluate": _evaluate,
        "list": _list,
        "table": _table,
        "tables": _tables,
        "regression": _regression,
        "tune": _tune,
        "fit-extractor": _fit_extractor,
    }
    try:
        parsed = _parser().parse_args(arguments)
        return commands[parsed.command](parsed, console)
    except BadInput as problem:
        print(f"alibench: {problem}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("alibench: interrupted; finished runs are kept", file=sys.stderr)
        return 130
