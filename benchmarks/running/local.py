"""Worker processes on this machine, the default engine.

On a CPU each worker is single-threaded, and there is one a core: small networks run fastest so, and a run's
numbers do not depend on how many run beside it. On an accelerator runs follow one another, with the seeds of
a small network stacked; several GPUs have a worker each, unless one is named.

A worker that dies, or whose GPU fails, takes its own group of jobs with it and no other.
"""

import multiprocessing
import os
import signal
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from multiprocessing.connection import Connection, wait
from pathlib import Path

import joblib
import torch

from alibench.benchmarks.config import plugins
from alibench.benchmarks.config.schema import Suite
from alibench.benchmarks.data import cache
from alibench.benchmarks.running import jobs, worker
from alibench.benchmarks.running.engine import PULSE, Group, Listener
from alibench.benchmarks.running.execute import execute
from alibench.benchmarks.running.interpreters import ignoring_interrupts, inherited
from alibench.benchmarks.running.jobs import Job
from alibench.benchmarks.running.outcomes import STOPPED, Outcome, device_failed, failed
from alibench.benchmarks.training.stopping import Request
from alibench.evaluation import main_script
from alibench.evaluation.errors import BadInput

PATIENCE = 10.0  # seconds for an idle worker to end
# The environment variable of the GPUs that a process sees; all, if it is not set.
VISIBLE = "CUDA_VISIBLE_DEVICES"
# What a worker sends: a run's id with its steps by now, or the outcomes of a group.
Message = tuple[str, int] | dict[str, Outcome]


def workers(device: torch.device, suites: Iterable[Suite] = ()) -> int:
    """Return how many runs go side by side: as cores and memory allow; one on each accelerator.

    Limits of a container count: of processors (quota and affinity) and of memory.
    """
    if device.type == "cuda" and device.index is None:
        return max(1, torch.cuda.device_count())
    if device.type != "cpu":
        return 1
    # The most that any suite says a run takes counts for all.
    needs = [suite.resources for suite in suites]
    count = int(joblib.cpu_count() / max((need.cpus for need in needs), default=1.0))
    if (memory := memory_limit()) is not None:
        count = min(count, int(memory / 1e9 / max((need.memory for need in needs), default=1.0)))
    return max(1, count)


def memory_limit(
    groups: Path = Path("/sys/fs/cgroup"), member: Path = Path("/proc/self/cgroup")
) -> int | None:
    """Return the bytes of memory that the machine and control groups allow this process; None if unknown.

    `groups` is where the system shows control groups, `member` the file that names this process's.
    """
    limits = list[int]()
    with suppress(ValueError, OSError, AttributeError):
        limits.append(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))

    # This process's group, or one above it, in the tree of version 2 or of version 1; a container may see its
    # own group as the root.
    folders = {Path()}
    with suppress(OSError, ValueError):
        for line in member.read_text().splitlines():
            group = Path(line.split(":", 2)[2].lstrip("/"))
            folders |= {group, *group.parents}
    files = [groups / folder / "memory.max" for folder in folders]
    files += [groups / "memory" / folder / "memory.limit_in_bytes" for folder in folders]

    # A file may be missing, or say "max".
    for file in files:
        with suppress(OSError, ValueError):
            limits.append(int(file.read_text()))
    return min(limits, default=None)


# -------------------- in a worker's process


def _serve(connection: Connection, sources: Sequence[plugins.Plugin], do: worker.Do) -> None:
    """Do groups of jobs as they come, until there are no more or the device failed."""
    request = Request()
    signal.signal(signal.SIGTERM, request.take)
    threading.Thread(target=_end_with_parent, daemon=True).start()

    def reach(run_id: str, steps: int) -> None:
        connection.send((run_id, steps))

    with cache.settled():
        while (group := connection.recv()) is not None:
            outcomes = worker.work(group, reach, request, sources, do)
            connection.send(outcomes)
            if device_failed(outcomes):
                return


def _end_with_parent() -> None:
    """End this process when the command is killed, so that it writes no more."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


# -------------------- in the command's process


def _one_gpu(place: int) -> dict[str, str]:
    """Return the environment of a process that sees one of this process's GPUs alone, as its "cuda"."""
    visible = os.environ.get(VISIBLE)
    return {VISIBLE: visible.split(",")[place].strip() if visible else str(place)}


class Worker:
    """A process that does one group of jobs after another; `place` is its number in the team."""

    def __init__(self, place: int, environment: Mapping[str, str], do: worker.Do) -> None:
        context = multiprocessing.get_context("spawn")
        self.place = place
        self.connection, theirs = context.Pipe()
        arguments = (theirs, tuple(plugins.LOADED), do)
        self.process = context.Process(target=_serve, args=arguments, daemon=True)
        with inherited(environment), ignoring_interrupts():
            self.process.start()
        # The worker alone holds the other end now, so that its death ends the connection.
        theirs.close()
        self.group: Group = ()

    def begin(self, group: Group) -> None:
        """Send it jobs."""
        self.group = group
        self.connection.send(group)

    def messages(self) -> Iterator[Message]:
        """Yield what it sent: steps as it goes, then the outcomes of its group, even if it dies."""
        try:
            while self.connection.poll():
                yield self.connection.recv()
        except (EOFError, OSError):
            self.process.join()
            outcome = _of_dead(self.process.exitcode or 0)
            yield {job.run_id: outcome for job in self.group}

    def stop(self) -> None:
        """Ask it to end its jobs."""
        self.process.terminate()

    def end(self) -> None:
        """End it: at once if it has jobs, else by itself."""
        # Without jobs it loses nothing: it may leave its caches whole.
        if not self.group:
            with suppress(OSError):
                self.connection.send(None)
            self.process.join(PATIENCE)
        self.process.kill()
        self.process.join()
        self.connection.close()


def _of_dead(code: int) -> Outcome:
    """Return the outcome of jobs whose process ended with a code; a negative one is a signal's."""
    if code == -signal.SIGTERM:
        return STOPPED
    how = f"killed by signal {-code}" if code < 0 else f"exit code {code}"
    memory = ", as by a system out of memory" if code == -signal.SIGKILL else ""
    return failed(f"its process died ({how}{memory})")


class Local:
    """As many workers as the machine has room for, each started when there is work for it."""

    where = ""

    def __init__(self, device: torch.device, suites: Iterable[Suite] = (), do: worker.Do = execute) -> None:
        self.device, self.do, self.team = device, do, list[Worker]()
        self.size = self.queued = workers(device, suites)

    def check(self, work: Sequence[Job], planned: Mapping[str, object]) -> None:
        """Raise BadInput for an extractor that workers, which import the script anew, could not make."""
        for extractor in dict.fromkeys(job.suite.evaluation.extractor for job in work):
            if reason := main_script.problem(extractor):
                raise BadInput(reason)

    def grouped(self, work: Iterable[Job]) -> list[Group]:
        """Return groups of jobs: on an accelerator small trainings go together."""
        return list(jobs.grouped(work, self.device))

    def begin(self, group: Group) -> None:
        """Send it to a worker that is free, or to a new one."""
        # The first GPU comes first, so that speed is always measured on the same one.
        idle = [member for member in self.team if not member.group]
        free = min(idle, key=lambda member: member.place, default=None)
        if free is None:
            # Places are the numbers of GPUs.
            place = min(set(range(self.size)) - {member.place for member in self.team})
            gpu = _one_gpu(place) if self.device.type == "cuda" and self.size > 1 else {}
            free = Worker(place, {**worker.environment(self.device), **gpu}, self.do)
            self.team.append(free)
        free.begin(group)

    def wait(self, listener: Listener) -> list[dict[str, Outcome]]:
        """Wait for a worker's message."""
        busy = {member.connection: member for member in self.team if member.group}
        ended = list[dict[str, Outcome]]()
        for member in [busy[connection] for connection in wait(list(busy), PULSE)]:  # type: ignore[index]
            for message in member.messages():
                if isinstance(message, tuple):
                    listener.reach(*message)
                    continue

                # The outcomes are the last message of a group.
                ended.append(message)
                member.group = ()
                stopped = STOPPED in message.values()
                if stopped or device_failed(message) or not member.process.is_alive():
                    self.team.remove(member)
                    member.end()
                break
        return ended

    def stop(self) -> None:
        """Ask all workers to end their jobs."""
        for member in self.team:
            member.stop()

    def end(self) -> None:
        """End all workers."""
        for member in self.team:
            member.end()
