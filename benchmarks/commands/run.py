"""`alibench run`: train and evaluate the models of a suite, make its tables."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import click
from rich.console import Console

from alibench.benchmarks.checkup import checkup
from alibench.benchmarks.commands import options
from alibench.benchmarks.commands.carrying import Task, carry_out
from alibench.benchmarks.commands.command import Command
from alibench.benchmarks.commands.declaring import option
from alibench.benchmarks.commands.options import Effort, Location, Selection
from alibench.benchmarks.commands.publishing import line
from alibench.benchmarks.config import devices, loading, pictures, plugins
from alibench.benchmarks.config.schema import Suite
from alibench.benchmarks.running import outputs, space
from alibench.benchmarks.running.answers import Answer
from alibench.benchmarks.running.engine import Engine
from alibench.benchmarks.running.jobs import Job, Workplace
from alibench.benchmarks.running.outputs import Destination
from alibench.benchmarks.running.slurm import Array
from alibench.benchmarks.training import peers
from alibench.evaluation.errors import BadInput

ABOUT = (
    "SUITE is a built-in suite (see 'alibench list'), a TOML file, or pictures of your own, folder:PATH or "
    "npz:PATH."
)
EXAMPLES = (
    "alibench run quick",
    "alibench run folder:pictures --dry-run       # a suite made for your own",
    "alibench run digits --models ali vae --seeds 1 --set recipe.lr=1e-3 --out new",
    "alibench run mine.toml --plugin my_model.py",
)


@click.command("run", cls=Command, about=ABOUT, examples=EXAMPLES)
@options.selection
@option("--seeds N", "seeds 0 to N-1; default: the suite's number")
@options.destination
@options.all_tables
@options.machine(arrays=True)
@option(
    "--slurm KEY=VALUE",
    "with --on slurm: an option of sbatch, as partition=gpu or time=120 (minutes); may be repeated",
    multiple=True,
)
@option("--submit", "with --on slurm: also send the array that is written")
@options.effort
@options.tensorboard
@options.track
@options.plugins
@options.samples
def command(
    console: Console,
    selection: Selection,
    destination: Destination,
    machine: Location,
    effort: Effort,
    samples: list[tuple[str, str]],
) -> Answer:
    """Carry out the command. Raises BadInput before anything is written."""
    # The suites, with the models of the user's.
    made = None
    if pictures.is_data(selection.suite):
        if selection.data is not None:
            raise BadInput(f"'{selection.suite}' names the data: leave out --data")
        made = pictures.make(selection.suite, selection.size, selection.channels)
        line(console, made.summary)
    more = () if selection.models else tuple(plugins.names(elsewhere=False))
    name, table = (made.name, made.table) if made else loading.read(selection.suite)
    suites = selection.load(name, table, more, read=made is None)
    if not selection.models:
        suites = checkup.beside(suites, plugins.names(elsewhere=True))

    # The engine.
    if machine.on == "slurm":
        engine: Engine | Array = Array(machine.device, machine.submit, machine.slurm)
    else:
        engine = machine.engine(suites)
    for model, _ in samples:
        if selection.models and model not in selection.models:
            both = f"name '{model}' in --models too, or leave --models out"
            raise BadInput(f"--samples {model}=...: {both}")

    folder, kept = (made.name, {"suite.toml": made.text}) if made else (Path(selection.suite).stem, {})
    return train(folder, suites, engine, destination, effort, console, kept)


def train(
    name: str,
    suites: Sequence[Suite],
    engine: Engine | Array,
    destination: Destination,
    effort: Effort,
    console: Console,
    kept: Mapping[str, str],
) -> Answer:
    """Train and measure every run of some suites, then make tables and report.

    `name` is that of a fresh folder, `kept` what lies next to the runs, file -> text. Raises BadInput before
    anything is written.
    """
    # Whether all of it can be done there.
    suites = devices.resolved(suites, engine.device, alone=peers.world() == 1)
    checkup.rehearse(suites)
    checkup.remark(suites)

    # Speed is measured last, when nothing else runs.
    def jobs(place: Workplace) -> list[Job]:
        trainings = [job for suite in suites for job in place.trainings(suite)]
        return [*trainings, *place.references(suites), *place.timings(suites)]

    runs = [
        f"{s.name}-{model}-seed{seed}" for s in suites for model in s.models for seed in s.seeds_of(model)
    ]
    plan = outputs.plan(suites, engine.device, runs=runs, plugins=plugins.contents())
    task = Task(name, plan, jobs, space.disk(suites, engine.size), kept)
    return carry_out(task, engine, destination, effort, console)
