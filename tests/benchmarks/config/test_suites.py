"""The papers' suites say what the papers did, and what a seed draws is drawn as the suite says."""

import re
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import kstest

from alibench.benchmarks.config import loading
from alibench.benchmarks.config.parsing import parse
from alibench.benchmarks.config.schema import Suite
from alibench.evaluation.data import as_float
from alibench.evaluation.errors import BadInput
from alibench.models.layers import Layer

# latent, batch, updates of the papers' schedules: epochs times whole batches of the training split
SCHEDULES = {
    "cifar10": (64, 100, 6475 * (45_000 // 100)),
    "svhn": (256, 100, 100 * 5312),
    "celeba": (256, 100, 123 * 1628),
    "tiny_imagenet": (256, 128, 125 * 10_010),
    "mnist_bigan": (50, 128, 400 * (50_000 // 128)),
    "grid25_paper": (2, 100, 200 * 1000),
    "alice_toy": (2, 128, 100 * (2048 // 128)),
    "pacgan_ring": (2, 100, 400 * 1000),
    "pacgan_grid": (2, 100, 400 * 1000),
}


def raw(name: str) -> Suite:
    """Return a suite without looking at its data."""
    suite: Suite = parse(loading.read(name)[1], Suite, name)
    return suite


@pytest.mark.parametrize("name", SCHEDULES)
def test_a_papers_suite_has_the_papers_schedule(name: str) -> None:
    suite = raw(name)
    assert (suite.latent, suite.recipe.batch, suite.recipe.steps) == SCHEDULES[name]
    assert suite.recipe.ema == 0  # none of the papers averages weights
    assert suite.recipe.beta2 == 0.999
    if name in ("cifar10", "svhn", "celeba", "tiny_imagenet"):
        assert (suite.recipe.lr, suite.recipe.beta1, suite.recipe.decay) == (1e-4, 0.5, 0)
    for text in (suite.source, suite.expect, suite.title):
        assert text


# what a table holds -> what is said of it
WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "a field of an entry": (
        {"model": {"x": {"titl": "a"}}},
        ", model.x: unknown field 'titl'; did you mean 'title'?",
    ),
    "a value of an entry": (
        {"model": {"x": {"title": 3}}},
        ", model.x: Expected 'str', got 'int' - at 'title'",
    ),
    "not an entry": ({"model": {"x": 3}}, ", model.x: Expected 'table', got 'int'"),
    "a field in a list": (
        {"gate": [{"metrc": "a"}]},
        ", gate: unknown field 'metrc'; did you mean 'metric'?",
    ),
    "an optional table's field": ({"draw": {"lrs": []}}, ", draw: unknown field 'lrs'; did you mean 'lr'?"),
    "a value in a list": ({"search": {"lr": ["a"]}}, ": Expected 'float', got 'str' - at 'search.lr[0]'"),
    "a data option": ({"data": {"sise": 3}}, ", data: unknown field 'sise'; did you mean 'size'?"),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_field_is_named_with_its_table(case: str) -> None:
    table, problem = WRONG[case]
    with pytest.raises(BadInput, match=re.escape(f"suite 'digits'{problem}")):
        parse({**loading.read("digits")[1], **table}, Suite, "suite 'digits'")


def test_scale_shortens_every_entry(monkeypatch: pytest.MonkeyPatch) -> None:
    overrides = ["model.vae.recipe.steps=700"]
    (suite,) = loading.load("digits", overrides, scale=0.01)
    assert suite.recipe_of("ali").steps == 50
    assert suite.recipe_of("vae").steps == 7
    assert loading.load("digits", scale=1e-9)[0].recipe.steps == 1


def test_an_entry_may_have_a_latent_of_its_own() -> None:
    (suite,) = loading.load("pacgan_ring")
    widths = {name: suite.build(name, 0).latent for name in ("ali", "veegan")}
    assert widths == {"ali": 2, "veegan": 254}
    # packs take as many samples more as they hold, so that updates see equally many packs
    batches = {name: suite.recipe_of(name).batch for name in suite.models}
    packs = {name: suite.build(name, 0).packing for name in suite.models}
    assert {name: batches[name] // packs[name] for name in suite.models} == dict.fromkeys(suite.models, 100)


def test_a_seed_draws_its_settings_once_for_all_models() -> None:
    (suite,) = loading.load("grid25_paper")
    drawn = suite.drawn(3)
    assert drawn == suite.drawn(3) != suite.drawn(4)
    for model in suite.models:
        recipe = suite.recipe_of(model, 3)
        assert (recipe.lr, recipe.beta1) == (drawn["lr"], drawn["beta1"])
        decoder = suite.build(model, 3).decoder.stack
        weights = torch.cat(
            [layer.op.weight.flatten() for layer in decoder.layers if isinstance(layer, Layer)]
        )  # type: ignore[union-attr, operator]
        assert weights.std().item() == pytest.approx(drawn["std"], rel=0.01)


def test_settings_fill_their_ranges_evenly() -> None:
    suite = raw("grid25_paper")
    assert suite.draw is not None
    many = [suite.drawn(seed) for seed in range(400)]
    for key, logarithmic in (("lr", True), ("beta1", False), ("std", True)):
        low, high = getattr(suite.draw, key)
        values, ends = np.array([drawn[key] for drawn in many]), np.array([low, high])
        values, ends = (np.log(values), np.log(ends)) if logarithmic else (values, ends)
        assert kstest((values - ends[0]) / (ends[1] - ends[0]), "uniform").pvalue > 1e-3
    assert (
        abs(np.corrcoef([[drawn[k] for k in ("lr", "beta1", "std")] for drawn in many], rowvar=False)[0, 1])
        < 0.2
    )


def test_the_output_bias_is_the_mean_of_500_train_images(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ALIBENCH_DATA", str(tmp_path / "data"))
    rng = np.random.RandomState(0)
    ramp = np.linspace(20, 230, 32 * 32 * 3).reshape(32, 32, 3)
    images = (ramp + rng.uniform(-20, 20, size=(700, 32, 32, 3))).astype(np.uint8)
    np.savez(tmp_path / "ramp.npz", x=images)
    (suite,) = loading.load("cifar10", ["metrics=['reconstruction']"], dataset=f"npz:{tmp_path / 'ramp.npz'}")
    train = as_float(suite.load().train.x)
    start = torch.sigmoid(suite.build("ali", 0).decoder.stack.layers[-1].bias)  # type: ignore[arg-type]
    # the mean of 500 of 560 images is within a few of its standard errors of the mean of all
    assert (start - train.mean(0)).abs().max() < 5 * train.std(0).max() / 500**0.5
    others = [torch.sigmoid(suite.build("ali", seed).decoder.stack.layers[-1].bias) for seed in (1, 2)]  # type: ignore[arg-type]
    assert all(not torch.equal(a, b) for a, b in pairwise([start, *others]))
