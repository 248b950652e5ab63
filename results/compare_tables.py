"""What a comparison of outputs shows: a table for each suite and pair of outputs, and facts for programs."""

import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from alibench.evaluation.messages import listed
from alibench.evaluation.metrics import COLUMNS
from alibench.evaluation.protocols import prose
from alibench.results.baseline import different_settings
from alibench.results.compare import VERDICTS, Compared, Contrast, Pair, left_out, suites
from alibench.results.formats import Sheet
from alibench.results.layouts import ARROWS
from alibench.results.statistics import LEVEL, TESTED_FROM
from alibench.results.tables import shown_p

DIFFERENT = ("better", "worse", "different")


def sheets(outputs: Sequence[Compared], contrasts: Sequence[Contrast]) -> dict[str, Sheet]:
    """Return a table for each suite and each output that is compared with the first, by name."""
    first, *others = outputs
    tested = sum(not math.isnan(contrast.p) for contrast in contrasts)
    made = {}
    for suite in dict.fromkeys(contrast.key.suite for contrast in contrasts):
        for other in others:
            of_pair = [each for each in contrasts if (each.key.suite, each.number) == (suite, other.number)]
            if of_pair:
                number = f"-{other.number}" * (len(others) > 1)
                made[f"{suite}-compare{number}"] = _sheet((first, other), of_pair, tested)
    return made


def _sheet(pair: Pair, contrasts: Sequence[Contrast], tested: int) -> Sheet:
    first, other = pair
    # A protocol is named where a metric was measured by several.
    protocols = {(contrast.key.metric, contrast.key.protocol) for contrast in contrasts}
    times = Counter(metric for metric, _ in protocols)
    lines = [_line(pair, contrast, times[contrast.key.metric] > 1) for contrast in contrasts]
    frame = pd.DataFrame(lines, pd.Index([contrast.title for contrast in contrasts], name="model"))
    best = pd.DataFrame(False, frame.index, frame.columns)
    best["verdict"] = frame.verdict.isin(DIFFERENT)

    # What is tested, then where the two come from, then what is left out.
    suite = contrasts[0].key.suite
    dataset = first.frame[first.frame.suite == suite].dataset.iloc[0]
    caption = (
        f"{dataset}: output {other.name} less output {first.name}, mean ± deviation over training seeds. "
        f"Interval: Welch's, of each row by itself. p: Welch's t, Holm over all {tested} rows that are "
        f"tested. Verdict: at {100 * LEVEL:.0f} %, by the measure's arrow; not tested with fewer than "
        f"{TESTED_FROM} seeds in an output. Timings and budgets are not compared."
    )
    folders = "; ".join(f"{each.number}: {each.path}" for each in pair)
    return Sheet(caption, frame, best, (f"{folders}.", *_made_by(pair, suite), *_left_out(pair, suite)))


def _line(pair: Pair, contrast: Contrast, name_protocol: bool) -> dict[str, str]:
    """Return the cells of a row."""
    column, key = COLUMNS[contrast.key.metric], contrast.key
    protocol = f", {prose(key.protocol)}" if name_protocol and key.protocol else ""
    # A metric on several numbers of labels is several rows.
    labels = "" if key.labels is None else f", {key.labels} labels"
    means = {
        each.name: _spread(sample, column.digits) for each, sample in zip(pair, contrast.samples, strict=True)
    }
    low, high = (f"{end:.{column.digits}f}" for end in contrast.interval)
    return {
        "measure": column.title + protocol + labels + ARROWS[column.better],
        "seeds": ", ".join(str(len(sample)) for sample in contrast.samples),
        **means,
        "difference": f"{contrast.difference:+.{column.digits}f}",
        "95 % interval": "" if low == "nan" else f"{low} to {high}",
        "p": "" if math.isnan(contrast.p) else shown_p(contrast.p),
        "verdict": contrast.verdict,
    }


def _spread(sample: np.ndarray, digits: int) -> str:
    deviation = f" ± {sample.std(ddof=1):.{digits}f}" if len(sample) > 1 else ""
    return f"{sample.mean():.{digits}f}{deviation}"


def _made_by(pair: Pair, suite: str) -> Iterator[str]:
    """Yield what the runs of two outputs were made by, where that differs, a line each."""
    origins = [each.origins_of(suite) for each in pair]
    before, now = map(_provenance, origins)
    for name in before:
        # what both have says nothing
        first, other = before[name], now[name]
        alone = [[text for text in a if text not in b] for a, b in ((first, other), (other, first))]
        sides = zip(alone, pair, strict=True)
        parts = [f"{listed(list(dict.fromkeys(texts)))} in {each.number}" for texts, each in sides if texts]
        if parts:
            yield f"Different {name}: {', '.join(parts)}."

    # settings by name: values may be whole tables
    settings = different_settings(*(of_side[0]["config"] for of_side in origins))
    if settings:
        yield f"Different settings: {listed(settings, 8)}."


def _provenance(origins: Sequence[Mapping[str, Any]]) -> dict[str, list[str]]:
    """Return what is named of runs where two outputs differ in it."""
    return {
        "commit": [re.sub(r"^([0-9a-f]{8})[0-9a-f]{32}", r"\1", origin["commit"]) for origin in origins],
        "versions": [f"{name} {value}" for origin in origins for name, value in origin["versions"].items()],
        "device": [origin["device"] for origin in origins],
        "weights": [origin["weights"] for origin in origins],
    }


def _left_out(pair: Pair, suite: str) -> Iterator[str]:
    """Yield what is not compared of a suite, and which other suites only one output has, a line each."""
    for reason in left_out(*pair, suite):
        yield f"Not compared, {reason}."
    shared = suites(*pair)
    for each in pair:
        if alone := [name for name in each.quality.suite.unique() if name not in shared]:
            yield f"Not compared, suites only in {each.number}: {listed(alone, 8)}."


# -------------------- for programs, and in a line


def counts(contrasts: Sequence[Contrast]) -> dict[str, int]:
    """Return how many rows have each of VERDICTS."""
    counted = Counter(contrast.verdict for contrast in contrasts)
    return {verdict: counted[verdict] for verdict in VERDICTS}


def facts(contrast: Contrast) -> dict[str, Any]:
    """Return a row for a program, with unrounded numbers."""
    # a single seed has no deviation
    first, other = (
        {"seeds": len(sample), "mean": sample.mean(), "std": sample.std(ddof=1) if len(sample) > 1 else None}
        for sample in contrast.samples
    )
    return {
        **contrast.key._asdict(),
        "output": contrast.number,
        "first": first,
        "other": other,
        "difference": contrast.difference,
        "interval": contrast.interval,
        "p": contrast.p,
        "verdict": contrast.verdict,
    }
