"""Pictures of a trained model, from its arrays (evaluation/pictures.py) and its curves."""

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from alibench.results.drawing import COLOURS, INK, fonts, inches, legend, styled

# isort: split
import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image
from sklearn.decomposition import PCA
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

from alibench.evaluation import files, pictures
from alibench.results.pixels import Picture, embedded, pairs, tile

BROAD = 800  # pixels of the page that a broad figure takes
FLAT = 1e-9  # of the largest code: below this a number of the code does not vary

Panel = tuple[str, np.ndarray, slice]  # title, points (N, 2), and which of the codes they are


def _colours(y: np.ndarray) -> dict[str, Any]:
    """Return how points with classes y are coloured: neighbours in number apart; no classes, one colour."""
    if y.ndim > 1 or (y < 0).all():
        return {"color": COLOURS[0]}
    if y.max() < 10:
        return {"c": y, "cmap": "tab10", "vmin": 0, "vmax": 9}
    return {"c": y * 7 % (y.max() + 1), "cmap": "turbo"}


def plane(arrays: Mapping[str, np.ndarray], across: int = 4, size: float = 3.4) -> Figure:
    """Draw ALI's panel of a toy: held-out data and their codes, coloured by mode, reconstructions, samples.

    Panels are `size` inches wide, `across` in a row.
    """
    x, codes, colour = arrays["x"], arrays.get("codes"), _colours(arrays["y"])
    # What there is: a GAN has no codes, and so no reconstructions.
    limit = 1.15 * float(np.abs(x).max())
    panels = [("held-out data", x, limit, colour)]
    if codes is not None and codes.shape[1] > 1:
        panels.append(("codes of the data, q(z|x)", codes, 4.0, colour))
    if "reconstructions" in arrays:
        panels.append(("reconstructions", arrays["reconstructions"], limit, colour))
    if "samples" in arrays:
        panels.append(("samples", arrays["samples"], limit, {"color": "#777777"}))

    # One grid, the last places empty.
    across = min(across, len(panels))
    down = -(-len(panels) // across)
    with styled():
        figure = Figure(figsize=(size * across, (size + 0.1) * down))
        # by hand: a layout engine takes several times as long
        figure.subplots_adjust(0.2 / across, 0.15 / down, 1 - 0.05 / across, 0.88, 0.25, 0.25)
        grid = figure.subplots(down, across, squeeze=False)
        for axes in grid.flat[len(panels) :]:
            axes.axis("off")
        for axes, (title, points, extent, colours) in zip(grid.flat, panels, strict=False):
            axes.scatter(points[:, 0], points[:, 1], s=2.5, linewidths=0, rasterized=True, **colours)
            axes.set(title=title, aspect="equal")
            axes.locator_params(nbins=3)
            axes.set(xlim=(-extent, extent), ylim=(-extent, extent))
    return figure


def walk(arrays: Mapping[str, np.ndarray]) -> Picture:
    """Return interpolations between points (N, STEPS, 2), one frame below the other."""
    lines = arrays["interpolations"]
    limit, size, steps = 1.15 * float(np.abs(arrays["x"]).max()), 2.6, lines.shape[1]
    with styled():
        figure = Figure(figsize=(size, size * steps), dpi=90)
        axes = figure.add_axes((0, 0, 1, 1))
        for step in range(steps):
            # points outside the frame would fall into the next one
            data, decoded = (arrays["x"][:1500], 1, COLOURS[6]), (lines[:, step], 4, COLOURS[0])
            for points, mark, colour in (data, decoded):
                seen = points[(np.abs(points) < limit).all(1)]
                axes.scatter(seen[:, 0], seen[:, 1] - 2 * limit * step, s=mark, color=colour, linewidths=0)
        axes.set(xlim=(-limit, limit), ylim=(limit - 2 * limit * steps, limit))
        axes.axis("off")
        file = io.BytesIO()
        figure.savefig(file, format="png", transparent=True)
    return embedded(Image.open(file).quantize(32))


def latent(codes: np.ndarray, y: np.ndarray, names: Sequence[str] = ()) -> tuple[Figure, str]:
    """Draw codes (N, L) coloured by class, and return on which axes.

    They are both coordinates of the code, or the two principal axes; next to these, where there are three
    classes or more, the two linear discriminants, fitted on every other code and drawn with the rest.
    """
    finite = np.isfinite(codes).all(1)
    codes, y = codes[finite].astype(np.float64), y[finite]
    # Only ten classes can be told apart by colour, and have a legend.
    panels, about = _axes(codes, y)
    colour = _colours(y) if len(y) else {}
    shown = np.unique(y) if y.ndim == 1 and "vmax" in colour else np.array([], dtype=int)
    classes = [names[c] if len(names) > c else str(c) for c in shown]

    room = 0.4 + max(0.4, inches(classes))  # inches for the legend
    width = 3.4 * len(panels) + room
    with styled():
        figure = Figure(figsize=(width, 3.4))
        figure.subplots_adjust(0.6 / width, 0.08, 1 - room / width, 0.92, 0.18)
        row = figure.subplots(1, len(panels), squeeze=False)[0]
        for axes, (title, points, part) in zip(row, panels, strict=True):
            colours = {**colour, "c": colour["c"][part]} if "c" in colour else colour
            axes.scatter(points[:, 0], points[:, 1], s=9, linewidths=0, rasterized=True, **colours)
            axes.set(title=title)
            axes.axis("equal")
            axes.locator_params(nbins=4)
        if len(shown):
            marks = [axes.scatter([], [], s=20, color=colour) for colour in mpl.colormaps["tab10"](shown)]
            place = {"loc": "center left", "bbox_to_anchor": (1, 0.5), "handletextpad": 0}
            legend(axes, marks, classes, title="class", **place)
    return figure, about


def _axes(codes: np.ndarray, y: np.ndarray) -> tuple[list[Panel], str]:
    """Return the panels that codes are drawn in, and what their axes are."""
    size = codes.shape[1]
    # Codes in the plane, or codes of which some numbers never vary, are drawn as they are.
    vary = len(codes) > 2 and bool((codes.std(0) > FLAT * np.abs(codes).max()).all())
    if size <= 2 or not vary:
        about = "both coordinates of the code" if size > 1 else "the code, drawn twice"
        if size > 2:
            about = f"its first and last number of {size}: some numbers are the same for all"
        return [("the code's coordinates", codes[:, [0, -1]], slice(None))], about

    # The axes of most variance, whatever the classes.
    principal = PCA(2, svd_solver="full").fit(codes)
    share = principal.explained_variance_ratio_.sum()
    panels = [("where codes spread most", principal.transform(codes), slice(None))]
    about = f"the two principal axes of {size}, which hold {share:.0%} of the codes' variance"
    # Axes that separate classes would separate any, if they were fitted to the codes drawn.
    fitted, drawn = slice(0, None, 2), slice(1, None, 2)
    if y.ndim == 1 and len(np.unique(y[fitted])) > 2 and len(codes) >= 8 * size:
        parting = LinearDiscriminantAnalysis(n_components=2).fit(codes[fitted], y[fitted])
        panels.append(("where classes part most", parting.transform(codes[drawn]), drawn))
        about += (
            "; next to them the two linear discriminants, fitted on every other code and drawn with the rest"
        )
    return panels, about


def extremes(arrays: Mapping[str, np.ndarray], errors: Sequence[float]) -> Figure:
    """Draw the worst, then the best reconstructions, each below its original and with its error beneath."""
    originals, decoded = arrays["extremes"], arrays["extreme_reconstructions"]
    n, (height, width) = len(originals) // 2, originals.shape[2:]
    inch = 7.2 / pictures.EXTREMES  # of an image
    high = 2 * inch * height / width
    # two pictures of two rows, a number below each column
    with styled():
        figure = Figure(figsize=(n * inch + 0.2, 2 * high + 1.3), layout="constrained")
        halves = {"largest errors": slice(None, n), "smallest errors": slice(n, None)}
        for axes, (title, half) in zip(figure.subplots(2), halves.items(), strict=True):
            canvas = tile(np.concatenate([originals[half], decoded[half]]), n)
            grey = canvas.shape[2] == 1
            # pixel by pixel, unless they are more than the page shows
            exact = {"interpolation": "none"} if canvas.shape[1] < BROAD else {}
            look = {"cmap": "gray" if grey else None, "vmin": 0, "vmax": 255, **exact}
            axes.imshow(canvas[..., 0] if grey else canvas, **look)
            axes.set_xticks((width + 1) * (np.arange(n) + 0.5), [f"{error:#.3g}" for error in errors[half]])
            axes.set_yticks([])
            axes.tick_params(length=0)
            axes.spines[:].set_visible(False)
            axes.set_title(title)
    return figure


def curves(by_seed: Mapping[int, pd.DataFrame]) -> Figure:
    """Draw the players' losses and D's mean logits against updates, a line a seed; phases follow in turn."""
    # A panel for losses, a panel for logits, if there are any.
    first = next(iter(by_seed.values()))
    kinds = {
        kind: [name for name in first.columns if name.startswith(f"{kind} ")] for kind in ("loss", "logit")
    }
    kinds = {kind: names for kind, names in kinds.items() if names}
    with styled():
        figure = Figure(figsize=(3.6 * max(1, len(kinds)), 2.6), layout="constrained")
        row = figure.subplots(1, max(1, len(kinds)), squeeze=False)[0]
        for axes, (kind, names) in zip(row, kinds.items(), strict=False):
            for i, frame in enumerate(by_seed.values()):
                ends = frame.groupby("phase", sort=False).step.max()
                _lines(axes, frame, names, ends, named=not i)
            title = "loss of each player" if kind == "loss" else "D's mean logit by kind of pair"
            axes.set(title=title, xlabel="updates")
    return figure


def _lines(axes: Axes, frame: pd.DataFrame, names: Sequence[str], ends: pd.Series, named: bool) -> None:
    """Draw one seed's lines; with `named` their legend, and where the phases end."""
    # phases follow in turn, and each counts its updates from 1
    at = frame.step + frame.phase.map(ends.cumsum() - ends)
    lines = [
        axes.plot(at, frame[name], color=colour, linewidth=1, alpha=0.8)[0]
        for name, colour in zip(names, COLOURS, strict=False)
    ]
    if named:
        legend(axes, lines, [name.partition(" ")[2] for name in names[: len(lines)]], fontsize=8)
        for end in ends.cumsum()[:-1]:
            axes.axvline(end, color=INK, linewidth=0.6, linestyle=":")


def _images(arrays: Mapping[str, np.ndarray]) -> Figure:
    """Draw a 10x10 grid of samples, and 10 rows of five pairs, original left and reconstruction right."""
    panels = {"samples": arrays["samples"]} if "samples" in arrays else {}
    if "reconstructions" in arrays:
        panels |= {"pairs: original, reconstruction": pairs(arrays)}
    with styled():
        figure = Figure(figsize=(5.5 * max(1, len(panels)), 5.8), layout="constrained")
        row = figure.subplots(1, max(1, len(panels)), squeeze=False)[0]
        for axes, (name, panel) in zip(row, panels.items(), strict=False):
            canvas = tile(panel, 10)
            grey = canvas.shape[2] == 1
            axes.imshow(canvas[..., 0] if grey else canvas, cmap="gray" if grey else None, vmin=0, vmax=255)
            axes.set_title(name)
        for axes in row:
            axes.axis("off")
    return figure


def draw(folder: Path, title: str, path: Path) -> None:
    """Draw the arrays of the run in `folder`, whole or not at all. Raises files.Damaged, or OSError."""
    arrays = pictures.read(folder)
    images = arrays["x"].ndim == 4
    figure, file = (_images if images else plane)(arrays), io.BytesIO()
    with styled({"font.family": fonts()}):
        figure.suptitle(title, y=0.99)
        figure.savefig(file, format="png", dpi=120 if images else 110)

    # few colours take a third of the bytes, and look the same
    small, grey = io.BytesIO(), images and arrays["x"].shape[1] == 1
    Image.open(file).convert("RGB").quantize(24 if grey else 256).save(small, "png", optimize=True)
    files.replace(path, small.getvalue())
