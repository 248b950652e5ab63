"""A short training on the device learns, and is measured there."""

import pytest
import torch

from alibench.benchmarks.training.loop import train
from alibench.evaluation.data import Data
from alibench.evaluation.metrics import reconstruction
from alibench.evaluation.settings import Settings
from alibench.evaluation.subject import Subject
from tests.conftest import build
from tests.gpu.cases import SMALL, recipe

pytestmark = pytest.mark.gpu


@pytest.mark.parametrize("name", ["ali"] if SMALL else ["ali", "bigan", "gan", "vae"])
def test_a_short_run_learns_and_is_measured(name: str, digits: Data, device: torch.device) -> None:
    def error(steps: int) -> float:
        model = build(name, latent=8)
        train(model, digits.train, recipe(steps=steps, batch=100, lr=1e-3, decay=0.5, ema=0.999), 0, device)
        value = reconstruction.measure(Subject(model, digits, Settings(), 0, device=device))[0].value
        assert value is not None
        return value

    assert error(600) < 0.9 * error(1)
