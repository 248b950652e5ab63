"""What the gate finds, and what it lets pass, on numbers whose truth is known."""

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from alibench.evaluation.errors import BadInput
from alibench.results import cells, gate, rows
from alibench.results.cells import Cell, Gated
from alibench.results.gate import Finding

FID = Gated("fid", protocol="n", scale="log")


def cell(gated: Gated, values: Any, model: str = "ali", first: int = 0, **options: Any) -> Cell:
    by_seed = {first + i: None if v is None else float(v) for i, v in enumerate(values)}
    reasons = {seed: "diverged" for seed, value in by_seed.items() if value is None}
    return Cell(gated, model, model.upper(), gated.protocol, {}, by_seed, reasons, **options)


def normal(n: int, mean: float = 10.0, std: float = 1.0, seed: int = 0) -> np.ndarray:
    """Return n values with exactly this mean and deviation."""
    x = np.random.default_rng(seed).normal(size=n)
    return mean + std * (x - x.mean()) / (x.std(ddof=1) if n > 1 else 1)


def judge(gated: Gated, base: Any, current: Any) -> Finding:
    (finding,) = gate.judge([cell(gated, base)], [cell(gated, current, first=1000)])
    return finding


@pytest.mark.parametrize(("worse", "factor"), [("higher", 1), ("lower", -1)])
def test_a_shift_is_measured_in_standard_errors_and_found_in_its_direction(worse: Any, factor: int) -> None:
    gated = Gated("fid", worse=worse)
    base, current = normal(60), normal(5, mean=10 + 3 * factor)
    found = judge(gated, base, current)
    errors = 3 / np.sqrt(1 / 60 + 1 / 5)
    assert found.verdict == "regression"
    assert found.errors == pytest.approx(errors)
    assert found.p == pytest.approx(stats.t.sf(errors, 59), rel=1e-9)
    assert judge(gated, base, normal(5, mean=10 - 3 * factor)).verdict == "improvement"
    assert judge(gated, base, normal(5)).verdict == "unchanged"


def test_either_direction_can_be_worse() -> None:
    gated = Gated("posterior_sigma", worse="either")
    verdicts = [judge(gated, normal(60), normal(5, mean=mean)).verdict for mean in (7, 10, 13)]
    assert verdicts == ["regression", "unchanged", "regression"]


def test_nothing_within_the_floor_is_a_regression() -> None:
    base, current = normal(60, std=0.01), normal(5, mean=10.1, std=0.01)
    assert judge(Gated("fid"), base, current).verdict == "regression"
    assert judge(Gated("fid", absolute=0.2), base, current).verdict == "unchanged"
    assert judge(Gated("fid", relative=0.02), base, current).verdict == "unchanged"
    assert judge(Gated("fid", relative=0.005, absolute=0.05), base, current).verdict == "regression"


def test_a_measure_without_spread_is_judged_by_its_floor() -> None:
    for value, verdict in ((0.0, "unchanged"), (1.0, "regression")):
        assert judge(Gated("alarms", absolute=0.1), [0.0] * 30, [value] * 5).verdict == verdict
    assert judge(Gated("alarms", absolute=0.1), [0.0] * 30, [0, 0, 2, 0, 0]).failed


def test_one_collapsed_seed_of_five_is_found_by_name_where_the_mean_is_not() -> None:
    current = normal(5)
    current[3] = 10 + 6.0
    found = judge(Gated("fid"), normal(60), current)
    assert found.p > gate.LEVEL / 2  # the mean alone passes
    assert found.verdict == "bad seed"
    assert list(found.seeds) == [1003]
    assert found.seeds[1003] == pytest.approx(6)


def test_a_wild_seed_does_not_hide_the_shift_of_all() -> None:
    current = normal(5, mean=13)
    current[0] = -30  # Welch's test would see nothing through such a spread
    assert stats.ttest_ind(current, normal(60), equal_var=False, alternative="greater").pvalue > 0.5
    assert judge(Gated("fid", worse="either"), normal(60), current).failed


def test_a_diverged_seed_fails_where_the_baseline_lost_none_and_not_where_it_loses_as_many() -> None:
    current = [*normal(4), None]
    found = judge(Gated("fid"), normal(60), current)
    assert found.verdict == "missing"
    assert "1 of 5 seeds have no number (seed 1004: diverged)" in found.reason
    lossy = [*normal(40), *[None] * 20]
    assert judge(Gated("fid"), lossy, current).verdict == "unchanged"
    assert judge(Gated("fid"), lossy, [None] * 5).verdict == "missing"


def test_all_diverged_and_a_missing_model_fail_by_name() -> None:
    assert "5 of 5" in judge(Gated("fid"), normal(60), [None] * 5).reason
    gone = replace(cell(FID, [None] * 5), reasons=dict.fromkeys(range(5), gate.NOT_THERE))
    (found,) = gate.judge([cell(FID, normal(60))], [gone])
    assert found.verdict == "missing"
    assert "the metric or the model is gone" in found.reason


def test_both_sides_are_compared_on_the_scale_that_the_suite_names_now() -> None:
    (found,) = gate.judge([cell(Gated("fid", protocol="n"), normal(60))], [cell(FID, normal(5), first=1000)])
    assert found.verdict == "unchanged"
    assert abs(found.errors) < 0.2  # the means are equal; a logarithm against a plain number would be ten off


def test_ratios_to_different_models_are_different_cells() -> None:
    to_vae, to_gan = (cell(Gated("train_rate", over=model), [0.5]) for model in ("vae", "gan"))
    assert to_vae.key != to_gan.key


def test_a_ratio_of_speeds_is_judged_by_its_floor() -> None:
    gated = Gated("train_rate", over="vae", relative=0.2)
    verdicts = [judge(gated, [0.5], [ratio]).verdict for ratio in (0.5, 0.45, 0.35, 0.7)]
    assert verdicts == ["unchanged", "unchanged", "regression", "improvement"]
    assert judge(gated, [0.5], []).verdict == "missing"


def test_on_unchanged_numbers_a_whole_decision_errs_seldom() -> None:
    """39 cells of 60 and 5 normal seeds, 400 decisions: as few fail as the level says, but for chance."""
    rng, failed = np.random.default_rng(0), 0
    gates = [Gated("fid", worse="either" if i % 10 == 0 else "higher") for i in range(39)]

    def drawn(n: int) -> list[Cell]:
        return [cell(gated, rng.normal(10, 1, n), f"m{i}") for i, gated in enumerate(gates)]

    for _ in range(400):
        failed += any(finding.failed for finding in gate.judge(drawn(60), drawn(5)))
    assert failed / 400 <= gate.LEVEL + 3 * np.sqrt(gate.LEVEL / 400)


# -------------------- cells from rows


def frame(*lines: dict[str, Any]) -> pd.DataFrame:
    default: dict[str, Any] = dict.fromkeys(rows.COLUMNS, "")
    default |= {"status": "ok", "kind": "quality", "labels": None, "draw": None}
    made = pd.DataFrame([{**default, "title": line["model"].upper(), **line} for line in lines])
    return made.astype({"value": "float64", **dict.fromkeys(("seed", "labels", "draw"), "Int64")})


def line(seed: int, value: float | None, **options: Any) -> dict[str, Any]:
    about = {"model": "ali", "metric": "fid", "protocol": "n", "n": 355}
    return {**about, "seed": seed, "value": value, **options}


def test_a_cell_has_a_value_or_a_reason_for_every_seed_that_was_to_be_trained() -> None:
    lost = line(1, None, status="diverged", reason="not finite")
    others = (line(2, 5.0, protocol="another"), line(9, 7.0), line(0, 3.0, model="vae"))
    made = frame(line(0, 1.0), lost, *others)
    (found,) = cells.from_rows(made, [FID], ["ali"], range(4))
    assert found.by_seed == {0: 1.0, 1: None, 2: None, 3: None}
    assert found.reasons == {1: "diverged: not finite", 2: gate.NOT_THERE, 3: gate.NOT_THERE}
    with pytest.raises(BadInput, match="measured in 2 ways; say 'protocol'"):
        cells.from_rows(made, [Gated("fid")], ["ali"], range(4))


def test_draws_are_averaged_within_a_seed() -> None:
    made = frame(*(line(0, value, draw=draw) for draw, value in enumerate((1.0, 2.0, 6.0))))
    (found,) = cells.from_rows(made, [FID], ["ali"], [0])
    assert found.by_seed == {0: 3.0}
    assert found.identity["n"] == 355


def test_a_speed_is_its_ratio_to_another_models_of_the_same_run() -> None:
    speed = {"metric": "train_rate", "kind": "timing", "protocol": "batch 100"}
    made = frame(line(0, 50.0, **speed), line(0, 200.0, model="vae", **speed))
    (found,) = cells.from_rows(made, [Gated("train_rate", over="vae")], ["ali"], range(7, 12))
    assert list(found.by_seed.values()) == [0.25]


@pytest.mark.parametrize(
    ("gated", "message"),
    [
        (Gated("fidd"), "unknown metric 'fidd'; did you mean 'fid'"),
        (Gated("posterior_sigma"), "no better direction"),
        (Gated("train_rate"), "say over = 'MODEL'"),
        (Gated("fid", over="vae"), "only a speed has an 'over'"),
        (Gated("train_rate", over="vea"), "unknown model 'vea'"),
    ],
)
def test_a_gate_that_cannot_be_judged_is_refused_by_name(gated: Gated, message: str) -> None:
    with pytest.raises(BadInput, match=message):
        cells.check([gated], ["ali", "vae"], "suite 'x'")


def test_a_gate_of_too_many_cells_or_of_one_twice_is_refused() -> None:
    with pytest.raises(BadInput, match="41 gated cells"):
        cells.check([Gated("fid", models=[f"m{i}" for i in range(41)])], [], "suite 'x'")
    with pytest.raises(BadInput, match="names 'fid' of 'ali' twice"):
        cells.check([Gated("fid"), Gated("fid", models=["ali"])], ["ali"], "suite 'x'")


def test_a_logarithm_of_what_is_not_positive_is_refused_by_name() -> None:
    with pytest.raises(BadInput, match="needs positive numbers"):
        judge(Gated("kid", scale="log"), normal(30), [1.0, -1.0, 2.0])
