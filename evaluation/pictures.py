"""What pictures are drawn from: arrays of samples, reconstructions and codes. results/ draws them."""

import numpy as np

from evaluation.base import Subject, as_uint8

SAMPLES = 100  # ALI's figures: a 10x10 grid
PAIRS = 50
POINTS = 5000


def arrays(subject: Subject) -> dict[str, np.ndarray]:
    """Return images as uint8 (N, C, H, W) or points (N, D), with the codes and classes of the same held-out data.

    Reconstructions go through drawn codes where the encoder draws, as in ALI's figures.
    """
    x, y = subject.held_out.x, subject.held_out.y
    n = PAIRS if subject.data.images else POINTS
    codes = subject.drawn_codes[:n] if subject.model.stochastic else subject.codes[:n]
    reconstructions = subject.batched(subject.model.decode, codes)
    samples = subject.samples[: SAMPLES if subject.data.images else POINTS]
    convert = as_uint8 if subject.data.images else (lambda points: points)
    return {
        "x": x[:n].numpy(),
        "y": y[:n].numpy(),
        "codes": codes.numpy(),
        "reconstructions": convert(reconstructions).numpy(),
        "samples": convert(samples).numpy(),
    }
