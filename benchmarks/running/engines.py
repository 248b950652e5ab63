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


def choose(on: str | None, device: str | None, suites: Sequence[Suite]) -> Engine:
    """Return the engine for some suites, connected. Raises BadInput if it or the device is not there."""
    if peers.world() > 1:
        if on:
            shared = "torchrun's processes are on this machine, and share each run"
            raise BadInput(f"--on {on}: {shared}: leave one out")
        return torchrun.Together(devices.device(device))

    if on == SLURM:
        raise BadInput(f"--on {on}: {SLURM} takes 'alibench run' alone; there is {RAY} (docs/cluster.md)")
    if on and on != RAY and not on.startswith(f"{RAY}://"):
        known = f"there are {RAY}, {RAY}://HOST and, for 'alibench run', {SLURM} (docs/cluster.md)"
        raise BadInput(f"--on {on}: '{on}' is not there; {known}")
    if on:
        from alibench.benchmarks.running.ray import Cluster  # the package is an extra

        return Cluster(on, device, suites)
    return Local(devices.device(device), suites)
