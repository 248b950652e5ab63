"""Checkpoints: all that a training needs to resume to exactly the result it would have had.

A checkpoint is one file: weights and statistics, their averages, the optimisers' moments, every generator's
state and the order of the data as tensors, and the history (history.py) as JSON. The last two are kept:
where the last is damaged the one before it serves, and where the disk is full the last one stays as it is.
"""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
from torch import Tensor

from alibench.benchmarks.training.history import History
from alibench.benchmarks.training.stopping import Request, Stopped
from alibench.evaluation import files, sealed
from alibench.evaluation.errors import BadInput
from alibench.evaluation.messages import say

VERSION = 1
KEPT = 2
EVERY = 60.0  # seconds between two of them, at least; 0: one after every step, whatever it takes

# The share of a training's time that they may take: where they are large or the disk is slow there are fewer.
SHARE = 0.01


class Checkpoints:
    """The checkpoints of one training, in a folder of their own.

    `belongs` says which training's they are: another's are not used. `request` says whether the training is
    asked to end.
    """

    def __init__(
        self, folder: Path, belongs: Mapping[str, Any], every: float = EVERY, request: Request | None = None
    ) -> None:
        self.folder, self.belongs = folder, dict(belongs)
        self.every, self.request = every, request or Request()
        self.seconds = 0.0  # that writing took
        self.next = time.monotonic() + every

    def due(self) -> bool:
        """Return whether one should be written after this step."""
        return time.monotonic() >= self.next or self.request.made

    def write(self, rounds: int, tensors: Mapping[str, Tensor], history: Mapping[str, Any]) -> None:
        """Write the state after `rounds` rounds of all phases.

        Raises OSError, and Stopped if the training is asked to end.
        """
        start = time.monotonic()
        self._check_folder()
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / f"round-{rounds:09d}.safetensors"
        sealed.write_tensors(path, "checkpoint", VERSION, tensors, {**history, "belongs": self.belongs})
        # The last one is whole on the disk before an older one is removed.
        for old in self._paths()[:-KEPT]:
            old.unlink()

        # When the next one is due.
        took = time.monotonic() - start
        self.seconds += took
        self.next = time.monotonic() + (max(self.every, took / SHARE) if self.every else 0.0)
        if self.request.made:
            raise Stopped

    def newest(self) -> tuple[dict[str, Tensor], History] | None:
        """Return the newest intact state, if there is one; a damaged one is named and removed."""
        self._check_folder()
        for path in reversed(self._paths()):
            try:
                tensors, history = sealed.read_tensors(path, "checkpoint", VERSION, History)
                if history["belongs"] == self.belongs:
                    return tensors, msgspec.convert(history, History)
                problem = f"{path} is of another training"
            except (files.Damaged, OSError) as error:
                problem = str(error)
            say(f"{problem}: what was kept before it is used")
            path.unlink(missing_ok=True)
        return None

    def _paths(self) -> list[Path]:
        return sorted(path for path in self.folder.glob("round-*.safetensors") if not path.is_dir())

    def _check_folder(self) -> None:
        """Raise BadInput for a link to a folder, in which files would be written and removed."""
        if self.folder.is_symlink():
            raise BadInput(
                f"{self.folder} is a symbolic link: put in its place what it points to, or remove it"
            )
