"""How a job ends: a status, and a reason where there is more to say."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum


class Status(Enum):
    """How a job ended; the value is how its text begins."""

    OK = "ok"
    DIVERGED = "diverged"  # its rows are stored, without numbers
    FAILED = "failed"  # by an error; it can be tried again
    DEVICE_FAILED = "failed: the device failed"  # so that its process can use CUDA no more
    STOPPED = "stopped"  # on request; it resumes from its last checkpoint


@dataclass(frozen=True, slots=True)
class Outcome:
    """The end of a job. It is sent between processes."""

    status: Status
    reason: str = ""

    def __str__(self) -> str:
        """Return "ok", "diverged: why", "failed: why" or "stopped"."""
        return f"{self.status.value}: {self.reason}" if self.reason else self.status.value

    @property
    def failed(self) -> bool:
        """Whether an error ended the job."""
        return self.status in (Status.FAILED, Status.DEVICE_FAILED)


OK, STOPPED = Outcome(Status.OK), Outcome(Status.STOPPED)


def failed(reason: object) -> Outcome:
    """Return the outcome of a job that an error ended."""
    return Outcome(Status.FAILED, str(reason))


def device_failed(outcomes: Mapping[str, Outcome]) -> bool:
    """Return whether a device failed in some jobs, by their ids: then their process must do no others."""
    return any(outcome.status is Status.DEVICE_FAILED for outcome in outcomes.values())


def as_text(outcomes: Mapping[str, Outcome]) -> dict[str, str]:
    """Return outcomes as `--json` prints them."""
    return {run_id: str(outcome) for run_id, outcome in outcomes.items()}
