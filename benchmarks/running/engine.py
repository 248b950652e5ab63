"""An engine does the jobs of a command, on workers.

A worker is a process that does one group of jobs after another (worker.py). There are three engines: local.py
has processes of this machine, ray.py tasks on a Ray cluster, torchrun.py this process, with others that share
its trainings. The runner decides the order and what is tried again; the engine reports progress and outcomes.
Jobs resume by themselves, so an engine that loses a worker begins its jobs anew.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol

import torch

from alibench.benchmarks.running.jobs import Job
from alibench.benchmarks.running.outcomes import Outcome

Group = Sequence[Job]  # done together, by one worker
# Seconds that `wait` takes at most: a signal that another thread took does not wake it.
PULSE = 1.0


class Listener(Protocol):
    """Shows what an engine reports."""

    def reach(self, run_id: str, steps: int) -> None:
        """Show how many steps a run has made by now; fewer than before, if it was begun again."""

    def say(self, line: str) -> None:
        """Show a line."""


class Engine(Protocol):
    """One thread makes all calls: `check` once before anything is begun, `end` last."""

    @property
    def device(self) -> torch.device:
        """The device that the jobs compute on."""

    @property
    def size(self) -> int:
        """How many groups are done at a time."""

    @property
    def queued(self) -> int:
        """How many groups can be begun: those that are done, and those that wait for their turn."""

    @property
    def where(self) -> str:
        """A phrase to follow "so many at a time"; "" for this machine."""

    def check(self, work: Sequence[Job], planned: Mapping[str, Any]) -> None:
        """Raise BadInput for what cannot be done, before anything is begun or written."""

    def grouped(self, work: Iterable[Job]) -> list[Group]:
        """Return the jobs that one worker does together."""

    def begin(self, group: Group) -> None:
        """Take a group to be done."""

    def wait(self, listener: Listener) -> list[dict[str, Outcome]]:
        """Wait for news; return the outcomes of each group that ended, by run id."""

    def stop(self) -> None:
        """Ask what is being done to end after its step, with a checkpoint; what waits ends at once."""

    def end(self) -> None:
        """End all workers, whatever they do."""
