"""What a device makes of numbers: exact products unless TF32 is asked for, and where draws and data lie."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from alibench.benchmarks.training.batches import Batches, placed
from alibench.evaluation.arithmetic import tf32
from alibench.evaluation.seeds import generator
from tests.gpu.cases import SMALL, apart, build, split

pytestmark = pytest.mark.gpu

# Factors of fp32 have 24 bits, TF32's 11: errors of some 1e-7 and of some 3e-4 a product.
EXACT = 2e-6
ROUNDED = (0.0 if SMALL else 5e-5, 1e-2)

Product = Callable[[torch.device, torch.dtype], Tensor]


def matmul(device: torch.device, dtype: torch.dtype) -> Tensor:
    a, b = (torch.randn(1024, 1024, generator=generator(seed, "factors")) for seed in (0, 1))
    return a.to(device, dtype) @ b.to(device, dtype)


def convolution(device: torch.device, dtype: torch.dtype) -> Tensor:
    rng = generator(0, "factors")
    x, weight = (torch.randn(shape, generator=rng) for shape in ((32, 64, 16, 16), (64, 64, 4, 4)))
    x = x.to(device, dtype).contiguous(memory_format=torch.channels_last)
    return functional.conv2d(x, weight.to(device, dtype))


def error(product: Product, device: torch.device) -> float:
    """Return the error of a product in fp32 against the same in double precision."""
    return apart(product(device, torch.float32).double().cpu(), product(torch.device("cpu"), torch.float64))


@pytest.mark.parametrize("product", [matmul, convolution])
def test_fp32_is_exact_where_tf32_is_not_allowed(product: Product, device: torch.device) -> None:
    with tf32(False):
        assert error(product, device) < EXACT


@pytest.mark.parametrize("product", [matmul, convolution])
def test_factors_are_rounded_where_tf32_is_allowed(product: Product, device: torch.device) -> None:
    with tf32(True):
        assert ROUNDED[0] <= error(product, device) < ROUNDED[1]


@pytest.mark.parametrize("allowed", [False, True])
def test_the_switch_goes_back_and_leaves_torchs_own_readable(allowed: bool, device: torch.device) -> None:
    def switches() -> tuple[str, bool, bool]:
        allowed = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
        return torch.get_float32_matmul_precision(), *allowed

    before = switches()
    with tf32(allowed):
        assert switches() == ("high" if allowed else "highest", allowed, allowed)
        with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):  # as the feature extractors run
            assert error(convolution, device) < EXACT
        assert switches()[2] is allowed
    assert switches() == before


def test_a_generators_state_brings_its_numbers_back(device: torch.device) -> None:
    rng = generator(0, "state", device)
    state, first = rng.get_state(), torch.randn(7, generator=rng, device=device)
    rng.set_state(state)
    assert torch.equal(torch.randn(7, generator=rng, device=device), first)


def test_data_are_placed_once(device: torch.device) -> None:
    there = placed(split("digits"), device)
    batches = Batches(there, 100, generator(0, "batches", device))
    assert batches.resident
    assert batches.x.data_ptr() == there.x.data_ptr()


def test_a_dropout_mask_drops_its_share_in_the_maps_own_order(device: torch.device) -> None:
    mask = build("cifar10", "ali").noise(100)["dx.2"](generator(0, "mask", device))
    assert mask.is_contiguous(memory_format=torch.channels_last)
    deviation = 0.5 / mask.numel() ** 0.5
    assert abs(float((mask == 0).double().mean()) - 0.5) < 5 * deviation
