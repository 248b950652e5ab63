"""Anomalies: known detectors, models whose errors are known, and the papers' scores by hand."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import Tensor

from alibench.benchmarks.data import datasets
from alibench.benchmarks.data.sources import Options
from alibench.evaluation.data import Data, as_float
from alibench.evaluation.errors import BadInput
from alibench.evaluation.metrics import anomaly
from alibench.evaluation.objects import ObjectModel
from alibench.evaluation.settings import Settings
from alibench.evaluation.subject import ReferenceInput, Subject
from alibench.models import REGISTRY
from tests.conftest import build, networks


@pytest.fixture
def ones() -> Data:
    """The digits, trained on without ones."""
    return datasets.load("digits", Options(anomaly=1))


def test_an_oracle_a_constant_and_a_coin() -> None:
    is_anomaly = np.arange(20_000) % 5 == 0
    oracle = anomaly.score(is_anomaly.astype(float), is_anomaly, 0.2)
    assert set(oracle.values()) == {1.0}
    # a constant ranks nothing, and calls all of them anomalies
    constant = anomaly.score(np.ones(20_000), is_anomaly, 0.2)
    assert constant["anomaly_auroc"] == 0.5
    assert constant["anomaly_ap"] == pytest.approx(0.2)
    assert (constant["anomaly_precision"], constant["anomaly_recall"]) == (pytest.approx(0.2), 1.0)
    coin = anomaly.score(np.random.RandomState(0).rand(20_000), is_anomaly, 0.2)
    assert coin["anomaly_auroc"] == pytest.approx(0.5, abs=0.02)
    for name in ("anomaly_precision", "anomaly_recall", "anomaly_f1"):
        assert coin[name] == pytest.approx(0.2, abs=0.02)


def test_the_decision_by_hand() -> None:
    # the highest two of ten are called; one of the three anomalies is among them
    scores, is_anomaly = np.arange(10.0), np.isin(np.arange(10), (0, 1, 9))
    found = anomaly.score(scores, is_anomaly, 0.2)
    assert (found["anomaly_precision"], found["anomaly_recall"]) == (0.5, pytest.approx(1 / 3))
    assert found["anomaly_f1"] == pytest.approx(0.4)
    # pairs that are ranked right: 9 before all seven others, 0 and 1 before none
    assert found["anomaly_auroc"] == pytest.approx(7 / 21)


def test_train_lacks_the_anomaly_and_the_held_out_splits_have_it(ones: Data, digits: Data) -> None:
    assert not bool((ones.train.y == 1).any())
    assert torch.equal(ones.train.x, digits.train.x[digits.train.y != 1])
    assert torch.equal(ones.test.x, digits.test.x)
    assert ones.sha256 != digits.sha256
    assert ones.name == "digits-without-1"
    assert datasets.load("digits", Options(anomaly=1)) is ones
    with pytest.raises(BadInput, match=r"has no class 10 next to others: data\.anomaly names one of its 10"):
        datasets.load("digits", Options(anomaly=10))


def test_data_without_anomalies_are_refused(digits: Data, ones: Data) -> None:
    assert "has no anomalies: name their class by data.anomaly" in anomaly.unsupported_reason(
        digits, Settings()
    )
    assert anomaly.unsupported_reason(ones, Settings()) == ""
    alone = replace(ones, test=replace(ones.test, y=torch.zeros_like(ones.test.y)))
    assert (
        anomaly.unsupported_reason(alone, Settings())
        == "test of dataset 'digits-without-1' holds no anomalies"
    )


def test_a_model_that_cannot_draw_ones_finds_them(ones: Data) -> None:
    dark = {
        image.numpy().tobytes() for image, y in zip(as_float(ones.test.x), ones.test.y, strict=True) if y == 1
    }

    def reconstruct(x: Tensor) -> Tensor:
        known = torch.tensor([image.numpy().tobytes() not in dark for image in x])
        return x * known[:, None, None, None]

    model = ObjectModel(
        SimpleNamespace(encode=lambda x: x.flatten(1), decode=lambda z: reconstruct(z.view(-1, 1, 8, 8)))
    )
    rows = {row.metric: row.value for row in anomaly.measure(Subject(model, ones, Settings(), 0))}
    assert set(rows.values()) == {1.0}


@pytest.mark.parametrize("name", ["ali", "bigan"])
def test_egbads_score_by_hand(name: str, ones: Data) -> None:
    model, x = build(name).eval(), as_float(ones.test.x[:9])
    with torch.no_grad():
        found = model.anomaly(x)
        z = model.encode(x)
        x_hat = model.decoder(z)
        tower = model.discriminator.dxz

        def last(image: Tensor) -> Tensor:
            h = torch.cat([model.discriminator.scaling(image).flatten(1), z], 1)
            *layers, _ = tower.outputs(h)
            return layers[-1]

        features = (last(x) - last(x_hat)).abs().sum(1)
        expected = 0.9 * (x - x_hat).abs().flatten(1).sum(1) + 0.1 * features
    assert list(found) == ["reconstruction", "EGBAD"]
    torch.testing.assert_close(found["EGBAD"], expected)
    torch.testing.assert_close(found["reconstruction"], (x - x_hat).square().flatten(1).sum(1))


def test_alads_score_by_hand(ones: Data) -> None:
    model, x = build("alad").eval(), as_float(ones.test.x[:9])
    with torch.no_grad():
        x_hat, d = model.reconstruct(x), model.cycle_x

        def last(other: Tensor) -> Tensor:
            h = d.scaling(torch.cat([x, other], 1)).flatten(1)
            *layers, _ = d.dxz.outputs(h)
            return layers[-1]

        expected = (last(x) - last(x_hat)).abs().sum(1)
        found = model.anomaly(x)
    assert list(found) == ["ALAD", "reconstruction", "EGBAD"]
    torch.testing.assert_close(found["ALAD"], expected)


def test_every_model_has_a_score_or_an_empty_cell(ones: Data) -> None:
    for name, kind in REGISTRY.items():
        if kind.semi_supervised:
            continue
        rows = anomaly.measure(Subject(build(name).eval(), ones, Settings(), 0))
        if kind.inference == "none" or kind.conditional:
            assert {row.reason for row in rows} == {"it has no score of anomalies"}
        else:
            assert all(row.value is not None for row in rows)
    # D of packs sees no single pair
    packed = REGISTRY["ali"](networks(), packing=2).eval()
    assert list(packed.anomaly(as_float(ones.test.x[:3]))) == ["reconstruction"]


def test_trivial_detectors_find_what_they_should() -> None:
    """Anomalies far off in one coordinate: all find them but a column, chosen here, finds them best."""
    rng = np.random.RandomState(0)
    data = datasets.load("grid25_easy")
    x = torch.from_numpy(rng.randn(600, 2).astype(np.float32))
    y = torch.arange(600) % 2
    x[y == 1, 1] -= 100
    held = replace(data.test, x=x, y=y)
    train = replace(
        data.train, x=torch.from_numpy(rng.randn(400, 2).astype(np.float32)), y=torch.zeros(400).long()
    )
    source = ReferenceInput(
        replace(data, train=train, test=held, validation=held, anomaly=1),
        Settings(),
        1,
        range(2),
        lambda seed: build("ali"),
    )
    rows = anomaly.references(source)
    found = {row.reference: row.value for row in rows if row.metric == "anomaly_auroc"}
    assert found["best single column, chosen here"] == 1.0
    assert found["nearest neighbour"] == found["distance to the mean"] == 1.0
    assert {row.seed for row in rows if row.reference == "isolation forest"} == {0, 1}
