"""`alibench regression`: train fresh seeds of a suite, compare them with its baseline, say what moved."""

import argparse
import json
import math
import os
import secrets
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from rich.console import Console

from alibench import results
from alibench.benchmarks.checkup import checkup
from alibench.benchmarks.config import devices, loading, plugins, schema
from alibench.benchmarks.running import engines, forecast, outputs, provenance, space
from alibench.benchmarks.running.engine import Engine
from alibench.benchmarks.running.jobs import Job
from alibench.benchmarks.running.outcomes import Outcome, as_text
from alibench.benchmarks.running.outputs import Answer, Output
from alibench.benchmarks.running.runner import run
from alibench.benchmarks.training import checkpoints, peers
from alibench.evaluation import files
from alibench.evaluation.errors import BadInput, check_name
from alibench.evaluation.messages import say
from alibench.evaluation.metrics import METRICS
from alibench.results import baseline, formats, gate, rows
from alibench.results.baseline import Baseline
from alibench.results.gate import Finding
from alibench.results.layouts import CATALOGUE

BASELINES = Path(results.__file__).resolve().parent / "baselines"
FRESH = 10**6, 10**9  # seeds of a gate; those of baselines and tables lie below


def add_arguments(sub: argparse.ArgumentParser) -> None:
    """Declare the options of the command."""
    sub.add_argument(
        "suite", nargs="?", default="gate", help="a suite with [[gate]] tables, or a TOML file; default: gate"
    )
    sub.add_argument(
        "--seeds", type=int, metavar="N", help="fresh seeds of each model; default: the suite's number"
    )
    sub.add_argument(
        "--first-seed", type=int, metavar="N", help="the first of them; default: drawn from the commit"
    )
    sub.add_argument(
        "--baseline",
        type=outputs.place,
        metavar="FILE",
        help="default: results/baselines/SUITE.json, or beside the TOML",
    )
    sub.add_argument(
        "--from",
        dest="source",
        type=outputs.place,
        metavar="DIR",
        help="judge the runs in DIR; nothing is trained",
    )
    sub.add_argument(
        "--update-baseline",
        action="store_true",
        help=f"write a new baseline instead ({baseline.SEEDS} seeds)",
    )
    sub.add_argument("--device", help="cpu, cuda, cuda:1 or mps; default: the best there is")
    outputs.add_arguments(sub)
    engines.add_arguments(sub)
    sub.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="override a field of the suite"
    )


def fresh_seed() -> int:
    """Return a first seed that no table has: of the commit, so that it comes out again; elsewhere a random
    one.
    """
    commit, (low, high) = provenance.commit(), FRESH
    drawn = int(commit[:15], 16) if not commit.startswith("no checkout") else secrets.randbelow(high)
    return low + drawn % (high - low)


def place(suite: str) -> Path:
    """Return where a suite's baseline is if nothing else is said."""
    given = Path(suite)
    return given.with_suffix(".baseline.json") if given.suffix == ".toml" else BASELINES / f"{suite}.json"


def command(arguments: argparse.Namespace, console: Console) -> Answer:
    """Carry out the command; return what it found, and the exit code 1 if something got worse.

    Raises BadInput, before anything is trained where that can be known.
    """
    updating, source = arguments.update_baseline, arguments.source
    path = arguments.baseline or place(arguments.suite)
    training = source is None
    if arguments.dry_run and not training:
        raise BadInput(
            "--dry-run says what would be trained, and --from trains nothing: leave one of them out"
        )
    first = arguments.first_seed if arguments.first_seed is not None else 0 if updating else fresh_seed()
    seeds = baseline.SEEDS if arguments.seeds is None and updating and training else arguments.seeds
    suites = loading.load(arguments.suite, [*arguments.set, f"first_seed={first}"], seeds=seeds)
    if len(suites) > 1:
        raise BadInput(
            f"'{arguments.suite}' is a collection: name one of {', '.join(suite.name for suite in suites)}"
        )
    (suite,) = suites
    if suite.recipe.precision == "auto":
        suite = replace(
            suite, recipe=replace(suite.recipe, precision="fp32")
        )  # whatever computes, as the baseline did
    suite.check_trains()
    if not suite.gate:
        raise BadInput(
            f"suite '{suite.name}' has no [[gate]] tables: they list what is gated (docs/regression.md)"
        )
    measured = [column.metric for metric in suite.metrics for column in METRICS[metric].COLUMNS]
    for gated in suite.gate:
        check_name(gated.metric, measured, f"suite '{suite.name}', gate: its metrics do not measure")
    stored = _replaced(path) if updating else baseline.read(path)
    outputs.check_arguments(arguments)
    name = f"regression-{Path(arguments.suite).stem}"
    out, outcomes, failed = None, dict[str, Outcome](), list[str]()
    if training:
        if stored and not updating:
            loaded = suite.load()
            planned = baseline.planned(suite.name, loaded.name, loaded.sha256, asdict(suite), suite.gate)
            baseline.check(stored, planned, path)
        engine = engines.of(arguments, [suite])
        device = engine.device
        (suite,) = devices.resolved([suite], device, alone=peers.world() == 1)
        checkup.rehearse([suite])
        last = suite.training_seeds[-1]
        begun_with, needed = (
            outputs.plan([suite], device, plugins=plugins.contents()),
            space.disk([suite], engine.size),
        )
        folder = outputs.destined(arguments, name, begun_with, needed)
        foreseen = work(suite, device, Output(folder, ()))
        engine.check(foreseen, begun_with)
        if arguments.dry_run:
            return forecast.answer(foreseen, engine, needed, console)
        with outputs.opened(arguments, folder, begun_with) as opened:
            console.print(
                f"seeds {first} to {last}; --first-seed {first} asks the same again", highlight=False
            )
            out = opened.path
            outcomes = train(suite, engine, opened, console, arguments.retries, arguments.checkpoint_every)
        failed = [run_id for run_id, outcome in outcomes.items() if outcome.failed]
        if {job.run_id for job in foreseen if job.kind == "run"} <= set(failed):
            console.print("every run failed", highlight=False)
            return Answer(1, {"out": out, "runs": as_text(outcomes)})
    runs = source or out
    assert runs is not None
    asked = range(seeds) if updating and seeds and not training else None
    current = baseline.collect(runs, suite.name, suite.gate, suite.models, asked)
    if updating:
        return _update(
            path, stored, current, console, int(bool(failed)), {"out": out, "runs": as_text(outcomes)}
        )
    assert stored is not None
    baseline.check(stored, current, path)
    findings = gate.judge(stored.cells, current.cells)
    out = out or outputs.fresh(arguments.out, name)
    made = markdown(findings, stored, current, _speeds(runs))
    files.replace(out / "gate.md", made)
    decided = as_json(findings, stored, current)
    files.replace(out / "gate.json", json.dumps(decided, indent=1) + "\n")
    listed = "gate.md, gate.json"
    if training:
        from alibench.results import report  # matplotlib takes a moment to import

        for problem in report.write(out):
            say(str(problem))
        listed += f", {report.NAME}"
    console.print(made, markup=False, highlight=False, soft_wrap=True)
    console.print(f"Everything is in {out}: {listed}", soft_wrap=True, highlight=False)
    code = int(bool(failed) or any(finding.failed for finding in findings))
    return Answer(code, {"out": out, "runs": as_text(outcomes), "page": out / "gate.md", **decided})


def _replaced(path: Path) -> Baseline | None:
    """Return the baseline that will be replaced, if one is there that can be read. Raises BadInput for no
    place to write.

    To know, its folder is made, and removed again: what is refused afterwards leaves nothing.
    """
    missing = [folder for folder in path.absolute().parents if not os.path.exists(folder)]
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        writable = os.access(path.parent, os.W_OK) and not os.path.isdir(path)
    except OSError as error:
        raise BadInput(
            f"{path.parent} cannot be made ({error.strerror}): name another file by --baseline"
        ) from None
    finally:
        for folder in missing:
            with suppress(OSError):
                folder.rmdir()
    if not writable:
        raise BadInput(f"{path} cannot be written to: name another file by --baseline")
    try:
        return baseline.read(path)
    except BadInput:
        return None


def train(
    suite: schema.Suite,
    engine: Engine,
    out: Output,
    console: Console,
    retries: int = 0,
    every: float = checkpoints.EVERY,
) -> dict[str, Outcome]:
    """Train and evaluate all seeds; speed, if the suite measures it, when they are done; return what became
    of each.

    There are no references: none is gated.
    """
    outcomes = run(work(suite, engine.device, out, every), engine, console, retries)
    rows.derive(out.path)
    return outcomes


def work(
    suite: schema.Suite, device: torch.device, out: Output, every: float = checkpoints.EVERY
) -> list[Job]:
    """Return what there is to train and time."""

    def job(kind: str, name: str, seed: int) -> Job:
        return Job(kind, suite, name, seed, out.path, str(device), out.command, every=every)  # type: ignore[arg-type]

    trainings = [job("run", name, seed) for seed in suite.training_seeds for name in suite.models]
    return trainings + [job("throughput", name, 0) for name in suite.models if "throughput" in suite.metrics]


def _update(
    path: Path, stored: Baseline | None, new: Baseline, console: Console, code: int, facts: Mapping[str, Any]
) -> Answer:
    baseline.write(path, new)
    table = formats.table(baseline.changes(stored, new))
    console.print(f"{table}\n\n{path}: {len(new.seeds)} seeds", markup=False, highlight=False, soft_wrap=True)
    return Answer(code, {**facts, "baseline": path, "seeds": list(new.seeds)})


def _speeds(source: Path) -> pd.DataFrame:
    """Return what was measured of speed, a line each: it depends on the machine, so it is shown and not
    judged.
    """
    frame = rows.read(source)
    frame = frame[(frame.kind == "timing") & (frame.status == "ok") & ~frame.metric.str.endswith("_iqr")]
    found = frame.groupby(["title", "metric"], sort=False).value.mean()
    return pd.DataFrame(
        {
            "measure": [CATALOGUE[metric].title for _, metric in found.index],
            "now": [f"{v:.4g}" for v in found],
        },
        pd.Index([title for title, _ in found.index], name="model"),
    )


def _line(finding: Finding) -> dict[str, str]:
    cell = finding.cell
    mean, deviation = finding.baseline
    told = [f"seed {seed}: {distance:.1f} deviations off" for seed, distance in finding.seeds.items()]
    return {
        "measure": cell.name,
        "verdict": finding.verdict,
        "baseline": _spread(mean, deviation, cell.digits),
        "now": _spread(*finding.current, cell.digits),
        "worse by, standard errors": finding.moved,
        "p, corrected": "" if math.isnan(finding.p) else f"{finding.p:.2g}",
        "what": "; ".join([*told, finding.reason] if finding.reason else told),
    }


def _spread(mean: float, deviation: float, digits: int) -> str:
    if math.isnan(mean):
        return ""
    return f"{mean:.{digits}f}" + ("" if math.isnan(deviation) else f" ± {deviation:.{digits}f}")


def _frame(findings: Sequence[Finding]) -> pd.DataFrame:
    return pd.DataFrame(
        [_line(f) for f in findings], pd.Index([f.cell.title for f in findings], name="model")
    )


def markdown(findings: Sequence[Finding], stored: Baseline, current: Baseline, speeds: pd.DataFrame) -> str:
    """Return the decision for a reader: the outcome, what moved, then all cells."""
    failed = [finding for finding in findings if finding.failed]
    moved = [*failed, *(finding for finding in findings if finding.verdict == "improvement")]
    outcome = (
        f"**failed**: {len(failed)} of {len(findings)} cells"
        if failed
        else f"**passed**: {len(findings)} cells"
    )
    commits = ", ".join(commit[:8] for commit in stored.origin["commit"])
    seeds = ", ".join(map(str, current.seeds))
    parts = [
        f"## Regression gate, suite {current.suite}: {outcome}",
        f"Seeds {seeds}, against {len(stored.seeds)} seeds of the baseline (commit {commits}). A standard "
        "error is that of "
        "the difference of the means, by the baseline's spread over its seeds.",
        formats.table(_frame(moved)) if moved else "Nothing moved beyond what other seeds do.",
        f"<details><summary>All {len(findings)} "
        f"cells</summary>\n\n{formats.table(_frame(findings))}\n\n</details>",
    ]
    if len(speeds):
        parts.append(
            "<details><summary>Speed on this machine, not judged</summary>\n\n"
            + formats.table(speeds)
            + "\n\n</details>"
        )
    return "\n\n".join(parts) + "\n"


def as_json(findings: Sequence[Finding], stored: Baseline, current: Baseline) -> dict[str, Any]:
    """Return the decision for a program; numbers that there are none of are null."""

    def number(value: float) -> float | None:
        return value if math.isfinite(value) else None

    return {
        "passed": not any(finding.failed for finding in findings),
        "suite": current.suite,
        "seeds": current.seeds,
        "baseline": {"seeds": len(stored.seeds), "commits": list(stored.origin["commit"])},
        "cells": [
            {
                "model": f.cell.model,
                "metric": f.cell.gated.metric,
                "protocol": f.cell.gated.protocol,
                "verdict": f.verdict,
                "failed": f.failed,
                **{
                    when: {"mean": number(mean), "std": number(deviation)}
                    for when, (mean, deviation) in (("baseline", f.baseline), ("now", f.current))
                },
                "standard_errors": number(f.errors),
                "p": number(f.p),
                "bad_seeds": {str(seed): number(distance) for seed, distance in f.seeds.items()},
                "reason": f.reason,
            }
            for f in findings
        ],
    }
