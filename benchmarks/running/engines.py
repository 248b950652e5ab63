"""Which engine does the work of a command: what `--on` says, or torchrun; otherwise processes of this
machine.
"""

import argparse
from collections.abc import Sequence

from alibench.benchmarks.config import devices
from alibench.benchmarks.config.schema import Suite
from alibench.benchmarks.running import torchrun
from alibench.benchmarks.running.engine import Engine
from alibench.benchmarks.running.local import Local
from alibench.benchmarks.training import peers
from alibench.evaluation.errors import BadInput

RAY, SLURM = "ray", "slurm"


def cluster(text: str) -> str:
    """Return Ray's name or address as it was given. Raises ArgumentTypeError for what is none."""
    if text == RAY or text.startswith(f"{RAY}://"):
        return text
    alone = f"; {SLURM} takes 'alibench run' alone" if text == SLURM else ""
    raise argparse.ArgumentTypeError(
        f"'{text}' is not there; there are {RAY} and {RAY}://HOST{alone} (docs/cluster.md)"
    )


def cluster_or_array(text: str) -> str:
    """Return what was given, if it is Ray or SLURM. Raises ArgumentTypeError for what is neither."""
    if text == SLURM:
        return text
    try:
        return cluster(text)
    except argparse.ArgumentTypeError:
        raise argparse.ArgumentTypeError(
            f"'{text}' is not there; there are {RAY}, {RAY}://HOST and {SLURM} (docs/cluster.md)"
        ) from None


def add_arguments(sub: argparse.ArgumentParser, arrays: bool = False) -> None:
    """Declare the options of a command whose runs a cluster can do; `arrays`: also as a SLURM array."""
    choices = f"{RAY}, {RAY}://HOST" + f" or {SLURM}" * arrays
    text = f"where the runs are done: {choices}; default: in processes on this machine"
    sub.add_argument("--on", type=cluster_or_array if arrays else cluster, metavar="ENGINE", help=text)
    if arrays:
        sub.add_argument(
            "--submit", action="store_true", help=f"with --on {SLURM}: also send the array that is written"
        )
        text = f"with --on {SLURM}: an option of sbatch, as partition=gpu or time=120 (minutes); may be given several times"
        sub.add_argument(f"--{SLURM}", action="append", default=[], metavar="KEY=VALUE", help=text)


def of(given: argparse.Namespace, suites: Sequence[Suite]) -> Engine:
    """Return the engine that a command line asks for, connected. Raises BadInput if it or the device is not
    there.
    """
    if getattr(given, "submit", False) or getattr(given, SLURM, []):
        raise BadInput(f"--submit and --{SLURM} go with --on {SLURM}: say it too, or leave them out")
    if peers.world() > 1:
        if given.on:
            raise BadInput(
                f"--on {given.on}: torchrun's processes are on this machine, and share each run: leave one "
                "out"
            )
        return torchrun.Together(devices.device(given.device))
    if given.on:
        from alibench.benchmarks.running.ray import Cluster  # the package is an extra

        return Cluster(given.on, given.device, suites)
    return Local(devices.device(given.device), suites)
