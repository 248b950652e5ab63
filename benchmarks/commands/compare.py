"""`alibench compare`: is the difference between outputs real? Each row of their tables, tested."""

from pathlib import Path

import click
from rich.console import Console

from alibench.benchmarks.commands.command import Command
from alibench.benchmarks.commands.declaring import DIR, among, option
from alibench.benchmarks.commands.publishing import as_facts, line, show
from alibench.benchmarks.running import outputs
from alibench.benchmarks.running.answers import Answer
from alibench.evaluation.errors import BadInput, check_name
from alibench.evaluation.metrics import METRICS
from alibench.results import compare, compare_tables, formats

ABOUT = "DIR is a folder that --out named; the first is what the others are compared with."
EXAMPLES = (
    "alibench compare out other",
    "alibench compare out other --metrics fidelity svm --fail-on-worse",
    "alibench compare out other third --out compared",
)


@click.command("compare", cls=Command, about=ABOUT, examples=EXAMPLES)
@click.argument("folders", nargs=-1, required=True, type=DIR, metavar="DIR DIR ...")
@option(
    "--metrics METRIC ...",
    "compare these alone: the fewer, the smaller a difference that is seen; default: all",
    shell_complete=among(*METRICS),
)
@option("--out DIR", "a fresh folder for the tables; default: they are printed alone")
@option("--fail-on-worse", "exit code 1 if a row is worse")
def command(
    console: Console,
    folders: tuple[Path, ...],
    metrics: tuple[str, ...],
    out: Path | None,
    fail_on_worse: bool,
) -> Answer:
    """Carry out the command. Raises BadInput for outputs that cannot be compared."""
    if len(folders) == 1:
        raise BadInput(f"{folders[0]} alone cannot be compared: name the folders of two outputs or more")
    for metric in metrics:
        check_name(metric, METRICS, "unknown metric")
    columns = [column.metric for metric in metrics or METRICS for column in METRICS[metric].COLUMNS]

    # All is read before anything is written.
    compared = [compare.read(number, folder, columns) for number, folder in enumerate(folders, 1)]
    contrasts = compare.contrasts(compared)
    made = compare_tables.sheets(compared, contrasts)
    if out is not None:
        formats.write(outputs.fresh(out, "compare"), made)

    # The tables, then how many rows have which verdict.
    show(console, made)
    counts = compare_tables.counts(contrasts)
    said = ", ".join(f"{count} {verdict}" for verdict, count in counts.items() if count)
    line(console, f"{len(contrasts)} rows: {said}")
    if out is not None:
        line(console, f"Everything is in {out}: tables.md, tables.html, tables/")
    facts = {
        "out": out,
        "outputs": list(folders),
        "verdicts": counts,
        "rows": [compare_tables.facts(contrast) for contrast in contrasts],
        "notes": {name: list(sheet.notes) for name, sheet in made.items()},
        "tables": as_facts(made),
    }
    return Answer(int(fail_on_worse and counts["worse"] > 0), facts)
