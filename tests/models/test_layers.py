"""Layers: products in place of convolutions, maxout, and the order of memory."""

import copy

import pytest
import torch
from torch import nn
from torch.func import grad

from alibench.evaluation.seeds import generator
from alibench.models.networks import Networks
from alibench.models.operations import convolve, maxout
from alibench.models.tables import FAMILIES
from tests.conftest import MODELS, batch_for, build


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
    for a, b in zip(
        torch.autograd.grad(found, wanted, weights),
        torch.autograd.grad(expected, wanted, weights),
        strict=True,
    ):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("pieces", [2, 5])
@pytest.mark.parametrize("size", [(), (3, 3)])
def test_maxout_is_the_maximum_over_consecutive_maps(pieces: int, size: tuple[int, ...]) -> None:
    h = torch.rand(4, 2 * pieces, *size, generator=generator(0, "test"), dtype=torch.float64).requires_grad_()
    maxima = maxout(h, pieces)
    for i in range(2):
        assert torch.equal(maxima[:, i], h[:, i * pieces : (i + 1) * pieces].max(1)[0])
    assert torch.autograd.gradcheck(lambda h: maxout(h, pieces), h)
    assert torch.autograd.gradgradcheck(
        lambda h: maxout(h, pieces) ** 2, h
    )  # a gradient penalty goes through twice
    inner = grad(lambda h: (maxout(h, pieces) ** 3).sum())(h)
    (outer,) = torch.autograd.grad((maxout(h, pieces) ** 3).sum(), h)
    torch.testing.assert_close(inner, outer)


def test_maxout_of_equal_maps_has_one_gradient() -> None:
    h = torch.zeros(1, 2, requires_grad=True)
    maxout(h, 2).backward()
    assert h.grad is not None
    assert h.grad.tolist() == [[1.0, 0.0]]


def test_maps_stay_in_channels_last_order_through_the_papers_networks() -> None:
    """Else every layer would copy them."""
    networks = Networks(FAMILIES["cifar10"](), (3, 32, 32), 1.0, 8, generator(0, "weights"))
    x = torch.rand(2, 3, 32, 32).contiguous(memory_format=torch.channels_last)
    encoder, decoder, discriminator = (
        networks.encoder("code"),
        networks.decoder(),
        networks.discriminator("x"),
    )
    for stack, h in ((encoder.stack, x), (decoder.stack, torch.rand(2, 8, 1, 1)), (discriminator.dx, x)):
        assert stack is not None
        for output in stack.outputs(
            h, {name: draw(generator(0, "masks")) for name, draw in stack.noise(2).items()}
        ):
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
            numbers = [
                *terms.logits.values(),
                *terms.losses.values(),
                *(p for pair in terms.pairs.values() for p in pair),
            ]
            assert {number.dtype for number in numbers} == {torch.float32}
            for kind, logits in terms.logits.items():
                assert not torch.equal(logits, exact.logits[kind])  # it is not fp32 that was computed
                torch.testing.assert_close(logits, exact.logits[kind], rtol=0.1, atol=0.05)
