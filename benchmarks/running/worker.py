"""What a worker does with a group of jobs, wherever it is: a process here, a Ray task, an element of a SLURM
array.
"""

import errno
import importlib
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch

from alibench.benchmarks.config import blame, plugins
from alibench.benchmarks.running import jobs
from alibench.benchmarks.running.jobs import Failed, Job
from alibench.benchmarks.training.stopping import Request, Stopped
from alibench.evaluation.errors import BadInput
from alibench.evaluation.files import Busy

# Blocks of memory that a training step frees and takes again stay with the process: a third more speed for
# small nets.
ALLOCATOR = {"MALLOC_MMAP_THRESHOLD_": "2000000000", "MALLOC_TRIM_THRESHOLD_": "8000000000"}
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
STOPPED = "stopped"  # the outcome of a job that ended on request
# how the outcome of a job begins after which its process can do no other on CUDA
LOST = "failed: the device failed"
RESUME = "--resume resumes it from its last checkpoint"
# what CUDA says of a GPU that is another process's alone, and of one on which not even a context finds room
TAKEN = ("busy or unavailable", "CUDA error: out of memory")


def environment(device: torch.device) -> dict[str, str]:
    """Return what a worker's process must be started with."""
    return {"OMP_NUM_THREADS": "1", **ALLOCATOR} if device.type == "cpu" else {}


def prepare(device: torch.device) -> None:
    """Make a process ready to work: single-threaded on a CPU, so that numbers depend on no machine's cores.

    On CUDA a numbered device becomes the current one, which streams, graphs and timers take, and convolutions
    take algorithms that repeat bit for bit.
    """
    if device.type == "cpu":
        torch.set_num_threads(1)
    if device.type == "cuda":
        torch.backends.cudnn.deterministic = True
        if device.index is not None:
            torch.cuda.set_device(device)
    importlib.import_module(
        "torch._dynamo"
    )  # the first optimiser would, within the time of the first training


Do = Callable[[Sequence[Job], Callable[[str, int], None], Request], dict[str, str]]  # jobs.execute


def work(
    group: Sequence[Job],
    reach: Callable[[str, int], None],
    request: Request,
    given: Sequence[plugins.Plugin],
    do: Do = jobs.execute,
) -> dict[str, str]:
    """Do jobs in this process, which is made ready for them, with the models that the command was `given`.

    `reach` is told how many steps a run has made by now. A failure is theirs alone and comes back as text:
    one line, if it is not a mistake of ours. After one that `is_lost`, give this process no other jobs.
    """
    made = dict.fromkeys((job.run_id for job in group), 0)

    def report(run_id: str, steps: int) -> None:
        made[run_id] += steps
        reach(run_id, made[run_id])

    try:
        prepare(torch.device(group[0].device))
        plugins.again(given)
        return do(group, report, request)
    except Stopped:
        reason = STOPPED
    except (Failed, BadInput) as problem:
        reason = f"failed: {problem}"
    except Busy as lock:
        reason = f"failed: another process holds {lock}: is the same run being done elsewhere?"
    except OSError as error:
        if error.errno not in FULL:
            reason = f"failed: {blame.in_plugin(error) or traceback.format_exc()}"
        else:
            reason = f"failed: nothing more can be written ({error.strerror}); its last checkpoint is kept: make room, resume"
    except blame.ENDS:
        raise
    except BaseException as error:
        blamed = blame.in_plugin(error)
        if not (blamed or isinstance(error, Exception)):  # it is meant for this process
            raise
        reason = lost(error) or f"failed: {blamed or traceback.format_exc()}"
    return {job.run_id: reason for job in group}


def is_lost(outcomes: Mapping[str, str]) -> bool:
    """Return whether jobs ended by an error after which CUDA refuses all else in their process."""
    return any(outcome.startswith(LOST) for outcome in outcomes.values())


def lost(error: BaseException) -> str:
    """Return in a line what a device failed by, where, and the remedy; nothing, if the device can still be
    used.
    """
    if not _is_device(error):
        return ""
    said = str(error).strip().partition("\n")[0] or type(error).__name__
    remedy = (
        "wait for the other command, or name another --device" if any(t in said for t in TAKEN) else RESUME
    )
    return f"{LOST}: {said} ({_place(error)}): {remedy}"


def _is_device(error: BaseException | None) -> bool:
    """Return whether an error is CUDA's own, or was caused by one, or came with one that only the next wait
    for it shows.
    """
    while error is not None:
        if isinstance(error, torch.AcceleratorError):
            return True
        error = error.__cause__
    # libraries on top of CUDA have errors of other classes, after which it may be lost or not
    try:
        if torch.cuda.is_initialized():
            torch.cuda.synchronize()
    except torch.AcceleratorError:
        return True
    return False


def _place(error: BaseException) -> str:
    """Return the innermost line, file:line, of our code or a plug-in that an error came through."""
    places = [
        (Path(frame.f_code.co_filename).resolve(), line)
        for frame, line in traceback.walk_tb(error.__traceback__)
    ]
    plugged = {source.path for source in plugins.LOADED}
    rooms = [blame.ROOT / room for room in blame.ROOMS]
    ours = [
        (file, line)
        for file, line in places
        if file in plugged or any(file.is_relative_to(room) for room in rooms)
    ]
    file, line = ours[-1]  # there is one: `work`
    return (
        f"{file.relative_to(blame.ROOT) if file.is_relative_to(blame.ROOT) else plugins.shown(file)}:{line}"
    )
