"""The plans of several machines become the plan of the whole grid, or are refused by name."""

from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import torch

from alibench.benchmarks.config import loading
from alibench.benchmarks.running import grids, outputs
from alibench.benchmarks.running.grids import Grid
from alibench.evaluation.errors import BadInput
from tests.conftest import SETTINGS

CPU = torch.device("cpu")
HERE, THERE = Path("here"), Path("there")


def planned(models: list[str], first_seed: int = 0, seeds: int = 1) -> Grid:
    """Return the plan of a machine that trains a part of a grid."""
    (suite,) = loading.load("digits", [*SETTINGS, f"first_seed={first_seed}"], models, seeds)
    runs = [f"digits-{name}-seed{seed}" for name in models for seed in suite.training_seeds]
    return {"command": ["alibench"], **outputs.plan([suite], CPU, runs=runs, plugins={})}


def test_the_plans_of_parts_make_the_plan_of_the_whole() -> None:
    parts = {HERE: planned(["ali"], seeds=2), THERE: planned(["vae"]), Path("later"): planned(["vae"], 1)}
    assert grids.merge(parts) == planned(["ali", "vae"], seeds=2)


OTHERS: dict[str, tuple[Callable[[Grid], object], str]] = {
    "version": (
        lambda plan: plan["versions"].update(torch="1.0"),
        f"torch ({torch.__version__!r}, there '1.0')",
    ),
    "code": (lambda plan: plan["code"].update({"models/layers.py": "0"}), "models/layers.py (its code)"),
    "data": (lambda plan: plan["data"].update(digits="0" * 64), "the data of suite 'digits'"),
    "device": (lambda plan: plan.update(device="cuda"), "the device ('cpu', there 'cuda')"),
    "setting": (
        lambda plan: plan["suites"]["digits"]["recipe"].update(lr=0.5),
        "digits.recipe.lr (0.002, there 0.5)",
    ),
    "entry": (
        lambda plan: plan["suites"]["digits"]["model"].update(vae={"recipe": {"lr": 0.5}}),
        "digits.model.vae.recipe.lr (None, there 0.5)",
    ),
}


@pytest.mark.parametrize("case", OTHERS)
def test_what_was_made_otherwise_is_refused_by_name_unless_forced(case: str) -> None:
    change, difference = OTHERS[case]
    here, there = planned(["vae"]), planned(["vae"], first_seed=1)
    change(there)
    with pytest.raises(BadInput) as refused:
        grids.merge({HERE: here, THERE: there})
    assert f"here and there were not made alike: {difference}; " in str(refused.value)
    assert grids.merge({HERE: here, THERE: there}, force=True)["runs"] == [*here["runs"], *there["runs"]]


def test_machines_may_have_tables_for_models_of_their_own() -> None:
    def entry(**more: object) -> dict[str, Any]:
        return {"of": "", "title": "", "compute": "", "recipe": {}, "options": {}, **more}

    ali, vae = planned(["ali"], seeds=2), planned(["vae"])
    ali["suites"]["digits"]["model"] |= {"ali": entry(compute="gan"), "vae": entry(title="x")}
    vae["suites"]["digits"]["model"].pop("vae", None)
    suite = grids.merge({HERE: ali, THERE: vae})["suites"]["digits"]
    assert (suite["models"], suite["seeds"], suite["first_seed"]) == (["ali", "vae"], 2, 0)
    assert suite["model"]["ali"]["compute"] == "gan"
    assert "vae" not in suite["model"]  # as where it was trained

    # the model whose cost the first one matches
    vae["suites"]["digits"]["models"].append("gan")
    vae["suites"]["digits"]["model"]["gan"] = entry(recipe={"lr": 0.5})
    with pytest.raises(BadInput, match=r"digits\.model\.gan\.recipe\.lr"):
        grids.merge({HERE: ali, THERE: vae})


def test_the_plans_of_evaluate_and_regression_name_their_runs(tmp_path: Path) -> None:
    (tmp_path / "runs").mkdir()
    plan = planned(["ali"], seeds=2)
    command, runs = plan.pop("command"), plan.pop("runs")
    outputs.write_plan(tmp_path, command, plan)
    assert grids.read(tmp_path)["runs"] == runs
    outputs.write_plan(tmp_path, command, deepcopy(plan) | {"weights": {"digits-ali-seed1": "0" * 64}})
    assert grids.read(tmp_path)["runs"] == ["digits-ali-seed1"]
