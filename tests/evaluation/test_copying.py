"""Copies of training data: models that copy all, some or none, and the statistic by independent code."""

from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from scipy import stats
from scipy.spatial.distance import cdist
from torch import Tensor

from alibench.evaluation.data import Data, Split, as_float
from alibench.evaluation.metrics import METRICS, RESAMPLED, copying
from alibench.evaluation.objects import ObjectModel
from alibench.evaluation.settings import Settings
from alibench.evaluation.subject import ReferenceInput, Subject
from tests.conftest import build
from tests.evaluation.conftest import cell, value

CPU = torch.device("cpu")


def points(n: int, seed: int, width: float = 1.0) -> Tensor:
    """Return points of two dimensions, normal."""
    return torch.from_numpy(np.random.RandomState(seed).randn(n, 2).astype(np.float32)) * width


def split(x: Tensor) -> Split:
    return Split(x, torch.full((len(x),), -1))


@pytest.fixture
def cloud() -> Data:
    """Points of one Gaussian in three splits."""
    return Data("cloud", split(points(1500, 0)), split(points(1000, 1)), split(points(1000, 2)), classes=0)


def sampling(x: Tensor, data: Data, **settings: int) -> Subject:
    """Return a model that gives these samples in turn, on data."""
    thing = SimpleNamespace(sample=lambda n: x[torch.arange(n) % len(x)])
    return Subject(ObjectModel(thing), data, Settings(**settings), 0)


@pytest.mark.usefixtures("own_home")
def test_training_data_are_copies_and_fresh_data_are_not(cloud: Data, digits: Data) -> None:
    for data in (cloud, digits):
        copies = copying.measure(sampling(as_float(data.train.x), data, samples=1000))
        assert value(copies, "copies") == 100.0
        assert value(copies, "copy_distance") == 0.0
        assert value(copies, "copying_z") < -25
    fresh = copying.measure(sampling(points(2000, 3), cloud, samples=2000))
    # 1 % by ten of 1,000: a standard error of 0.4
    assert value(fresh, "copies") == pytest.approx(1.0, abs=1.0)
    assert value(fresh, "copy_distance") == pytest.approx(1.0, abs=0.1)
    assert abs(value(fresh, "copying_z")) < 3


@pytest.mark.usefixtures("own_home")
def test_a_few_copies_among_fresh_samples_show_in_the_share_alone(cloud: Data) -> None:
    fresh = points(2000, 3)
    some = torch.where(torch.arange(2000)[:, None] % 20 == 0, cloud.train.x[0], fresh)
    before, after = (copying.measure(sampling(x, cloud, samples=2000)) for x in (fresh, some))
    assert value(after, "copies") == pytest.approx(value(before, "copies") + 5.0, abs=0.3)
    assert abs(value(after, "copying_z")) < 4


@pytest.mark.usefixtures("own_home")
def test_samples_unlike_the_data_are_farther_than_these(cloud: Data) -> None:
    far = copying.measure(sampling(points(1000, 4, width=8.0), cloud, samples=1000))
    assert value(far, "copying_z") > 10
    assert value(far, "copy_distance") > 3


@pytest.mark.usefixtures("own_home")
def test_reference_rows_are_held_out_data_and_training_data(cloud: Data, digits: Data) -> None:
    for data in (cloud, digits):
        rows = copying.references(ReferenceInput(data, Settings(), 2, range(1), build))
        # 355 digits, of which the nearest 1 % are four: a standard error of 0.7
        real = {"reference": "held-out data"}
        assert value(rows, "copies", **real) == pytest.approx(1.0, abs=1.5)
        assert value(rows, "copy_distance", **real) == pytest.approx(1.0, abs=0.1)
        assert abs(value(rows, "copying_z", **real)) < 3
        assert value(rows, "copies", reference="training data") == 100.0
    # the other split is not scored, and the row names the one that is
    assert cell(rows, "copies", **real).split == "test"
    assert cell(rows, "copies", **real).n == len(digits.validation)


def test_distances_are_those_of_scipy(cloud: Data, digits: Data) -> None:
    for x, train in ((cloud.test.x, cloud.train.x), (digits.test.x, digits.train.x)):
        expected = cdist(x.flatten(1).double().numpy(), train.flatten(1).double().numpy()).min(1)
        np.testing.assert_allclose(copying.distances(x, train, CPU), expected, rtol=1e-12)
        # of equal ones the distance is 0, not a rounding
        assert not copying.distances(train[:50], train, CPU).any()


@pytest.mark.parametrize("drawn", [lambda rng, n: rng.rand(n), lambda rng, n: rng.randint(6, size=n) / 2.0])
def test_the_statistic_is_that_of_mann_and_whitney(drawn: Callable[..., np.ndarray]) -> None:
    """Numbers without ties, and with many: p of the normal limit, as scipy has it without a continuity."""
    rng = np.random.RandomState(0)
    for shift in (-0.5, 0.0, 0.5):
        a, b = drawn(rng, 130) + shift, drawn(rng, 170)
        z = copying.standardised_u(a, b)
        test = stats.mannwhitneyu(a, b, method="asymptotic", use_continuity=False)
        assert 2 * stats.norm.sf(abs(z)) == pytest.approx(test.pvalue, rel=1e-9)
        assert np.sign(z) == np.sign(test.statistic - 130 * 170 / 2)
        assert copying.standardised_u(b, a) == pytest.approx(-z)
    assert copying.standardised_u(np.ones(5), np.ones(7)) == 0.0


def test_one_in_a_hundred_is_as_near_as_the_nearest_percent() -> None:
    held_out = np.arange(1.0, 301.0)
    assert copying.share_of_copies(held_out, held_out) == 1.0
    assert copying.share_of_copies(np.array([0.0, 3.0, 3.1, 400.0]), held_out) == 50.0
    # as many as are equal to the nearest
    assert copying.share_of_copies(np.zeros(7), np.zeros(300)) == 100.0


@pytest.mark.usefixtures("own_home")
def test_an_empty_cell_has_its_reason(cloud: Data, digits: Data) -> None:
    nothing = copying.measure(Subject(build("ae"), digits, Settings(), 0))
    assert {row.reason for row in nothing} == {"its codes follow no prior, so it draws no samples"}
    few = copying.measure(sampling(points(99, 5), cloud, samples=99))
    assert {row.reason for row in few} == {"99 samples or held-out data: 100 are needed"}
    broken = copying.measure(sampling(torch.full((2, 1, 8, 8), torch.nan), digits))
    assert {(row.status, row.reason) for row in broken} == {("refused", "355 of 355 are not finite")}
    same = replace(cloud, test=replace(cloud.test, x=cloud.train.x[:1000]))
    empty = cell(copying.measure(sampling(points(500, 3), same, samples=500)), "copy_distance")
    assert (empty.status, empty.reason) == ("refused", "train holds copies of most held-out data")
    for rows in (nothing, few, broken):
        assert [row.metric for row in rows] == [column.metric for column in copying.COLUMNS]


@pytest.mark.usefixtures("own_home")
def test_anomalies_are_not_held_out_data_like_train(cloud: Data) -> None:
    y = (torch.arange(1000) % 2).long()
    far = replace(cloud.test, x=cloud.test.x + 100 * y[:, None], y=y)
    rows = copying.references(
        ReferenceInput(replace(cloud, test=far, anomaly=1), Settings(), 2, range(1), build)
    )
    assert value(rows, "copy_distance", reference="held-out data") == pytest.approx(1.0, abs=0.15)


@pytest.mark.usefixtures("own_home")
def test_a_likelihood_has_a_row_with_its_noise_and_draws_are_repeated(digits: Data) -> None:
    rows = copying.measure(Subject(build("vae").eval(), digits, Settings(samples=200), 0))
    assert [row.reference for row in rows if row.metric == "copies"] == ["", "VAE, with observation noise"]
    assert "copying" in RESAMPLED
    assert METRICS["copying"] is copying
