"""The command line, `alibench COMMAND`, the same as `python -m benchmarks COMMAND`; `alibench --help` lists the commands.

Exit codes: 0 done; 1 a run failed, or the gate found a regression; 2 bad input, said in one line before anything ran;
3 a run diverged; 130 and 143 ended by Ctrl-C and SIGTERM.
"""

import argparse
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

import torch
from rich.console import Console
from rich.table import Table
from rich.text import Text

import models
from benchmarks import config, cost, data, outputs, regression, runner, trained, tuning
from benchmarks.jobs import Job
from benchmarks.outputs import Output, fresh
from benchmarks.runner import Interrupted, workers
from evaluation import METRICS, extractors, files, pictures
from evaluation.base import BadInput, check_name
from results import formats, papers, rows, tables
from results.formats import Sheet


class _Parser(argparse.ArgumentParser):
    """One line for a mistake, not a page of usage; options by their full names, so that a new one changes no command."""

    def __init__(self, **options: Any) -> None:
        super().__init__(allow_abbrev=False, **options)

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
    return parser


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
    needed = cost.disk(suites, workers(device))
    with outputs.opened(arguments, Path(arguments.suite).stem, outputs.plan(suites, device), needed) as out:

        def job(kind: str, suite: config.Suite, name: str, seed: int) -> Job:
            where = (out.path, str(device), out.command)
            return Job(kind, suite, name, seed, *where, every=arguments.checkpoint_every)  # type: ignore[arg-type]

        work = [job("run", s, name, seed) for s in suites for name in s.models for seed in s.training_seeds]
        work += [job("references", s, s.models[0], 0) for s in suites]
        work += [job("throughput", s, name, 0) for s in suites for name in s.models if "throughput" in s.metrics]
        return _carry_out(work, device, out, console, arguments.retries)


def _carry_out(work: Sequence[Job], device: torch.device, out: Output, console: Console, retries: int) -> int:
    """Do the jobs, write and show what came out; return the exit code."""
    outcomes = runner.run(work, device, console, retries)
    made = tables.write(out.path, rows.derive(out.path))
    _draw(out.path, work)
    show(console, made)
    console.print(
        f"\nEverything is in {out.path}: tables.md, tables.html, rows.csv, figures/, runs/", soft_wrap=True, highlight=False
    )
    return report(outcomes, out, console)


def report(outcomes: dict[str, str], out: Output, console: Console) -> int:
    """Name what went wrong; return the exit code."""
    wrong = {run_id: outcome for run_id, outcome in outcomes.items() if outcome != "ok"}
    for run_id, outcome in wrong.items():
        console.print(f"{run_id} {outcome}", markup=False, highlight=False)
    if any(outcome.startswith("failed") for outcome in wrong.values()):
        console.print(f"Try again what failed: {out.resume}", markup=False, soft_wrap=True, highlight=False)
        return 1
    return 3 if wrong else 0


def _draw(out: Path, work: Sequence[Job]) -> None:
    """Draw a picture for each model of each suite, from its first seed that has one; not again if its arrays are older."""
    (out / "figures").mkdir(exist_ok=True)
    drawn = set()
    for job in work:
        key, arrays = f"{job.suite.name}-{job.name}", job.folder / pictures.NAME
        if job.kind not in ("run", "evaluation") or key in drawn or not arrays.exists():
            continue
        picture = out / "figures" / f"{key}.png"
        if not picture.exists() or picture.stat().st_mtime_ns < arrays.stat().st_mtime_ns:
            from results import figures  # matplotlib takes a moment to import

            try:
                figures.draw(
                    job.folder, f"{job.suite.entry(job.name).title}, {job.suite.load().name}, seed {job.seed}", picture
                )
            except files.Damaged as damage:
                print(f"alibench: no picture of it is drawn: {damage}", file=sys.stderr)
                continue
        drawn.add(key)


def _evaluate(arguments: argparse.Namespace, console: Console) -> int:
    runs = trained.find(arguments.folder)
    suites = {run.origin["suite"]: config.stored(run.origin, arguments.metrics, arguments.set) for run in runs}
    for run in runs:
        loaded = suites[run.origin["suite"]].load()
        if loaded.sha256 != run.origin["data_sha256"]:
            raise BadInput(f"{run.weights.parent}: its model was trained on other data than '{loaded.name}' holds now")
    device = config.device(arguments.device)
    weights = {run.origin["run_id"]: run.origin["weights_sha256"] for run in runs}
    with outputs.opened(arguments, "evaluation", outputs.plan(suites.values(), device, weights=weights)) as out:

        def job(kind: str, suite: str, name: str, seed: int, **options: Any) -> Job:
            where = (out.path, str(device), out.command)
            return Job(kind, suites[suite], name, seed, *where, **options)  # type: ignore[arg-type]

        work = []
        for run in runs:
            suite, name, seed, step = (run.origin[key] for key in ("suite", "model", "seed", "step"))
            work.append(job("evaluation", suite, name, seed, weights=run.weights.absolute(), step=step))
        work += [job("references", name, suite.models[0], 0) for name, suite in suites.items()]
        return _carry_out(work, device, out, console, arguments.retries)


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
    return regression.command(arguments, console)


def _tune(arguments: argparse.Namespace, console: Console) -> int:
    suites = _suites(arguments)
    device = config.device(arguments.device)
    config.check_arithmetic(suites, device)
    for suite in suites:
        if suite.search is None:
            raise BadInput(f"suite '{suite.name}' has no [search] table: it says which trials every model gets")
        measured = [column.metric for metric in suite.metrics for column in METRICS[metric].COLUMNS]
        for measure in suite.search.judged_by:
            check_name(measure, measured, f"suite '{suite.name}', search.judged_by: its metrics do not measure")
    needed = cost.disk([trial for suite in suites for trial in tuning.suites(suite)], workers(device))
    with outputs.opened(arguments, f"tune-{Path(arguments.suite).stem}", outputs.plan(suites, device), needed) as out:
        outcomes: dict[str, str] = {}
        for suite in suites:
            trials, outcome = tuning.tune(suite, out, device, console, arguments.retries, arguments.checkpoint_every)
            outcomes |= outcome
            files.replace(out.path / f"{suite.name}.csv", trials.to_csv(index=False))
            show(console, {suite.name: formats.plain("judged on validation", trials.set_index("model").map(str))})
        console.print(f"Trials are in {out.path}", soft_wrap=True, highlight=False)
        return report(outcomes, out, console)


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
    # a log has no width of its own; titles that users write are no markup
    console = Console(width=None if sys.stdout.isatty() else 160, markup=False)
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
        given = sys.argv[1:] if arguments is None else arguments
        for argument in given:
            if any("\ud800" <= sign <= "\udfff" for sign in argument):  # what is no UTF-8 arrives as these
                raise BadInput(f"the argument '{argument}' is no valid UTF-8, and cannot be printed: rename what it names")
        parsed = _parser().parse_args(given)
        return commands[parsed.command](parsed, console)
    except BadInput as problem:
        print(f"alibench: {problem}", file=sys.stderr)
        return 2
    except Interrupted as end:
        return 128 + end.signal
    except KeyboardInterrupt:
        print("alibench: ended at once; finished runs and checkpoints are kept", file=sys.stderr)
        return 130
