"""How matplotlib draws here: without a display, and without what the user's machine sets for it."""

import os
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import cache
from typing import Any

INK = "#1b1c1d"  # of text and axes; in a page it becomes the page's own
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


# Whoever starts us from a notebook hands down its backend, which need not be installed here: then matplotlib
# cannot even be imported. Nothing here needs a backend; whoever else draws in this process has the one that
# was asked for, if it is there.
_backend = os.environ.pop("MPLBACKEND", "")
import matplotlib.style  # noqa: E402
from matplotlib import font_manager  # noqa: E402

if _backend:
    os.environ["MPLBACKEND"] = _backend
    with suppress(ValueError):
        matplotlib.rcParams["backend"] = _backend

# fonts that have the scripts which matplotlib's own lacks, by the systems that have them
WIDE_FONTS = (
    *("Noto Sans CJK JP", "Noto Sans CJK SC", "Noto Sans", "Droid Sans Fallback", "WenQuanYi Zen Hei"),
    *("Arial Unicode MS", "PingFang SC", "Hiragino Sans", "Microsoft YaHei", "Yu Gothic", "Malgun Gothic"),
)


@cache
def fonts() -> list[str]:
    """Return the fonts that a picture's text is drawn in: matplotlib's own, then what is installed of
    WIDE_FONTS.
    """
    installed = set(font_manager.get_font_names())
    return ["DejaVu Sans", *(font for font in WIDE_FONTS if font in installed)]


@contextmanager
def styled(more: Mapping[str, Any] | None = None) -> Iterator[None]:
    """Draw in STYLE on matplotlib's defaults, whatever a matplotlibrc says; `more` are settings beside them."""
    with matplotlib.style.context(["default", {**STYLE, **(more or {})}]), warnings.catch_warnings():
        # in an SVG the browser has fonts of its own; in a picture a box stands for such a character
        warnings.filterwarnings("ignore", "Glyph .* missing from")
        yield
