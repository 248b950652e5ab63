"""What pictures are drawn from: arrays of samples, reconstructions, interpolations and codes. results/ draws
them.
"""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from alibench.evaluation import files
from alibench.evaluation.data import as_uint8
from alibench.evaluation.files import Damaged
from alibench.evaluation.subject import Subject

VERSION = 1  # of their file
NAME = "arrays.safetensors"

SAMPLES = 100  # ALI's figures: a 10x10 grid
PAIRS = 50
POINTS = 5000
CODES = 1000  # of images, for the picture of the latent space
LARGEST_SIDE = 2048  # pixels of an image that is drawn
FLOATS, LABELS = (torch.float16, torch.float32, torch.float64), (torch.int32, torch.int64, torch.uint8)
LINES, STEPS = (
    {True: 8, False: 500},
    11,
)  # interpolations between two images each, or two points, ends included


def arrays(subject: Subject) -> dict[str, Tensor]:
    """Return images as uint8 (N, C, H, W) or points (N, D), with the codes and classes of the same held-out
    data.

    Reconstructions go through drawn codes where the encoder draws, as in ALI's figures. A model that draws no
    samples has none, one without an encoder no codes and reconstructions. `latent` (N, L) are mean codes of
    held-out images, and `latent_y` their classes; of points, the codes are that. `interpolations` (LINES,
    STEPS, ...) are decoded from straight lines (ALI, section 4.2): from the code of one held-out x to that of
    the next but one, `x[0]` to `x[1]`, `x[2]` to `x[3]`; without an encoder from one draw of the prior to
    another.
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
        found["reconstructions"] = convert(
            (subject.drawn_reconstructions if drawn else subject.reconstructions)[:n]
        )
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
    found = files.read_tensors(folder / NAME, "arrays", VERSION)[0]
    if problem := _unlike(found):
        raise Damaged(f"{folder / NAME} is not what alibench writes ({problem})")
    return {name: tensor.numpy() for name, tensor in found.items()}


def _unlike(found: Mapping[str, Tensor]) -> str:
    """Say what keeps tensors from being what `arrays` returns; nothing, if they are that."""
    known = {"x", "y", "codes", "reconstructions", "latent", "latent_y", "interpolations", "samples"}
    if unknown := sorted(found.keys() - known):
        return f"unknown array '{unknown[0]}'"
    if {"x", "y"} - found.keys() or ("latent" in found) != ("latent_y" in found):
        return "x, or the classes of x or of latent, are not there"
    x = found["x"]
    own, images = x.shape[1:], x.dim() == 4
    if images:
        fits = x.dtype == torch.uint8 and own[0] in (1, 3) and max(own[1:]) <= LARGEST_SIDE
    else:
        fits = x.dim() == 2 and own[0] > 1 and x.dtype in FLOATS and bool(x.isfinite().all())
    shapes = {
        "x": (None, *own),
        "reconstructions": (*x.shape[:1], *own),
        "samples": (None, *own),
        "interpolations": (None, STEPS, *own),
        "codes": (*x.shape[:1], None),
        "latent": (None, None),
    }
    for name, tensor in found.items():
        if name in shapes:
            kinds = (torch.uint8,) if images and name not in ("codes", "latent") else FLOATS
            fits = fits and tensor.dtype in kinds and _has_shape(tensor, shapes[name])
        else:
            of = found["x" if name == "y" else "latent"]
            fits = (
                fits
                and tensor.dtype in LABELS
                and tensor.dim() in (1, 2)
                and tensor.shape[:1] == of.shape[:1]
            )
            fits = fits and bool((tensor >= 0).all() or (tensor == -1).all())
        if not fits or not tensor.numel() or len(tensor) > POINTS:
            return f"{name} is {_told(tensor)}, x {_told(x)}"
    if (
        images
        and {"interpolations", "reconstructions"} <= found.keys()
        and 2 * len(found["interpolations"]) > len(x)
    ):
        return "there are more interpolations than images to go between"
    return ""


def _has_shape(tensor: Tensor, shape: tuple[int | None, ...]) -> bool:
    return tensor.dim() == len(shape) and all(
        side in (None, own) for side, own in zip(shape, tensor.shape, strict=True)
    )


def _told(tensor: Tensor) -> str:
    return f"{str(tensor.dtype).removeprefix('torch.')} of shape {tuple(tensor.shape)}"
