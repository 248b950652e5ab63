"""The command line, `alibench COMMAND`, the same as `python -m alibench COMMAND`; `alibench --help` lists
the commands.

Exit codes: 0 done; 1 a run failed, the gate found a regression, or check or collect found something missing;
2 bad input, said in one line before anything ran, or a stream that cannot be written; 3 a run diverged; 130
and 143 ended by Ctrl-C and SIGTERM; 141 ended quietly because whoever read its output went away.
"""

import argparse
import io
import os
import signal
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pandas as pd
from rich.console import Console
from rich.table import Table
from rich.text import Text

from alibench import models
from alibench.benchmarks.checkup import checkup
from alibench.benchmarks.commands import arguments, completion, regression, streams, tune
from alibench.benchmarks.config import blame, checks, devices, loading, parsing, plugins, schema
from alibench.benchmarks.config import pictures as config_pictures
from alibench.benchmarks.data import cache, datasets
from alibench.benchmarks.running import (
    collecting,
    engines,
    forecast,
    outputs,
    runner,
    space,
    torchrun,
    tracking,
    trained,
    worker,
)
from alibench.benchmarks.running.engine import Engine
from alibench.benchmarks.running.jobs import Job
from alibench.benchmarks.running.outcomes import OK, Outcome, as_text
from alibench.benchmarks.running.outputs import Answer, Output, fresh
from alibench.benchmarks.running.runner import Interrupted
from alibench.benchmarks.running.slurm import Array
from alibench.benchmarks.training import peers
from alibench.evaluation import files, pictures
from alibench.evaluation.errors import BadInput, check_name
from alibench.evaluation.messages import say
from alibench.evaluation.metrics import METRICS
from alibench.results import formats, papers, rows, tables
from alibench.results.formats import Sheet

REPORT = "report.html"


def show(console: Console, made: dict[str, Sheet]) -> None:
    """Print tables."""
    for name, sheet in made.items():
        below, frame, best = "\n".join([sheet.caption, *sheet.notes]), sheet.frame, sheet.best
        table = Table(
            title=name, caption=below, caption_justify="left", title_justify="left", title_style="bold"
        )
        table.add_column(str(frame.index.name or "model"))
        for column in frame.columns:
            table.add_column(column, justify="right")
        for index, cells, bold in zip(frame.index, frame.to_numpy(), best.to_numpy(), strict=True):
            table.add_row(
                str(index),
                *(Text(cell, "bold" if is_best else "") for cell, is_best in zip(cells, bold, strict=True)),
            )
        console.print(table)


def as_facts(made: Mapping[str, Sheet]) -> dict[str, list[dict[str, str]]]:
    """Return tables for a program: a line each, cells by the titles of their columns."""
    return {
        name: [
            {
                str(sheet.frame.index.name or "model"): str(index),
                **dict(zip(sheet.frame.columns, cells, strict=True)),
            }
            for index, cells in zip(sheet.frame.index, sheet.frame.to_numpy(), strict=True)
        ]
        for name, sheet in made.items()
    }


def _suites(
    given: argparse.Namespace, seeds: int | None = None, made: config_pictures.PictureSuite | None = None
) -> list[schema.Suite]:
    read = {} if made else {"data.size": given.size, "data.channels": given.channels}
    named = {**read, "recipe.precision": given.precision}
    overrides = [f"{key}={value}" for key, value in named.items() if value is not None]
    more = () if given.models else plugins.names(elsewhere=False)
    table = (made.name, made.table) if made else loading.read(given.suite)
    changes = loading.Changes(
        [*overrides, *given.set], given.models, seeds, given.scale, given.data, tuple(more)
    )
    return loading.of_table(*table, changes)


def _run(given: argparse.Namespace, console: Console) -> Answer:
    made = config_pictures.of_command(given, console) if config_pictures.is_data(given.suite) else None
    suites = _suites(given, given.seeds, made)
    suites = suites if given.models else checkup.beside(suites, plugins.names(elsewhere=True))
    engine = (
        Array(given.device, given.submit, given.slurm)
        if given.on == engines.SLURM
        else engines.of(given, suites)
    )
    device = engine.device
    suites = devices.resolved(suites, device, alone=peers.world() == 1)
    if given.tensorboard:
        tracking.check_tensorboard()
    for name, _ in given.samples:
        if given.models and name not in given.models:
            raise BadInput(f"--samples {name}=...: name '{name}' in --models too, or leave --models out")
    checkup.rehearse(suites)
    checkup.remark(suites)
    needed = space.disk(suites, engine.size)
    runs = [f"{s.name}-{name}-seed{seed}" for s in suites for name in s.models for seed in s.seeds_of(name)]
    planned = outputs.plan(suites, device, runs=runs, plugins=plugins.contents())

    def work(out: Path, command: tuple[str, ...]) -> list[Job]:
        def job(kind: str, suite: schema.Suite, name: str, seed: int) -> Job:
            where = (out, str(device), command)
            options = {"every": given.checkpoint_every, "tensorboard": given.tensorboard}
            return Job(kind, suite, name, seed, *where, **options)  # type: ignore[arg-type]

        trainings = [
            job("run", s, name, seed) for s in suites for name in s.models for seed in s.seeds_of(name)
        ]
        references = [job("references", s, s.models[0], 0) for s in suites]
        timed = [
            job("throughput", s, name, 0) for s in suites for name in s.models if "throughput" in s.metrics
        ]
        return [*trainings, *references, *timed]

    name, kept = (made.name, {"suite.toml": made.text}) if made else (Path(given.suite).stem, {})
    return _carry_out(given, console, name, planned, work, engine, needed, kept)


def _carry_out(
    given: argparse.Namespace,
    console: Console,
    name: str,
    planned: dict[str, Any],
    work: Callable[[Path, tuple[str, ...]], list[Job]],
    engine: Engine | Array,
    needed: int,
    kept: Mapping[str, str],
) -> Answer:
    """Do the jobs of a command, write and show what came out, beside the files `kept`; or only say what would
    be done.
    """
    path = outputs.destined(given, name, planned, needed)
    foreseen = work(path, ())
    if isinstance(engine, Array):
        if given.dry_run:
            return engine.show(foreseen, console)
    else:
        engine.check(foreseen, planned)
        if given.dry_run:
            return forecast.answer(foreseen, engine, needed, console)
    with outputs.opened(given, path, planned) as out:
        for file, text in kept.items():
            files.replace(out.path / file, text)
        jobs = work(out.path, out.command)
        if isinstance(engine, Array):
            return engine.write(jobs, out, console)
        outcomes = runner.run(jobs, engine, console, given.retries)
        return summary(outcomes, out, console, _publish(out.path, console))


def _tell(problems: Iterable[str]) -> None:
    for problem in problems:
        say(str(problem))


def _report(given: argparse.Namespace, console: Console) -> Answer:
    from alibench.results import report  # matplotlib takes a moment to import

    pass  # matplotlib takes a moment to import

    pass  # matplotlib takes a moment to import

    pass  # matplotlib takes a moment to import

    pass  # matplotlib takes a moment to import

    pass  # matplotlib takes a moment to import

    if given.out is not None and given.out.exists():
        raise BadInput(f"--out {given.out} is there already: name a new file; nothing was touched")
    if given.out is not None and not given.out.parent.is_dir():
        raise BadInput(
            f"--out {given.out}: there is no folder {given.out.parent}: make it, or name another place"
        )
    made, problems = report.page(given.folders)
    single = given.folders[0] if len(given.folders) == 1 else None
    to = given.out or (single or fresh(None, "report")) / REPORT
    files.replace(to, made)
    _tell(problems)
    console.print(f"{to}: open it in a browser", soft_wrap=True, highlight=False)
    return Answer(facts={"report": str(to), "missing": problems})


def _collect(given: argparse.Namespace, console: Console) -> Answer:
    with collecting.collected(given.folders, given.out, given.force, console) as found:
        known = (*found.damaged, f"{found.out}: not finished")
        made = _publish(found.out, console, lambda folder, damage: None, known)  # it has told of damage
        if found.missing:
            console.print(found.missing, soft_wrap=True, highlight=False)
        return Answer(1 if found.missing else 0, {**found.facts, **made})


def _publish(
    out: Path,
    console: Console,
    damaged: Callable[[Path, rows.Damaged], None] | None = None,
    known: tuple[str, ...] = (),
) -> dict[str, Any]:
    """Make tables, pictures and report of the runs in a folder; show and return them. `known` begins what was
    said already.

    Raises rows.Damaged, or tells `damaged`.
    """
    frame = rows.derive(out, damaged)
    if frame.empty:
        console.print(
            f"No run in {out} is finished: there is nothing to make tables of",
            soft_wrap=True,
            highlight=False,
        )
        return {"tables": {}}
    made = tables.write(out, frame)
    _draw(out, frame)
    from alibench.results import report  # matplotlib takes a moment to import

    _tell(problem for problem in report.write(out, made) if not problem.startswith(known))
    show(console, made)
    listed = f"{REPORT}, tables.md, tables.html, rows.csv, figures/, runs/"
    console.print(f"\nEverything is in {out}: {listed}", soft_wrap=True, highlight=False)
    return {"tables": as_facts(made), "report": out / REPORT}


def summary(
    outcomes: Mapping[str, Outcome], out: Output, console: Console, facts: Mapping[str, Any]
) -> Answer:
    """Name what went wrong; return that, and what else the command found, with its exit code."""
    wrong = {run_id: outcome for run_id, outcome in outcomes.items() if outcome != OK}
    for run_id, outcome in wrong.items():
        console.print(f"{run_id} {outcome}", markup=False, highlight=False)
    failed = any(outcome.failed for outcome in wrong.values())
    if failed:
        console.print(f"Try again what failed: {out.resume}", markup=False, soft_wrap=True, highlight=False)
    return Answer(1 if failed else 3 if wrong else 0, {"out": out.path, "runs": as_text(outcomes), **facts})


def _draw(out: Path, frame: pd.DataFrame) -> None:
    """Draw a picture for each model of each suite, from its first seed that has one; not again if its arrays
    are older.
    """
    place = files.subfolder(out, "figures")
    drawn = set()
    for run in frame[tables.own(frame) & frame.seed.notna()].drop_duplicates("run_id").itertuples():
        folder = out / "runs" / str(run.run_id)
        key, arrays = f"{run.suite}-{run.model}", folder / pictures.NAME
        if key in drawn or not os.path.lexists(arrays):
            continue
        picture = files.child(place, f"{key}.png")
        if not picture.exists() or picture.lstat().st_mtime_ns < arrays.lstat().st_mtime_ns:
            from alibench.results import figures  # matplotlib takes a moment to import

            try:
                figures.draw(folder, f"{run.title}, {run.dataset}, seed {run.seed}", picture)
            except (files.Damaged, OSError) as damage:
                say(f"no picture of it is drawn: {damage}")
                continue
        drawn.add(key)


def _moved(runs: Iterable[trained.TrainedRun], dataset: str) -> dict[str, str]:
    """Return the suites that were trained on these data, with the place where they lie now. Raises BadInput
    if none was.
    """
    trained_on = {run.origin["suite"]: run.origin for run in runs}
    moved, problems = dict[str, str](), list[str]()
    for name, origin in trained_on.items():
        try:
            options = parsing.parse(
                origin["config"].get("data", {}), datasets.Options, f"suite '{name}', data"
            )
            held = datasets.load(dataset, options).sha256
        except BadInput as problem:
            problems.append(str(problem))
            continue
        if held == origin["data_sha256"]:
            moved[name] = dataset
        else:
            wanted = f"{origin['dataset']} (sha256 {origin['data_sha256'][:16]})"
            problems.append(
                f"--data {dataset} holds other data (sha256 {held[:16]}) than suite '{name}' was trained "
                f"on, {wanted}"
            )
    if not moved:
        raise BadInput("; ".join(problems))
    return moved


def _evaluate(given: argparse.Namespace, console: Console) -> Answer:
    runs = trained.find(given.folder)
    moved = _moved(runs, given.data) if given.data else {}
    for run in runs:
        if run.origin["suite"] not in moved:
            datasets.check_known(run.origin)
    suites = {
        name: loading.stored(run.origin, given.metrics, given.set, moved.get(name))
        for run in runs
        if (name := run.origin["suite"])
    }
    for run in runs:
        loaded = suites[run.origin["suite"]].load()
        if loaded.sha256 != run.origin["data_sha256"]:
            other = f"its model was trained on other data than '{loaded.name}' holds now"
            raise BadInput(f"{run.weights.parent}: {other}: name those by --data")
    suites = {
        suite.name: suite for suite in checkup.beside(list(suites.values()), plugins.names(elsewhere=True))
    }
    checkup.remark(suites.values())
    engine = engines.of(given, list(suites.values()))
    device = engine.device
    weights = {run.origin["run_id"]: run.origin["weights_sha256"] for run in runs}
    planned = outputs.plan(suites.values(), device, weights=weights, plugins=plugins.contents())

    def work(out: Path, command: tuple[str, ...]) -> list[Job]:
        def job(kind: str, suite: str, name: str, seed: int, **options: Any) -> Job:
            return Job(kind, suites[suite], name, seed, out, str(device), command, **options)  # type: ignore[arg-type]

        evaluations = []
        for run in runs:
            suite, name, seed, step = (run.origin[key] for key in ("suite", "model", "seed", "step"))
            evaluations.append(
                job("evaluation", suite, name, seed, weights=run.weights.absolute(), step=step)
            )
        evaluations += [
            job("evaluation", key, name, suite.first_seed)
            for key, suite in suites.items()
            for name in suite.models
            if suite.kind(name).elsewhere
        ]
        return [
            *evaluations,
            *(job("references", name, suite.models[0], 0) for name, suite in suites.items()),
        ]

    return _carry_out(given, console, "evaluation", planned, work, engine, space.A_RUN * len(runs), {})


def _list(given: argparse.Namespace, console: Console) -> Answer:
    facts: dict[str, list[dict[str, Any]]] = {
        "models": [
            {
                **{"name": m.name, "title": m.title, "encoder": m.inference, "draws_z": m.stochastic},
                **{"samples": m.generative, "likelihood": m.likelihood, "told_labels": m.conditional},
                **{"learns_classes": m.semi_supervised, "source": m.source},
            }
            for m in models.REGISTRY.values()
        ],
        "suites": [
            {"name": name, "title": table["title"], "expect": table["expect"]}
            for name, table in ((name, loading.read(name)[1]) for name in loading.builtin())
        ],
        "data_sets": [
            *(
                {"name": name, "what": (make.__doc__ or "").split("\n")[0]}
                for name, make in datasets.DATASETS.items()
            ),
            *({"name": name, "what": what} for name, what in datasets.OPEN.items()),
        ],
        "metrics": [
            {
                "name": name,
                "measures": [column.title for column in module.COLUMNS],
                "what": (module.__doc__ or "").split("\n")[0],
            }
            for name, module in METRICS.items()
        ],
    }
    for name, lines in facts.items():
        titles = [title.replace("_", " ") for title in (name, *lines[0])]
        table = Table(*titles[1:], title=titles[0], title_justify="left", title_style="bold")
        for line in lines:
            table.add_row(*map(_cell, line.values()))
        console.print(table)
    return Answer(facts=facts)


def _cell(fact: Any) -> str:
    if isinstance(fact, bool):
        return "yes" if fact else "–"
    return ", ".join(fact) if isinstance(fact, list) else str(fact)


def _table(given: argparse.Namespace, console: Console) -> Answer:
    try:
        frame = rows.derive(given.folder)
    except rows.Damaged as damage:
        raise BadInput(str(damage)) from None
    if frame.empty:
        raise BadInput(f"{given.folder} holds no finished runs")
    made = tables.write(given.folder, frame)
    show(console, made)
    return Answer(facts={"out": given.folder, "tables": as_facts(made)})


def _tables(given: argparse.Namespace, console: Console) -> Answer:
    made = papers.sheets(papers.read(papers.folders(given.sources)))
    out = fresh(given.out, "tables")
    formats.write(out, made)
    show(console, made)
    console.print(
        f"\nEverything is in {out}: tables.md, tables.html, tables/", soft_wrap=True, highlight=False
    )
    return Answer(facts={"out": out, "tables": as_facts(made)})


def _tune(given: argparse.Namespace, console: Console) -> Answer:
    more = () if given.models else plugins.names(elsewhere=True)
    suites = [checks.with_models(suite, more) for suite in _suites(given)]
    engine = engines.of(given, suites)
    device = engine.device
    suites = devices.resolved(suites, device, alone=peers.world() == 1)
    if given.tensorboard:
        tracking.check_tensorboard()
    for suite in suites:
        if suite.search is None:
            raise BadInput(
                f"suite '{suite.name}' has no [search] table: it says which trials every model gets"
            )
        suite.check_trains()
        measured = [column.metric for metric in suite.metrics for column in METRICS[metric].COLUMNS]
        for measure in suite.search.judged_by:
            check_name(
                measure, measured, f"suite '{suite.name}', search.judged_by: its metrics do not measure"
            )
    checkup.rehearse(suites)
    needed = space.disk([trial for suite in suites for trial in tune.suites(suite)], engine.size)
    name, planned = f"tune-{Path(given.suite).stem}", outputs.plan(suites, device, plugins=plugins.contents())

    def work(suite: schema.Suite, out: Path, command: tuple[str, ...]) -> list[Job]:
        options = {"every": given.checkpoint_every, "tensorboard": given.tensorboard}
        return tune.work(suite, out, device, command, **options)

    path = outputs.destined(given, name, planned, needed)
    foreseen = [job for suite in suites for job in work(suite, path, ())]
    engine.check(foreseen, planned)
    if given.dry_run:
        return forecast.answer(foreseen, engine, needed, console)
    with outputs.opened(given, path, planned) as out:
        outcomes, made = dict[str, Outcome](), dict[str, list[dict[str, Any]]]()
        for suite in suites:
            trials, outcome = tune.tune(
                suite, work(suite, out.path, out.command), engine, console, given.retries
            )
            outcomes |= outcome
            files.replace(out.path / f"{suite.name}.csv", formats.csv(trials, index=False))
            show(
                console,
                {suite.name: formats.plain("judged on validation", trials.set_index("model").map(str))},
            )
            made[suite.name] = [
                {str(key): value for key, value in line.items()} for line in trials.to_dict("records")
            ]
        console.print(f"Trials are in {out.path}", soft_wrap=True, highlight=False)
        return summary(outcomes, out, console, {"trials": made})


def _fit_extractor(given: argparse.Namespace, console: Console) -> Answer:
    read = {key: value for key in ("size", "channels") if (value := getattr(given, key)) is not None}
    loaded = datasets.load(
        given.dataset, parsing.parse(read, datasets.Options, f"data set '{given.dataset}'")
    )
    path, accuracy = config_pictures.fit_extractor(given.dataset, read, loaded)
    console.print(f"{path}: {accuracy}", soft_wrap=True, highlight=False)
    return Answer(facts={"path": path, "accuracy": accuracy})


def _completion(given: argparse.Namespace, console: Console) -> Answer:
    print(completion.script(arguments.parser(), given.shell))
    return Answer()


def main(words: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit code."""
    try:
        with streams.watched():
            return _main(sys.argv[1:] if words is None else words)
    except streams.Unwritable as lost:
        return lost.report()


def _main(given: Sequence[str]) -> int:
    """Carry out a command line, and print what a program is told; return the exit code."""
    as_json = "--json" in given
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # a log in another encoding has "?" where it knows no sign
    with outputs.for_facts_alone() if as_json else nullcontext(), plugins.meanwhile(), cache.settled():
        try:
            if peers.rank():
                torchrun.follow()
                return 0
            answer = _answer(given, as_json)
        except (BadInput, files.Damaged, files.Unsafe) as problem:
            answer = _refusal(str(problem))
        except peers.Lost as problem:
            answer = _refusal(str(problem), 1)
        except Interrupted as end:
            answer = Answer(128 + end.signal, {"error": f"ended by {signal.Signals(end.signal).name}"})
        except KeyboardInterrupt:
            ended = "ended at once; finished runs and checkpoints are kept"
            answer = _refusal(ended, 130)
        except streams.Unwritable:
            raise
        except BaseException as error:
            if not (reason := blame.in_plugin(error) or _of_place(error)):
                raise  # a mistake of ours
            answer = _refusal(reason)
        finally:
            if peers.world() > 1 and not peers.rank():
                torchrun.dismiss()
    if as_json:
        print(answer.document)
    return answer.code


def _refusal(reason: str, code: int = 2) -> Answer:
    """Say why a command ends; return it."""
    _tell([reason])
    return Answer(code, {"error": reason})


def _of_place(error: BaseException) -> str:
    """Say what the system refuses at a path, or that there is no room; nothing of any other error."""
    if not isinstance(error, OSError) or (error.filename is None and error.errno not in worker.FULL):
        return ""
    named = (
        f"{error.filename} cannot be read or written"
        if error.filename is not None
        else "nothing more can be written"
    )
    return f"{named} ({error.strerror}): mend that, or name another place"


def _answer(given: Sequence[str], as_json: bool) -> Answer:
    """Carry out a command line. Raises BadInput, and Interrupted or KeyboardInterrupt when it is ended."""
    for argument in given:
        if any("\ud800" <= sign <= "\udfff" for sign in argument):  # what is no UTF-8 arrives as these
            raise BadInput(
                f"the argument '{argument}' is no valid UTF-8, and cannot be printed: rename what it names"
            )
    commands: dict[str, Callable[[argparse.Namespace, Console], Answer]] = {
        "run": _run,
        "evaluate": _evaluate,
        "check": checkup.command,
        "list": _list,
        "table": _table,
        "tables": _tables,
        "report": _report,
        outputs.COLLECT: _collect,
        "regression": regression.command,
        "tune": _tune,
        "fit-extractor": _fit_extractor,
        "new-suite": config_pictures.command,
        "completion": _completion,
    }
    parsed = arguments.parser().parse_args(given)
    for path in getattr(parsed, "plugin", ()):
        plugins.load(path)
        streams.fill()  # what it closed
    for name, folder in getattr(parsed, "samples", ()):
        plugins.load_samples(name, folder)
    # a log has no width of its own, and takes no bars and colours, whatever CI says; titles that users write
    # are no markup
    terminal = (sys.stderr if as_json else sys.stdout).isatty()
    look: dict[str, Any] = {} if terminal else {"width": 160, "force_terminal": False}
    # what was begun, or trained before, is compared with the data themselves
    outlines = parsed.command in ("run", "tune") and not parsed.resume
    with forecast.dry(outlines) if getattr(parsed, "dry_run", False) else nullcontext():
        return commands[parsed.command](parsed, Console(stderr=as_json, markup=False, **look))
