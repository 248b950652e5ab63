"""How matplotlib draws here: without a display, and without the settings of the user's machine."""

import io
import os
import re
import unicodedata
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import cache
from typing import Any

# A notebook hands down its backend, which need not be installed here; then matplotlib cannot be imported.
# Nothing here needs a backend; other code of this process keeps the notebook's, if it is there.
_backend = os.environ.pop("MPLBACKEND", "")
import matplotlib.style  # noqa: E402
from matplotlib import font_manager  # noqa: E402
from matplotlib.artist import Artist  # noqa: E402
from matplotlib.axes import Axes  # noqa: E402
from matplotlib.figure import Figure  # noqa: E402

if _backend:
    os.environ["MPLBACKEND"] = _backend
    with suppress(ValueError):
        matplotlib.rcParams["backend"] = _backend

INK = "#1b1c1d"  # of text and axes; in a page it becomes the page's
# the hues of Okabe and Ito, which the colour-blind tell apart, as light as shows on white and on black
COLOURS = ("#2b8cd6", "#e0702a", "#1fa67a", "#c46aa5", "#b98700", "#7d78d8", "#8c8c8c", "#a3562f")
STYLE: dict[Any, Any] = {
    "text.parse_math": False,  # titles that users write are not formulas
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "font.size": 9,
    "axes.titlesize": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    **dict.fromkeys(("text.color", "axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color"), INK),
}
# fonts with scripts that matplotlib's lacks, by the systems that have them
WIDE_FONTS = (
    *("Noto Sans CJK JP", "Noto Sans CJK SC", "Noto Sans", "Droid Sans Fallback", "WenQuanYi Zen Hei"),
    *("Arial Unicode MS", "PingFang SC", "Hiragino Sans", "Microsoft YaHei", "Yu Gothic", "Malgun Gothic"),
)
LONGEST_NAME = 24  # characters of a name in a legend


@cache
def fonts() -> list[str]:
    """Return the fonts of a picture's text: matplotlib's, then the installed ones of WIDE_FONTS."""
    installed = set(font_manager.get_font_names())
    return ["DejaVu Sans", *(font for font in WIDE_FONTS if font in installed)]


@contextmanager
def styled(more: Mapping[str, Any] | None = None) -> Iterator[None]:
    """Draw in STYLE, and with `more` settings, on matplotlib's defaults, whatever a matplotlibrc says."""
    with matplotlib.style.context(["default", {**STYLE, **(more or {})}]), warnings.catch_warnings():
        # in an SVG the browser has fonts; in a picture a box stands for such a character
        warnings.filterwarnings("ignore", "Glyph .* missing from")
        yield


def svg(figure: Figure, name: str) -> str:
    """Return a figure as SVG for a page, text in the page's ink; `name` makes its marks unique."""
    file = io.StringIO()
    with styled({"svg.hashsalt": name}):
        figure.savefig(file, format="svg", transparent=True, dpi=100, metadata={"Date": None})

    # The page gives ink and size; names of groups would be the same in every figure.
    text = file.getvalue()
    text = text[text.index("<svg") :].replace(INK, "currentColor")
    text = re.sub(r' id="[a-zA-Z]+[\w.]*_\d+"', "", text)  # names of groups, the same in every figure
    text = re.sub(r"<metadata>.*?</metadata>|<defs>\s*<style.*?</defs>", "", text, flags=re.DOTALL)
    text = re.sub(r' (?:width|height)="[\d.]+pt"', "", text, count=2)
    # at most its own size, so that a small figure does not fill a page
    return text.replace("<svg", f'<svg style="max-width: {figure.get_size_inches()[0] * 96:.0f}px"', 1)


def legend(axes: Axes, marks: Sequence[Artist], names: Sequence[str], **options: Any) -> None:
    """Add a legend of marks by any names: matplotlib leaves out those that begin with an underscore."""
    added = axes.legend(marks, [str(number) for number in range(len(marks))], frameon=False, **options)
    for text, name in zip(added.get_texts(), names, strict=True):
        text.set_text(name if len(name) <= LONGEST_NAME else f"{name[: LONGEST_NAME - 1]}…")


def inches(names: Sequence[str]) -> float:
    """Return the width of the longest name in a legend; East Asian characters are twice as wide as others."""
    widths = (
        sum(2 if unicodedata.east_asian_width(sign) in "WF" else 1 for sign in name[:LONGEST_NAME])
        for name in names
    )
    return 0.08 * max(widths, default=0)
