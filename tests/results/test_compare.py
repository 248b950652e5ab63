"""Comparing outputs: each row has the numbers of scipy's tests, and what cannot be compared is named."""

import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

from alibench.benchmarks.commands.cli import main
from alibench.evaluation.errors import BadInput
from alibench.evaluation.measurement import Measurement
from alibench.results import compare, compare_tables, stored
from alibench.results.compare import Contrast
from tests.conftest import origin
from tests.results.conftest import store

RNG = np.random.default_rng(0)
SPREAD = (-0.2, -0.1, 0.0, 0.1, 0.2)  # of five seeds


def fid(value: float, **more: Any) -> Measurement:
    return Measurement("fid", value, **{"n": 355, "extractor": "cnn", "protocol": "n", **more})


def output(
    out: Path, values: Iterable[float], measured: Callable[[float], Measurement] = fid, model: str = "ali"
) -> Path:
    """Store a run of a model for each value, seeds from 0."""
    for seed, value in enumerate(values):
        store(out, model, seed, [measured(value)])
    return out


def changed(out: Path, **more: Any) -> Path:
    """Change the provenance of an output's runs."""
    for folder in (out / "runs").iterdir():
        stored.write(folder, stored.ORIGIN, stored.read_origin(folder) | more)
    return out


def around(mean: float) -> list[float]:
    return [mean + step for step in SPREAD]


def compared(*folders: Path) -> list[Contrast]:
    outputs = [compare.read(number, folder, compare.COLUMNS) for number, folder in enumerate(folders, 1)]
    return compare.contrasts(outputs)


def notes(*folders: Path) -> str:
    outputs = [compare.read(number, folder, compare.COLUMNS) for number, folder in enumerate(folders, 1)]
    (sheet,) = compare_tables.sheets(outputs, compare.contrasts(outputs)).values()
    return " ".join(sheet.notes)


# -------------------- the numbers


def test_a_row_has_the_difference_interval_and_p_of_scipy_with_draws_averaged(tmp_path: Path) -> None:
    draws = [RNG.normal(mean, spread, (seeds, 3)) for mean, spread, seeds in ((2, 0.3, 5), (2.4, 1.0, 8))]
    for name, of_output in zip("ab", draws, strict=True):
        for seed, values in enumerate(of_output):
            store(tmp_path / name, "ali", seed, [fid(value, draw=draw) for draw, value in enumerate(values)])

    (row,) = compared(tmp_path / "a", tmp_path / "b")
    first, other = (of_output.mean(1) for of_output in draws)
    expected = stats.ttest_ind(other, first, equal_var=False)
    assert row.p == pytest.approx(expected.pvalue, rel=1e-9)
    assert row.difference == pytest.approx(other.mean() - first.mean(), rel=1e-9)
    assert row.interval == pytest.approx(tuple(expected.confidence_interval(0.95)), rel=1e-9)


def test_p_counts_all_rows_and_outputs_of_a_call(tmp_path: Path) -> None:
    """Holm by hand, over two models in two outputs that are compared with a third."""
    samples = {(name, model): RNG.normal(size=5) for name in "abc" for model in ("ali", "vae")}
    for (name, model), values in samples.items():
        output(tmp_path / name, values, model=model)
    rows = compared(*(tmp_path / name for name in "abc"))

    pairs = {(number, model): (samples["a", model], samples["abc"[number - 1], model])
             for number in (2, 3) for model in ("ali", "vae")}  # fmt: skip
    raw = {key: stats.ttest_ind(*pair, equal_var=False).pvalue for key, pair in pairs.items()}
    expected, least = {}, 0.0
    for place, key in enumerate(sorted(raw, key=raw.__getitem__)):
        expected[key] = least = min(1.0, max(least, raw[key] * (4 - place)))
    assert {(row.number, row.key.model): row.p for row in rows} == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize(
    ("metric", "shift", "verdict"),
    [
        ("fid", 1.0, "worse"),
        ("fid", -1.0, "better"),
        ("svm_accuracy", 1.0, "better"),
        ("svm_accuracy", -1.0, "worse"),
        ("posterior_sigma", 1.0, "different"),
        ("fid", 0.02, "not different"),
    ],
)
def test_a_verdict_follows_the_direction_of_its_column(
    metric: str, shift: float, verdict: str, tmp_path: Path
) -> None:
    first, other = (
        output(tmp_path / name, around(mean), lambda value: Measurement(metric, value))
        for name, mean in (("a", 3.0), ("b", 3.0 + shift))
    )
    assert [row.verdict for row in compared(first, other)] == [verdict]


def test_fewer_than_five_seeds_are_not_tested_and_count_in_no_correction(tmp_path: Path) -> None:
    first, other = (output(tmp_path / name, around(mean)) for name, mean in (("a", 1), ("b", 2)))
    output(first, around(1), model="vae")
    output(other, around(9)[:4], model="vae")
    tested, untested = compared(first, other)
    assert (tested.verdict, untested.verdict) == ("worse", "not tested")
    assert tested.p == pytest.approx(stats.ttest_ind(around(1), around(2), equal_var=False).pvalue, rel=1e-9)
    assert np.isnan(untested.p)
    assert untested.interval[0] > 7  # it has an interval all the same


def test_rows_without_spread_differ_if_their_values_do(tmp_path: Path) -> None:
    def modes(value: float) -> Measurement:
        return Measurement("modes_3sigma", value)

    first = output(tmp_path / "a", [0.1] * 5, modes)
    same, fewer = output(tmp_path / "b", [0.1] * 6, modes), output(tmp_path / "c", [0.0] * 5, modes)
    rows = compared(first, same, fewer)
    assert [row.verdict for row in rows] == ["not different", "worse"]
    assert [row.interval for row in rows] == [(0.0, 0.0), (-0.1, -0.1)]


def test_an_output_does_not_differ_from_itself(tmp_path: Path) -> None:
    out = output(output(tmp_path, around(1)), around(2), model="vae")
    rows = compared(out, out)
    assert [(row.difference, row.p, row.verdict) for row in rows] == [(0, 1, "not different")] * 2


def test_rows_stand_in_the_order_of_the_tables(tmp_path: Path) -> None:
    for seed in range(2):
        for model in ("vae", "ali"):
            errors = [Measurement("reconstruction_error", 1.0 + seed, protocol="mean code"), fid(seed)]
            store(tmp_path, model, seed, errors, models=("vae", "ali"))
    rows = compared(tmp_path, tmp_path)
    assert [(row.key.metric, row.key.model) for row in rows] == [
        (metric, model) for metric in ("reconstruction_error", "fid") for model in ("vae", "ali")
    ]


# -------------------- what is left out


def test_what_is_not_compared_is_named_with_its_reason(tmp_path: Path) -> None:
    first, other = (output(tmp_path / name, around(1)) for name in "ab")
    for out, extractor, labels in ((first, "cnn", 100), (other, "inception", 100)):
        store(out, "vae", 0, [fid(1.0, extractor=extractor), Measurement("svm_accuracy", 9.0, labels=labels)])
        store(out, "references", None, [fid(0.1, reference="held-out data")])
    store(first, "bigan", 0, [fid(1.0)], models=("ali", "bigan"))
    lost = Measurement("fid", None, status="diverged", reason="it is not finite")
    store(other, "ali", 5, [Measurement("kid", 3.0), lost])

    said = notes(first, other)
    assert "Not compared, only in 1: BIGAN." in said
    assert "Not compared, only in 2: KID × 1000: ALI." in said
    assert "Not compared, not comparable: FID (extractor cnn in 1, inception in 2): VAE." in said
    assert "Not compared, no seeds, so no test: held-out data." in said
    assert "Not compared, diverged in 2: ALI (1 seed)." in said
    assert [(row.key.metric, row.key.model) for row in compared(first, other)] == [
        ("fid", "ali"),
        ("svm_accuracy", "vae"),
    ]


def test_what_two_outputs_were_made_by_is_named_where_it_differs(tmp_path: Path) -> None:
    first, other = (output(tmp_path / name, around(1)) for name in "ab")
    config = origin("digits", ("ali", "vae"))["config"]
    changed(first, config=config | {"recipe": {"steps": 10}})
    changed(other, config=config | {"recipe": {"steps": 20}}, commit="f" * 40 + "+", versions={"torch": "3"})
    said = notes(first, other)
    assert "Different commit: 01234567 in 1, ffffffff+ in 2." in said
    assert "Different versions: torch 2 in 1, torch 3 in 2." in said
    assert "Different settings: recipe.steps." in said
    assert "device" not in said


# -------------------- refusals


def other_suite(out: Path) -> Path:
    for seed in range(2):
        store(out, "ali", seed, [fid(1.0)], suite="mnist", dataset="mnist")
    return out


def damaged(out: Path) -> Path:
    output(out, around(1))
    path = out / "runs" / "digits-ali-seed0" / "rows.json"
    path.write_text(path.read_text()[:-9])
    return out


REFUSED: dict[str, tuple[Callable[[Path], Path], str]] = {
    "data": (lambda out: changed(output(out, around(1)), data_sha256="1" * 64), "different data"),
    "protocols": (lambda out: changed(output(out, around(1)), protocols=2), "alibench evaluate"),
    "suite": (other_suite, "no suite in common (digits and mnist)"),
    "extractor": (
        lambda out: output(out, around(1), lambda value: fid(value, extractor="inception")),
        "FID (extractor cnn in {first}, inception in {other}): ALI: measure both in one way",
    ),
    "protocol": (
        lambda out: output(out, around(1), lambda value: fid(value, protocol="n/2")),
        "FID (protocol n in {first}, n/2 in {other})",
    ),
    "damage": (damaged, "rows.json"),
    "no output": (lambda out: out, "holds no runs"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_outputs_that_cannot_be_compared_are_refused(
    kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make, told = REFUSED[kind]
    first, other = output(tmp_path / "a", around(1)), make(tmp_path / "b")
    words = ["compare", str(first), str(other), "--out", str(tmp_path / "new"), "--fail-on-worse"]
    assert main(words) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert told.format(first=1, other=2) in line
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    ("words", "told"),
    [(["a"], "two outputs or more"), (["a", "a", "--metrics", "fidelty"], "did you mean 'fidelity'?")],
)
def test_words_that_compare_nothing_are_refused(
    words: Sequence[str],
    told: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    output(tmp_path / "a", around(1))
    monkeypatch.chdir(tmp_path)
    assert main(["compare", *words]) == 2
    assert told in capsys.readouterr().err


def test_splits_that_each_seed_deals_are_compared_seed_by_seed(tmp_path: Path) -> None:
    """With `data.resplit` every seed has data of its own: those of equal seeds must agree."""
    config = origin("digits", ("ali", "vae"))["config"] | {"data": {"resplit": True}}

    def dealt(out: Path, seeds: Sequence[int], hashes: Sequence[str]) -> Path:
        for seed, sha in zip(seeds, hashes, strict=True):
            folder = store(out, "ali", seed, [fid(1.0 + seed)])
            more = {"config": config, "data_sha256": sha * 64}
            stored.write(folder, stored.ORIGIN, stored.read_origin(folder) | more)
        return out

    first = dealt(tmp_path / "a", [0, 1], "01")
    assert len(compared(first, dealt(tmp_path / "b", [1, 2], "12"))) == 1
    with pytest.raises(BadInput, match="different data"):
        compared(first, dealt(tmp_path / "c", [1, 2], "32"))


# -------------------- the command


def test_the_exit_code_is_one_only_for_what_is_worse(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    low, high = (output(tmp_path / name, around(mean)) for name, mean in (("low", 1), ("high", 2)))
    assert main(["compare", str(low), str(high)]) == 0
    assert "1 rows: 1 worse" in capsys.readouterr().out
    assert main(["compare", str(low), str(high), "--fail-on-worse"]) == 1
    assert main(["compare", str(high), str(low), "--fail-on-worse"]) == 0
    # the metric that got worse is not among those that are compared
    for out in (low, high):
        store(out, "vae", 0, [Measurement("svm_accuracy", 9.0)])
    assert main(["compare", str(low), str(high), "--fail-on-worse", "--metrics", "svm"]) == 0


def test_json_has_every_row_and_the_folder_the_tables(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folders = [output(tmp_path / name, around(mean)) for name, mean in (("a", 1), ("b", 2), ("c", 1))]
    out = tmp_path / "new"
    assert main(["compare", *map(str, folders), "--out", str(out), "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["exit_code"] == 0
    assert document["outputs"] == list(map(str, folders))
    assert document["verdicts"]["worse"] == document["verdicts"]["not different"] == 1

    rows = compared(*folders)
    for fact, row in zip(document["rows"], rows, strict=True):
        assert {name: fact[name] for name in row.key._fields} == row.key._asdict()
        assert (fact["output"], fact["verdict"]) == (row.number, row.verdict)
        assert (fact["p"], fact["difference"]) == (row.p, row.difference)
        assert tuple(fact["interval"]) == row.interval
        assert fact["first"] == {"seeds": 5, "mean": 1.0, "std": np.std(around(1), ddof=1)}

    names = {"digits-compare-2", "digits-compare-3"}
    assert document["tables"].keys() == document["notes"].keys() == names
    (line,) = document["tables"]["digits-compare-2"]
    assert (line["1: a"], line["2: b"], line["verdict"]) == ("1.00 ± 0.16", "2.00 ± 0.16", "worse")
    assert {path.name for path in (out / "tables").iterdir()} == {
        f"{name}.{kind}" for name in names for kind in ("md", "csv", "tex")
    }
    assert main(["compare", *map(str, folders), "--out", str(out)]) == 2  # it holds files
    assert not list(tmp_path.glob("[abc]/*.md"))  # nothing is written into what is compared
