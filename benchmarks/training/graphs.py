"""A round of updates as one CUDA graph, for networks so small that the host is what takes the time.

The first rounds run as they are. Then one is recorded, draws of noise and optimisers' steps included, and
replayed from then on: all that the host still does is to copy in which samples the next batches hold. The
numbers are those of rounds that are not recorded, but for the learning rate, which a recorded step reads in
fp32. None of this has run yet: no GPU has been at hand (`nox -s gpu` shows it bit for bit).

A model that waits for the device (.item(), shapes that depend on data) cannot be recorded. It is trained
without, and a line says so.
"""

import gc
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor

from alibench.evaluation.messages import say

# rounds as they are, before one is recorded: libraries choose their kernels and optimisers make their state
WARM = 3

Picks = Sequence[Sequence[Tensor]]  # for each batch of a round, the tensors that say what it holds
Play = Callable[[Picks], dict[str, Tensor]]  # makes a round of them; returns what was monitored


class Recorded:
    """Plays rounds of one trainer: a few as they are, then one recorded, again and again.

    `rngs` are all generators that a round draws from. It is given the function at every call, since one that
    it kept would keep the trainer, whose memory on the device would then wait for Python's collector.
    """

    def __init__(self, rngs: Sequence[torch.Generator]) -> None:
        self.rngs, self.rounds = rngs, 0
        self.device = rngs[0].device
        self.stream = torch.cuda.Stream(self.device)
        self.graph: torch.cuda.CUDAGraph | None = None
        self.reason = ""  # why rounds are not recorded after all
        self.inputs: list[list[Tensor]] = []
        self.monitored: dict[str, Tensor] = {}

    def __call__(self, play: Play, picks: Picks) -> dict[str, Tensor]:
        """Make a round; return what was monitored, valid until the next one."""
        with torch.cuda.device(self.device):
            if self.reason:
                return play(picks)
            if self.rounds < WARM:
                self.rounds += 1
                return self._warm(play, picks)
            if self.graph is None:
                return self._record(play, picks)
            for own, picked in zip(self.inputs, picks, strict=True):
                for tensor, value in zip(own, picked, strict=True):
                    tensor.copy_(value)
            self.graph.replay()
            return self.monitored

    def _warm(self, play: Play, picks: Picks) -> dict[str, Tensor]:
        """Make a round on the stream that will be recorded, and look whether it waits for the device."""
        current = torch.cuda.current_stream()
        self.stream.wait_stream(current)
        with torch.cuda.stream(self.stream), _waits() as waits:
            monitored = play(picks)
        current.wait_stream(self.stream)
        if waits and self.rounds == WARM:  # what is made once, in the first rounds, may wait
            self._leave(f"it waits for the device ({waits[0]})")
        return monitored

    def _record(self, play: Play, picks: Picks) -> dict[str, Tensor]:
        """Record a round, which executes nothing, and replay it."""
        self.inputs = [[tensor.clone() for tensor in picked] for picked in picks]
        graph, current = torch.cuda.CUDAGraph(), torch.cuda.current_stream()
        spare = [rng.clone_state() for rng in self.rngs]
        for rng in self.rngs:
            graph.register_generator_state(rng)
        try:
            # other threads may allocate meanwhile (data that are streamed)
            with (
                _uncollected(),
                torch.cuda.graph(graph, stream=self.stream, capture_error_mode="thread_local"),
            ):
                self.monitored = play(self.inputs)
        except Exception as error:  # whatever the model does that a graph cannot hold
            torch.cuda.set_stream(current)
            for rng, state in zip(self.rngs, spare, strict=True):
                rng.graphsafe_set_state(state)
            self._leave((str(error).splitlines() or [type(error).__name__])[0])
            return play(picks)
        self.graph = graph
        graph.replay()
        return self.monitored

    def _leave(self, reason: str) -> None:
        """Record nothing from now on, and say why."""
        self.reason, self.inputs = reason, []
        say(f"a round cannot be recorded: {reason}; it is trained without (execution=eager)")


@contextmanager
def _waits() -> Iterator[list[str]]:
    """Collect what waits for the device meanwhile, a line each."""
    found: list[str] = []
    mode = torch.cuda.get_sync_debug_mode()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        try:
            yield found
        finally:
            torch.cuda.set_sync_debug_mode(mode)
    for warning in caught:
        text = str(warning.message)
        if "synchronizing CUDA operation" in text:
            found.append(f"{warning.filename}:{warning.lineno}")
        elif "capturable" not in text:  # of Adam, that these rounds are not recorded
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
