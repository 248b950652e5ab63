"""Dry runs: operations are counted on shapes alone, data are outlines, nothing is downloaded, decoded in bulk
or written.
"""

import io
import json
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from alibench.benchmarks.commands.cli import main
from alibench.benchmarks.config import loading, parsing
from alibench.benchmarks.config.schema import Suite
from alibench.benchmarks.data import cache, images, outline
from alibench.benchmarks.data import datasets as sets
from alibench.benchmarks.data.published import PUBLISHED
from alibench.benchmarks.running import forecast, timing
from alibench.benchmarks.running.jobs import Job
from alibench.benchmarks.training import counting
from alibench.benchmarks.training.trainer import Trainer
from alibench.evaluation.data import Split
from alibench.evaluation.seeds import generator
from alibench.models import REGISTRY
from alibench.models.base import Model
from tests.benchmarks.data.folders import pictures


@pytest.fixture(autouse=True)
def own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give each test its own folder of downloads and caches, and time nothing for long."""
    monkeypatch.setenv("ALIBENCH_DATA", str(tmp_path / "home"))
    monkeypatch.setattr(timing, "MOMENT", 0.0)
    cache.forget()
    return tmp_path / "home"


def call(*words: str) -> tuple[int, dict[str, Any], str]:
    """Run a command; return its exit code, what it tells a program, and what it says on stderr."""
    with redirect_stdout(io.StringIO()) as out, redirect_stderr(io.StringIO()) as err:
        code = main([*words, "--device", "cpu", "--json"])
    return code, json.loads(out.getvalue()), err.getvalue()


def computed(model: Model, suite: Suite, name: str, split: Split) -> list[int]:
    """Return the operations of a round of each phase that is computed, on a CPU."""
    recipe = replace(suite.recipe_of(name), batch=8, execution="eager", precision="fp32")
    counts = []
    for phase in model.phases:
        trainer = Trainer(model, phase, recipe, split, generator(0, "count"), split)
        counter = FlopCounterMode(display=False)
        counter.mod_tracker = counting._Total()  # type: ignore[assignment]
        with counter:
            trainer.round()
        counts.append(counter.get_total_flops())
    return counts


# wali has a gradient within its forward pass, ssali a second batch, gan two phases; BiGAN's networks have
# batch norm in D
COUNTED = {
    "digits": ["ali", "bigan", "gan", "vae", "wali", "ssali"],
    "mnist_bigan": ["bigan"],
    "grid25_paper": ["ali"],
}


@pytest.mark.parametrize("networks", COUNTED)
def test_operations_on_shapes_alone_are_those_of_a_round(networks: str) -> None:
    stem, table = loading.read(networks)
    suite: Suite = replace(parsing.parse(table, Suite, stem), name=stem)
    shape = suite.family().shape or {"digits": (1, 8, 8), "mnist_bigan": (1, 28, 28)}[networks]
    x = torch.rand(20, *shape) if len(shape) == 1 else torch.randint(256, (20, *shape), dtype=torch.uint8)
    split = Split(x, torch.arange(20) % 10)
    for name in COUNTED[networks]:
        model = suite.build_for(shape, 1.0, 10, name, 0)
        with torch.device("meta"):
            shapes = suite.build_for(shape, 1.0, 10, name, 0)
        expected = computed(model, suite, name, split)
        recipe = replace(suite.recipe_of(name), batch=8)
        assert counting.flops_a_round(shapes, recipe, split, split) == expected, name
        assert counting.flops_a_round(model, recipe, split, split) == expected, name


def test_a_model_that_looks_at_values_is_counted_on_them(monkeypatch: pytest.MonkeyPatch) -> None:
    (suite,) = loading.load("digits", only=["vae"])
    expected = counting.flops_a_round(suite.build("vae", 0), suite.recipe, suite.load().train)
    forward = REGISTRY["vae"].forward
    looks = list[float]()

    def looking(self: Model, batch: Any, learners: Any) -> Any:
        looks.append(float(batch.x.sum()))  # which no tensor without contents can tell
        return forward(self, batch, learners)

    monkeypatch.setattr(REGISTRY["vae"], "forward", looking)
    assert counting.flops_a_round(suite.build("vae", 0), suite.recipe, suite.load().train) == expected
    assert looks


def test_many_pictures_are_counted_and_not_decoded(
    tmp_path: Path, own_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = pictures(tmp_path / "pictures", 8, 1, each=80)
    decoded, decode = list[str](), images.decode
    monkeypatch.setattr(images, "decode", lambda source, *how: decoded.append(source) or decode(source, *how))
    monkeypatch.setattr(cache, "TICK", -1)  # hashes of files that are new are remembered too
    code, told, said = call(
        "run", f"folder:{folder}", "--models", "vae", "--dry-run", "--out", str(tmp_path / "out")
    )
    assert code == 0, said
    assert len(decoded) == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "pictures"
    ]  # no cache, no extractor, no folder
    (entry,) = told["entries"]
    assert entry["gflop"] > 0 < entry["training_seconds"]
    assert told["first"] == [
        "the classifier of 'pictures' would be fitted first, to 128 images, for FID and KID"
    ]
    assert told["seconds"]["evaluation"] is None
    with outline.drawn():
        data = sets.load(f"folder:{folder}")
    true = sets.load(f"folder:{folder}")
    assert [(part.x.shape, part.x.dtype) for part in (data.train, data.validation, data.test)] == [
        (part.x.shape, part.x.dtype) for part in (true.train, true.validation, true.test)
    ]
    assert torch.equal(data.train.y.bincount(), true.train.y.bincount())
    assert len(data.train.x.unique(dim=0)) == len(data.train)
    with outline.drawn():  # decoded by now
        assert sets.load(f"folder:{folder}").sha256 == true.sha256


def test_a_metric_is_refused_before_anything_is_timed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(forecast, "foretell", lambda *given: pytest.fail("it was timed"))
    folder = pictures(tmp_path / "pictures", 8, 1, each=80)
    code, told, _ = call("run", f"folder:{folder}", "--set", "metrics=['modes']", "--dry-run")
    assert (code, "metric 'modes' cannot be measured" in told["error"]) == (2, True)


def test_a_dry_run_downloads_neither_data_nor_weights(
    own_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("urllib.request.urlopen", lambda *given, **options: pytest.fail("a download began"))
    settings = [
        "--set",
        "metrics=['fidelity']",
        "--set",
        "evaluation.extractor=inception",
        "--set",
        "batch=4",
    ]
    code, told, said = call("run", "mnist_bigan", "--models", "ae", "--seeds", "1", *settings, "--dry-run")
    assert code == 0, said
    assert "dataset 'mnist' is not in" in said
    assert told["first"] == [
        f"Inception's weights, 96 MB, would be downloaded into {own_home / 'extractors'}"
    ]
    assert not own_home.exists()


@pytest.mark.parametrize("name", PUBLISHED)
def test_networks_of_a_published_suite_are_built_without_its_data(name: str, own_home: Path) -> None:
    suites = [loading.read(suite) for suite in loading.builtin()]
    like = {"fashion_mnist": "mnist"}.get(name, name)  # which has no suite of its own
    stem, table = next((stem, table) for stem, table in suites if table.get("dataset") == like)
    table["dataset"] = name
    suite: Suite = replace(parsing.parse(table, Suite, stem), name=stem)
    with outline.drawn():
        model, data = suite.shapes(suite.models[0]), suite.load()
    assert {parameter.device.type for parameter in model.parameters()} == {"meta"}
    assert data.shape == PUBLISHED[name].shape == (suite.family().shape or data.shape)
    assert tuple(map(len, (data.train, data.validation, data.test))) == PUBLISHED[name].sizes
    assert not own_home.exists()


def test_heavy_rounds_are_foretold_from_a_few_samples(monkeypatch: pytest.MonkeyPatch) -> None:
    (suite,) = loading.load("digits", only=["ali"])
    clock, recipe = timing.Clock(torch.device("cpu")), suite.recipe_of("ali")
    job, batches = Job("run", suite, "ali", 0, Path("nowhere"), "cpu", ()), list[int]()
    monkeypatch.setattr(timing, "HEAVY", 0.0)
    monkeypatch.setattr(clock, "_round", lambda group, phase, recipe: batches.append(recipe.batch) or 0.5)
    assert clock.rounds([job], recipe, suite.shapes("ali").phases) == [0.5 * recipe.batch / timing.SAMPLES]
    assert batches == [timing.SAMPLES] != [recipe.batch]
