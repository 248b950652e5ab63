"""The study of the gate plants and counts what it says; its committed pages are those of the committed
values.
"""

import re
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from alibench.benchmarks.config.loading import load
from alibench.benchmarks.studies import mistakes, study
from alibench.benchmarks.training import average as training_average
from alibench.benchmarks.training import trainer as training_trainer
from alibench.benchmarks.training.average import Average
from alibench.benchmarks.training.gradients import gradients
from alibench.benchmarks.training.trainer import Trainer, parameters
from alibench.evaluation import representation
from alibench.evaluation.data import Data
from alibench.evaluation.seeds import generator
from alibench.evaluation.settings import Settings
from alibench.models import games
from alibench.models.ali import ALI
from alibench.models.base import Model
from alibench.results import baseline, gate
from alibench.results.baseline import Baseline
from alibench.results.cells import Cell, Gated
from tests.conftest import batch_for, build

# -------------------- planted mistakes


@pytest.fixture(autouse=True)
def mended(monkeypatch: pytest.MonkeyPatch) -> None:
    """Undo what a mistake replaced."""
    for owner, name in (
        (games, "joint"),
        (ALI, "pairs"),
        (training_trainer.Trainer, "batch"),
        (representation, "sets"),
        (training_average.Average, "__init__"),
    ):
        monkeypatch.setattr(owner, name, getattr(owner, name))


def of_networks(model: Model) -> dict[str, list[Tensor]]:
    """Return the gradients of encoder and decoder by the generator's loss on one batch."""
    x = torch.rand(20, 1, 8, 8, generator=generator(0, "x"))
    gradients(model, batch_for(model, x), {"generator": parameters(model, "generator")})
    return {name: [p.grad.clone() for p in getattr(model, name).parameters() if p.grad is not None]
            for name in ("encoder", "decoder")}  # fmt: skip


@pytest.mark.parametrize(("bug", "factor"), [("wrong-sign", -1.0), ("detached", 0.0)])
def test_the_encoders_gradient_is_turned_or_lost_and_the_decoders_kept(bug: str, factor: float) -> None:
    model = build("ali").eval()
    right = of_networks(model)
    mistakes.BUGS[bug].plant()
    wrong = of_networks(model)
    for a, b in zip(right["encoder"], wrong["encoder"], strict=True):
        torch.testing.assert_close(b, factor * a)
    for a, b in zip(right["decoder"], wrong["decoder"], strict=True):
        torch.testing.assert_close(b, a)


def trainer(name: str, digits: Data) -> Trainer:
    model = build(name)
    return Trainer(
        model, model.phases[0], load("gate")[0].recipe_of(name), digits.train, generator(0, "training")
    )


def test_noise_is_lost_and_codes_are_one(digits: Data) -> None:
    right = trainer("ali", digits).batch()
    mistakes.BUGS["no-noise"].plant()
    assert not trainer("ali", digits).batch().noise["eps"].any()
    assert torch.equal(trainer("ali", digits).batch().noise["z"], right.noise["z"])
    mistakes.BUGS["one-collapsed"].plant()
    z = trainer("ali", digits).batch().noise["z"]
    assert torch.equal(z, right.noise["z"][:1].expand_as(z))


def test_labels_are_shuffled_for_the_classifier_alone(digits: Data) -> None:
    def sets() -> representation.Sets:
        return representation.sets(
            representation.pixel_layers, digits, Settings(), "test", torch.device("cpu")
        )

    right = sets()
    mistakes.BUGS["shuffled-labels"].plant()
    wrong = sets()
    assert sorted(wrong.labelled[1]) == sorted(right.labelled[1])
    assert (wrong.labelled[1] != right.labelled[1]).mean() > 0.5
    np.testing.assert_array_equal(wrong.scored[1], right.scored[1])


def test_the_decoder_alone_keeps_its_raw_weights() -> None:
    mistakes.BUGS["raw-decoder"].plant()
    model = build("ali")
    first = {key: value.clone() for key, value in model.state_dict().items()}
    average = Average(model, 0.5)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(1.0)
    average.copy_to_model()  # of an average that has not moved yet
    for key, value in model.state_dict().items():
        if value.is_floating_point():
            moved = key.startswith("decoder") and "running" not in key
            torch.testing.assert_close(value, first[key] + moved)


def test_mistakes_touch_the_entries_that_they_can() -> None:
    (suite,) = load("gate")
    assert {name: bug.models(suite) for name, bug in mistakes.BUGS.items()} == {
        "wrong-sign": ["ali", "bigan"],
        "detached": ["ali", "bigan"],
        "no-noise": ["ali", "vae"],
        "shuffled-labels": ["ali", "bigan", "gan", "vae"],
        "raw-decoder": ["ali", "bigan", "gan", "vae"],
        "one-collapsed": ["ali", "bigan", "gan"],
    }


# -------------------- counting


def made(first: int, n: int) -> Baseline:
    gates = [Gated("fid", scale="log"), Gated("svm_accuracy"), Gated("alarms", absolute=0.1)]
    x = np.exp(np.random.default_rng(first).normal(0, 0.1, (3, n)))
    x[2] = 0.0
    cells = [
        Cell(g, "ali", "ALI", "", {}, dict(zip(range(first, first + n), map(float, values), strict=True)))
        for g, values in zip(gates, x, strict=True)
    ]
    return Baseline("gate", "digits", "", 1, {}, cells, {})


def test_shifts_are_planted_on_the_cells_scale_towards_worse() -> None:
    fid, svm, _ = made(0, 5).cells
    for cell, seeds in ((fid, 5), (fid, 1)):
        moved = study.planted(cell, 0.3, seeds).by_seed
        assert [moved[s] / cell.by_seed[s] for s in range(5)] == pytest.approx(
            [np.exp(0.3)] * seeds + [1.0] * (5 - seeds)
        )  # type: ignore[operator]
    assert study.planted(svm, 0.3, 5).by_seed[2] == pytest.approx(svm.by_seed[2] - 0.3)  # type: ignore[operator]


def test_current_seeds_are_never_in_the_baseline_and_groups_share_none() -> None:
    own = study.Study(made(0, 30), made(100, 23), np.random.default_rng(0))
    for _ in range(20):
        base, current = own.split()
        assert len(base[0].by_seed) == 30
        assert len(current[0].by_seed) == mistakes.CURRENT
        assert not base[0].by_seed.keys() & current[0].by_seed.keys()
    groups = own.groups(own.all.seeds)
    assert groups.shape == (10, 5)
    assert len(set(groups.ravel().tolist())) == 50


def test_power_grows_with_the_shift_and_cells_without_spread_are_left_out() -> None:
    own = study.Study(made(0, 40), made(100, 20), np.random.default_rng(0))
    small, large = own.power(0.5, 5), own.power(6.0, 5)
    assert large.keys() == {("ali", "fid", ""), ("ali", "svm_accuracy", "")}
    assert all(value == 100 for value in large.values())
    assert all(value < 50 for value in small.values())


def test_the_committed_pages_are_of_the_committed_values() -> None:
    committed, pool = baseline.read(study.COMMITTED), baseline.read(study.POOL)
    rates, bugs = ((study.BASELINES / name).read_text() for name in ("error-rates.md", "planted-mistakes.md"))
    found = re.search(
        r"The pool: (\d+) real runs of each model, .*?(\d+) of the baseline .* and (\d+) more", rates
    )
    assert found is not None
    assert [int(n) for n in found.groups()] == [
        len(committed.seeds) + len(pool.seeds),
        len(committed.seeds),
        len(pool.seeds),
    ]
    own = study.Study(committed, pool, np.random.default_rng(0))
    failed = sum(
        bool(study.alarmed(committed.cells, pool.of(group.tolist()))) for group in own.groups(pool.seeds)
    )
    assert study.exact(failed, len(pool.seeds) // mistakes.CURRENT) in rates
    assert "| NO " not in bugs
    assert all(bug.what in bugs for bug in mistakes.BUGS.values())
    # what the page says of unchanged code
    unchanged = gate.judge(committed.cells, pool.of(pool.seeds[: mistakes.CURRENT]))
    assert ("without any mistake: passed" in bugs) == (not any(finding.failed for finding in unchanged))


def test_the_pool_is_comparable_with_the_baseline() -> None:
    committed, pool = baseline.read(study.COMMITTED), baseline.read(study.POOL)
    baseline.check(committed, pool, study.COMMITTED)
    assert [cell.key for cell in pool.cells] == [cell.key for cell in committed.cells]
    assert replace(committed, cells=[], origin={}) == replace(pool, cells=[], origin={})
