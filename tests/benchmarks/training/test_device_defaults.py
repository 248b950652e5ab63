"""What a recipe leaves to the device is decided by it, and stored decided."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from alibench.benchmarks.commands.cli import main
from alibench.benchmarks.config import devices, loading
from alibench.benchmarks.config.schema import Entry, Suite
from alibench.benchmarks.running import outputs
from alibench.benchmarks.training.recipe import Recipe
from alibench.evaluation.errors import BadInput
from alibench.results import rows
from tests.conftest import TINY

CPU, CUDA = torch.device("cpu"), torch.device("cuda")


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Have torch say that there is a GPU of capability 9.0; nothing is computed on it."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (9, 0))
    return monkeypatch


def decided(recipe: Recipe) -> tuple[str, str]:
    return recipe.precision, recipe.execution


def test_a_device_decides_what_it_can(gpu: pytest.MonkeyPatch) -> None:
    recipe = Recipe(steps=1)
    assert decided(recipe.on(CPU)) == ("fp32", "graphs")
    assert decided(recipe.on(CUDA)) == ("tf32", "graphs")
    assert decided(recipe.on(CUDA, alone=False)) == ("tf32", "eager")  # several processes of one training
    gpu.setattr(torch.cuda, "get_device_capability", lambda device: (7, 5))
    assert decided(recipe.on(CUDA)) == ("fp32", "graphs")


def test_what_is_asked_for_stays(gpu: pytest.MonkeyPatch) -> None:
    asked = Recipe(steps=1, precision="bf16", execution="eager")
    assert asked.on(CUDA) == asked


def suite(**entry: str) -> Suite:
    (loaded,) = loading.load("digits", only=["ali", "vae"])
    return replace(loaded, model={**loaded.model, "vae": Entry(recipe=dict(entry))})


def test_every_entry_is_decided(gpu: pytest.MonkeyPatch) -> None:
    (found,) = devices.resolved([suite(precision="auto", execution="eager")], CUDA)
    assert decided(found.recipe_of("ali")) == ("tf32", "graphs")
    assert decided(found.recipe_of("vae")) == ("tf32", "eager")


def test_a_device_that_is_elsewhere_decides_when_it_trains(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    (found,) = devices.resolved([suite()], CUDA)
    assert decided(found.recipe) == ("auto", "auto")


def test_what_a_device_cannot_do_is_refused(gpu: pytest.MonkeyPatch) -> None:
    gpu.setattr(torch.cuda, "get_device_capability", lambda device: (7, 5))
    with pytest.raises(
        BadInput, match="model 'vae': execution 'graphs' needs a CPU or CUDA, not 'mps': use eager"
    ):
        devices.resolved([suite(execution="graphs")], torch.device("mps"))
    with pytest.raises(
        BadInput, match=r"'vae': precision 'tf32' needs a GPU of capability 8.0 or later: use fp32"
    ):
        devices.resolved([suite(precision="tf32")], CUDA)


@pytest.mark.commands
@pytest.mark.usefixtures("here")
def test_plan_and_runs_hold_what_was_decided(tmp_path: Path) -> None:
    out = tmp_path / "out"
    options = ("--seeds", "1", *TINY, "--set", "metrics=['reconstruction']", "--out", str(out))
    assert main(["run", "digits", "--models", "vae", *options]) == 0
    plan = loading.of_plan(outputs.read_plan(out)["suites"]["digits"])
    assert decided(plan.recipe) == ("fp32", "graphs")
    origin = rows.read_origin(out / "runs" / "digits-vae-seed0")
    assert origin["config"]["entry_recipe"]["execution"] == "graphs"
