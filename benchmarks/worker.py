"""What a worker does with a group of jobs, wherever it is: a process here, a Ray task, an element of a SLURM array."""

import errno
import importlib
import traceback
from collections.abc import Callable, Sequence

import torch

from benchmarks import jobs, plugins
from benchmarks.jobs import Failed, Job
from benchmarks.stopping import Request, Stopped
from evaluation.base import BadInput
from evaluation.files import Busy

# Blocks of memory that a training step frees and takes again stay with the process: a third more speed for small nets.
ALLOCATOR = {"MALLOC_MMAP_THRESHOLD_": "2000000000", "MALLOC_TRIM_THRESHOLD_": "8000000000"}
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
STOPPED = "stopped"  # the outcome of a job that ended on request


def environment(device: torch.device) -> dict[str, str]:
    """Return what a worker's process must be started with."""
    return {"OMP_NUM_THREADS": "1", **ALLOCATOR} if device.type == "cpu" else {}


def prepare(device: torch.device) -> None:
    """Make a process ready to work: single-threaded on a CPU, so that numbers depend on no machine's cores."""
    if device.type == "cpu":
        torch.set_num_threads(1)
    importlib.import_module("torch._dynamo")  # the first optimiser would, within the time of the first training


Do = Callable[[Sequence[Job], Callable[[str, int], None], Request], dict[str, str]]  # jobs.execute


def work(
    group: Sequence[Job],
    reach: Callable[[str, int], None],
    request: Request,
    given: Sequence[plugins.Source],
    do: Do = jobs.execute,
) -> dict[str, str]:
    """Do jobs, with the models that the command was `given`; `reach` is told how many steps a run has made by now.

    A failure is theirs alone and comes back as text: one line, if it is no mistake of ours.
    """
    made = dict.fromkeys((job.run_id for job in group), 0)

    def report(run_id: str, steps: int) -> None:
        made[run_id] += steps
        reach(run_id, made[run_id])

    try:
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
            reason = f"failed: {plugins.blame(error) or traceback.format_exc()}"
        else:
            reason = (
                f"failed: nothing more can be written ({error.strerror}); its last checkpoint is kept: make room, resume"
            )
    except Exception as error:
        reason = f"failed: {plugins.blame(error) or traceback.format_exc()}"
    return {job.run_id: reason for job in group}
