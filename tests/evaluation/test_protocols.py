"""Protocols: keys stay what is stored, whatever the words for them."""

import importlib.util
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from alibench.evaluation import protocols
from alibench.results import layouts, rows, tables

ROOT = Path(__file__).parents[2]
KEYS = {
    "MEAN_CODE": "mean code",
    "DRAWN_CODE": "drawn code",
    "OTHER_CODE": "against the code of another x",
    "ALL_IMAGES": "n",
    "HALF_THE_IMAGES": "n/2",
    "EXTRAPOLATED": "linear in 1/n",
    "KERNEL": "unbiased MMD², cubic kernel",
    "ONE_SPLIT": "one split",
    "RAW_DATA": "raw data",
    "THREE_SIGMA": "3 sigma",
    "ANY_OF_2500": "3 sigma, any of 2,500",
    "NEAREST_CENTRE": "nearest centre",
    "EXACT_POSTERIOR": "exact posterior",
    "DEQUANTISED": "uniformly dequantised",
    "GAUSSIAN_KERNEL": "biased MMD², Gaussian kernel",
    "EXACT_DENSITY": "exact density",
    "C_BY_VALIDATION": "C by validation",
    "C_BY_LABELS": "C by labels",
    "PENALTY_BY_VALIDATION": "penalty by validation",
    "LAST_HIDDEN": "last hidden layer",
    "CODE_ALONE": "code alone",
    "STANDARDISED": "standardised",
    "K_PLUS_ONE": "K+1 classes",
}


def test_keys_are_those_of_stored_rows_and_baselines() -> None:
    named = {name: key for name, key in vars(protocols).items() if name.isupper() and isinstance(key, str)}
    assert named == KEYS
    assert protocols.neighbours(5) == "k = 5"
    assert protocols.draws(64) == "64 draws"
    assert protocols.joined("a", "", "b") == "a, b"


def as_a_second_module(module: ModuleType) -> ModuleType:
    """Return a module made anew from its file, apart from the one that others have imported."""
    spec: Any = importlib.util.spec_from_file_location("second", str(module.__file__))
    second = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(second)
    return second


def test_other_words_leave_every_cell_of_the_tables_filled(monkeypatch: pytest.MonkeyPatch) -> None:
    stored = rows.read(ROOT / "results" / "reference" / "quick")
    before = tables.tables(stored)
    monkeypatch.setattr(protocols, "PROSE", {key: f"in other words {key}" for key in KEYS.values()})
    monkeypatch.setattr(tables, "TABLES", as_a_second_module(layouts).TABLES)
    after = tables.tables(stored)

    assert before.keys() == after.keys()
    for name in before:
        assert before[name].frame.to_numpy().tolist() == after[name].frame.to_numpy().tolist(), name
    titles = {str(title) for sheet in after.values() for title in (*sheet.frame.columns, *sheet.frame.index)}
    assert any("in other words C by labels" in title for title in titles)
