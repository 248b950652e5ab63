"""The command's own process as an engine, for models that no other process could import."""

import signal
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch

from alibench.benchmarks.config import plugins
from alibench.benchmarks.running import worker
from alibench.benchmarks.running.engine import Group, Listener
from alibench.benchmarks.running.jobs import Job
from alibench.benchmarks.running.outcomes import Outcome
from alibench.benchmarks.training.stopping import Request
from alibench.evaluation.representation import one_core_a_thread


class Here:
    """Does jobs in the process of the command, single-threaded on a CPU as a worker is."""

    size = queued = 1
    where = ", in this process"

    def __init__(self, device: torch.device) -> None:
        self.device, self.request, self.group = device, Request(), list[Job]()

    def check(self, work: Sequence[Job], planned: Mapping[str, Any]) -> None:
        """Refuse nothing: whatever this process has, its jobs have."""

    def grouped(self, work: Iterable[Job]) -> list[Group]:
        """Return each job as a group."""
        return [[job] for job in work]

    def begin(self, group: Group) -> None:
        """Take a job; `wait` does it."""
        self.group = list(group)

    def wait(self, listener: Listener) -> list[dict[str, Outcome]]:
        """Do the job; return its outcome. The process is left as it was."""
        # a worker's process is prepared once, this one is the user's
        deterministic = torch.backends.cudnn.deterministic
        try:
            with one_core_a_thread():
                loaded = tuple(plugins.LOADED)
                return [worker.work(self.group, listener.reach, self.request, loaded)]
        finally:
            torch.backends.cudnn.deterministic = deterministic

    def stop(self) -> None:
        """End a training after its step, with a checkpoint; other work at once, by raising Stopped."""
        self.request.take(signal.SIGTERM, None)

    def end(self) -> None:
        """Release nothing."""
