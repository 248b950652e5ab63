"""What `alibench regression` decides, as a page for readers and as JSON for programs."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from alibench.results import formats, rows
from alibench.results.baseline import Baseline
from alibench.results.gate import Finding
from alibench.results.layouts import CATALOGUE


def page(findings: Sequence[Finding], stored: Baseline, current: Baseline, speeds: pd.DataFrame) -> str:
    """Return the decision as Markdown: the outcome, what moved, then all cells, and speed."""
    failed = [finding for finding in findings if finding.failed]
    moved = [*failed, *(finding for finding in findings if finding.verdict == "improvement")]
    of = f"{len(findings)} cells"
    outcome = f"**failed**: {len(failed)} of {of}" if failed else f"**passed**: {of}"
    commits = ", ".join(commit[:8] for commit in stored.origin["commit"])
    seeds = ", ".join(map(str, current.seeds))

    # What moved comes first: the whole table is long, and folded.
    parts = [
        f"## Regression gate, suite {current.suite}: {outcome}",
        f"Seeds {seeds}, against {len(stored.seeds)} seeds of the baseline (commit {commits}). A standard "
        "error is that of the difference of the means, by the baseline's spread over its seeds.",
        formats.table(_frame(moved)) if moved else "Nothing moved beyond what other seeds do.",
        _folded(f"All {of}", _frame(findings)),
    ]
    if len(speeds):
        parts.append(_folded("Speed on this machine, not judged", speeds))
    return "\n\n".join(parts) + "\n"


def _folded(summary: str, frame: pd.DataFrame) -> str:
    return f"<details><summary>{summary}</summary>\n\n{formats.table(frame)}\n\n</details>"


def _frame(findings: Sequence[Finding]) -> pd.DataFrame:
    index = pd.Index([finding.cell.title for finding in findings], name="model")
    return pd.DataFrame([_line(finding) for finding in findings], index)


def _line(finding: Finding) -> dict[str, str]:
    cell = finding.cell
    # Single seeds that lie far off, where the mean hides them.
    bad = [f"seed {seed}: {distance:.1f} deviations off" for seed, distance in finding.seeds.items()]
    return {
        "measure": cell.name,
        "verdict": finding.verdict,
        "baseline": _spread(*finding.baseline, cell.digits),
        "now": _spread(*finding.current, cell.digits),
        "worse by, standard errors": finding.moved,
        "p, corrected": "" if math.isnan(finding.p) else f"{finding.p:.2g}",
        "what": "; ".join([*bad, finding.reason] if finding.reason else bad),
    }


def _spread(mean: float, deviation: float, digits: int) -> str:
    if math.isnan(mean):
        return ""
    return f"{mean:.{digits}f}" + ("" if math.isnan(deviation) else f" ± {deviation:.{digits}f}")


def speeds(source: Path) -> pd.DataFrame:
    """Return the measured speed of each model: it depends on the machine, so it is shown and not judged."""
    frame = rows.read(source)
    frame = frame[(frame.kind == "timing") & (frame.status == "ok") & ~frame.metric.str.endswith("_iqr")]
    # Models in the suite's order, not the alphabet's.
    means = frame.groupby(["title", "metric"], sort=False).value.mean()
    measures = [CATALOGUE[metric].title for _, metric in means.index]
    index = pd.Index([title for title, _ in means.index], name="model")
    return pd.DataFrame({"measure": measures, "now": [f"{value:.4g}" for value in means]}, index)


def facts(findings: Sequence[Finding], stored: Baseline, current: Baseline) -> dict[str, Any]:
    """Return the decision for a program."""
    return {
        "passed": not any(finding.failed for finding in findings),
        "suite": current.suite,
        "seeds": current.seeds,
        "baseline": {"seeds": len(stored.seeds), "commits": list(stored.origin["commit"])},
        "cells": [_cell(finding) for finding in findings],
    }


def _cell(finding: Finding) -> dict[str, Any]:
    gated = finding.cell.gated
    spreads = {"baseline": finding.baseline, "now": finding.current}
    return {
        "model": finding.cell.model,
        "metric": gated.metric,
        "protocol": gated.protocol,
        "verdict": finding.verdict,
        "failed": finding.failed,
        **{when: {"mean": mean, "std": std} for when, (mean, std) in spreads.items()},
        "standard_errors": finding.errors,
        "p": finding.p,
        "bad_seeds": {str(seed): distance for seed, distance in finding.seeds.items()},
        "reason": finding.reason,
    }
