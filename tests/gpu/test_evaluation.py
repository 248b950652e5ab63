"""A model measured on the device has the numbers that it has on the CPU, but for what is drawn."""

import copy

import pytest
import torch

from alibench.benchmarks.training.loop import train
from alibench.evaluation.data import Data
from alibench.evaluation.measurement import Measurement
from alibench.evaluation.metrics import measure
from alibench.evaluation.settings import Settings
from alibench.evaluation.subject import Subject
from tests.conftest import build as on_digits
from tests.gpu.cases import CPU, SMALL, apart, build, recipe, split

pytestmark = pytest.mark.gpu

METRICS = ("reconstruction", "fidelity", "svm", "neighbours", "probe", "health")
# what draws nothing: rounding moves an average by a thousandth at most, and an accuracy by an image that lies
# on a border
AVERAGES = ("reconstruction_error", "psnr", "ssim", "posterior_sigma")
ACCURACIES = ("nn_accuracy", "knn_accuracy", "svm_accuracy")

Key = tuple[str, str, str | None, int]


def is_drawn(row: Measurement) -> bool:
    """Return whether a number depends on drawn codes or on observation noise."""
    return row.protocol == "drawn code" or "noise" in (row.reference or "")


@pytest.mark.parametrize("name", ["vae"] if SMALL else ["ali", "gan", "vae"])
def test_metrics_are_those_of_the_cpu(name: str, digits: Data, device: torch.device) -> None:
    model = on_digits(name, latent=8)
    train(model, digits.train, recipe(steps=20 if SMALL else 600, batch=100, lr=2e-3), 0, device)
    settings = Settings(standardise=True, draws=3)
    subjects = (Subject(copy.deepcopy(model), digits, settings, 0, device=place) for place in (CPU, device))
    expected, found = (
        {(row.metric, row.protocol, row.reference, row.draw): row for row in measure(subject, METRICS)}
        for subject in subjects
    )
    assert found.keys() == expected.keys()
    for key, row in expected.items():
        value, other = row.value, found[key].value
        assert (value is None) == (other is None), key
        if value is None or other is None or is_drawn(row):
            continue
        if row.metric in AVERAGES:
            assert other == pytest.approx(value, rel=1e-3), key
        elif row.metric in ACCURACIES:
            assert abs(other - value) <= 1.01 * 100 / len(digits.test), key


def test_convolutions_are_measured_in_exact_fp32(device: torch.device) -> None:
    """Some ten layers of sums in another order; factors rounded to TF32 would be a thousandth off.

    Whoever calls a metric has torch's switches as they are by themselves, which round convolutions.
    """
    images = split("cifar10", 64)
    data = Data("random", images, images, images, classes=10)
    models = (build("cifar10", "ali").eval() for _ in range(2))
    here, there = (Subject(next(models), data, Settings(), 0, device=place) for place in (CPU, device))
    for subject in (here, there):
        measure(subject, ["reconstruction"])  # codes and reconstructions are kept in the subject
    for a, b in ((there.codes, here.codes), (there.reconstructions, here.reconstructions)):
        assert apart(a.double(), b.double()) < 5e-5
