"""Samples of a trained run in files: a folder of pictures, an .npz of arrays, all of them in one picture."""

import io
import math
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from alibench.benchmarks.running import outputs
from alibench.benchmarks.running.trained import TrainedRun
from alibench.evaluation import files
from alibench.evaluation.data import as_uint8, unfit
from alibench.evaluation.errors import BadInput
from alibench.evaluation.seeds import generator
from alibench.models.base import Model
from alibench.results import pixels

ARRAYS, PICTURE = ".npz", ".png"  # what a file's name ends in
BATCH = 100  # samples that are drawn at once: all of them always, so that few are the first of many
SHOWN = 2500  # samples that one picture shows
WIDE = 32  # pixels that a sample there is wide, at least


@dataclass(frozen=True)
class SamplePlaces:
    """Where samples are written. Raises BadInput for a place that is taken, or cannot be one."""

    out: Path | None  # a new folder, or a new .npz
    grid: Path | None  # a new .png

    def __post_init__(self) -> None:
        if not self.out and not self.grid:
            raise BadInput(
                "nothing to write: name a folder or FILE.npz by --out, FILE.png by --grid, or both"
            )
        if self.grid and self.grid.suffix.lower() != PICTURE:
            raise BadInput(f"--grid {self.grid}: a picture is written as PNG: name a file that ends in .png")
        for option, path in (("--out", self.out), ("--grid", self.grid)):
            if path:
                check_new(path, option, self.is_folder and path is self.out)
        # The first to be written would be in the way of the second.
        if self.out and self.grid and self.out.resolve() == self.grid.resolve():
            raise BadInput(f"--out and --grid are both {self.out}: name two places")

    @property
    def is_folder(self) -> bool:
        """Whether samples become a picture each."""
        return self.out is not None and self.out.suffix.lower() != ARRAYS

    def check(self, run: TrainedRun, n: int) -> None:
        """Refuse what n samples of a run cannot be written to. Raises BadInput."""
        shape, dataset = run.origin["data_shape"], run.origin["config"]["dataset"]
        # Points are numbers, whatever their dimension.
        if len(shape) == 1 and (self.grid or self.is_folder):
            option = f"--out {self.out}" if self.is_folder else f"--grid {self.grid}"
            raise BadInput(
                f"{option}: samples of '{run.origin['dataset']}' are points, of which no picture is made: "
                "name FILE.npz by --out"
            )
        # Samples among the data would be taken for data.
        for option, path in (("--out", self.out), ("--grid", self.grid)):
            if path:
                outputs.check_apart(path, [dataset], option)
                outputs.check_space(path, n * math.prod(shape))


def check_new(path: Path, option: str, empty: bool) -> None:
    """Refuse a place that holds something; `empty`: an empty folder may be there. Raises BadInput."""
    if not path.parent.is_dir():
        raise BadInput(f"{option} {path}: there is no folder {path.parent}: make it, or name another place")
    # a link leads elsewhere, even to an empty folder
    vacant = empty and path.is_dir() and not path.is_symlink() and not any(path.iterdir())
    if os.path.lexists(path) and not vacant:
        raise BadInput(f"{option} {path} is there already: name a new place; nothing was touched")


# -------------------- drawing


@dataclass(frozen=True)
class DrawnSamples:
    """Samples x: uint8 images (N, C, H, W) or float32 points (N, D); their codes z (N, latent); classes (N,).

    The codes are (N, 0) where a model does not tell them, the classes None unless it is conditional.
    """

    x: np.ndarray
    z: np.ndarray
    y: np.ndarray | None


def draw(model: Model, run: TrainedRun, n: int, seed: int, device: torch.device) -> DrawnSamples:
    """Return n samples of a run's model: for a seed the same ones, and the first of any larger n.

    A conditional model gets its classes in turn. Raises BadInput for a model that draws none, for one that is
    told attributes, and for samples that are not finite.
    """
    # What it cannot draw.
    run_id = run.origin["run_id"]
    if not model.generative:
        raise BadInput(f"{run_id}: {run.origin['title']} draws no samples, since its codes follow no prior")
    classes = _classes(run) if model.conditional else 0

    # A stream of its own, which no number of the evaluation depends on.
    rng = generator(seed, "samples in files", device)
    parts: dict[str, list[torch.Tensor]] = {"x": [], "z": [], "y": []}

    for start in range(0, n, BATCH):
        y = torch.arange(start, start + BATCH, device=device) % classes if classes else None
        with torch.no_grad():
            z, x = model.generate(BATCH, rng, y)
        left, images = n - start, x.dim() == 4
        if reason := unfit(x[:left], images):
            raise BadInput(f"samples of {run_id} cannot be written: {reason}")

        # Few bytes each, since there may be a million.
        for name, part in (("x", as_uint8(x) if images else x), ("z", z), ("y", y)):
            if part is not None:
                parts[name].append(part[:left].cpu())
    joined = {name: torch.cat(kept).numpy() for name, kept in parts.items() if kept}
    return DrawnSamples(joined["x"], joined["z"], joined.get("y"))


def _classes(run: TrainedRun) -> int:
    """Return how many classes a conditional model is told. Raises BadInput for attributes."""
    if run.attributes:
        remedy = "choose them in Python, load_run(DIR).sample(n, rng, y)"
        raise BadInput(f"{run.origin['run_id']} is told attributes, which do not take turns: {remedy}")
    return int(run.origin["data_labels"])


# -------------------- writing


def write(samples: DrawnSamples, places: SamplePlaces) -> None:
    """Write samples to their places, each whole or not at all. Raises OSError."""
    # A picture each, or arrays by the names that data have.
    if places.out and places.is_folder:
        _write_pictures(samples.x, places.out)
    elif places.out:
        arrays: dict[str, Any] = {"x": samples.x, "z": samples.z}
        file = io.BytesIO()
        np.savez(file, **arrays | ({} if samples.y is None else {"y": samples.y}))
        files.replace(places.out, file.getvalue())

    if places.grid:
        files.replace(places.grid, square(samples.x[:SHOWN]))


def square(images: np.ndarray) -> bytes:
    """Return uint8 images (N, C, H, W) as a PNG, in a square whose last row is perhaps not full."""
    times = -(-WIDE // images.shape[3])  # a small picture's pixel becomes a square
    shown = images.repeat(times, 2).repeat(times, 3)
    return pixels.png(pixels.tile(shown, math.ceil(math.sqrt(len(shown)))))


def _write_pictures(images: np.ndarray, folder: Path) -> None:
    """Write images (N, C, H, W) as 00000.png, 00001.png, ... into a new folder. Raises OSError."""
    with files.new_folder(folder) as part:
        for number, image in enumerate(images):
            with (part / f"{number:05d}{PICTURE}").open("xb") as file:
                file.write(pixels.png(image.transpose(1, 2, 0)))
                # a folder that is renamed into its place must be whole even if the machine fails
                file.flush()
                os.fsync(file.fileno())
