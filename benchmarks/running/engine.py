"""What does the work of a command: processes here (local.py), a Ray cluster (on_ray.py), one run on many
(distributed.py).

An engine is given groups of jobs, says how far they are, and what became of them. All else, their order and
what is tried again, is the runner's. What a job does, and where it goes on, is its own (jobs.py): an engine
that loses one just begins it again.
"""

import socket
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol

import torch

from alibench.benchmarks.running.jobs import Job

Group = Sequence[Job]  # done together, by one worker


class Listener(Protocol):
    """Who shows what an engine says."""

    def reach(self, run_id: str, steps: int) -> None:
        """Take note that a run has made so many steps by now; fewer than before, if it was begun again."""

    def say(self, line: str) -> None:
        """Show a line."""


class Engine(Protocol):
    """All is called by one thread; `check` first, once for all that is begun, `end` last."""

    @property
    def device(self) -> torch.device:
        """What the jobs compute on."""

    @property
    def size(self) -> int:
        """How many groups it does side by side."""

    @property
    def queued(self) -> int:
        """How many it takes, to be done or to wait for their turn."""

    @property
    def where(self) -> str:
        """What follows "so many at a time", if it is not this machine."""

    def check(self, work: Sequence[Job], planned: Mapping[str, Any]) -> None:
        """Refuse by name what cannot be done, before anything is begun or written. Raises BadInput."""

    def grouped(self, work: Iterable[Job]) -> list[Group]:
        """Return the jobs that one worker does together."""

    def begin(self, group: Group) -> None:
        """Take a group to be done."""

    def wait(self, listener: Listener, bell: socket.socket) -> list[dict[str, str]]:
        """Wait until something happened or the bell rings; return the outcomes of each group that ended, by
        its runs' ids.

        An outcome is "ok", "diverged: why", "failed: why" or worker.STOPPED.
        """

    def stop(self) -> None:
        """Ask all that is done to end after its step, with a checkpoint; what waits, at once."""

    def end(self) -> None:
        """Let go of all workers, whatever they do."""
