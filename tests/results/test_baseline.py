"""A baseline is compared with what is comparable, or refused by name; its file is as it was written."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from alibench.evaluation.errors import BadInput
from alibench.results import baseline, gate
from alibench.results.baseline import Baseline
from alibench.results.cells import Cell, Gated

IDENTITY = {"unit": "", "split": "test", "n": 355, "weights": "ema", "labels": None}
IDENTITY |= {"extractor": "digits-cnn@1"}
FID, SVM = Gated("fid", protocol="n"), Gated("svm_accuracy", protocol="C by labels")


def make(
    first: int = 0, n: int = 20, mean: float = 1.0, gated: tuple[Gated, ...] = (FID, SVM), **options: Any
) -> Baseline:
    x = np.random.default_rng(first).normal(mean, 0.1, (len(gated), n))
    cells = [
        Cell(g, "ali", "ALI", g.protocol, IDENTITY, dict(enumerate(map(float, values), first)))
        for g, values in zip(gated, x, strict=True)
    ]
    evaluation = {"draws": 4, "seconds": 0.5}
    settings = {"name": "gate", "recipe": {"steps": 10, "lr": 1e-3}, "evaluation": evaluation}
    origin = {"commit": ["a" * 40], "versions": [{"torch": "2"}], "device": ["cpu"], "command": ["run gate"]}
    return replace(Baseline("gate", "digits", "d" * 64, 1, settings, cells, origin), **options)


def changed_cell(of: Baseline, **identity: Any) -> Baseline:
    return replace(of, cells=[replace(of.cells[0], identity={**IDENTITY, **identity}), *of.cells[1:]])


def test_a_baseline_comes_back_as_it_was_written(tmp_path: Path) -> None:
    path, made = tmp_path / "new" / "gate.json", make()
    baseline.write(path, made)
    assert baseline.read(path) == made
    assert len(path.read_text().splitlines()) > len(made.cells)  # a change of a cell is a change of a line


CURRENT, STORED = make(1000, 5), make()
LONGER = {**STORED.settings, "recipe": {"steps": 20, "lr": 1e-3}}
DIFFERENT = [
    (make(suite="digits"), "is of suite 'digits', the runs are of 'gate'"),
    (make(protocols=0), "version 0 of the protocols, the runs by version 1"),
    (make(data_sha256="e" * 64), "was made on other data .*eeeeeeee"),
    (make(settings=LONGER), r"settings \(recipe.steps\)"),
    (changed_cell(STORED, unit="%"), "FID, n of 'ali' by another measure .unit '%', now ''"),
    (changed_cell(STORED, split="validation"), "split 'validation', now 'test'"),
    (changed_cell(STORED, n=177), "n 177, now 355"),
    (changed_cell(STORED, extractor="inception@2"), "extractor 'inception@2', now 'digits-cnn@1'"),
    (changed_cell(STORED, weights="raw"), "weights 'raw', now 'ema'"),
    (make(gated=(FID,)), "does not hold SVM accuracy, %, C by labels of 'ali'"),
    (make(1000 - 18), "same seeds .1000, 1001.: a seed says nothing new of itself; .* --first-seed"),
    (make(n=19), "has 19 seeds with FID, n of 'ali', 20 are needed"),
]


@pytest.mark.parametrize(("other", "message"), DIFFERENT, ids=[message for _, message in DIFFERENT])
def test_what_cannot_be_compared_is_refused_by_name(other: Baseline, message: str) -> None:
    with pytest.raises(BadInput, match=message):
        baseline.check(other, CURRENT, Path("gate.json"))
    baseline.check(STORED, CURRENT, Path("gate.json"))


def test_paths_and_timings_of_a_machine_are_no_other_settings() -> None:
    elsewhere = {**make().settings, "evaluation": {"draws": 4, "seconds": 2.0, "inception": "/elsewhere"}}
    baseline.check(make(settings=elsewhere), CURRENT, Path("gate.json"))


@pytest.mark.parametrize("n", [1, 2])
def test_too_few_seeds_are_refused_not_passed(n: int) -> None:
    told = f"{n} seeds?: the gate needs at least 3 .* never passes for lack of data"
    with pytest.raises(BadInput, match=told):
        baseline.check(make(), make(1000, n), Path("gate.json"))


def test_a_changed_digit_anywhere_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "gate.json"
    baseline.write(path, make())
    text = path.read_text()
    stored = json.loads(text)
    places = [i for i, character in enumerate(text) if character.isdigit() and i > text.index("baseline")]
    rng = np.random.default_rng(0)
    for place in rng.choice(places, 60, replace=False):
        changed = text[:place] + str((int(text[place]) + 1) % 10) + text[place + 1 :]
        if json.loads(changed) == stored:  # a digit beyond what a float holds
            continue
        path.write_text(changed)
        with pytest.raises(BadInput, match=r"damaged, or was edited by hand: restore it"):
            baseline.read(path)


@pytest.mark.parametrize("share", [0.0, 0.3, 0.9, 0.999])
def test_a_truncated_file_is_noticed(tmp_path: Path, share: float) -> None:
    path = tmp_path / "gate.json"
    baseline.write(path, make())
    path.write_text(path.read_text()[: int(share * path.stat().st_size)])
    with pytest.raises(BadInput, match="damaged"):
        baseline.read(path)


def test_an_older_format_and_no_file_are_named(tmp_path: Path) -> None:
    path = tmp_path / "gate.json"
    with pytest.raises(BadInput, match=r"cannot be read .* --update-baseline"):
        baseline.read(path)
    baseline.write(path, make())
    path.write_text(path.read_text().replace('"version": 1', '"version": 0'))
    with pytest.raises(BadInput, match="version 0 of the format"):
        baseline.read(path)


def test_a_baseline_that_no_gate_could_use_is_not_written(tmp_path: Path) -> None:
    path = tmp_path / "gate.json"
    baseline.write(path, make())
    before = path.read_text()
    with pytest.raises(BadInput, match="has a number of 19 seeds: a baseline needs 20"):
        baseline.write(path, make(n=19))
    lost = {"by_seed": dict.fromkeys(range(20)), "reasons": dict.fromkeys(range(20), "diverged: nan")}
    diverged = replace(make().cells[0], **lost)
    with pytest.raises(BadInput, match=r"0 seeds \(diverged: nan\)"):
        baseline.write(path, replace(make(), cells=[diverged]))
    assert path.read_text() == before


def test_the_difference_of_two_baselines_names_every_cell() -> None:
    other = Gated("kid")
    table = baseline.changes(make(), make(gated=(FID, other), mean=2.0))
    assert table.measure.tolist() == ["FID, n", "KID × 1000", "SVM accuracy, %, C by labels"]
    assert table.before.tolist()[1] == ""
    assert table.now.tolist()[2] == "not gated"
    assert table.before.tolist()[0].startswith(("0.9", "1.0"))
    assert table.now.tolist()[0].startswith(("1.9", "2.0"))


def test_a_cell_that_the_suite_has_dropped_fails_until_the_baseline_is_renewed() -> None:
    current = replace(CURRENT, cells=CURRENT.cells[:1])
    baseline.check(make(), current, Path("gate.json"))
    verdicts = {finding.cell.key: finding.verdict for finding in gate.judge(make().cells, current.cells)}
    assert verdicts == {("ali", "svm_accuracy", "C by labels"): "missing", ("ali", "fid", "n"): "unchanged"}
