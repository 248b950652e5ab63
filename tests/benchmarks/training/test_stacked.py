"""Seeds side by side are the seeds alone, but for rounding."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from alibench.benchmarks.config import loading
from alibench.benchmarks.config.schema import Ranges
from alibench.benchmarks.data import datasets
from alibench.benchmarks.running import jobs
from alibench.benchmarks.running.execute import execute
from alibench.benchmarks.running.jobs import Job
from alibench.benchmarks.running.outcomes import OK
from alibench.benchmarks.training import counting
from alibench.benchmarks.training.loop import train, train_together
from alibench.benchmarks.training.outcomes import Diverged, Member, Trained
from alibench.benchmarks.training.recipe import Recipe
from alibench.benchmarks.training.stacked import StackedTrainer
from alibench.benchmarks.training.trainer import Trainer
from alibench.evaluation.data import Data, Split
from alibench.evaluation.seeds import generator
from alibench.models.base import Model
from alibench.results import rows
from tests.conftest import MODELS, build, numbers

CPU, SEEDS = torch.device("cpu"), (0, 1, 2)


def members(models: Sequence[Model], labelled: Split | None = None) -> list[Member]:
    return [Member(model, seed, labelled) for model, seed in zip(models, SEEDS, strict=True)]


@pytest.mark.parametrize("dataset", ["digits", "grid25_easy"])
@pytest.mark.parametrize("name", MODELS)
def test_each_seed_learns_what_it_learns_alone(name: str, dataset: str) -> None:
    """Three updates, statistics and averages included: all numbers to a thousandth of what they moved by."""
    split = datasets.load(dataset).train
    recipe = Recipe(steps=3, batch=50, ema=0.5)
    stacked = [build(name, seed, dataset) for seed in SEEDS]
    outcomes = train_together(members(stacked, split), split, recipe, CPU)
    for seed, model, outcome in zip(SEEDS, stacked, outcomes, strict=True):
        alone, first = build(name, seed, dataset), build(name, seed, dataset)
        expected = train(alone, split, recipe, seed, CPU, labelled=split)
        moved = (numbers(alone) - numbers(first)).norm()
        assert (numbers(model) - numbers(alone)).norm() < 1e-3 * moved
        assert isinstance(outcome, Trained)
        assert outcome.updates == expected.updates
        for own, other in zip(outcome.curves, expected.curves, strict=True):
            assert own.pop("phase") == other.pop("phase")
            assert own == pytest.approx(other, rel=1e-3, abs=1e-4)
    assert not torch.equal(numbers(stacked[0]), numbers(stacked[1]))


def test_each_seed_draws_the_batches_it_draws_alone(digits: Data) -> None:
    def one(seed: int) -> Trainer:
        model = build("ali", seed)
        return Trainer(model, model.phases[0], Recipe(steps=1, batch=50), digits.train, generator(seed, "t"))

    together, alone = StackedTrainer([one(seed) for seed in SEEDS]), [one(seed) for seed in SEEDS]
    for _ in range(30):  # more than an epoch
        batch, expected = together.batch(), [one.batch() for one in alone]
        for i, one in enumerate(expected):
            assert torch.equal(batch.x[i], one.x)
            assert all(torch.equal(batch.noise[name][i], one.noise[name]) for name in one.noise)


def test_batch_statistics_are_settled_for_each_seed(digits: Data) -> None:
    recipe = Recipe(steps=3, batch=50, ema=0, statistics=4)
    models = [build("bigan", seed) for seed in SEEDS]
    train_together(members(models), digits.train, recipe, CPU)
    for seed, model in zip(SEEDS, models, strict=True):
        alone = build("bigan", seed)
        train(alone, digits.train, recipe, seed, CPU)
        found, expected = (each.encoder.stack.layers[0].bn.running_var for each in (model, alone))
        torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-5)


def test_a_seed_that_diverges_leaves_the_others_alone(digits: Data) -> None:
    models = [build("ali", seed) for seed in SEEDS]
    with torch.no_grad():
        next(iter(models[1].decoder.parameters())).fill_(float("nan"))
    outcomes = train_together(members(models), digits.train, Recipe(steps=5), CPU)
    assert [type(outcome) for outcome in outcomes] == [Trained, Diverged, Trained]
    assert str(outcomes[1]) == "not finite in phase 'game' at step 1 of 5"
    assert numbers(models[0]).isfinite().all()


def test_seeds_that_all_diverge_keep_their_own_reasons(digits: Data) -> None:
    """The last one first: it is lost at the first step, the others at the next."""
    models = [build("ali", seed) for seed in SEEDS]
    with torch.no_grad():
        next(iter(models[2].decoder.parameters())).fill_(float("nan"))
    outcomes = train_together(members(models), digits.train, Recipe(steps=5, lr=1e38), CPU)
    assert all(isinstance(outcome, Diverged) for outcome in outcomes)
    steps = [int(str(outcome).split("step ")[1].split()[0]) for outcome in outcomes]
    assert min(steps[:2]) > steps[2] == 1


def short(out: Path, seed: int) -> Job:
    (suite,) = loading.load("digits", ["steps=5", "metrics=['reconstruction']"], ["ali"], seeds=3)
    return Job("run", suite, "ali", seed, out, "cpu", ("test",))


def test_runs_done_together_leave_what_each_leaves_alone(tmp_path: Path) -> None:
    together, alone = tmp_path / "together", tmp_path / "alone"
    steps: list[tuple[str, int]] = []
    outcomes = execute([short(together, seed) for seed in SEEDS], lambda run_id, n: steps.append((run_id, n)))
    assert set(outcomes.values()) == {OK}
    assert sum(n for run_id, n in steps if run_id == "digits-ali-seed2") == 5
    for seed in SEEDS:
        execute([short(alone, seed)], lambda run_id, n: None)
    found, expected = rows.read(together), rows.read(alone)
    assert (found.metric == expected.metric).all()
    quality = found.kind == "quality"
    values = expected[quality].value.to_numpy()
    assert found[quality].value.to_numpy() == pytest.approx(values, rel=1e-3, nan_ok=True)
    timed = found[found.metric == "train_seconds"]
    assert set(timed.protocol) == {"one of 3 stacked seeds, its share"}


def test_seeds_are_stacked_where_a_device_is_not_filled() -> None:
    work = [short(Path("out"), seed) for seed in SEEDS]
    assert jobs.grouped(work, CPU) == [[job] for job in work]
    assert jobs.grouped(work, torch.device("cuda")) == [work]
    suite = work[0].suite
    large = [replace(job, suite=replace(suite, recipe=replace(suite.recipe, batch=1000))) for job in work]
    bound = counting.flops_a_round(suite.build("ali", 0), suite.recipe, suite.load().train)[0]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(jobs, "STACKED_BELOW", 2 * bound)
        assert jobs.grouped(work, torch.device("cuda")) == [work]
        assert jobs.grouped(large, torch.device("cuda")) == [[job] for job in large]
    drawn = Ranges(lr=(1e-4, 1e-3), beta1=(0.1, 0.9), std=(0.01, 1.0))
    unlike = [replace(job, suite=replace(suite, draw=drawn)) for job in work]
    assert jobs.grouped(unlike, torch.device("cuda")) == [[job] for job in unlike]
