"""A round of updates as one CUDA graph, for networks so small that the host is what takes the time.

Never run yet: no GPU has been at hand. So it is asked for by name (`recipe.execution = "graphs"`).
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from models.base import Batch

WARM = 3  # rounds as they are, before one is recorded: libraries choose their kernels and optimisers make their state


def tensors(batches: Sequence[Batch]) -> list[Tensor]:
    """Return all tensors of some batches, in order."""
    parts = [(b.x, *b.noise.values(), *(() if b.y is None else (b.y,)), *(b.labelled or ())) for b in batches]
    return [tensor for part in parts for tensor in part]


class Recorded:
    """Calls `advance` for a few rounds, records one, and replays it from then on with what the batches hold."""

    def __init__(self, advance: Callable[[Sequence[Batch]], dict[str, Tensor]]) -> None:
        self.advance, self.rounds = advance, 0
        self.stream = torch.cuda.Stream()
        self.graph: torch.cuda.CUDAGraph | None = None
        self.inputs: list[Tensor] = []
        self.monitored: dict[str, Tensor] = {}

    def __call__(self, batches: Sequence[Batch]) -> dict[str, Tensor]:
        """Move on; return what was monitored, valid until the next round."""
        if self.rounds < WARM:
            self.rounds += 1
            self.stream.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(self.stream):
                found = self.advance(batches)
            torch.cuda.current_stream().wait_stream(self.stream)
            return found
        if self.graph is None:
            self.graph, self.inputs = torch.cuda.CUDAGraph(), tensors(batches)
            with torch.cuda.graph(self.graph):
                self.monitored = self.advance(batches)
        else:
            torch._foreach_copy_(self.inputs, tensors(batches))
        self.graph.replay()
        return self.monitored
