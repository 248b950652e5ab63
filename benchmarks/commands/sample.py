"""`alibench sample`: samples of a trained run as pictures, arrays, or one picture."""

from pathlib import Path

import click
from rich.console import Console

from alibench.benchmarks.commands import options
from alibench.benchmarks.commands.command import Command
from alibench.benchmarks.commands.declaring import DIR, grouped, option
from alibench.benchmarks.commands.publishing import line
from alibench.benchmarks.config import devices
from alibench.benchmarks.running import sampling, trained
from alibench.benchmarks.running.answers import Answer
from alibench.benchmarks.running.sampling import SamplePlaces

ABOUT = "DIR is one run (DIR/runs/RUN), or a folder that --out named, if it has one run."
EXAMPLES = (
    "alibench sample out/runs/digits-ali-seed0 --grid samples.png",
    "alibench sample out/runs/digits-ali-seed0 --n 1000 --out samples",
    "alibench sample out/runs/digits-ali-seed0 --n 1000 --out samples.npz --seed 1",
)


@click.command("sample", cls=Command, about=ABOUT, examples=EXAMPLES)
@click.argument("folder", type=DIR, metavar="DIR")
@option("--n N", "how many, up to a million; default: 100", default=100, type=click.IntRange(1, 10**6))
@grouped(
    "places",
    SamplePlaces,
    option("--out PATH", "a new folder for pictures, or a new FILE.npz for arrays"),
    option("--grid FILE", "a new FILE.png that shows them in a square, at most the first 2,500"),
)
@option("--seed N", "of the draw; default: 0", default=0, type=click.IntRange(0, 2**32 - 1))
@options.device
@options.plugins
def command(
    console: Console, folder: Path, n: int, places: SamplePlaces, seed: int, device: str | None
) -> Answer:
    """Carry out the command. Raises BadInput before anything is written."""
    # All that can be refused comes before the first file.
    run, place = trained.only(folder), devices.device(device)
    model = trained.model_of(run, place)
    places.check(run, n)
    sampling.write(sampling.draw(model, run, n, seed, place), places)

    written = [str(path) for path in (places.out, places.grid) if path]
    line(console, f"{n:,} samples of {run.origin['run_id']}: {', '.join(written)}")
    return Answer(facts={"run": run.origin["run_id"], "n": n, "out": places.out, "grid": places.grid})
