"""Pictures of one run, from the arrays that the evaluation stored: samples and reconstructions, or the grid's panel."""

import io
from pathlib import Path

import matplotlib as mpl

mpl.use("Agg")  # no screen is needed

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from evaluation import files, pictures

mpl.rcParams["text.parse_math"] = False  # titles that users write are no formulas


def tile(images: np.ndarray, columns: int) -> np.ndarray:
    """Return images (N, C, H, W) as one picture (H', W', C) in rows of `columns`, a pixel of light grey between them."""
    n, channels, height, width = images.shape
    rows = -(-n // columns)
    canvas = np.full((rows * (height + 1) + 1, columns * (width + 1) + 1, channels), 200, np.uint8)
    for i, image in enumerate(images):
        top, left = (i // columns) * (height + 1) + 1, (i % columns) * (width + 1) + 1
        canvas[top : top + height, left : left + width] = image.transpose(1, 2, 0)
    return canvas


def _show(axes: Axes, picture: np.ndarray, title: str) -> None:
    grey = picture.shape[2] == 1
    axes.imshow(picture[..., 0] if grey else picture, cmap="gray" if grey else None, vmin=0, vmax=255)
    axes.set_title(title)
    axes.axis("off")


def _save(figure: Figure, path: Path, dpi: int) -> None:
    """Write a picture, whole or not at all."""
    made = io.BytesIO()
    figure.savefig(made, format="png", dpi=dpi)
    plt.close(figure)
    files.replace(path, made.getvalue())


def images(arrays: dict[str, np.ndarray], title: str, path: Path) -> None:
    """Draw what there is of a 10x10 grid of samples and 10 rows of five pairs, original left, reconstruction right."""
    panels = {"samples": arrays["samples"]} if "samples" in arrays else {}
    if "reconstructions" in arrays:
        pairs = np.stack([arrays["x"], arrays["reconstructions"]], axis=1).reshape(-1, *arrays["x"].shape[1:])
        panels |= {"pairs: original, reconstruction": pairs}
    figure, row = plt.subplots(1, len(panels), figsize=(5.5 * len(panels), 5.8), layout="constrained", squeeze=False)
    for axes, (name, panel) in zip(row[0], panels.items(), strict=True):
        _show(axes, tile(panel, 10), name)
    figure.suptitle(title)
    _save(figure, path, dpi=120)


def plane(arrays: dict[str, np.ndarray], title: str, path: Path) -> None:
    """Draw the paper's panel: held-out data and their codes, both coloured by mode, reconstructions, samples."""
    x, y = arrays["x"], arrays["y"]
    limit = 1.15 * float(np.abs(x).max())
    panels = (
        ("held-out data", x, y, limit),
        *([("codes of the data, q(z|x)", arrays["codes"], y, 4.0)] if "codes" in arrays else []),
        *([("reconstructions", arrays["reconstructions"], y, limit)] if "reconstructions" in arrays else []),
        *([("samples", arrays["samples"], None, limit)] if "samples" in arrays else []),
    )
    figure, row = plt.subplots(1, len(panels), figsize=(3.75 * len(panels), 4.2), layout="constrained")
    for axes, (name, points, colours, extent) in zip(row, panels, strict=True):
        colour = {"color": "black"} if colours is None else {"c": colours * 7 % 25, "cmap": "turbo"}
        axes.scatter(points[:, 0], points[:, 1], s=1.5, linewidths=0, **colour)
        axes.set(title=name, xlim=(-extent, extent), ylim=(-extent, extent), aspect="equal")
    figure.suptitle(title)
    _save(figure, path, dpi=110)


def draw(folder: Path, title: str, path: Path) -> None:
    """Draw the picture of the run in `folder` from its arrays. Raises files.Damaged."""
    arrays = pictures.read(folder)
    (images if arrays["x"].ndim == 4 else plane)(arrays, title, path)
