"""A training repeated is the same, bit for bit, where cuDNN may only choose what adds in a fixed order."""

import pytest
import torch

from tests.gpu.cases import SMALL, recipe, trained

pytestmark = [pytest.mark.gpu, pytest.mark.usefixtures("deterministic")]


@pytest.mark.parametrize("precision", ["fp32"] if SMALL else ["fp32", "tf32", "bf16"])
@pytest.mark.parametrize("name", ["ali", "vae"])
def test_a_training_repeats(name: str, precision: str, device: torch.device) -> None:
    steps, batch = (2, 4) if SMALL else (10, 100)
    asked = recipe(steps=steps, batch=batch, lr=1e-4, ema=0, precision=precision)
    first, *others = (trained("cifar10", [name], asked, device)[0] for _ in range(2 if SMALL else 3))
    assert all(torch.equal(other, first) for other in others)
