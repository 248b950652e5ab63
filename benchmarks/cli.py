"""The command line, `alibench COMMAND`, the same as `python -m benchmarks COMMAND`; `alibench --help` lists the commands.

Exit codes: 0 done; 1 a run failed, or the gate found a regression; 2 bad input, said in one line before anything ran;
3 a run diverged; 130 and 143 ended by Ctrl-C and SIGTERM.
"""

import argparse
import shlex
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from rich.text import Text

import models
from benchmarks import arguments, config, cost, data, outputs, regression, runner, trained, tuning
from benchmarks.jobs import Job
from benchmarks.outputs import Answer, Output, fresh
from benchmarks.runner import Interrupted, workers
from evaluation import METRICS, extractors, files, pictures
from evaluation.base import BadInput, check_name
from results import formats, papers, rows, tables
from results.formats import Sheet


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


def _suites(given: argparse.Namespace, seeds: int | None = None) -> list[config.Suite]:
    named = {"data.size": given.size, "data.channels": given.channels, "recipe.precision": given.precision}
    overrides = [f"{key}={value}" for key, value in named.items() if value is not None]
    return config.load(given.suite, [*overrides, *given.set], given.models, seeds, given.scale, given.data)


def _run(given: argparse.Namespace, console: Console) -> int:
    suites = _suites(given, given.seeds)
    device = config.device(given.device)
    config.check_arithmetic(suites, device)
    needed = cost.disk(suites, workers(device))
    with outputs.opened(given, Path(given.suite).stem, outputs.plan(suites, device), needed) as out:

        def job(kind: str, suite: config.Suite, name: str, seed: int) -> Job:
            where = (out.path, str(device), out.command)
            return Job(kind, suite, name, seed, *where, every=given.checkpoint_every)  # type: ignore[arg-type]

        work = [job("run", s, name, seed) for s in suites for name in s.models for seed in s.training_seeds]
        work += [job("references", s, s.models[0], 0) for s in suites]
        work += [job("throughput", s, name, 0) for s in suites for name in s.models if "throughput" in s.metrics]
        return _carry_out(work, device, out, console, given.retries)


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


def _evaluate(given: argparse.Namespace, console: Console) -> int:
    runs = trained.find(given.folder)
    suites = {run.origin["suite"]: config.stored(run.origin, given.metrics, given.set) for run in runs}
    for run in runs:
        loaded = suites[run.origin["suite"]].load()
        if loaded.sha256 != run.origin["data_sha256"]:
            raise BadInput(f"{run.weights.parent}: its model was trained on other data than '{loaded.name}' holds now")
    device = config.device(given.device)
    weights = {run.origin["run_id"]: run.origin["weights_sha256"] for run in runs}
    with outputs.opened(given, "evaluation", outputs.plan(suites.values(), device, weights=weights)) as out:

        def job(kind: str, suite: str, name: str, seed: int, **options: Any) -> Job:
            where = (out.path, str(device), out.command)
            return Job(kind, suites[suite], name, seed, *where, **options)  # type: ignore[arg-type]

        work = []
        for run in runs:
            suite, name, seed, step = (run.origin[key] for key in ("suite", "model", "seed", "step"))
            work.append(job("evaluation", suite, name, seed, weights=run.weights.absolute(), step=step))
        work += [job("references", name, suite.models[0], 0) for name, suite in suites.items()]
        return _carry_out(work, device, out, console, given.retries)


def _list(given: argparse.Namespace, console: Console) -> int:
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


def _table(given: argparse.Namespace, console: Console) -> int:
    if not (given.folder / "runs").is_dir():
        raise BadInput(f"{given.folder} holds no runs: name a folder that 'alibench run --out' made")
    try:
        frame = rows.derive(given.folder)
    except rows.Damaged as damage:
        raise BadInput(str(damage)) from None
    if frame.empty:
        raise BadInput(f"{given.folder} holds no finished runs")
    show(console, tables.write(given.folder, frame))
    return 0


def _tables(given: argparse.Namespace, console: Console) -> int:
    made = papers.sheets(papers.read(papers.folders(given.sources)))
    out = fresh(given.out, "tables")
    formats.write(out, made)
    show(console, made)
    console.print(f"\nEverything is in {out}: tables.md, tables.html, tables/", soft_wrap=True, highlight=False)
    return 0


def _regression(given: argparse.Namespace, console: Console) -> int:
    return regression.command(given, console)


def _tune(given: argparse.Namespace, console: Console) -> int:
    suites = _suites(given)
    device = config.device(given.device)
    config.check_arithmetic(suites, device)
    for suite in suites:
        if suite.search is None:
            raise BadInput(f"suite '{suite.name}' has no [search] table: it says which trials every model gets")
        measured = [column.metric for metric in suite.metrics for column in METRICS[metric].COLUMNS]
        for measure in suite.search.judged_by:
            check_name(measure, measured, f"suite '{suite.name}', search.judged_by: its metrics do not measure")
    needed = cost.disk([trial for suite in suites for trial in tuning.suites(suite)], workers(device))
    with outputs.opened(given, f"tune-{Path(given.suite).stem}", outputs.plan(suites, device), needed) as out:
        outcomes: dict[str, str] = {}
        for suite in suites:
            trials, outcome = tuning.tune(suite, out, device, console, given.retries, given.checkpoint_every)
            outcomes |= outcome
            files.replace(out.path / f"{suite.name}.csv", trials.to_csv(index=False))
            show(console, {suite.name: formats.plain("judged on validation", trials.set_index("model").map(str))})
        console.print(f"Trials are in {out.path}", soft_wrap=True, highlight=False)
        return report(outcomes, out, console)


def _fit_extractor(given: argparse.Namespace, console: Console) -> int:
    read = {key: value for key in ("size", "channels") if (value := getattr(given, key)) is not None}
    loaded = data.load(given.dataset, config.parse(read, data.Options, f"data set '{given.dataset}'"))
    words = ["alibench", "fit-extractor", given.dataset, *(f"--{key}={value}" for key, value in read.items())]
    network = extractors.fit(loaded, config.device(None))
    path, accuracy = extractors.save(network, loaded, shlex.join(words))
    console.print(f"{path}: {accuracy}", soft_wrap=True, highlight=False)
    return 0


def main(words: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit code."""
    # a log has no width of its own; titles that users write are no markup
    console = Console(width=None if sys.stdout.isatty() else 160, markup=False)
    commands: dict[str, Callable[[argparse.Namespace, Console], Answer | int]] = {
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
        given = sys.argv[1:] if words is None else words
        for argument in given:
            if any("\ud800" <= sign <= "\udfff" for sign in argument):  # what is no UTF-8 arrives as these
                raise BadInput(f"the argument '{argument}' is no valid UTF-8, and cannot be printed: rename what it names")
        parsed = arguments.parser().parse_args(given)
        answer = commands[parsed.command](parsed, console)
        return answer.code if isinstance(answer, Answer) else answer
    except BadInput as problem:
        print(f"alibench: {problem}", file=sys.stderr)
        return 2
    except Interrupted as end:
        return 128 + end.signal
    except KeyboardInterrupt:
        print("alibench: ended at once; finished runs and checkpoints are kept", file=sys.stderr)
        return 130
