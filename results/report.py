"""The report: one page, for a browser without a network, of everything that one or several outputs hold.

It draws what is stored; all that it computes is how far several outputs differ. What an output lacks (a run
that has not finished, a damaged file, arrays of an earlier version) is named on the page, a line each, and
leaves the rest as it is.
"""

import json
import re
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from alibench.evaluation import files
from alibench.evaluation.errors import BadInput
from alibench.evaluation.messages import listed
from alibench.results import (
    charts,
    compare,
    compare_tables,
    drawing,
    formats,
    layouts,
    rows,
    statistics,
    stored,
    tables,
)
from alibench.results.cards import Card, card
from alibench.results.formats import Sheet

NAME = "report.html"
SHORT = {*(table.name for table in layouts.TABLES), "runs", "statistics"}  # tables without the suite's name
CHARTED = {"overview": "At a glance", "throughput": "Throughput"}  # tables with a drawing, which stand apart


@dataclass
class Results:
    """The contents of a folder that a command filled, as far as they can be read."""

    path: Path
    label: str  # tells it from others on the page
    frame: pd.DataFrame
    origins: dict[str, dict[str, Any]]  # run -> run.json
    tables: Mapping[str, Sheet]
    problems: list[str]


def read(path: Path, label: str = "", sheets: Mapping[str, Sheet] | None = None) -> Results:
    """Return what an output holds, and what it lacks; `sheets` are its tables, if they were made already.

    Raises BadInput if it holds no finished run.
    """
    # Finished runs; a damaged one is named and left out.
    damaged: dict[str, str] = {}
    frame = rows.read(path, lambda folder, damage: damaged.update({folder.name: str(damage)}))
    problems = list(damaged.values())
    if frame.empty:
        why = f" ({problems[0]})" if problems else ""
        raise BadInput(f"{path} holds no finished runs{why}: finish or repeat them first")

    # Runs that were begun or planned and are not finished.
    origins = {run_id: rows.read_origin(path / "runs" / run_id) for run_id in frame.run_id.unique()}
    begun = dict.fromkeys(folder.name for folder in stored.run_folders(path))
    try:
        plan = stored.read_plan(path)
        begun |= dict.fromkeys(plan.get("runs") or plan.get("weights") or ())
    except FileNotFoundError:
        pass  # rows may be kept without a plan
    except (files.Damaged, OSError) as problem:
        problems.append(f"{problem}: which runs it asks for is not known")
    if unfinished := [run for run in begun if run not in origins and run not in damaged]:
        problems.append(f"{path}: not finished: {listed(unfinished, 5)}; finish them with --resume")

    sheets = tables.tables(frame) if sheets is None else sheets
    return Results(path, label or path.name, frame, origins, sheets, problems)


# -------------------- parts of the page


def interval(sheet: Sheet, line: int, cell: int) -> str:
    """Return the interval of a mean over two seeds or more, with the mean's digits; else nothing."""
    column = sheet.frame.columns[cell]
    if sheet.seeds is None or column not in sheet.seeds.columns:
        return ""
    values = sheet.seeds[column].iloc[line]
    if len(values) < 2:
        return ""
    # as many digits as the mean shows
    digits = len(str(sheet.frame.iloc[line, cell]).split(" ")[0].partition(".")[2])
    low, high = statistics.interval(values)
    return f"{low:.{digits}f} to {high:.{digits}f}"


def _suite(name: str, number: int, outputs: Sequence[Results]) -> dict[str, Any]:
    """Return a suite's part of the page: cards of each model, side by side, and tables of each output."""
    cards: dict[str, list[Card]] = {}
    sheets: dict[str, list[dict[str, Any]]] = {}
    for output in outputs:
        frame = output.frame[output.frame.suite == name]
        # A card for each model that was trained here.
        trained = frame[tables.own(frame) & frame.seed.notna() & frame.run_id.str.contains("-seed")]
        for model, of_model in trained.groupby("model", sort=False):
            made, problems = card(output.label, output.path, of_model, output.origins)
            cards.setdefault(str(model), []).append(made)
            output.problems += problems

        # Its tables, some with a drawing.
        for title, sheet in output.tables.items():
            short = title.removeprefix(f"{name}-")
            if short in SHORT and len(frame):  # else another suite's
                drawn = _drawing(sheet, frame, short, f"{output.label} {name}") if short in CHARTED else {}
                sheets.setdefault(short, []).append({"label": output.label, "sheet": sheet, **drawn})

    config = next(
        origin for output in outputs for origin in output.origins.values() if origin["suite"] == name
    )
    return {
        "name": name,
        "anchor": f"suite-{number}",
        "title": config["config"].get("title", name),
        "different_data": _different_data(name, outputs),
        "compared": _compared(name, outputs),
        "drawn": {title: parts for title, parts in sheets.items() if title in CHARTED},
        "models": [{"cards": of_model} for of_model in cards.values()],
        "tables": {title: parts for title, parts in sheets.items() if title not in CHARTED},
    }


def _compared(name: str, outputs: Sequence[Results]) -> list[Sheet]:
    """Return the tables of a suite's outputs against the first of them; none where nothing is comparable."""
    several = [
        compare.Compared(number, output.path, frame, output.origins)
        for number, output in enumerate(outputs, 1)
        if len(frame := output.frame[output.frame.suite == name])
    ]
    if len(several) < 2:
        return []
    # the page says elsewhere that they are of different data
    try:
        return list(compare_tables.sheets(several, compare.contrasts(several)).values())
    except BadInput:
        return []


def _drawing(sheet: Sheet, frame: pd.DataFrame, name: str, key: str) -> dict[str, str]:
    """Return a drawing of a table's numbers, of the compared rows alone, and its alternative text."""
    titles = list(dict.fromkeys(frame[tables.rivals(frame)].title))
    figure = (charts.bars if name == "throughput" else charts.spread)(sheet, titles)
    alt = f"{name} of {', '.join(titles)}, drawn; the numbers are in the table below"
    return {"drawing": drawing.svg(figure, f"{name} {key}") if figure else "", "alt": alt}


def _data(origin: Mapping[str, Any]) -> str:
    return f"{origin['dataset']} (sha256 {origin['data_sha256'][:16]})"


def _different_data(name: str, outputs: Sequence[Results]) -> str:
    """Return which outputs of a suite were measured on which data, if not all on the same; else nothing."""
    measured: dict[str, dict[str, None]] = {}
    sets = set[frozenset[str]]()
    for output in outputs:
        # the runs of one output have several where each seed deals its splits
        found = dict.fromkeys(_data(origin) for origin in output.origins.values() if origin["suite"] == name)
        sets |= {frozenset(found)} if found else set()
        for data in found:
            measured.setdefault(data, {})[output.label] = None
    if len(sets) < 2:
        return ""
    parts = "; ".join(f"{', '.join(labels)}: {data}" for data, labels in measured.items())
    warning = "these outputs were measured on different data, so their numbers cannot be compared"
    return f"suite {name}: {warning}: {parts}"


def _provenance(output: Results) -> dict[str, Any]:
    origins = list(output.origins.values())

    def values(get: Callable[[Mapping[str, Any]], Any]) -> str:
        return ", ".join(dict.fromkeys(str(value) for origin in origins if (value := get(origin))))

    # How to repeat it.
    commit = values(lambda origin: origin["commit"])
    command = values(lambda origin: rows.anew(shlex.split(origin["command"])))
    if re.fullmatch(r"[0-9a-f]{40}\+?", commit):
        changed = "  # its files had been changed: the commit alone does not make these numbers"
        command = f"git checkout {commit.removesuffix('+')}{changed * commit.endswith('+')}\n{command}"

    def plugins(origin: Mapping[str, Any]) -> str:
        return ", ".join(f"{path} (sha256 {sha[:16]})" for path, sha in origin.get("plugins", {}).items())

    # Where and with what it ran.
    versions = {key: value for origin in origins for key, value in origin["versions"].items()}
    facts = {
        "folder": output.path,
        "code": commit,
        "device": values(lambda origin: origin["device"]),
        "versions": ", ".join(f"{name} {value}" for name, value in versions.items()),
        "data": values(_data),
        "splits": values(lambda origin: origin.get("data_splits")),
        "own models": values(plugins),
        "extractor": values(lambda origin: (origin.get("extractor") or {}).get("identity")) or "none",
    }
    configs = {origin["suite"]: origin["config"] for origin in origins}
    return {
        "label": output.label,
        "command": command,
        "facts": facts,
        "configs": {name: json.dumps(config, indent=1) for name, config in configs.items()},
        "runs": [
            {"id": run, "step": origin["step"] or "", "weights": origin["weights_sha256"] or ""}
            for run, origin in output.origins.items()
        ],
    }


# -------------------- the page


def html(outputs: Sequence[Results]) -> str:
    """Return the page. What pictures lack is added to the outputs' problems."""
    # cards are made first: they add to the problems
    names = dict.fromkeys(suite for output in outputs for suite in output.frame.suite)
    suites = [_suite(name, number, outputs) for number, name in enumerate(names)]
    return formats.PAGES.get_template(NAME).render(
        title="ALI bench: " + ", ".join(output.label for output in outputs),
        suites=suites,
        problems=[problem for output in outputs for problem in output.problems],
        provenance=[_provenance(output) for output in outputs],
        several=len(outputs) > 1,
        interval=interval,
        headings=CHARTED,
    )


def _labels(paths: Sequence[Path]) -> list[str]:
    """Return the end of each path that tells it from the others."""
    # the folder's name, or as much above it as makes a difference
    for depth in range(1, max(len(path.resolve().parts) for path in paths) + 1):
        labels = ["/".join(path.resolve().parts[-depth:]) for path in paths]
        if len(set(labels)) == len(labels):
            return labels
    raise BadInput(f"the same folder is named twice: {paths[0]}")


def page(paths: Sequence[Path]) -> tuple[str, list[str]]:
    """Return the page of some outputs, and what they lack, a line each. Raises BadInput."""
    return _page([read(path, label) for path, label in zip(paths, _labels(paths), strict=True)])


def _page(outputs: Sequence[Results]) -> tuple[str, list[str]]:
    text = html(outputs)
    suites = dict.fromkeys(suite for output in outputs for suite in output.frame.suite)
    different = filter(None, (_different_data(name, outputs) for name in suites))
    return text, [*(problem for output in outputs for problem in output.problems), *different]


def write(path: Path, sheets: Mapping[str, Sheet] | None = None) -> list[str]:
    """Write the page of an output into it; return what it lacks, a line each. Raises BadInput, or OSError."""
    text, problems = _page([read(path, sheets=sheets)])
    files.replace(path / NAME, text)
    return problems
