"""Arrays that pictures are drawn from: samples, reconstructions, interpolations and codes."""

from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from alibench.evaluation import sealed
from alibench.evaluation.data import as_uint8
from alibench.evaluation.files import Damaged
from alibench.evaluation.subject import Subject

VERSION = 1  # of their file
NAME = "arrays.safetensors"

SAMPLES = 100  # ALI's figures: a 10x10 grid
PAIRS = 50
POINTS = 5000
CODES = 1000  # of images, for the picture of the latent space
EXTREMES = 8  # images of the largest error, and as many of the smallest
LARGEST_SIDE = 2048  # pixels of an image that is drawn
FLOATS, LABELS = (torch.float16, torch.float32, torch.float64), (torch.int32, torch.int64, torch.uint8)
# interpolations between two images (True) or two points each, and steps, ends included
LINES, STEPS = {True: 8, False: 500}, 11


def arrays(subject: Subject) -> dict[str, Tensor]:
    """Return images as uint8 (N, C, H, W) or points (N, D), with codes and classes of the same held-out data.

    Reconstructions go through drawn codes where the encoder draws, as in ALI's figures. A model that draws no
    samples has none, one without an encoder no codes and reconstructions. `latent` (N, L) are mean codes of
    held-out images, and `latent_y` their classes; points have `codes` for that. `interpolations` (LINES,
    STEPS, ...) are decoded from straight lines (ALI, section 4.2): from the code of one held-out x to the
    code of the next but one, `x[0]` to `x[1]`, `x[2]` to `x[3]`; without an encoder from one draw of the
    prior to another.
    """
    # The first of the split, which is in random order.
    model, images, held_out = subject.model, subject.data.images, subject.held_out
    n = PAIRS if images else POINTS
    convert = as_uint8 if images else (lambda points: points)
    arrays = {"x": held_out.x[:n], "y": held_out.y[:n]}
    encodes, ends = model.inference != "none", None

    # Codes and reconstructions.
    if encodes and model.inverts:
        drawn = model.stochastic or model.draws_x
        ends = subject.drawn_codes if drawn else subject.codes
        x_hat = subject.drawn_reconstructions if drawn else subject.reconstructions
        arrays |= {"codes": ends[:n], "reconstructions": convert(x_hat[:n])}
    if encodes and images:
        arrays |= {"latent": subject.codes[:CODES], "latent_y": held_out.y[:CODES]}

    # Samples.
    if model.generative:
        arrays["samples"] = convert(subject.samples[: SAMPLES if images else POINTS])
        if ends is None and model.inverts and subject.prior_codes.shape[1]:
            ends = subject.prior_codes

    if ends is not None and len(ends) > 1:
        arrays["interpolations"] = convert(_interpolated(subject, ends[: 2 * LINES[images]]))
    return arrays


def extremes(errors: np.ndarray) -> np.ndarray:
    """Return which of some errors (N,) are the largest, from the largest on, then the smallest as many.

    They are 2 EXTREMES, of fewer errors all but perhaps one; of equal ones the first counts as larger.
    """
    n = min(EXTREMES, len(errors) // 2)
    order = np.argsort(-errors, kind="stable")
    return np.concatenate([order[:n], order[::-1][:n]])


def extreme_arrays(subject: Subject, errors: Tensor) -> dict[str, Tensor]:
    """Return the images of `extremes` and their reconstructions through mean codes, uint8 (n, C, H, W).

    `errors` (N,) are those of the held-out split. Of points, and of fewer than two images, there are none.
    """
    chosen = torch.from_numpy(extremes(errors.numpy()))
    if not subject.data.images or not len(chosen):
        return {}
    return {
        "extremes": subject.held_out.x[chosen],
        "extreme_reconstructions": as_uint8(subject.reconstructions[chosen]),
    }


def _interpolated(subject: Subject, ends: Tensor) -> Tensor:
    """Return x between codes (N, L), taken two by two, for the labels of the first of the two."""
    first, second = ends[: len(ends) // 2 * 2].unflatten(0, (-1, 2)).unbind(1)
    # the ends are among the steps
    share = torch.linspace(0, 1, STEPS)[None, :, None]
    codes = torch.lerp(first[:, None], second[:, None], share)

    y = subject.held_out.y[: len(ends) // 2 * 2 : 2].repeat_interleave(STEPS, 0)
    x = subject.batched(lambda z, y: subject.model.decode(z, y=y), codes.flatten(0, 1), y)
    return x.unflatten(0, (-1, STEPS))


def write(folder: Path, arrays: dict[str, Tensor]) -> None:
    """Keep a run's arrays in its folder. Raises OSError."""
    sealed.write_tensors(folder / NAME, "arrays", VERSION, arrays)


def read(folder: Path) -> dict[str, np.ndarray]:
    """Return the arrays of the run in `folder`. Raises files.Damaged, or OSError if there are none."""
    arrays = sealed.read_tensors(folder / NAME, "arrays", VERSION)[0]
    if problem := _problem(arrays):
        raise Damaged(f"{folder / NAME} is not what alibench writes ({problem})")
    return {name: tensor.numpy() for name, tensor in arrays.items()}


# -------------------- checks of a file that somebody else may have written


def _problem(arrays: Mapping[str, Tensor]) -> str:
    """Say what keeps tensors from being the return value of `arrays`; nothing, if they could be."""
    known = {"x", "y", "codes", "reconstructions", "latent", "latent_y", "interpolations", "samples"}
    if unknown := sorted(arrays.keys() - known - {"extremes", "extreme_reconstructions"}):
        return f"unknown array '{unknown[0]}'"
    if {"x", "y"} - arrays.keys() or ("latent" in arrays) != ("latent_y" in arrays):
        return "x, or the classes of x or of latent, are not there"
    if ("extremes" in arrays) != ("extreme_reconstructions" in arrays):
        return "extremes, or their reconstructions, are not there"

    # Each array by itself, then what two of them must have in common.
    x = arrays["x"]
    if misfit := next(_misfits(arrays), ""):
        return f"{misfit} is {_described(arrays[misfit])}, x {_described(x)}"
    pairs = x.dim() == 4 and {"interpolations", "reconstructions"} <= arrays.keys()
    if pairs and 2 * len(arrays["interpolations"]) > len(x):
        return "there are more interpolations than images to go between"
    return ""


def _misfits(arrays: Mapping[str, Tensor]) -> Iterator[str]:
    """Yield the arrays whose type, shape or values do not go with x."""
    # all arrays go with x, which must be what can be drawn
    x = arrays["x"]
    one, images = x.shape[1:], x.dim() == 4
    if images:
        drawable = x.dtype == torch.uint8 and one[0] in (1, 3) and max(one[1:]) <= LARGEST_SIDE
    else:
        drawable = x.dim() == 2 and one[0] > 1 and x.dtype in FLOATS and bool(x.isfinite().all())
    shapes = {
        "x": (None, *one),
        "reconstructions": (*x.shape[:1], *one),
        "samples": (None, *one),
        "extremes": (None, *one),
        "extreme_reconstructions": (*arrays.get("extremes", x).shape[:1], *one),
        "interpolations": (None, STEPS, *one),
        "codes": (*x.shape[:1], None),
        "latent": (None, None),
    }

    # labels have the length of what they belong to
    for name, tensor in arrays.items():
        if name in shapes:
            kinds = (torch.uint8,) if images and name not in ("codes", "latent") else FLOATS
            fits = tensor.dtype in kinds and _has_shape(tensor, shapes[name])
        else:
            labelled = arrays["x" if name == "y" else "latent"]
            fits = tensor.dtype in LABELS and tensor.dim() in (1, 2)
            fits = fits and tensor.shape[:1] == labelled.shape[:1]
            fits = fits and bool((tensor >= 0).all() or (tensor == -1).all())
        if not (drawable and fits) or not tensor.numel() or len(tensor) > POINTS:
            yield name


def _has_shape(tensor: Tensor, shape: tuple[int | None, ...]) -> bool:
    sides = zip(shape, tensor.shape, strict=True)
    return tensor.dim() == len(shape) and all(wanted in (None, side) for wanted, side in sides)


def _described(tensor: Tensor) -> str:
    return f"{str(tensor.dtype).removeprefix('torch.')} of shape {tuple(tensor.shape)}"
