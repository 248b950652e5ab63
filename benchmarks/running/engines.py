"""Which engine does the work of a command: the one that `--on` names, torchrun's processes, or local ones."""

from collections.abc import Sequence

from alibench.benchmarks.config import devices
from alibench.benchmarks.config.schema import Suite
from alibench.benchmarks.running import torchrun
from alibench.benchmarks.running.engine import Engine
from alibench.benchmarks.running.local import Local
from alibench.benchmarks.training import peers
from alibench.evaluation.errors import BadInput

RAY, SLURM = "ray", "slurm"


def check(on: str, arrays: bool) -> None:
    """Refuse an `--on` that is not Ray or, where runs can be an array, SLURM. Raises BadInput."""
    if on == RAY or on.startswith(f"{RAY}://") or (arrays and on == SLURM):
        return
    known = f"{RAY}, {RAY}://HOST and {SLURM}" if arrays else f"{RAY} and {RAY}://HOST"
    if on == SLURM:
        known += f"; {SLURM} takes 'alibench run' alone"
    raise BadInput(f"--on: '{on}' is not there; there are {known} (docs/cluster.md)")


def choose(on: str | None, device: str | None, suites: Sequence[Suite]) -> Engine:
    """Return the engine for some suites, connected. Raises BadInput if it or the device is not there."""
    if peers.world() > 1:
        if on:
            shared = "torchrun's processes are on this machine, and share each run"
            raise BadInput(f"--on {on}: {shared}: leave one out")
        return torchrun.Together(devices.device(device))

    # Ray is imported only where it is asked for.
    if on:
        from alibench.benchmarks.running.ray import Cluster  # the package is an extra

        return Cluster(on, device, suites)
    return Local(devices.device(device), suites)
