"""Options that several commands have; those of a group reach their command as one dataclass."""

import glob
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import click

from alibench import models
from alibench.benchmarks.commands.declaring import Declared, among, grouped, option
from alibench.benchmarks.config import classes, devices, loading
from alibench.benchmarks.config.loading import Changes
from alibench.benchmarks.config.schema import Suite
from alibench.benchmarks.data import datasets
from alibench.benchmarks.running import torchrun, tracking
from alibench.benchmarks.running.engine import Engine
from alibench.benchmarks.running.here import Here
from alibench.benchmarks.running.local import Local
from alibench.benchmarks.running.outputs import Destination
from alibench.benchmarks.running.trackers import TRACKERS, TrackerName
from alibench.benchmarks.training import checkpoints, peers
from alibench.evaluation.errors import BadInput


def suites(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    """Complete a suite: a built-in one by its name, one of the user's by its file."""
    return [
        *among(*loading.builtin())(ctx, param, incomplete),
        *glob.glob(f"{glob.escape(incomplete)}*.toml"),
    ]


DATA = among(*datasets.DATASETS, *(f"{kind}:" for kind in datasets.PLACES))


# -------------------- single options


def _pairs(ctx: click.Context, param: click.Parameter, texts: tuple[str, ...]) -> list[tuple[str, str]]:
    """Return the names and places of NAME=PATH."""
    pairs = []
    for text in texts:
        name, _, place = text.partition("=")
        if not name or not place:
            raise click.BadParameter(f"'{text}' is not NAME=FOLDER or NAME=FILE.npz", ctx, param)
        pairs.append((name, place))
    return pairs


overrides = option(
    "--set KEY=VALUE", "override a field of the suite; may be repeated", "overrides", multiple=True
)
plugins = option(
    "--plugin FILE", "a file with models of your own (docs/own-model.md); may be repeated", multiple=True
)
samples = option(
    "--samples NAME=PATH",
    "images that a model made elsewhere, a folder, .npz or .npy, as samples of NAME; may be repeated",
    multiple=True,
    callback=_pairs,
)
size = option("--size N", "resize and crop images to N x N")
channels = option(
    "--channels N", "turn images grey (1) or into colour (3)", type=click.Choice([1, 3]), metavar=None
)
device = option(
    "--device NAME",
    "cpu, cuda, cuda:1 or mps; default: the best there is",
    shell_complete=among("cpu", "cuda", "mps"),
)
retries = option(
    "--retries N", "try a run that failed again, N times; default: 0", type=click.IntRange(min=0), default=0
)
tensorboard = option(
    "--tensorboard",
    "also write the curves as TensorBoard's events, for 'tensorboard --logdir DIR'; needs its package",
)
track = option(
    "--track NAME",
    "also send curves, tables and pictures to tensorboard, wandb or mlflow, whose package is needed; may be "
    "repeated",
    multiple=True,
    type=click.Choice(list(TRACKERS)),
)


# -------------------- groups of options


@dataclass(frozen=True)
class Selection:
    """The suites that a command takes, with all that is changed of them."""

    suite: str
    models: tuple[str, ...]
    overrides: tuple[str, ...]
    scale: float
    data: str | None
    size: int | None
    channels: int | None
    seeds: int | None = None

    def load(
        self, name: str, table: dict[str, Any], more: Sequence[str] = (), read: bool = True
    ) -> list[Suite]:
        """Return the checked suites of a TOML table, with models to add to each. Raises BadInput.

        `read`: --size and --channels are fields of it, a suite that was made for pictures has them already.
        """
        sides = {"data.size": self.size, "data.channels": self.channels} if read else {}
        overrides = [f"{key}={value}" for key, value in sides.items() if value is not None]
        overrides += self.overrides
        changes = Changes(overrides, self.models, self.seeds, self.scale, self.data, more)
        return loading.of_table(name, table, changes)


@dataclass(frozen=True)
class Location:
    """Where runs are done."""

    device: str | None
    on: str | None
    slurm: tuple[str, ...] = ()  # of run alone
    submit: bool = False

    def engine(self, suites: list[Suite]) -> Engine:
        """Return the engine, connected. Raises BadInput if it or the device is not there."""
        if self.submit or self.slurm:
            raise BadInput("--submit and --slurm go with --on slurm: add it, or leave them out")
        if peers.world() > 1:
            if self.on:
                shared = "torchrun's processes are on this machine, and share each run"
                raise BadInput(f"--on {self.on}: {shared}: leave one out")
            return torchrun.Together(devices.device(self.device))

        # Ray is imported only where it is asked for.
        if self.on:
            from alibench.benchmarks.running.ray import Cluster  # the package is an extra

            return Cluster(self.on, self.device, suites)
        device = devices.device(self.device)
        return Here(device) if classes.ADOPTED else Local(device, suites)


@dataclass(frozen=True)
class Effort:
    """How runs are done. Raises BadInput."""

    retries: int
    checkpoint_every: float = checkpoints.EVERY
    tensorboard: bool = False
    track: tuple[TrackerName, ...] = ()

    def __post_init__(self) -> None:
        if not self.checkpoint_every >= 0:  # NaN is not in a range
            raise BadInput(f"--checkpoint-every {self.checkpoint_every:g}: seconds, 0 or more")
        for name in self.trackers:
            if reason := tracking.missing(name):
                option = f"--track {name}" if name in self.track else f"--{name}"
                raise BadInput(f"{option} {reason}")

    @property
    def trackers(self) -> tuple[TrackerName, ...]:
        """All that are asked for, each once."""
        asked: tuple[TrackerName, ...] = ("tensorboard",) if self.tensorboard else ()
        return tuple(dict.fromkeys((*asked, *self.track)))


selection = grouped(
    "selection",
    Selection,
    click.argument("suite", shell_complete=suites),
    option(
        "--models MODEL ...", "only these rows of the suite's tables", shell_complete=among(*models.REGISTRY)
    ),
    overrides,
    option("--scale SHARE", "train for this share of the suite's steps", default=1.0),
    option("--data NAME", "other data: a built-in set, folder:PATH or npz:PATH", shell_complete=DATA),
    size,
    channels,
)
destination = grouped(
    "destination",
    Destination,
    option("--out DIR", "folder for everything; default: a fresh one in results/runs/ of the checkout"),
    option("--resume", "resume --out, if it was begun: finished runs are skipped"),
    option("--fresh", "start over next to --out, in DIR-2 and so on, if it was begun"),
    option("--force", "resume even where suite, code or a library changed since the folder was begun"),
    option("--dry-run", "print what would be done, how long it would take, what it would write; do none"),
)
# a field of Destination, where the command prints tables
all_tables = option("--all", "print all tables at the end; default: the overview of each suite", "all_tables")
effort = grouped(
    "effort",
    Effort,
    retries,
    option(
        "--checkpoint-every SECONDS",
        f"between checkpoints, at least; 0: after every step; default: {checkpoints.EVERY:g}",
        default=checkpoints.EVERY,
    ),
)


def machine(arrays: bool = False) -> Callable[[Declared], Declared]:
    """Return the options of where runs are done; `arrays`: also as a SLURM array."""
    names = ["ray", "ray://HOST", *["slurm"] * arrays]

    def checked(ctx: click.Context, param: click.Parameter, on: str | None) -> str | None:
        is_there = on is None or on in names or on.startswith("ray://")
        if not is_there and not ctx.resilient_parsing:
            raise BadInput(f"--on: '{on}' is not there; there are: {', '.join(names)}")
        return on

    text = f"where runs are done: {', '.join(names)}; default: in processes on this machine"
    on = option("--on ENGINE", text, callback=checked, shell_complete=among(*names))
    return grouped("machine", Location, device, on)
