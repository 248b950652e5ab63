"""The documentation's pictures and tables, made from committed results by `nox -s pictures`.

A table stands in a page between `<!-- NAME, made by nox -s pictures -->` and `<!-- end -->`. NAME is that of
a paper's table in `alibench tables`, or FOLDER/TABLE: a table of a folder in results/reference/.
"""

import re
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

from alibench.results.drawing import COLOURS, INK, styled

# isort: split
import matplotlib as mpl
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch

from alibench.evaluation import files
from alibench.evaluation.protocols import MEAN_CODE
from alibench.results import charts, formats, layouts, papers, rows, tables

# Resolved: the folder may be imported by the link in alibench/.
ROOT = Path(__file__).resolve().parents[1]
RELATIVES = layouts.Table(
    "relatives",
    "",
    (
        layouts.Measure("high_quality"),  # of points
        layouts.Measure("fid"),  # of images
        layouts.Measure("reconstruction_error", MEAN_CODE, "reconstruction"),
        layouts.Measure("pairs_told"),
    ),
)
# folders of results/reference/ and what is drawn of each
SHOWN = {"mnist": layouts.BRIEF, "relatives_grid": RELATIVES, "relatives_digits": RELATIVES}
LOG = papers.REFERENCE / "mnist_bigan" / "log.csv"  # BiGAN's training next to its authors' log
PAGES = ("README.md", "docs/papers.md", "docs/results.md")
PLACE = re.compile(r"(<!-- (\S+), made by nox -s pictures -->\n\n).*?(\n\n<!-- end -->)", re.DOTALL)

ENCODER, DECODER, JUDGE = COLOURS[0], COLOURS[1], COLOURS[2]


def _box(
    axes: Axes, x: float, y: float, text: str, colour: str, width: float = 1.5, filled: bool = True
) -> None:
    face = (*mpl.colors.to_rgb(colour), 0.16) if filled else "none"
    style: dict[str, Any] = {
        "boxstyle": "round,pad=0.06",
        "linewidth": 1.6,
        "edgecolor": colour,
        "facecolor": face,
    }
    axes.add_patch(FancyBboxPatch((x - width / 2, y - 0.32), width, 0.64, **style))
    axes.text(x, y, text, ha="center", va="center", fontsize=11)


def _arrow(
    axes: Axes, start: tuple[float, float], end: tuple[float, float], colour: str = INK, style: str = "-"
) -> None:
    line = {"color": colour, "linewidth": 1.4, "linestyle": style}
    axes.annotate("", end, start, arrowprops={"arrowstyle": "-|>", "shrinkA": 2, "shrinkB": 2, **line})


def game() -> Figure:
    """Draw ALI's game (Dumoulin et al. 2017, figure 1): the pairs, who sees them, who learns what."""
    with styled():
        figure = Figure(figsize=(9.6, 3.5))
        axes = figure.add_axes((0, 0, 1, 1))
        axes.set(xlim=(0, 12), ylim=(0, 4.4))
        axes.axis("off")

        # Two players, each with its pair.
        top, bottom, middle = 3.35, 1.05, 2.2
        encoder = ("x from the data", "encoder", "ẑ = μ(x) + σ(x) ε", "encoder pair (x, ẑ)")
        decoder = ("z from the prior", "decoder", "x̃ = G(z)", "decoder pair (x̃, z)")
        _player(axes, top, encoder, ENCODER, 0.62)
        _player(axes, bottom, decoder, DECODER, -0.62)

        # The judge sees both pairs; its gradient goes back to both networks.
        _box(axes, 10.6, middle, "discriminator D(x, z):\nwhich kind of pair?", JUDGE, 2.2)
        _arrow(axes, (8.85, top - 0.2), (9.75, middle + 0.42))
        _arrow(axes, (8.85, bottom + 0.2), (9.75, middle - 0.42))
        axes.plot([9.4, 3.55], [middle, middle], color=JUDGE, linewidth=1.1, linestyle="--")
        for y in (top - 0.44, bottom + 0.44):
            _arrow(axes, (3.55, middle), (3.55, y), JUDGE, "--")
        place: dict[str, Any] = {"ha": "center", "fontsize": 9.5}
        axes.text(6.5, middle + 0.12, "encoder and decoder learn by D's gradient", va="bottom", **place)
        axes.text(6.5, middle - 0.12, "until their pairs look alike", va="top", **place)
    return figure


def _player(axes: Axes, y: float, names: Sequence[str], colour: str, away: float) -> None:
    """Draw a network with its input, its output, and the pair of both; `away` is its bypass."""
    start, network, end, pair = names
    _box(axes, 1.15, y, start, "#8c8c8c", 1.85)
    _box(axes, 3.55, y, network, colour, 1.35)
    axes.text(5.55, y, end, ha="center", va="center", fontsize=11)
    _box(axes, 7.75, y, pair, colour, 2.05, filled=False)
    _arrow(axes, (2.15, y), (2.8, y))
    _arrow(axes, (4.3, y), (4.7, y))
    _arrow(axes, (6.4, y), (6.65, y))
    # the same x, or z, goes past the network into the pair
    axes.plot([1.15, 1.15, 7.75], [y + away * 0.62, y + away, y + away], color=INK, linewidth=1.1)
    _arrow(axes, (7.75, y + away), (7.75, y + away * 0.6))


@cache
def _committed(folder: str = "") -> pd.DataFrame:
    """Return the rows of one folder in results/reference/, or of all."""
    return rows.read(papers.REFERENCE / folder) if folder else papers.read(papers.folders())


def block(name: str) -> str:
    """Return a table of a page as Markdown, without its caption."""
    folder, _, table = name.partition("/")
    if not table:
        sheet = papers.makers(_committed())[name]()
    else:
        shown = (layouts.BRIEF, *layouts.TABLES)
        layout = next(layout for layout in shown if layout.name == table)
        sheet = tables.sheet(_committed(folder), layout)
    assert sheet is not None
    return formats.markdown(sheet._replace(caption="")).strip()


def spread(folder: str) -> Figure:
    """Draw each seed's numbers of a folder among SHOWN."""
    frame = _committed(folder)
    sheet, models = tables.sheet(frame, SHOWN[folder]), set(frame[tables.rivals(frame)].title)
    assert sheet is not None
    figure = charts.spread(sheet, [title for title in sheet.frame.index if title in models])
    assert figure is not None
    return figure


def log() -> Figure:
    """Draw BiGAN's training next to the log of its authors' code: a panel a number, against epochs."""
    numbers = pd.read_csv(LOG)
    with styled():
        panels = dict(list(numbers.groupby("metric", sort=False)))
        figure = Figure(figsize=(3.1 * len(panels), 2.7), layout="constrained")
        row = figure.subplots(1, len(panels), squeeze=False)[0]
        for axes, (metric, of_metric) in zip(row, panels.items(), strict=True):
            for column, colour, mark in (("published", INK, "o"), ("here", COLOURS[0], "x")):
                axes.plot(
                    of_metric.epoch, of_metric[column], f"{mark}-", color=colour, linewidth=1, label=column
                )
            axes.set(title=metric, xscale="log", xlabel="epoch", xticks=of_metric.epoch)
            axes.set_xticklabels(of_metric.epoch)
            axes.minorticks_off()
        row[0].legend(frameon=False)
    return figure


def write(root: Path) -> None:
    """Write the pictures below docs/, and the tables into their places. Raises OSError."""
    folder = root / "docs" / "figures"
    folder.mkdir(exist_ok=True)
    drawings = {"game": game(), **{shown: spread(shown) for shown in SHOWN}}
    drawings |= {"bigan-log": log()} if LOG.exists() else {}
    for name, figure in drawings.items():
        with styled({"svg.fonttype": "path", "svg.hashsalt": name}):
            figure.savefig(folder / f"{name}.svg", facecolor="white", metadata={"Date": None})

    # only the text between the two marks is replaced
    for page in (root / name for name in PAGES):
        old = page.read_text(encoding="utf-8")
        files.replace(page, PLACE.sub(lambda place: place[1] + block(place[2]) + place[3], old))


if __name__ == "__main__":
    write(ROOT)
