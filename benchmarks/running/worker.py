"""What a worker does with a group of jobs, wherever it is: a process here, a Ray task, an element of a SLURM
array.
"""

import errno
import importlib
import traceback
from collections.abc import Callable, Sequence

import torch

from alibench.benchmarks.config import blame, plugins
from alibench.benchmarks.running.execute import Report, execute
from alibench.benchmarks.running.jobs import Job
from alibench.benchmarks.running.outcomes import STOPPED, Outcome, Status, failed
from alibench.benchmarks.training.outcomes import Failed
from alibench.benchmarks.training.stopping import Request, Stopped
from alibench.evaluation.errors import BadInput
from alibench.evaluation.files import Busy

# Blocks of memory that a training step frees and takes again stay with the process: a third more speed for
# small nets.
ALLOCATOR = {"MALLOC_MMAP_THRESHOLD_": "2000000000", "MALLOC_TRIM_THRESHOLD_": "8000000000"}
# What the system says where nothing more can be written.
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
RESUME = "--resume resumes it from its last checkpoint"
# CUDA's messages for a GPU that another process has for itself, and for one without room for a context.
TAKEN = ("busy or unavailable", "CUDA error: out of memory")

Do = Callable[[Sequence[Job], Report, Request], dict[str, Outcome]]  # execute.execute, or a test's


def environment(device: torch.device) -> dict[str, str]:
    """Return the environment variables that a worker's process must be started with."""
    return {"OMP_NUM_THREADS": "1", **ALLOCATOR} if device.type == "cpu" else {}


def prepare(device: torch.device) -> None:
    """Make a process ready to work: single-threaded on a CPU, so that numbers depend on no machine's cores.

    On CUDA convolutions take algorithms that repeat bit for bit.
    """
    if device.type == "cpu":
        torch.set_num_threads(1)
    if device.type == "cuda":
        torch.backends.cudnn.deterministic = True
        # Streams, graphs and timers take the current device.
        if device.index is not None:
            torch.cuda.set_device(device)

    # The first optimiser would import it, within the time of the first training.
    importlib.import_module("torch._dynamo")


def work(
    group: Sequence[Job],
    reach: Callable[[str, int], None],
    request: Request,
    sources: Sequence[plugins.Plugin],
    do: Do = execute,
) -> dict[str, Outcome]:
    """Do jobs in this process, with the plug-ins of the command; return their outcomes by run id.

    `reach` is called with a run's id and how many steps it has made by now. Failures do not raise: they are
    outcomes, with a traceback only where the code is to blame. Where `device_failed` is true of the outcomes,
    give this process no other jobs.
    """
    # Trainings report steps that passed, listeners show steps that were made.
    made = dict.fromkeys((job.run_id for job in group), 0)

    def report(run_id: str, steps: int) -> None:
        made[run_id] += steps
        reach(run_id, made[run_id])

    try:
        prepare(torch.device(group[0].device))
        plugins.again(sources)
        return do(group, report, request)
    except Stopped:
        outcome = STOPPED
    except (Failed, BadInput) as problem:
        outcome = failed(problem)
    except Busy as lock:
        outcome = failed(f"another process holds {lock}: is the same run being done elsewhere?")
    except blame.ENDS:
        raise
    except BaseException as error:
        # What is not an Exception is meant for this process, unless a plug-in raised it.
        if not (blame.in_plugin(error) or isinstance(error, Exception)):
            raise
        outcome = _of_error(error)
    return {job.run_id: outcome for job in group}


def _of_error(error: BaseException) -> Outcome:
    if isinstance(error, OSError) and error.errno in FULL:
        reason = f"nothing more can be written ({error.strerror})"
        return failed(f"{reason}; its last checkpoint is kept: make room, resume")
    if reason := device_failure(error):
        return Outcome(Status.DEVICE_FAILED, reason)
    return failed(blame.in_plugin(error) or traceback.format_exc())


def device_failure(error: BaseException) -> str:
    """Return in a line why a device failed, and the remedy; "" if the device can still be used."""
    if not _is_of_device(error):
        return ""
    first = str(error).strip().partition("\n")[0] or type(error).__name__
    message = blame.in_plugin(error) or first
    is_taken = any(text in message for text in TAKEN)
    remedy = "wait for the other command, or name another --device" if is_taken else RESUME
    return f"{message}: {remedy}"


def _is_of_device(error: BaseException | None) -> bool:
    """Return whether CUDA can do nothing more in this process after an error."""
    # It may hide behind another library's error.
    while error is not None:
        if isinstance(error, torch.AcceleratorError):
            return True
        error = error.__cause__

    # Libraries on top of CUDA raise errors of other classes. Whether it still works, waiting for it shows.
    try:
        if torch.cuda.is_initialized():
            torch.cuda.synchronize()
    except torch.AcceleratorError:
        return True
    return False
