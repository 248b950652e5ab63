"""Layers: products in place of convolutions, maxout, dropout, and the order of memory."""

import copy
from itertools import chain
from typing import Any

import pytest
import torch
from torch import nn
from torch.func import grad

from alibench.evaluation.seeds import generator
from alibench.models.layers import Layer, Row, Style
from alibench.models.noise import Draw
from alibench.models.operations import convolve, maxout
from tests.conftest import MODELS, batch_for, build, networks


@pytest.mark.parametrize(
    ("op", "shape"),
    [
        (nn.Conv2d(6, 8, 4), (5, 6, 4, 4)),  # all of it by the kernel
        (nn.Conv2d(6, 8, (3, 5), bias=False), (5, 6, 3, 5)),
        (nn.Conv2d(6, 8, 1), (5, 6, 4, 4)),  # each pixel by itself
        (nn.Conv2d(6, 8, 1, bias=False), (5, 6, 1, 1)),
        (nn.ConvTranspose2d(6, 8, 4), (5, 6, 1, 1)),  # of a single pixel
        (nn.ConvTranspose2d(6, 8, (3, 5), 2, bias=False), (5, 6, 1, 1)),
        (nn.Conv2d(6, 8, 4), (5, 6, 7, 7)),  # and what is no product
        (nn.Conv2d(6, 8, 1, 2), (5, 6, 4, 4)),
        (nn.Conv2d(6, 8, 4, padding=1), (5, 6, 4, 4)),
        (nn.Conv2d(6, 8, 4, groups=2), (5, 6, 4, 4)),
        (nn.ConvTranspose2d(6, 8, 4, 2, 1), (5, 6, 1, 1)),
        (nn.ConvTranspose2d(6, 8, 4, groups=2), (5, 6, 1, 1)),
        (nn.ConvTranspose2d(6, 8, 4, 2), (5, 6, 4, 4)),
    ],
)
def test_a_product_has_the_convolutions_values_and_gradients(op: nn.Conv2d, shape: tuple[int, ...]) -> None:
    op, rng = copy.deepcopy(op).double().to(memory_format=torch.channels_last), generator(0, "test")
    x = torch.rand(shape, generator=rng, dtype=torch.float64).requires_grad_()
    wanted, (expected, found) = [x, *op.parameters()], (op(x), convolve(op, x))
    torch.testing.assert_close(found, expected)
    weights = torch.rand(expected.shape, generator=rng, dtype=torch.float64)
    slopes = (torch.autograd.grad(y, wanted, weights) for y in (found, expected))
    torch.testing.assert_close(*slopes)


@pytest.mark.parametrize("pieces", [2, 5])
@pytest.mark.parametrize("size", [(), (3, 3)])
def test_maxout_is_the_maximum_over_consecutive_maps(pieces: int, size: tuple[int, ...]) -> None:
    h = torch.rand(4, 2 * pieces, *size, generator=generator(0, "test"), dtype=torch.float64).requires_grad_()
    maxima = maxout(h, pieces)
    for i in range(2):
        assert torch.equal(maxima[:, i], h[:, i * pieces : (i + 1) * pieces].max(1)[0])
    assert torch.autograd.gradcheck(lambda h: maxout(h, pieces), h)
    # a gradient penalty goes through twice
    assert torch.autograd.gradgradcheck(lambda h: maxout(h, pieces) ** 2, h)
    inner = grad(lambda h: (maxout(h, pieces) ** 3).sum())(h)
    (outer,) = torch.autograd.grad((maxout(h, pieces) ** 3).sum(), h)
    torch.testing.assert_close(inner, outer)


def test_maxout_of_equal_maps_has_one_gradient() -> None:
    h: Any = torch.zeros(1, 2, requires_grad=True)
    maxout(h, 2).backward()
    assert h.grad.tolist() == [[1.0, 0.0]]


def test_maps_stay_in_channels_last_order_through_the_papers_networks() -> None:
    """Else every layer would copy them."""
    own, rng = networks("cifar10"), generator(0, "masks")
    x = torch.rand(2, 3, 32, 32).contiguous(memory_format=torch.channels_last)
    towers: Any = {own.encoder("code").stack: x, own.decoder().stack: torch.rand(2, 4, 1, 1)}
    for stack, h in (towers | {own.discriminator("x").dx: x}).items():
        for output in stack.outputs(h, {name: draw(rng) for name, draw in stack.noise(2).items()}):
            assert output.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("name", MODELS)
def test_under_autocast_only_networks_compute_in_bf16(name: str) -> None:
    """What leaves them, and every loss, is fp32."""
    model = build(name)
    batch = batch_for(model, torch.rand(10, 1, 8, 8, generator=generator(0, "x")))
    for phase in model.phases:
        for group in phase.round:
            with torch.autocast("cpu", torch.bfloat16):
                terms = model(batch, group)
            exact = model(batch, group)
            left = (*terms.logits.values(), *terms.losses.values(), *chain(*terms.pairs.values()))
            assert {tensor.dtype for tensor in left} == {torch.float32}
            for kind, logits in terms.logits.items():
                assert not torch.equal(logits, exact.logits[kind])  # it is not fp32 that was computed
                torch.testing.assert_close(logits, exact.logits[kind], rtol=0.1, atol=0.05)


def test_dropout_keeps_the_mean_and_is_off_without_noise() -> None:
    layer = Layer(Row("dense", 1, 1, 1, drop=0.4), (1000,), Style(), 0)
    with torch.no_grad():
        layer.op.weight.fill_(1.0)
        layer.op.bias.zero_()
        mask = Draw("mask", (200, 1000), 0.4)(generator(0, "test"))
        kept = layer(torch.ones(200, 1000), mask, None, None)
        assert kept.mean().item() == pytest.approx(1000, abs=5 * (1000 * 0.4 / 0.6) ** 0.5 / 200**0.5)
        assert layer(torch.ones(1, 1000), None, None, None).item() == 1000


@pytest.mark.parametrize("rate", [0.2, 0.4, 0.5])
def test_masks_are_zero_at_their_rate_independently(rate: float) -> None:
    """Four numbers come from each draw of 64 bits: each has the rate, and no two are related."""
    mask = Draw("mask", (100, 8, 30, 30), rate)(generator(0, "test"))
    assert mask.is_contiguous(memory_format=torch.channels_last)
    assert mask.unique().tolist() == pytest.approx([0, 1 / (1 - rate)], rel=1e-4)
    zero = (mask == 0).movedim(1, -1).reshape(-1, 4).double()
    n, deviation = len(zero), (rate * (1 - rate)) ** 0.5
    assert zero.mean(0).tolist() == pytest.approx([rate] * 4, abs=4.5 * deviation / n**0.5)
    correlations = (zero.T.corrcoef() - torch.eye(4)).abs().max()
    assert correlations < 4.5 / n**0.5
    neighbours = torch.stack([zero.flatten()[:-4], zero.flatten()[4:]]).corrcoef()[0, 1].abs()
    assert neighbours < 4.5 / (4 * n) ** 0.5
