"""`alibench report`: one page for a browser, of one output or several."""

from pathlib import Path

import click
from rich.console import Console

from alibench.benchmarks.commands.command import Command
from alibench.benchmarks.commands.declaring import DIR, option
from alibench.benchmarks.commands.publishing import REPORT, line
from alibench.benchmarks.running import outputs
from alibench.benchmarks.running.answers import Answer
from alibench.evaluation import files
from alibench.evaluation.errors import BadInput
from alibench.evaluation.messages import say

ABOUT = "DIR is a folder that --out named."
EXAMPLES = ("alibench report out", "alibench report out other --out both.html")


@click.command("report", cls=Command, about=ABOUT, examples=EXAMPLES)
@click.argument("folders", nargs=-1, required=True, type=DIR, metavar="DIR ...")
@option("--out FILE", "file for the page; default: report.html in DIR, in a fresh folder for several")
def command(console: Console, folders: tuple[Path, ...], out: Path | None) -> Answer:
    """Carry out the command. Raises BadInput rather than overwrite a file that --out names."""
    from alibench.results import report  # matplotlib takes a moment to import

    if out is not None and out.exists():
        raise BadInput(f"--out {out} is there already: name a new file; nothing was touched")
    if out is not None and not out.parent.is_dir():
        raise BadInput(f"--out {out}: there is no folder {out.parent}: make it, or name another place")

    page, problems = report.page(folders)
    if out is None:
        folder = folders[0] if len(folders) == 1 else outputs.fresh(None, "report")
        out = folder / REPORT
    files.replace(out, page)
    for problem in problems:
        say(problem)
    line(console, f"{out}: open it in a browser")
    return Answer(facts={"report": str(out), "missing": problems})
