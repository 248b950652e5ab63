"""A round of updates as one CUDA graph, for networks so small that the host takes most of the time.

The first rounds run as they are. Then one is recorded, draws of noise and optimisers' steps included, and
replayed from then on: the host only copies in which samples the next batches hold. The numbers are the same
as without, but for the learning rate, which a recorded step reads in fp32.

A model that waits for the device (.item(), shapes that depend on data) cannot be recorded. It is trained
without, and a line says so. None of this has run yet: no GPU has been at hand (`nox -s gpu` compares it bit
for bit).
"""

import gc
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor

from alibench.evaluation.messages import say

# Rounds before one is recorded: libraries choose their kernels meanwhile, and optimisers make their state.
WARM = 3

Picks = Sequence[Sequence[Tensor]]  # for each batch of a round, the tensors that it is made of
MakeRound = Callable[[Picks], dict[str, Tensor]]  # returns mean losses and logits by name


class Recorded:
    """Makes the rounds of one trainer: a few as they are, then a recorded one, again and again.

    `rngs` are all generators that a round draws from. Every call passes the function: a reference to it would
    keep the trainer, whose memory on the device would then wait for Python's collector.
    """

    def __init__(self, rngs: Sequence[torch.Generator]) -> None:
        self.rngs, self.rounds = rngs, 0
        self.device = rngs[0].device
        self.stream = torch.cuda.Stream(self.device)
        self.graph: torch.cuda.CUDAGraph | None = None
        self.reason = ""  # why rounds are not recorded after all
        self.inputs: list[list[Tensor]] = []
        self.monitored: dict[str, Tensor] = {}

    def __call__(self, make_round: MakeRound, picks: Picks) -> dict[str, Tensor]:
        """Make a round; return what it monitors, valid until the next one."""
        with torch.cuda.device(self.device):
            if self.reason:
                return make_round(picks)
            if self.rounds < WARM:
                self.rounds += 1
                return self._warm(make_round, picks)
            if self.graph is None:
                return self._record(make_round, picks)

            # The graph reads its inputs where they were when it was recorded.
            for own, picked in zip(self.inputs, picks, strict=True):
                for tensor, value in zip(own, picked, strict=True):
                    tensor.copy_(value)
            self.graph.replay()
            return self.monitored

    def _warm(self, make_round: MakeRound, picks: Picks) -> dict[str, Tensor]:
        """Make a round on the stream that will be recorded, and check whether it waits for the device."""
        current = torch.cuda.current_stream()
        self.stream.wait_stream(current)
        with torch.cuda.stream(self.stream), _waits() as waits:
            monitored = make_round(picks)
        current.wait_stream(self.stream)
        if waits and self.rounds == WARM:  # what happens once, in the first rounds, may wait
            self._give_up(f"it waits for the device ({waits[0]})")
        return monitored

    def _record(self, make_round: MakeRound, picks: Picks) -> dict[str, Tensor]:
        """Record a round, which executes nothing, and replay it."""
        # Inputs that stay in place, and generators that can be put back if it fails.
        self.inputs = [[tensor.clone() for tensor in picked] for picked in picks]
        graph, current = torch.cuda.CUDAGraph(), torch.cuda.current_stream()
        spare = [rng.clone_state() for rng in self.rngs]
        for rng in self.rngs:
            graph.register_generator_state(rng)

        # Other threads may allocate meanwhile (streamed data): "thread_local".
        capture = torch.cuda.graph(graph, stream=self.stream, capture_error_mode="thread_local")
        try:
            with _uncollected(), capture:
                self.monitored = make_round(self.inputs)
        except Exception as error:  # whatever a model does that a graph cannot hold
            torch.cuda.set_stream(current)
            for rng, state in zip(self.rngs, spare, strict=True):
                rng.graphsafe_set_state(state)
            self._give_up((str(error).splitlines() or [type(error).__name__])[0])
            return make_round(picks)

        self.graph = graph
        graph.replay()
        return self.monitored

    def _give_up(self, reason: str) -> None:
        """Record nothing from now on, and report why."""
        self.reason, self.inputs = reason, []
        say(f"a round cannot be recorded: {reason}; it is trained without (execution=eager)")


@contextmanager
def _waits() -> Iterator[list[str]]:
    """Collect the places that wait for the device meanwhile, each as FILE:LINE."""
    places: list[str] = []
    mode = torch.cuda.get_sync_debug_mode()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        try:
            yield places
        finally:
            torch.cuda.set_sync_debug_mode(mode)

    # Keep the rest of the warnings.
    for warning in caught:
        text = str(warning.message)
        if "synchronizing CUDA operation" in text:
            places.append(f"{warning.filename}:{warning.lineno}")
        elif "capturable" not in text:  # Adam's, that these rounds are not recorded
            warnings.warn_explicit(warning.message, warning.category, warning.filename, warning.lineno)


@contextmanager
def _uncollected() -> Iterator[None]:
    """Keep Python's collector from freeing another graph while one is recorded, which would spoil it."""
    gc.collect()
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()
