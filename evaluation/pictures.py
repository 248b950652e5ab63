"""What pictures are drawn from: arrays of samples, reconstructions and codes. results/ draws them."""

import numpy as np

from evaluation.base import Subject, as_uint8

SAMPLES = 100  # ALI's figures: a 10x10 grid
PAIRS = 50
POINTS = 5000


def arrays(subject: Subject) -> dict[str, np.ndarray]:
    """Return images as uint8 (N, C, H, W) or points (N, D), with the codes and classes of the same held-out data.

    Reconstructions go through drawn codes where the encoder draws, as in ALI's figures. A model that draws no samples has
    none.
    """
    x, y = subject.held_out.x, subject.held_out.y
    n = PAIRS if subject.data.images else POINTS
    drawn = subject.model.stochastic or bool(subject.model.decoder.noise)
    codes = (subject.drawn_codes if drawn else subject.codes)[:n]
    reconstructions = (subject.drawn_reconstructions if drawn else subject.reconstructions)[:n]
    convert = as_uint8 if subject.data.images else (lambda points: points)
    samples = {}
    if subject.model.generative:
        samples = {"samples": convert(subject.samples[: SAMPLES if subject.data.images else POINTS]).numpy()}
    return {
        "x": x[:n].numpy(),
        "y": y[:n].numpy(),
        "codes": codes.numpy(),
        "reconstructions": convert(reconstructions).numpy(),
        **samples,
    }
