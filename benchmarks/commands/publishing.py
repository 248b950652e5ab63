"""What a folder of runs is made into, and shown as: tables, pictures and the report."""

import os
import shlex
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from alibench.evaluation import files, pictures
from alibench.evaluation.messages import say
from alibench.results import rows, tables
from alibench.results.formats import Sheet

REPORT = "report.html"


def publish(
    out: Path,
    console: Console,
    all_tables: bool = False,
    damaged: Callable[[Path, rows.Damaged], None] | None = None,
    known: tuple[str, ...] = (),
) -> dict[str, Any]:
    """Make tables, pictures and report of the runs in a folder; print a summary or all tables; return all.

    `known` are beginnings of what was printed already. Raises rows.Damaged, if `damaged` does not take it.
    """
    frame = rows.derive(out, damaged)
    if frame.empty:
        line(console, f"No run in {out} is finished: there is nothing to make tables of")
        return {"tables": {}}

    # Files first: what is shown is there, even if the terminal goes away.
    made = tables.write(out, frame)
    draw(out, frame)
    from alibench.results import report  # matplotlib takes a moment to import

    for problem in report.write(out, made):
        if not problem.startswith(known):
            say(problem)

    # Then the terminal.
    show_of(out, frame, made, all_tables, console)
    line(console, f"Everything is in {out}: {REPORT}, tables.md, tables.html, rows.csv, figures/, runs/")
    return {"tables": as_facts(made), "report": out / REPORT}


def draw(out: Path, frame: pd.DataFrame) -> None:
    """Draw a picture for each model of each suite, of its first seed that has arrays, unless it is newer."""
    folder, drawn = files.subfolder(out, "figures"), set[str]()
    for run in frame[tables.own(frame) & frame.seed.notna()].drop_duplicates("run_id").itertuples():
        name, source = f"{run.suite}-{run.model}", out / "runs" / str(run.run_id)
        arrays = source / pictures.NAME
        if name in drawn or not os.path.lexists(arrays):
            continue

        # Pictures take a second each, so they are kept as long as they are newer than their arrays.
        picture = files.child(folder, f"{name}.png")
        if not picture.exists() or picture.lstat().st_mtime_ns < arrays.lstat().st_mtime_ns:
            from alibench.results import figures  # matplotlib takes a moment to import

            try:
                figures.draw(source, f"{run.title}, {run.dataset}, seed {run.seed}", picture)
            except (files.Damaged, OSError) as damage:
                say(f"no picture of it is drawn: {damage}")
                continue
        drawn.add(name)


def show_of(
    out: Path, frame: pd.DataFrame, made: Mapping[str, Sheet], all_tables: bool, console: Console
) -> None:
    """Print all tables that were made of a folder's rows, or a summary and how to see all."""
    shown = made if all_tables else tables.summaries(frame)
    show(console, shown)
    if shown.keys() != made.keys():
        line(console, f"All tables: {shlex.join(['alibench', 'table', str(out), '--all'])}")


def show(console: Console, made: Mapping[str, Sheet]) -> None:
    """Print tables, the best cells bold, captions and notes below in the console's width."""
    for name, sheet in made.items():
        # Nothing is cut off where a terminal is narrow.
        look: dict[str, Any] = {"box": SIMPLE_HEAD, "pad_edge": False, "show_edge": False}
        table = Table(title=name, title_style="bold", title_justify="left", **look)
        table.add_column(_first(sheet), overflow="fold")
        for column in sheet.frame.columns:
            table.add_column(column, justify="right", overflow="fold")

        # Rich would read square brackets in cells as markup, so cells are Text.
        cells = zip(sheet.frame.index, sheet.frame.to_numpy(), sheet.best.to_numpy(), strict=True)
        for index, texts, best in cells:
            bold = zip(texts, best, strict=True)
            table.add_row(str(index), *(Text(text, "bold" if is_best else "") for text, is_best in bold))
        console.print(table)
        for text in filter(None, (sheet.caption, *sheet.notes)):
            console.print(text, markup=False, highlight=False)
        console.print()


def as_facts(made: Mapping[str, Sheet]) -> dict[str, list[dict[str, str]]]:
    """Return tables for a program: a dictionary a line, cells by the titles of their columns."""

    def lines(sheet: Sheet) -> Sequence[dict[str, str]]:
        cells = zip(sheet.frame.index, sheet.frame.to_numpy(), strict=True)
        columns = [_first(sheet), *sheet.frame.columns]
        return [dict(zip(columns, [str(index), *texts], strict=True)) for index, texts in cells]

    return {name: list(lines(sheet)) for name, sheet in made.items()}


def _first(sheet: Sheet) -> str:
    """Return the title of a table's first column."""
    return str(sheet.frame.index.name or "model")


def line(console: Console, text: str) -> None:
    """Print a line as it stands, not wrapped, so that paths can be copied."""
    console.print(text, markup=False, highlight=False, soft_wrap=True)
