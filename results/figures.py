"""Pictures, from what the evaluation stored: arrays (evaluation/pictures.py), curves, and the numbers of a
table.

Those of images are exact: a pixel of the model is a pixel, or a square of them. What has axes is drawn by
matplotlib, for a file of its own or as SVG to stand in a page, in the page's own ink.
"""

import base64
import io
import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from alibench.results.drawing import COLOURS, INK, fonts, styled

# isort: split
import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import EngFormatter
from PIL import Image
from sklearn.decomposition import PCA
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

from alibench.evaluation import files, pictures
from alibench.results import statistics
from alibench.results.formats import Sheet

EXACT = 200_000  # bytes of a picture in a page; larger ones are kept by WebP at QUALITY, which loses a little
QUALITY = 90
LONGEST_NAME = 24  # characters of a name in a legend
FLAT = 1e-9  # of the largest code: below this a number of the code does not vary


# ------------------------------------------------------------------------------------------------ images


@dataclass(frozen=True)
class Picture:
    """A picture that stands in a page."""

    uri: str
    width: int  # of the stored one, pixels
    height: int


def tile(images: np.ndarray, columns: int) -> np.ndarray:
    """Return images (N, C, H, W) as one picture (H', W', C) in rows of `columns`, a pixel of light grey
    around each.
    """
    n, channels, height, width = images.shape
    lines = -(-n // columns)
    canvas = np.full((lines * (height + 1) + 1, columns * (width + 1) + 1, channels), 200, np.uint8)
    for i, image in enumerate(images):
        top, left = (i // columns) * (height + 1) + 1, (i % columns) * (width + 1) + 1
        canvas[top : top + height, left : left + width] = image.transpose(1, 2, 0)
    return canvas


def pairs(arrays: Mapping[str, np.ndarray]) -> np.ndarray:
    """Return originals and reconstructions in turn, (2 N, C, H, W)."""
    return np.stack([arrays["x"], arrays["reconstructions"]], axis=1).reshape(-1, *arrays["x"].shape[1:])


def picture(canvas: np.ndarray) -> Picture:
    """Return pixels (H, W, 1 or 3), uint8, for a page."""
    return _embedded(Image.fromarray(canvas[..., 0] if canvas.shape[2] == 1 else canvas))


def _embedded(image: Image.Image) -> Picture:
    made, kind = io.BytesIO(), "png"
    image.save(made, "png", optimize=True)
    if made.tell() > EXACT:
        made, kind = io.BytesIO(), "webp"
        image.save(made, "webp", quality=QUALITY)
    return Picture(
        f"data:image/{kind};base64,{base64.b64encode(made.getvalue()).decode()}", image.width, image.height
    )


def frames(interpolations: np.ndarray) -> Picture:
    """Return interpolations between images (N, STEPS, C, H, W), the frames below one another, N images in
    each.
    """
    steps = interpolations.swapaxes(0, 1)
    return picture(np.concatenate([tile(step, len(step)) for step in steps]))


# -------------------- what has axes


def svg(figure: Figure, name: str) -> str:
    """Return a figure as SVG for a page, text in the page's ink; `name` keeps its marks apart from other
    figures'.
    """
    made = io.StringIO()
    with styled({"svg.hashsalt": name}):
        figure.savefig(made, format="svg", transparent=True, dpi=100, metadata={"Date": None})
    text = made.getvalue()
    text = text[text.index("<svg") :].replace(INK, "currentColor")
    text = re.sub(r' id="[a-zA-Z]+[\w.]*_\d+"', "", text)  # names of groups, the same in every figure
    text = re.sub(r"<metadata>.*?</metadata>|<defs>\s*<style.*?</defs>", "", text, flags=re.DOTALL)
    width = figure.get_size_inches()[0] * 96  # its own, so that a small figure does not fill a page
    return re.sub(r' (?:width|height)="[\d.]+pt"', "", text, count=2).replace(
        "<svg", f'<svg style="max-width: {width:.0f}px"', 1
    )


def _colours(y: np.ndarray) -> dict[str, Any]:
    """Return how points with classes y are coloured: neighbours in number apart; no classes, one colour."""
    if y.ndim > 1 or (y < 0).all():
        return {"color": COLOURS[0]}
    if y.max() < 10:
        return {"c": y, "cmap": "tab10", "vmin": 0, "vmax": 9}
    return {"c": y * 7 % (y.max() + 1), "cmap": "turbo"}


def _legend(axes: Axes, marks: Sequence[Artist], names: Sequence[str], **options: Any) -> None:
    """Add a legend of marks by any names: matplotlib itself leaves out those that begin with an underscore."""
    legend = axes.legend(marks, [str(number) for number in range(len(marks))], frameon=False, **options)
    for text, name in zip(legend.get_texts(), names, strict=True):
        text.set_text(name if len(name) <= LONGEST_NAME else f"{name[: LONGEST_NAME - 1]}…")


def _inches(names: Sequence[str]) -> float:
    """Return how broad the longest of some names is in a legend; East Asian signs are twice as broad as
    others.
    """
    widths = (
        sum(2 if unicodedata.east_asian_width(sign) in "WF" else 1 for sign in name[:LONGEST_NAME])
        for name in names
    )
    return 0.08 * max(widths, default=0)


def _scatter(axes: Axes, points: np.ndarray, title: str, limit: float | None, **colour: Any) -> None:
    axes.scatter(points[:, 0], points[:, 1], s=2.5, linewidths=0, rasterized=True, **colour)
    axes.set(title=title, aspect="equal")
    axes.locator_params(nbins=3)
    if limit is not None:
        axes.set(xlim=(-limit, limit), ylim=(-limit, limit))


def plane(arrays: Mapping[str, np.ndarray], across: int = 4, size: float = 3.4) -> Figure:
    """Draw the paper's panel: held-out data and their codes, both coloured by mode, reconstructions, samples.

    Panels are `size` inches wide.
    """
    x, codes, colour = arrays["x"], arrays.get("codes"), _colours(arrays["y"])
    limit, ink = 1.15 * float(np.abs(x).max()), {"color": "#777777"}
    panels = (
        ("held-out data", x, limit, colour),
        *(
            [("codes of the data, q(z|x)", codes, 4.0, colour)]
            if codes is not None and codes.shape[1] > 1
            else []
        ),
        *(
            [("reconstructions", arrays["reconstructions"], limit, colour)]
            if "reconstructions" in arrays
            else []
        ),
        *([("samples", arrays["samples"], limit, ink)] if "samples" in arrays else []),
    )
    with styled():
        across = min(across, len(panels))
        down = -(-len(panels) // across)
        figure = Figure(figsize=(size * across, (size + 0.1) * down))
        # by hand: a layout engine takes several times as long
        figure.subplots_adjust(0.2 / across, 0.15 / down, 1 - 0.05 / across, 0.88, 0.25, 0.25)
        grid = figure.subplots(down, across, squeeze=False)
        for axes in grid.flat[len(panels) :]:
            axes.axis("off")
        for axes, (name, points, extent, colours) in zip(grid.flat, panels, strict=False):
            _scatter(axes, points, name, extent, **colours)
    return figure


def walk(arrays: Mapping[str, np.ndarray]) -> Picture:
    """Return interpolations between points (N, STEPS, 2), the frames below one another."""
    lines = arrays["interpolations"]
    limit, size, steps = 1.15 * float(np.abs(arrays["x"]).max()), 2.6, lines.shape[1]
    with styled():
        figure = Figure(figsize=(size, size * steps), dpi=90)
        axes = figure.add_axes((0, 0, 1, 1))
        for step in range(steps):
            for points, mark, colour in (
                (arrays["x"][:1500], 1, COLOURS[6]),
                (lines[:, step], 4, COLOURS[0]),
            ):
                seen = points[(np.abs(points) < limit).all(1)]
                axes.scatter(seen[:, 0], seen[:, 1] - 2 * limit * step, s=mark, color=colour, linewidths=0)
        axes.set(xlim=(-limit, limit), ylim=(limit - 2 * limit * steps, limit))
        axes.axis("off")
        made = io.BytesIO()
        figure.savefig(made, format="png", transparent=True)
    return _embedded(Image.open(made).quantize(32))


def latent(codes: np.ndarray, y: np.ndarray, names: Sequence[str] = ()) -> tuple[Figure, str]:
    """Draw codes (N, L) coloured by class, and say on which axes.

    They are both coordinates of the code, or the two principal axes; beside these, where there are three
    classes or more, the two linear discriminants, fitted on every other code and drawn with the rest.
    """
    finite = np.isfinite(codes).all(1)
    codes, y = codes[finite].astype(np.float64), y[finite]
    colour = _colours(y) if len(y) else {}
    vary = len(codes) > 2 and bool((codes.std(0) > FLAT * np.abs(codes).max()).all())
    panels = [("the code's coordinates", codes[:, [0, -1]], slice(None))]
    told = "both coordinates of the code" if codes.shape[1] > 1 else "the code, drawn twice"
    if codes.shape[1] > 2 and not vary:
        told = f"its first and last number of {codes.shape[1]}: some numbers are the same for all"
    elif codes.shape[1] > 2:
        found = PCA(2, svd_solver="full").fit(codes)
        share = found.explained_variance_ratio_.sum()
        panels = [("where codes spread most", found.transform(codes), slice(None))]
        told = f"the two principal axes of {codes.shape[1]}, which hold {share:.0%} of the codes' variance"
        half = slice(0, None, 2), slice(1, None, 2)
        if y.ndim == 1 and len(np.unique(y[half[0]])) > 2 and len(codes) >= 8 * codes.shape[1]:
            parting = LinearDiscriminantAnalysis(n_components=2).fit(codes[half[0]], y[half[0]])
            panels.append(("where classes part most", parting.transform(codes[half[1]]), half[1]))
            told += "; beside them the two linear discriminants, fitted on every other code and drawn with the rest"
    shown = np.unique(y) if y.ndim == 1 and "vmax" in colour else np.array([], dtype=int)
    classes = [names[c] if len(names) > c else str(c) for c in shown]
    beside = 0.4 + max(0.4, _inches(classes))  # inches for the legend
    with styled():
        width = 3.4 * len(panels) + beside
        figure = Figure(figsize=(width, 3.4))
        figure.subplots_adjust(0.6 / width, 0.08, 1 - beside / width, 0.92, 0.18)
        for axes, (title, points, part) in zip(
            figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True
        ):
            own = {**colour, "c": colour["c"][part]} if "c" in colour else colour
            axes.scatter(points[:, 0], points[:, 1], s=9, linewidths=0, rasterized=True, **own)
            axes.set(title=title)
            axes.axis("equal")
            axes.locator_params(nbins=4)
        if len(shown):
            colours = mpl.colormaps["tab10"]
            assert isinstance(colours, ListedColormap)
            marks = [axes.scatter([], [], s=20, color=colours(int(c))) for c in shown]
            _legend(
                axes,
                marks,
                classes,
                loc="center left",
                bbox_to_anchor=(1, 0.5),
                handletextpad=0,
                title="class",
            )
    return figure, told


def curves(by_seed: Mapping[int, pd.DataFrame]) -> Figure:
    """Draw the losses of all players and D's mean logits against updates, a line a seed; phases follow one
    another.
    """
    first = next(iter(by_seed.values()))
    kinds = {
        kind: [name for name in first.columns if name.startswith(f"{kind} ")] for kind in ("loss", "logit")
    }
    kinds = {kind: names for kind, names in kinds.items() if names}
    with styled():
        figure = Figure(figsize=(3.6 * max(1, len(kinds)), 2.6), layout="constrained")
        for axes, (kind, names) in zip(
            figure.subplots(1, max(1, len(kinds)), squeeze=False)[0], kinds.items(), strict=False
        ):
            for i, frame in enumerate(by_seed.values()):
                ends = frame.groupby("phase", sort=False).step.max()
                at = frame.step + frame.phase.map(ends.cumsum() - ends)
                lines = [
                    axes.plot(at, frame[name], color=colour, linewidth=1, alpha=0.8)[0]
                    for name, colour in zip(names, COLOURS, strict=False)
                ]
                if not i:
                    _legend(
                        axes,
                        lines,
                        [name.removeprefix(f"{kind} ") for name in names[: len(lines)]],
                        fontsize=8,
                    )
                    for end in ends.cumsum()[:-1]:
                        axes.axvline(end, color=INK, linewidth=0.6, linestyle=":")
            title = "loss of each player" if kind == "loss" else "D's mean logit by kind of pair"
            axes.set(title=title, xlabel="updates")
    return figure


def spread(sheet: Sheet, rows: Sequence[str], most: int = 6) -> Figure | None:
    """Draw columns of a table for some of its rows: each seed a ring, the mean a dot with its interval, if
    there are two.
    """
    assert sheet.seeds is not None
    kept = sheet.seeds.loc[[row for row in rows if row in sheet.seeds.index]]
    columns = [name for name in kept.columns if kept[name].map(len).any()][:most]
    if not columns:
        return None
    across = min(3, len(columns))
    down = -(-len(columns) // across)
    with styled():
        size = 3.3 * across + 0.9, down * (0.34 * len(kept) + 0.9)
        figure = Figure(figsize=size, layout=ConstrainedLayoutEngine(h_pad=0.12))
        grid = figure.subplots(down, across, squeeze=False, sharey=True)
        for axes in grid.flat[len(columns) :]:
            axes.axis("off")
        for axes, name in zip(grid.flat, columns, strict=False):
            for place, values in enumerate(kept[name]):
                colour = COLOURS[place % len(COLOURS)]
                if len(values) > 2:  # that of two would leave nothing else to see
                    axes.plot(statistics.interval(values), [place, place], color=colour, linewidth=1.2)
                if len(values) > 1:
                    axes.plot(
                        values, [place] * len(values), "o", color=colour, markersize=6, fillstyle="none"
                    )
                if len(values):
                    axes.plot(float(np.mean(values)), place, "o", color=colour, markersize=4)
            axes.set(
                title=name, yticks=range(len(kept)), yticklabels=kept.index, ylim=(len(kept) - 0.4, -0.6)
            )
            axes.grid(axis="x", linewidth=0.4, alpha=0.5)
            axes.locator_params(axis="x", nbins=5)
    return figure


def bars(sheet: Sheet, rows: Sequence[str]) -> Figure | None:
    """Draw columns of a table for some of its rows as bars from zero: what is measured once, as speed is."""
    assert sheet.seeds is not None
    kept = sheet.seeds.loc[[row for row in rows if row in sheet.seeds.index]]
    columns = [name for name in kept.columns if kept[name].map(len).any()]
    if not columns:
        return None
    with styled():
        figure = Figure(figsize=(3.3 * len(columns) + 0.9, 0.34 * len(kept) + 0.9), layout="constrained")
        for axes, name in zip(
            figure.subplots(1, len(columns), squeeze=False, sharey=True)[0], columns, strict=True
        ):
            heights = [float(np.mean(values)) if len(values) else 0.0 for values in kept[name]]
            colours = [COLOURS[place % len(COLOURS)] for place in range(len(kept))]
            axes.barh(range(len(kept)), heights, color=colours, height=0.6)
            axes.set(
                title=name, yticks=range(len(kept)), yticklabels=kept.index, ylim=(len(kept) - 0.4, -0.6)
            )
            axes.locator_params(axis="x", nbins=5)
            axes.xaxis.set_major_formatter(EngFormatter(sep=""))  # 25k
    return figure


# -------------------- a file for each model


def _images(arrays: Mapping[str, np.ndarray]) -> Figure:
    """Draw what there is of a 10x10 grid of samples and 10 rows of five pairs, original left, reconstruction
    right.
    """
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
    """Draw the picture of the run in `folder` from its arrays, whole or not at all. Raises files.Damaged, or
    OSError.
    """
    arrays = pictures.read(folder)
    images = arrays["x"].ndim == 4
    figure, made = (_images if images else plane)(arrays), io.BytesIO()
    with styled({"font.family": fonts()}):
        figure.suptitle(title, y=0.99)
        figure.savefig(made, format="png", dpi=120 if images else 110)
    files.replace(path, made.getvalue())
