"""The papers' tables, published numbers next to this suite's, made from stored rows without training.

Published numbers and this suite's have columns of their own. A number measured on other data, by another
protocol or with another number of labels does not enter a column that says otherwise; how far the runs were
trained is in the notes. Cells never run stay empty.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import cache, partial
from pathlib import Path

import pandas as pd

from alibench.evaluation.errors import BadInput, check_name
from alibench.results import formats, rows, stored, tables, values
from alibench.results.formats import Sheet
from alibench.results.layouts import CATALOGUE, OVERVIEW
from alibench.results.paper_tables import PAPERS
from alibench.results.published import Difference, Line, Ours, Paper, Theirs, published

CITED = " (cited from "  # in the name of a model whose number is another paper's
REFERENCE = Path(__file__).parent / "reference"


def _number(value: float) -> str:
    return f"{value:.10g}"


@cache
def _of(paper: Paper) -> pd.DataFrame:
    """Return the published rows of a paper's data, in its own table and in those that stand next to it."""
    # By source and table, since papers have tables of one number.
    numbers = published()
    others = {column.source for column in paper.columns if isinstance(column, Theirs) and column.source}
    sources = pd.MultiIndex.from_tuples([(paper.source, paper.table), *sorted(others)])
    return numbers[
        (numbers.dataset == paper.dataset) & numbers.set_index(["source", "table"]).index.isin(sources)
    ]


@cache
def _cells(paper: Paper) -> dict[tuple[str, ...], pd.DataFrame]:
    """Return a paper's published rows by source, table, model and metric."""
    return dict(iter(_of(paper).groupby(["source", "table", "model", "metric"])))  # type: ignore[arg-type]


def _published(paper: Paper, model: str, column: Theirs) -> pd.DataFrame:
    """Return the published rows of one cell; none or one."""
    source, table = column.source or (paper.source, paper.table)
    cell = _cells(paper).get((source, table, model, column.metric), _of(paper)[:0])
    return cell[cell.labels == column.labels] if column.labels else cell


def _theirs(paper: Paper, model: str, column: Theirs) -> tuple[str, str]:
    """Return a published cell, and the footnote that it needs."""
    cell = _published(paper, model, column)
    if cell.empty:
        return "", ""

    # A bar is shown as one standard deviation, where the paper says how many it printed.
    row = cell.iloc[0]
    text, note = _number(row.value), ""
    if not pd.isna(row.bar):
        if pd.isna(row.bar_in_std):
            text, note = f"{text} ± {_number(row.bar)}‡", "‡ what the bar is was not published."
        elif row.bar_in_std == 1:
            text += f" ± {_number(row.bar)}"
        else:
            text += f" ± {row.bar / row.bar_in_std:.2f}†"
            note = f"† printed with {_number(row.bar_in_std)} standard deviations, shown here with one."
            if row.bar_in_std < 1:
                runs = f"{row.bar_in_std**-2:.0f}"
                note = f"† printed as the standard error of {runs} runs, shown here as a standard deviation."

    # Further values, such as smallest and largest, in brackets.
    if column.extra:
        numbers = _of(paper)
        of_model = numbers[numbers.model == model]
        others = [of_model[of_model.metric == metric].value for metric in column.extra]
        text += f" ({' to '.join(_number(value.iloc[0]) for value in others if len(value))})"
    return text, note


def _measured(frame: pd.DataFrame, line: Line, column: Ours) -> pd.DataFrame:
    """Return this suite's rows of one cell."""
    if not line.suite:
        return frame[:0]
    measure = line.measure or column.measure
    of_line = frame[(frame.suite == line.suite) & (frame.model == line.entry)]
    of_line = of_line[of_line.dataset == column.data] if column.data else of_line
    if column.labels is not None:
        of_line = of_line[of_line.labels == column.labels]
    return of_line[of_line.metric == measure.metric]


def _ours(frame: pd.DataFrame, line: Line, column: Ours) -> tuple[str, str]:
    """Return a cell of this suite, and how it was trained."""
    measure = replace(line.measure or column.measure, title="")
    of_line = _measured(frame, line, column)
    if of_line.empty:  # as most cells are
        return "", ""
    numbers = values.of_seeds(of_line, measure).dropna()
    if numbers.empty:
        return "", ""

    # Mean ± deviation over seeds, and how the runs were trained.
    digits = CATALOGUE[measure.metric].digits
    text = f"{numbers.mean():.{digits}f}" + (f" ± {numbers.std():.{digits}f}" if len(numbers) > 1 else "")
    if column.extremes:
        text += f" ({_number(numbers.min())} to {_number(numbers.max())})"
    updates = " or ".join(f"{count:,.0f}" for count in sorted(of_line.updates.dropna().unique()))
    seeds = f"{len(numbers)} seed{'s' * (len(numbers) > 1)}"
    trained = f"{of_line.title.iloc[0]} {seeds}, {updates} updates"
    return text, trained if updates else ""  # detectors and samplers are not trained


def _difference(paper: Paper, frame: pd.DataFrame, line: Line, column: Difference) -> str:
    """Return this suite's mean less the published number; "" where one of them is missing."""
    measure = line.measure or column.ours.measure
    theirs = _published(paper, line.model, column.theirs).value
    ours = values.of_seeds(_measured(frame, line, column.ours), measure).dropna()
    if theirs.empty or ours.empty:
        return ""
    return f"{ours.mean() - theirs.iloc[0]:+.{CATALOGUE[measure.metric].digits}f}"


def sheet(paper: Paper, frame: pd.DataFrame) -> Sheet:
    """Return a published table with this suite's numbers from rows next to it."""
    # The published rows of this table, and ours.
    numbers, frame = _of(paper), _scored(frame, paper)

    # Its lines: those with a counterpart here first, then every other published model.
    known = [line.model for line in paper.lines]
    others = [model for model in dict.fromkeys(numbers.model) if model not in known and CITED not in model]
    lines = [*paper.lines, *map(Line, others)]
    cells, footnotes, trained = [], [], []
    for line in lines:
        shown = {}
        for column in paper.columns:
            if isinstance(column, Theirs):
                shown[column.title], note = _theirs(paper, line.model, column)
                footnotes.append(note)
            elif isinstance(column, Difference):
                shown[column.title] = _difference(paper, frame, line, column)
            else:
                shown[column.title], how = _ours(frame, line, column)
                trained.append(how)
        cells.append(shown)

    # Notes say what signs mean, how far runs were trained, where numbers are published.
    index = pd.Index([line.model.replace("lambda=", "λ = ") for line in lines], name="model")
    notes = [*filter(None, dict.fromkeys(footnotes)), *_training(paper, trained), *paper.notes]
    notes.append(f"Published numbers: {', '.join(numbers.drop_duplicates('source').found_in)}.")
    return formats.plain(paper.caption + ".", pd.DataFrame(cells, index), tuple(notes))


def _scored(frame: pd.DataFrame, paper: Paper) -> pd.DataFrame:
    """Return the rows that may stand in a paper's table, each with the updates of its run."""
    # samples from the prior alone belong to no split
    data = {paper.data, *(column.data for column in paper.columns if isinstance(column, Ours))}
    scored = frame[frame.dataset.isin(data) & (frame.status == "ok") & frame.split.isin(["test", ""])]

    # A run's steps are those of all its phases. How far it is, the game says: of decoder and D the one with
    # fewer updates. An encoder learnt afterwards has a schedule of its own.
    counts = scored[scored.metric.isin(["updates_decoder", "updates_discriminator"])]
    updates = counts.groupby(["suite", "run_id"]).value.min().rename("updates")
    scored = scored.join(updates, on=["suite", "run_id"])
    return scored.assign(updates=scored.updates.astype("Float64").fillna(scored.step))


def _training(paper: Paper, trained: Iterable[str]) -> list[str]:
    """Return a note on how this suite's numbers were trained, where the table has a place for them."""
    if not any(isinstance(column, Ours) for column in paper.columns):
        return []
    here = list(dict.fromkeys(filter(None, trained)))
    schedule = f" The published schedule: {paper.updates:,} updates ({paper.schedule})." * bool(paper.updates)
    return [(f"Here: {'; '.join(here)}." if here else "None of it has been run here yet.") + schedule]


def states(frame: pd.DataFrame) -> Sheet:
    """Return a line for each published table: which suites make it, and how much of it was run, from rows."""
    lines = []
    for paper in PAPERS:
        suites = dict.fromkeys(line.suite for line in paper.lines if line.suite)
        lines.append(
            {
                "suite": ", ".join(suites) or "none yet",
                "it needs": paper.needs,
                "its state": _state(paper, _scored(frame, paper)),
            }
        )
    captions = [paper.caption.partition(";")[0] for paper in PAPERS]
    return formats.plain("The published tables.", pd.DataFrame(lines, pd.Index(captions, name="published")))


def _state(paper: Paper, frame: pd.DataFrame) -> str:
    """Return how many lines of a table have numbers, of how many seeds, trained for which share."""
    ours = [column for column in paper.columns if isinstance(column, Ours)]
    lines = [line for line in paper.lines if line.suite]
    rows_of = {line.model: [_measured(frame, line, column) for column in ours] for line in lines}
    filled = [pd.concat(parts) for parts in rows_of.values() if sum(map(len, parts))]
    trained = [rows for rows in filled if rows.updates.notna().any()]
    if not trained:
        return "empty"

    # the shortest training counts, and the fewest seeds
    seeds = min(rows.seed.nunique() for rows in trained)
    updates = min(rows.updates.min() for rows in trained)
    schedule = f"{updates:,.0f} updates, its own schedule"
    if paper.updates:
        share = min(1.0, updates / paper.updates)
        schedule = "full schedule" if share == 1 else f"{100 * share:.2g} % of the schedule"
    count = f"{len(filled)} of {len(lines)} lines" if len(filled) < len(lines) else "all lines"
    return f"{schedule}, {count}, {seeds} seed{'s' * (seeds > 1)}"


def folders(paths: Iterable[Path] = ()) -> list[Path]:
    """Return the folders that tables are made from, by default the committed ones. Raises BadInput."""
    chosen = list(paths) or sorted(path for path in REFERENCE.iterdir() if (path / "runs").is_dir())
    for folder in chosen:
        stored.run_folders(folder)
    return chosen


def read(paths: Sequence[Path]) -> pd.DataFrame:
    """Return the rows of all folders; of a suite that several have, from the folder with the most seeds.

    Raises BadInput for damaged files.
    """
    try:
        frames = [rows.read(folder).assign(folder=folder.name) for folder in paths]
    except rows.Damaged as damage:
        raise BadInput(str(damage)) from None

    # Seeds of several folders may be the same, so one folder is taken.
    frame = pd.concat(frames, ignore_index=True)
    kept = []
    for _, of_suite in frame.groupby(["suite", "dataset"], sort=False):
        seeds = of_suite[values.own(of_suite)].groupby("folder", sort=False).seed.nunique()
        kept.append(of_suite[of_suite.folder == (seeds.idxmax() if len(seeds) else of_suite.folder.iloc[0])])
    return pd.concat(kept, ignore_index=True) if kept else frame


def makers(frame: pd.DataFrame) -> dict[str, Callable[[], Sheet | None]]:
    """Return what makes each of the papers' tables and each suite's overview, by name; None: nothing of it
    was measured.
    """
    made: dict[str, Callable[[], Sheet | None]] = {"published": partial(states, frame)}
    made |= {paper.name: partial(sheet, paper, frame) for paper in PAPERS}
    for names, of_suite in frame.groupby(["suite", "dataset"], sort=False):
        suite, dataset = map(str, names)
        is_told_by_suite = dataset in suite or suite in dataset
        name = f"overview-{suite}" if is_told_by_suite else f"overview-{suite}-{dataset}"
        made[name] = partial(_overview, of_suite)
    return made


def _overview(of_suite: pd.DataFrame) -> Sheet | None:
    made = tables.sheet(of_suite, OVERVIEW)
    return made and made._replace(notes=(f"From {of_suite.folder.iloc[0]}.",))


def sheets(frame: pd.DataFrame) -> dict[str, Sheet]:
    """Return the papers' tables and an overview of each suite's dataset, by name."""
    every = {name: make() for name, make in makers(frame).items()}
    return {name: made for name, made in every.items() if made is not None}


def table(name: str, *paths: str | Path) -> pd.DataFrame:
    """Return one table by name: of a paper, an overview, or of a run ("digits-quality"); its cells are texts.

    `paths` are folders that `alibench run --out` made, by default the committed results. Raises BadInput for
    another name.
    """
    frame = read(folders(map(Path, paths)))
    make = makers(frame).get(name)
    if make and (made := make()) is not None:
        return made.frame
    # every table of every run takes a while
    others = tables.tables(frame)
    if name not in others:
        check_name(name, sheets(frame) | others, "unknown table")
    return others[name].frame
