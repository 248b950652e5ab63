"""What pictures are drawn from: arrays of samples, reconstructions and codes. results/ draws them."""

from pathlib import Path

import numpy as np
from torch import Tensor

from evaluation import files
from evaluation.base import Subject, as_uint8

VERSION = 1  # of their file
NAME = "arrays.safetensors"

SAMPLES = 100  # ALI's figures: a 10x10 grid
PAIRS = 50
POINTS = 5000


def arrays(subject: Subject) -> dict[str, Tensor]:
    """Return images as uint8 (N, C, H, W) or points (N, D), with the codes and classes of the same held-out data.

    Reconstructions go through drawn codes where the encoder draws, as in ALI's figures. A model that draws no samples has
    none, one without an encoder no codes and reconstructions.
    """
    model = subject.model
    n = PAIRS if subject.data.images else POINTS
    convert = as_uint8 if subject.data.images else (lambda points: points)
    found = {"x": subject.held_out.x[:n], "y": subject.held_out.y[:n]}
    if model.inference != "none" and model.inverts:
        drawn = model.stochastic or model.draws_x
        found["codes"] = (subject.drawn_codes if drawn else subject.codes)[:n]
        found["reconstructions"] = convert((subject.drawn_reconstructions if drawn else subject.reconstructions)[:n])
    if model.generative:
        found["samples"] = convert(subject.samples[: SAMPLES if subject.data.images else POINTS])
    return found


def write(folder: Path, found: dict[str, Tensor]) -> None:
    """Keep a run's arrays in its folder. Raises OSError."""
    files.write_tensors(folder / NAME, "arrays", VERSION, found)


def read(folder: Path) -> dict[str, np.ndarray]:
    """Return the arrays of the run in `folder`. Raises files.Damaged, or OSError if there are none."""
    return {name: tensor.numpy() for name, tensor in files.read_tensors(folder / NAME, "arrays", VERSION)[0].items()}
