"""A table as Markdown, LaTeX with booktabs, CSV and HTML."""

import re
import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jinja2
import pandas as pd

from alibench.evaluation import files


class Sheet(NamedTuple):
    """A finished table: cells as they are read, a caption above and notes below.

    `best` has the frame's shape: which cells are bold. `seeds` holds the numbers behind a cell, a tuple with
    one a seed, for the columns that are means.
    """

    caption: str
    frame: pd.DataFrame
    best: pd.DataFrame
    notes: tuple[str, ...] = ()
    seeds: pd.DataFrame | None = None


def plain(caption: str, frame: pd.DataFrame, notes: tuple[str, ...] = ()) -> Sheet:
    """Return a table with nothing bold."""
    return Sheet(caption, frame, pd.DataFrame(False, frame.index, frame.columns), notes)


_TEX = str.maketrans({
    "±": r"$\pm$", "↑": r"$\uparrow$", "↓": r"$\downarrow$", "≥": r"$\geq$", "×": r"$\times$", "→": r"$\to$",
    "∞": r"$\infty$", "−": "$-$", "²": "$^2$", "₁": "$_1$", "<": "$<$", ">": "$>$", "|": "$|$", "–": "--",
    "σ": r"$\sigma$", "β": r"$\beta$", "λ": r"$\lambda$", "†": r"$^\dagger$", "‡": r"$^\ddagger$",
    "%": r"\%", "&": r"\&", "_": r"\_", "#": r"\#", "$": r"\$", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "\\": r"\textbackslash{}",
    "ä": r"\"a", "é": r"\'e", "ń": r"\'n", "ü": r"\"u",
})  # fmt: skip


def _bold(sheet: Sheet, form: str) -> pd.DataFrame:
    """Return the cells, the best of them in `form`, which has a place for the text."""
    return sheet.frame.where(~sheet.best, sheet.frame.map(form.format))


_MARKDOWN = re.compile(r"[<\[\]`|\\]")  # HTML, links, code, the borders of cells


def in_markdown(text: object) -> str:
    """Return a text that stands in Markdown as it is, in one line."""
    return _MARKDOWN.sub(r"\\\g<0>", " ".join(str(text).split()))


def table(frame: pd.DataFrame) -> str:
    """Return a frame for Markdown, cells as they are: no digit or sign is parsed away, nothing is HTML."""
    shown = frame.map(in_markdown).rename(index=in_markdown, columns=in_markdown)
    sides = ("left", *(_side(shown.iloc[:, i]) for i in range(shown.shape[1])))
    aligned: str = shown.to_markdown(disable_numparse=True, colalign=sides)
    return aligned


def _side(column: pd.Series) -> str:
    """Return where the cells of a column begin: words at the left, numbers end at the right."""
    filled = [text for text in column if text]
    return "left" if sum(text[0].isalpha() for text in filled) * 2 > len(filled) else "right"


def markdown(sheet: Sheet) -> str:
    """Return a table for Markdown with its caption and notes."""
    above, *below = map(in_markdown, (sheet.caption, *sheet.notes))
    return "\n\n".join([part for part in (above, table(_bold(sheet, "**{}**")), *below) if part]) + "\n"


# what a spreadsheet takes for a formula; and a number that begins alike, maybe with its spread, range or mark
_FORMULA = re.compile(r"[=+\-@\t\r]")
_NUMBER = re.compile(r"[+-]?[\d.,]+(e[+-]?\d+)?( ± [\d.,]+(e[+-]?\d+)?)?[†‡]?( \([-+\d., to]+\))?")


def _in_csv(cell: Any) -> Any:
    """Return a cell that no spreadsheet takes for a formula: an apostrophe before a text like one."""
    is_formula = isinstance(cell, str) and _FORMULA.match(cell) and not _NUMBER.fullmatch(cell)
    return f"'{cell}" if is_formula else cell


def csv(frame: pd.DataFrame, index: bool = True) -> str:
    """Return a frame as CSV for a spreadsheet."""
    is_number = pd.api.types.is_numeric_dtype
    shown = frame.apply(lambda column: column if is_number(column) else column.map(_in_csv))
    text: str = shown.rename(index=_in_csv, columns=_in_csv).to_csv(index=index)
    return text


def _tex(text: str) -> str:
    return text.translate(_TEX)


def _stacked(title: str) -> str:
    """Return a column's title in short lines, one above the other: numbers are narrow."""
    # numbers are narrow, so titles are stacked
    lines = [_tex(line) for line in textwrap.wrap(title, 12, break_long_words=False, break_on_hyphens=False)]
    stacked = r" \\ ".join(lines)
    return stacked if len(lines) == 1 else rf"\shortstack[r]{{{stacked}}}"


def latex(sheet: Sheet) -> str:
    """Return a table for LaTeX with booktabs; a page that is too narrow for it shrinks it (graphicx)."""
    # Cells are escaped before they are bold, or braces would be escaped too.
    escaped = Sheet("", sheet.frame.map(_tex), sheet.best)
    body = _bold(escaped, r"\textbf{{{}}}").rename(index=_tex, columns=_stacked).reset_index()
    columns = "l" + "r" * (body.shape[1] - 1)
    # pandas knows booktabs; the rest stands around its table.
    tabular: str = body.style.hide(axis="index").to_latex(hrules=True, column_format=columns)
    lines = [
        r"\begin{table}[htbp]",
        r"\centering",
        rf"\caption{{{_tex(sheet.caption)}}}",
        r"\resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}{%",
        tabular.rstrip(),
        "}",
        *(rf"\par\smallskip\footnotesize {_tex(note)}" for note in sheet.notes),
        r"\end{table}",
    ]
    return "\n".join(lines) + "\n"


# cells hold what users name, so everything is escaped
PAGES = jinja2.Environment(
    loader=jinja2.FileSystemLoader(Path(__file__).parent / "page"),
    autoescape=True,
    trim_blocks=True,
    lstrip_blocks=True,
)


def html(sheets: Mapping[str, Sheet], title: str) -> str:
    """Return a page of tables that needs nothing else."""
    return PAGES.get_template("tables.html").render(sheets=sheets, title=title) + "\n"


def write(out: Path, sheets: Mapping[str, Sheet]) -> None:
    """Write every table as Markdown, CSV and LaTeX in tables/, and all in tables.md and tables.html."""
    folder = files.subfolder(out, "tables")
    for name, sheet in sheets.items():
        files.replace(files.child(folder, f"{name}.md"), markdown(sheet))
        files.replace(folder / f"{name}.csv", csv(sheet.frame))
        files.replace(folder / f"{name}.tex", latex(sheet))

    sections = (f"## {name}\n\n{markdown(sheet)}" for name, sheet in sheets.items())
    files.replace(out / "tables.md", "# Tables\n\n" + "\n".join(sections))
    files.replace(out / "tables.html", html(sheets, "Tables"))
