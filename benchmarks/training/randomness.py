"""torch's global generators, which a user's networks draw from: first weights, nn.Dropout, torch.randn_like.

Whatever the project draws itself comes from other generators, one a purpose (evaluation/seeds.py).
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seed the generators of the CPU and of the GPUs in use; afterwards restore them."""
    gpus = range(torch.cuda.device_count()) if torch.cuda.is_initialized() else ()
    with torch.random.fork_rng(gpus):
        # torch.manual_seed keeps a call stack, too, for each kind of accelerator that a machine lacks
        torch.default_generator.manual_seed(seed)
        if torch.cuda.is_available():
            torch.cuda.manual_seed_all(seed)
        if torch.backends.mps.is_available():
            torch.mps.manual_seed(seed)
        yield


def states(device: torch.device) -> list[Tensor]:
    """Return the states of the CPU's generator and of the device's, if it is a GPU."""
    return [torch.get_rng_state(), *([torch.cuda.get_rng_state(device)] if device.type == "cuda" else [])]


def restore(states: Sequence[Tensor], device: torch.device) -> None:
    """Restore the generators from what `states` returned."""
    torch.set_rng_state(states[0])
    if device.type == "cuda":
        torch.cuda.set_rng_state(states[1], device)
