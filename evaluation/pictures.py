"""What pictures are drawn from: arrays of samples, reconstructions, interpolations and codes. results/ draws them."""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from evaluation import files
from evaluation.base import Subject, as_uint8

VERSION = 1  # of their file
NAME = "arrays.safetensors"

SAMPLES = 100  # ALI's figures: a 10x10 grid
PAIRS = 50
POINTS = 5000
CODES = 1000  # of images, for the picture of the latent space
LINES, STEPS = {True: 8, False: 500}, 11  # interpolations between two images each, or two points, ends included


def arrays(subject: Subject) -> dict[str, Tensor]:
    """Return images as uint8 (N, C, H, W) or points (N, D), with the codes and classes of the same held-out data.

    Reconstructions go through drawn codes where the encoder draws, as in ALI's figures. A model that draws no samples has
    none, one without an encoder no codes and reconstructions. `latent` (N, L) are mean codes of held-out images, and
    `latent_y` their classes; of points, the codes are that. `interpolations` (LINES, STEPS, ...) are decoded from straight
    lines (ALI, section 4.2): from the code of one held-out x to that of the next but one, `x[0]` to `x[1]`, `x[2]` to
    `x[3]`; without an encoder from one draw of the prior to another.
    """
    model, images = subject.model, subject.data.images
    n = PAIRS if images else POINTS
    convert = as_uint8 if images else (lambda points: points)
    found = {"x": subject.held_out.x[:n], "y": subject.held_out.y[:n]}
    encodes, ends = model.inference != "none", None
    drawn = model.stochastic or model.draws_x
    if encodes and model.inverts:
        ends = subject.drawn_codes if drawn else subject.codes
        found["codes"] = ends[:n]
        found["reconstructions"] = convert((subject.drawn_reconstructions if drawn else subject.reconstructions)[:n])
    if encodes and images:
        found |= {"latent": subject.codes[:CODES], "latent_y": subject.held_out.y[:CODES]}
    if model.generative:
        found["samples"] = convert(subject.samples[: SAMPLES if images else POINTS])
        if ends is None and model.inverts and subject.prior_codes.shape[1]:
            ends = subject.prior_codes
    if ends is not None and len(ends) > 1:
        found["interpolations"] = convert(_interpolated(subject, ends[: 2 * LINES[images]]))
    return found


def _interpolated(subject: Subject, ends: Tensor) -> Tensor:
    """Return what lies between codes (N, L), taken two by two, for the labels of the first of the two."""
    first, second = ends[: len(ends) // 2 * 2].unflatten(0, (-1, 2)).unbind(1)
    share = torch.linspace(0, 1, STEPS)[None, :, None]
    codes = torch.lerp(first[:, None], second[:, None], share)
    y = subject.held_out.y[: len(ends) // 2 * 2 : 2].repeat_interleave(STEPS, 0)
    x = subject.batched(lambda z, y: subject.model.decode(z, y=y), codes.flatten(0, 1), y)
    return x.unflatten(0, (-1, STEPS))


def write(folder: Path, found: dict[str, Tensor]) -> None:
    """Keep a run's arrays in its folder. Raises OSError."""
    files.write_tensors(folder / NAME, "arrays", VERSION, found)


def read(folder: Path) -> dict[str, np.ndarray]:
    """Return the arrays of the run in `folder`. Raises files.Damaged, or OSError if there are none."""
    return {name: tensor.numpy() for name, tensor in files.read_tensors(folder / NAME, "arrays", VERSION)[0].items()}
