"""Random numbers by seed and purpose."""

import hashlib

import numpy as np
import torch


def generator(seed: int, purpose: str, device: torch.device | str = "cpu") -> torch.Generator:
    """Return a seed's random stream for one purpose, independent of its streams for others."""
    # Python's own hash differs from process to process.
    key = int.from_bytes(hashlib.sha256(purpose.encode()).digest()[:4])
    state = np.random.SeedSequence([seed, key]).generate_state(1, np.uint64)[0]
    return torch.Generator(device).manual_seed(int(state) >> 1)
