"""Trackers are called with the curves of a training while it runs. The loop knows only their type, `Log`.

Any function of a record will do, so that curves go wherever one has them:

    train(model, split, recipe, seed, device, log=lambda record: mine.append(record["loss discriminator"]))
"""

from collections.abc import Mapping, Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any

from alibench.benchmarks.training.recipe import Recipe, steps_of
from alibench.models.base import Phase


def starts(phases: Sequence[Phase], recipe: Recipe) -> dict[str, int]:
    """Return how many rounds of other phases come before each phase, by its name."""
    lengths = [steps_of(phase, recipe) for phase in phases]
    return dict(zip((phase.name for phase in phases), accumulate([0, *lengths]), strict=False))


class TensorBoard:
    """Writes the curves of one training as TensorBoard's events, at steps that grow over its phases.

    Each record is on its way to the disk when the next comes, so that a killed training loses none before its
    checkpoint. After a checkpoint that a training resumes from records come again, and replace the first.
    """

    def __init__(self, folder: Path, starts: Mapping[str, int]) -> None:
        self.folder, self.starts = folder, starts
        self.writer: Any = None

    def __call__(self, record: Mapping[str, float | str]) -> None:
        """Write a record: "loss encoder" as loss/encoder, and so on. Raises OSError."""
        step = self.starts[str(record["phase"])] + int(record["step"])
        # Events from this step on were written before the checkpoint that the training resumes from.
        if self.writer is None:
            from torch.utils.tensorboard import SummaryWriter  # an extra, and it takes a second to import

            self.writer = SummaryWriter(self.folder, purge_step=step)

        for name, value in record.items():
            if name not in ("phase", "step"):
                self.writer.add_scalar(name.replace(" ", "/", 1), value, step)
        self.writer.flush()

    def close(self) -> None:
        """Close the file."""
        if self.writer is not None:
            self.writer.close()
