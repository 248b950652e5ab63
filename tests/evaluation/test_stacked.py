"""Triples of digits in stacked images: counted by hand, and on samplers whose triples are known."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from alibench.evaluation.data import Data, Split
from alibench.evaluation.features import classifiers
from alibench.evaluation.metrics import stacked
from alibench.evaluation.objects import ObjectModel
from alibench.evaluation.seeds import generator
from alibench.evaluation.settings import Settings
from alibench.evaluation.subject import ReferenceInput, Subject
from tests.conftest import build

SOME = Settings(samples=26_000)


def images(n: int, seed: int = 0) -> torch.Tensor:
    return torch.randint(256, (n, 3, 28, 28), generator=generator(seed, "x")).byte()


@pytest.fixture
def data() -> Data:
    """Noise in the place of stacks: what is counted is what the classifier takes it for."""
    train, validation, test = (Split(images(30, seed), torch.arange(30)) for seed in range(3))
    return Data("stacked_mnist", train, validation, test, classes=1000)


def test_counts_of_known_triples() -> None:
    even = torch.arange(1000).repeat(26)
    assert stacked.count(even) == (1000, pytest.approx(0.0, abs=1e-12))
    assert stacked.count(torch.full((50,), 7)) == (1, pytest.approx(math.log(1000)))
    modes, divergence = stacked.count(torch.tensor([3, 3, 3, 999]))
    assert (modes, divergence) == (
        2,
        pytest.approx(math.log(1000) + 0.75 * math.log(0.75) + 0.25 * math.log(0.25)),
    )


def test_a_triple_is_the_digits_of_the_channels_in_their_order() -> None:
    x, name = images(20), classifiers.shipped("mnist-cnn")
    expected = []
    for image in x:
        a, b, c = (int(name(channel[None, None])[1].argmax()) for channel in image)
        expected.append(int(f"{a}{b}{c}"))
    assert stacked.triples(x, torch.device("cpu")).tolist() == expected


def test_even_draws_have_the_floor_of_26_000(data: Data) -> None:
    source = ReferenceInput(data, SOME, 8, range(20), lambda seed: build("ali"))
    rows = [row for row in stacked.references(source) if row.reference == "even draws"]
    assert {row.value for row in rows if row.metric == "stacked_modes"} == {1000}
    found = [row.value for row in rows if row.metric == "stacked_divergence"]
    # computed apart: .0194, deviation .0009
    assert np.mean(found) == pytest.approx(0.0194, abs=0.0006)
    assert np.std(found) == pytest.approx(0.0009, abs=0.0005)


def test_a_model_that_samples_one_image_has_one_triple(data: Data) -> None:
    one = images(1).float() / 255
    model = ObjectModel(SimpleNamespace(sample=lambda n: one.expand(n, -1, -1, -1)))
    rows = {row.metric: row for row in stacked.measure(Subject(model, data, Settings(samples=40), 0))}
    assert (rows["stacked_modes"].value, rows["stacked_modes"].n) == (1, 40)
    assert rows["stacked_divergence"].value == pytest.approx(math.log(1000))
    assert rows["stacked_modes"].extractor.startswith("mnist-cnn@")


def test_other_data_are_refused(digits: Data) -> None:
    assert stacked.unsupported_reason(digits, SOME) == "dataset 'digits' is not stacked MNIST"
