"""The numbers of a table, drawn."""

from collections.abc import Sequence

from alibench.results.drawing import COLOURS, styled

# isort: split
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import EngFormatter

from alibench.results import statistics
from alibench.results.formats import Sheet

WIDE = 100  # a column whose largest number is so many times its smallest has a logarithmic axis


def _numbers(sheet: Sheet, rows: Sequence[str]) -> pd.DataFrame:
    """Return the numbers behind some rows of a table, of the columns that have any."""
    # a row may be missing: nothing of it was measured
    assert sheet.seeds is not None
    kept = sheet.seeds.loc[[row for row in rows if row in sheet.seeds.index]]
    return kept[[name for name in kept.columns if kept[name].map(len).any()]]


def _label(axes: Axes, title: str, rows: pd.Index) -> None:
    axes.set(title=title, yticks=range(len(rows)), yticklabels=rows, ylim=(len(rows) - 0.4, -0.6))
    axes.locator_params(axis="x", nbins=5)


def spread(sheet: Sheet, rows: Sequence[str], most: int = 6) -> Figure | None:
    """Draw the first columns of a table for some rows: a ring a seed, a dot for the mean, a line for its
    interval.

    Returns None where there is no number.
    """
    numbers = _numbers(sheet, rows).iloc[:, :most]
    if numbers.empty:
        return None
    # Three panels in a row, which share the names of rows.
    across = min(3, numbers.shape[1])
    down = -(-numbers.shape[1] // across)
    with styled():
        size = 3.3 * across + 0.9, down * (0.34 * len(numbers) + 0.9)
        figure = Figure(figsize=size, layout=ConstrainedLayoutEngine(h_pad=0.12))
        grid = figure.subplots(down, across, squeeze=False, sharey=True)
        for axes in grid.flat[numbers.shape[1] :]:
            axes.axis("off")

        for axes, name in zip(grid.flat, numbers.columns, strict=False):
            for place, values in enumerate(numbers[name]):
                colour = COLOURS[place % len(COLOURS)]
                if len(values) > 2:  # the interval of two would leave nothing else to see
                    axes.plot(statistics.interval(values), [place, place], color=colour, linewidth=1.2)
                if len(values) > 1:
                    ring = {"markersize": 6, "fillstyle": "none"}
                    axes.plot(values, [place] * len(values), "o", color=colour, **ring)
                if len(values):
                    axes.plot(float(np.mean(values)), place, "o", color=colour, markersize=4)
            _label(axes, name, numbers.index)
            # errors of some models are a thousand times those of others
            drawn = np.concatenate([np.asarray(values, float) for values in numbers[name]])
            if drawn.min() > 0 and drawn.max() > WIDE * drawn.min():
                axes.set_xscale("log")
                axes.locator_params(axis="x", numticks=5)
                axes.xaxis.set_major_formatter("{x:g}")  # its own is TeX, which stands in a drawing as it is
            axes.grid(axis="x", linewidth=0.4, alpha=0.5)
    return figure


def bars(sheet: Sheet, rows: Sequence[str]) -> Figure | None:
    """Draw a table's columns for some rows as bars from zero, as of speed; None where there is no number."""
    numbers = _numbers(sheet, rows)
    if numbers.empty:
        return None
    with styled():
        size = 3.3 * numbers.shape[1] + 0.9, 0.34 * len(numbers) + 0.9
        figure = Figure(figsize=size, layout="constrained")
        grid = figure.subplots(1, numbers.shape[1], squeeze=False, sharey=True)
        for axes, name in zip(grid[0], numbers.columns, strict=True):
            # a row without a number keeps its place
            heights = [float(np.mean(values)) if len(values) else 0.0 for values in numbers[name]]
            colours = [COLOURS[place % len(COLOURS)] for place in range(len(numbers))]
            axes.barh(range(len(numbers)), heights, color=colours, height=0.6)
            _label(axes, name, numbers.index)
            axes.xaxis.set_major_formatter(EngFormatter(sep=""))  # 25k
    return figure
