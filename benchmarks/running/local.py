"""Worker processes on this machine, the default engine.

On a CPU every worker is single-threaded and there is one a core: small networks run fastest so, and a run's
numbers do not depend on how many run beside it. On an accelerator runs follow one another, the seeds of a
small network stacked; where a machine has several GPUs, and none of them is named, each has a worker.

A worker that dies, or whose GPU fails, takes its own run with it and no other.
"""

import multiprocessing
import os
import signal
import socket
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

import joblib
import torch

from alibench.benchmarks.config import plugins
from alibench.benchmarks.config.schema import Suite
from alibench.benchmarks.data import cache
from alibench.benchmarks.running import jobs, worker
from alibench.benchmarks.running.engine import Group, Listener
from alibench.benchmarks.running.interpreters import deaf, inherited
from alibench.benchmarks.running.jobs import Job
from alibench.benchmarks.training.stopping import Request
from alibench.evaluation import script
from alibench.evaluation.errors import BadInput

PATIENCE = 10.0  # seconds for an idle worker to end
VISIBLE = "CUDA_VISIBLE_DEVICES"  # the GPUs that a process sees, in its environment; all, if it is not set


def workers(device: torch.device, suites: Iterable[Suite] = ()) -> int:
    """Return how many runs of some suites go side by side: as cores and memory allow; one on each
    accelerator.

    Limits of a container count: of processors (quota and affinity) and of memory.
    """
    if device.type == "cuda" and device.index is None:
        return max(1, torch.cuda.device_count())
    if device.type != "cpu":
        return 1
    taken = [suite.resources for suite in suites]
    count = int(joblib.cpu_count() / max((own.cpus for own in taken), default=1.0))
    if (memory := memory_limit()) is not None:
        count = min(count, int(memory / 1e9 / max((own.memory for own in taken), default=1.0)))
    return max(1, count)


def memory_limit(
    groups: Path = Path("/sys/fs/cgroup"), member: Path = Path("/proc/self/cgroup")
) -> int | None:
    """Return the bytes of memory that this process may use: the machine's, or what a control group of it
    allows.

    `groups` is where the system shows control groups, `member` names those of this process. None where
    nothing is known.
    """
    found = list[int]()
    with suppress(ValueError, OSError, AttributeError):
        found.append(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))

    # version 2 has one tree, "0::/PATH", version 1 one of memory, "N:memory:/PATH"; a container may see its
    # own as the root
    places = {(groups, "memory.max"), (groups / "memory", "memory.limit_in_bytes")}
    with suppress(OSError, ValueError):
        for line in member.read_text().splitlines():
            _, kinds, path = line.split(":", 2)
            if kinds == "" or "memory" in kinds.split(","):
                root, file = (
                    (groups, "memory.max") if kinds == "" else (groups / "memory", "memory.limit_in_bytes")
                )
                below = root / path.lstrip("/")
                places |= {
                    (folder, file) for folder in (below, *below.parents) if folder.is_relative_to(root)
                }
    for folder, file in places:
        with suppress(OSError, ValueError):  # it is not there, or says "max"
            found.append(int((folder / file).read_text()))
    return min(found, default=None)


# -------------------- in a worker's process


def _serve(commands: Connection, given: Sequence[plugins.Plugin], do: worker.Do) -> None:
    """Do groups of jobs as they come, until there are no more or the device is lost."""
    request = Request()
    signal.signal(signal.SIGTERM, request.take)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    with cache.settled():
        while (group := commands.recv()) is not None:
            outcomes = worker.work(
                group, lambda run_id, steps: commands.send((run_id, steps)), request, given, do
            )
            commands.send(outcomes)
            if worker.is_lost(outcomes):
                return


def _end_with_parent() -> None:
    """A killed command leaves no worker behind that goes on writing."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


# -------------------- in the command's


def _alone(place: int) -> dict[str, str]:
    """Return the environment of a process that sees one GPU alone, of those that this one sees, as its
    "cuda".
    """
    seen = os.environ.get(VISIBLE)
    return {VISIBLE: seen.split(",")[place].strip() if seen else str(place)}


class Worker:
    """A fresh process that does one group of jobs after another; `place` is its number among an engine's
    workers.
    """

    def __init__(self, place: int, environment: Mapping[str, str], do: worker.Do) -> None:
        context = multiprocessing.get_context("spawn")
        self.place = place
        self.connection, theirs = context.Pipe()
        given = tuple(plugins.LOADED)
        self.process = context.Process(target=_serve, args=(theirs, given, do), daemon=True)
        with inherited(environment), deaf():
            self.process.start()
        theirs.close()
        self.group: Group = ()

    def begin(self, group: Group) -> None:
        """Give it jobs."""
        self.group = group
        self.connection.send(group)

    def messages(self) -> Iterator[Any]:
        """Yield what it says: (run, steps) as it goes, then what became of its jobs; also if it dies."""
        try:
            while self.connection.poll():
                yield self.connection.recv()
        except (EOFError, OSError):
            self.process.join()
            code = self.process.exitcode or 0
            how = f"killed by signal {-code}" if code < 0 else f"exit code {code}"
            memory = ", as by a system out of memory" if code == -signal.SIGKILL else ""
            reason = (
                worker.STOPPED if code == -signal.SIGTERM else f"failed: its process died ({how}{memory})"
            )
            yield {job.run_id: reason for job in self.group}

    def stop(self) -> None:
        """Ask it to end what it does."""
        self.process.terminate()

    def end(self) -> None:
        """End it: at once if it works, else as it wants to."""
        if not self.group:
            with suppress(OSError):
                self.connection.send(None)
            self.process.join(PATIENCE)
        self.process.kill()
        self.process.join()
        self.connection.close()


class Local:
    """As many workers as the machine has room for, each started when there is work for it."""

    where = ""

    def __init__(
        self, device: torch.device, suites: Iterable[Suite] = (), do: worker.Do = jobs.execute
    ) -> None:
        self.device, self.do, self.team = device, do, list[Worker]()
        self.size = self.queued = workers(device, suites)

    def check(self, work: Sequence[Job], planned: Mapping[str, Any]) -> None:
        """Refuse what the workers, which import the script anew, could not do. Raises BadInput."""
        for extractor in dict.fromkeys(job.suite.evaluation.extractor for job in work):
            if reason := script.problem(extractor):
                raise BadInput(reason)

    def grouped(self, work: Iterable[Job]) -> list[Group]:
        """On an accelerator small trainings go together."""
        return list(jobs.grouped(work, self.device))

    def begin(self, group: Group) -> None:
        """Give it to a worker that is free, or to a new one."""
        free = min((each for each in self.team if not each.group), key=lambda each: each.place, default=None)
        if free is None:
            place = min(set(range(self.size)) - {each.place for each in self.team})
            gpu = _alone(place) if self.device.type == "cuda" and self.size > 1 else {}
            free = Worker(place, {**worker.environment(self.device), **gpu}, self.do)
            self.team.append(free)
        free.begin(group)

    def wait(self, listener: Listener, bell: socket.socket) -> list[dict[str, str]]:
        """Wait for a worker to say something."""
        busy = [each for each in self.team if each.group]
        ready = wait([*(each.connection for each in busy), bell])
        ended = []
        for told in (each for each in busy if each.connection in ready):
            for message in told.messages():
                if isinstance(message, tuple):
                    listener.reach(*message)
                    continue
                told.group = ()
                if (
                    not told.process.is_alive()
                    or worker.STOPPED in message.values()
                    or worker.is_lost(message)
                ):
                    self.team.remove(told)
                    told.end()
                ended.append(message)
                break  # it says no more before it is given more
        return ended

    def stop(self) -> None:
        """Ask all workers to end what they do."""
        for each in self.team:
            each.stop()

    def end(self) -> None:
        """End all workers."""
        for each in self.team:
            each.end()
