"""Rows, tables, figures, the report, the gate.

Code is at this level; below it is data: runs/ (ignored by git) of runs, reference/ results that the
documentation shows, tuning/ the trials that learning rates were chosen by, baselines/ what the regression
gate compares with; published.csv has the papers' numbers.
"""

from pathlib import Path
from typing import TYPE_CHECKING

if __name__ == "results":
    raise ImportError("import it as alibench.results")

if TYPE_CHECKING:
    import pandas as pd


def table(name: str, *folders: str | Path) -> "pd.DataFrame":
    """Return one table by name: of a paper ("ali-table-2"), an overview ("overview-digits"), or of a run
    ("digits-svm").

    `folders` were named by `alibench run --out`; none: the committed results. Cells are texts, as they are
    read; numbers are in `results.rows.read`. Raises BadInput for another name, or damaged files.
    """
    from alibench.results import papers  # here, since every room imports this page and few need the tables

    return papers.table(name, *folders)
