"""`alibench export`: a trained run in files for others: weights, programs, a card."""

from pathlib import Path

import click
from rich.console import Console

from alibench.benchmarks.commands import options
from alibench.benchmarks.commands.command import Command
from alibench.benchmarks.commands.declaring import DIR, option
from alibench.benchmarks.commands.publishing import line
from alibench.benchmarks.running import exporting, trained
from alibench.benchmarks.running.answers import Answer

ABOUT = "DIR is one run (DIR/runs/RUN), or a folder that --out named, if it has one run."
EXAMPLES = (
    "alibench export out/runs/digits-ali-seed0 --out digits-ali",
    "alibench export out/runs/digits-ali-seed0 --out digits-ali --onnx",
)


@click.command("export", cls=Command, about=ABOUT, examples=EXAMPLES)
@click.argument("folder", type=DIR, metavar="DIR")
@option("--out PATH", "a new folder for the files", required=True)
@option("--torch-export", "also encoder.pt2 and decoder.pt2, which torch runs without this project")
@option("--onnx", "also encoder.onnx and decoder.onnx; needs the extra 'onnx'")
@options.plugins
def command(console: Console, folder: Path, out: Path, torch_export: bool, onnx: bool) -> Answer:
    """Carry out the command. Raises BadInput before anything is written."""
    run = trained.only(folder)
    exporting.export(run, out, torch_export, onnx)

    names = sorted(path.name for path in out.iterdir())
    line(console, f"{run.origin['run_id']} in {out}: {', '.join(names)}")
    return Answer(facts={"run": run.origin["run_id"], "out": out, "files": names})
