"""The papers' networks: exact parameter counts and sizes, and what their layers do, by known answers."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import nn

from alibench.evaluation.seeds import generator
from alibench.models import REGISTRY
from alibench.models.layers import Layer, Row, Stack, Style, initialise
from alibench.models.tables import FAMILIES
from tests.conftest import networks


def build(model: str, family: str, latent: int = 8, options: Mapping[str, str] = {}, **more: Any) -> Any:
    return REGISTRY[model](networks(FAMILIES[family](**options), latent, **more))


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let networks have sizes and no numbers: those of the papers are large."""
    monkeypatch.setattr("alibench.models.networks.initialise", lambda *given: None)
    with torch.device("meta"):
        yield


def count(*parts: nn.Module | None) -> int:
    return sum(p.numel() for part in parts if part is not None for p in part.parameters())


# encoder, decoder, D's tower of x, its tower of z, its joint tower; sums of in * out * k * k, 2 a map of BN,
# biases, by hand
ALI = {
    "CIFAR-10, tied": ("cifar10", {}, 3_118_496, 981_152, 1_396_032, 163_840, 1_051_137, 6_710_657),
    "CIFAR-10, untied": (
        *("cifar10", {"dx_bias": "untied"}),
        *(3_118_496, 981_152, 1_448_352, 163_840, 1_051_137, 6_762_977),
    ),
    "CIFAR-10, paper": (
        *("cifar10", {"widths": "paper"}),
        *(3_118_496, 981_152, 5_577_344, 589_824, 4_199_425, 14_466_241),
    ),
    "SVHN": ("svhn", {}, 3_315_488, 1_767_584, 2_789_632, 393_216, 2_100_225, 10_366_145),
    "CelebA": ("celeba", {}, 6_794_880, 11_811_392, 6_532_160, 1_310_720, 7_346_177, 33_795_329),
    "CelebA, paper": (
        *("celeba", {"first_bn": "paper", "dropout": "paper"}),
        *(6_794_880, 11_811_392, 6_532_224, 1_310_720, 7_346_177, 33_795_393),
    ),
    "Tiny ImageNet": (
        *("tiny_imagenet", {}),
        *(7_812_352, 3_164_224, 2_036_416, 4_722_688, 26_226_689, 43_962_369),
    ),
    "Tiny ImageNet, Dz without biases": (
        *("tiny_imagenet", {"dz_bias": "none"}),
        *(7_812_352, 3_164_224, 2_036_416, 4_718_592, 26_226_689, 43_958_273),
    ),
}


@pytest.mark.usefixtures("bare")
@pytest.mark.parametrize("reading", ALI)
def test_alis_image_networks_have_the_papers_parameters(reading: str) -> None:
    family, options, gz, gx, dx, dz, dxz, total = ALI[reading]
    model = build("ali", family, 64 if family == "cifar10" else 256, options)
    d = model.discriminator
    parts = (model.encoder, model.decoder, d.dx, d.dz, d.dxz)
    assert [count(part) for part in parts] == [gz, gx, dx, dz, dxz]
    assert count(model) == total


@pytest.mark.usefixtures("bare")
def test_the_conditional_networks_have_the_codes_parameters_and_the_embedding() -> None:
    model = build("cali", "celeba", 256, labels=40)
    d = model.discriminator
    parts = (model.encoder, model.decoder, d.dx, d.dz, d.dxz, model.embedding)
    assert [count(part) for part in parts] == [6_925_952, 13_908_544, 6_532_160, 1_310_720, 7_870_465, 10_496]
    assert count(model) == 36_547_841 + 10_496


@pytest.mark.usefixtures("bare")
def test_the_toys_have_the_codes_parameters() -> None:
    ali, gan = (build(name, "toy", 2) for name in ("ali", "gan"))
    assert [count(ali.encoder), count(ali.decoder), count(ali.discriminator)] == [164_002, 484_802, 407_201]
    assert [count(gan.decoder), count(gan.discriminator)] == [484_802, 405_201]
    alice = build("alice-adversarial", "alice_toy", 2)
    networks = (alice.encoder, alice.decoder, alice.discriminator, alice.cycle_x, alice.cycle_z)
    assert [count(network) for network in networks] == [67_586, 67_586, 67_329, 67_329, 67_329]


@pytest.mark.usefixtures("bare")
def test_bigans_mnist_networks_have_the_codes_parameters() -> None:
    model = build("bigan", "bigan_mnist", 50, prior="uniform")
    parts = (model.encoder, model.decoder, model.discriminator)
    assert [count(part) for part in parts] == [1_902_592, 1_953_792, 1_903_616]
    assert count(model) == 5_760_000
    plain = build("gan", "bigan_mnist", 50, prior="uniform")
    assert count(plain.discriminator) == 1_852_416
    assert not any(name.endswith("bias") for name, _ in model.named_parameters())


SIZES = {
    "cifar10": ([28, 13, 10, 4, 1, 1, 1], [4, 10, 13, 28, 32, 32, 32], [28, 13, 10, 4, 1]),
    "svhn": ([28, 13, 10, 4, 1, 1, 1], [4, 10, 13, 28, 32, 32, 32], [28, 13, 10, 4, 1]),
    "celeba": ([63, 29, 13, 4, 1, 1], [4, 13, 29, 63, 64, 64], [63, 29, 13, 4, 1]),
    "tiny_imagenet": (
        *([31, 28, 13, 10, 4, 1, 1, 1, 1], [1, 1, 4, 10, 13, 28, 31, 64, 64]),
        [31, 28, 13, 10, 4, 1],
    ),
    "bigan_imagenet": ([14, 6, 6, 2, 2, 2, 2], [4, 8, 16, 32, 64], [32, 16, 8, 4]),
}


@pytest.mark.usefixtures("bare")
@pytest.mark.parametrize("family", SIZES)
def test_every_layer_has_the_papers_size(family: str) -> None:
    """Both as the table says and as tensors have it."""
    model = build("ali", family).eval()
    d = model.discriminator
    for stack, sizes in zip((model.encoder.stack, model.decoder.stack, d.dx), SIZES[family], strict=True):
        h, z, outputs = torch.zeros(2, *stack.shape), torch.zeros(2, 8), []
        for layer in stack.layers:
            with torch.no_grad():
                h = layer(h, None, None, z)
            outputs.append(h.shape[1:])
        assert outputs == [layer.output for layer in stack.layers]
        assert [output[-1] for output in outputs if len(output) == 3] == sizes
        pairs = [pair for pair in pairwise(stack.layers) if pair[1].row.op != "dense"]
        assert all(after.shape == before.output for before, after in pairs)


@pytest.mark.usefixtures("bare")
@pytest.mark.parametrize("family", [family for family in FAMILIES if family not in ("digits", "plane")])
def test_relatives_take_the_same_networks(family: str) -> None:
    def layers(stack: Stack) -> list[Row]:
        return [layer.row for layer in stack.layers]

    ali, bigan, vae, gan = (build(name, family) for name in ("ali", "bigan", "vae", "gan"))
    for model in (bigan, vae, gan):
        assert layers(model.decoder.stack) == layers(ali.decoder.stack)
        assert layers(model.encoder.stack)[:-1] == layers(ali.encoder.stack)[:-1]
    of_pairs, of_x = ali.discriminator, gan.discriminator
    assert layers(of_x.dx) == layers(of_pairs.dx)
    assert layers(of_x.dxz) == layers(of_pairs.dxz)
    assert of_x.dz is None


def test_a_quarter_of_the_maps_is_alis_table_but_for_them() -> None:
    whole, quarter = FAMILIES["cifar10"](), FAMILIES["cifar10_quarter"]()
    for tower in ("encoder", "decoder", "dx", "dz", "dxz"):
        rows, narrow = getattr(whole, tower), getattr(quarter, tower)
        assert [replace(row, maps=0) for row in narrow] == [replace(row, maps=0) for row in rows]
        hidden = rows if tower in ("dx", "dz") else rows[:-1]
        assert [row.maps for row in narrow][: len(hidden)] == [row.maps // 4 for row in hidden]


def test_dropout_follows_the_named_reading() -> None:
    def rates(**options: str) -> list[tuple[float, float]]:
        return [(row.drop, row.drop_inside) for row in FAMILIES["cifar10"](**options).dx]

    assert rates() == [(0.2, 0.0)] + [(0.5, 0.0)] * 4
    assert rates(dropout="code") == [(0.2, 0.0), (0.5, 0.0), (0.0, 0.5), (0.0, 0.0), (0.5, 0.0)]
    assert [row.drop for row in FAMILIES["celeba"]().dx] == [0.2] * 5
    assert [row.drop for row in FAMILIES["celeba"](dropout="paper").dx] == [0.0] * 5


def test_dropout_inside_a_layer_falls_on_the_pieces_of_maxout() -> None:
    layer = Layer(Row("dense", 1, 1, 4, act="maxout", drop_inside=0.5), (1,), Style(pieces=2), 0)
    with torch.no_grad():
        layer.op.weight.copy_(torch.tensor([[1.0], [2.0], [3.0], [4.0]]))
        layer.op.bias.zero_()
        inside = torch.tensor([[2.0, 0.0, 0.0, 0.0]])  # the first alone is kept, twice as large
        assert layer(torch.ones(1, 1), None, inside, None).tolist() == [[2.0, 0.0]]


def test_the_output_bias_is_the_datas_log_odds() -> None:
    """With all weights zero the decoder gives the mean image, extremes clipped."""
    mean = torch.rand(3, 32, 32, generator=generator(0, "image"))
    mean[0, 0, 0], mean[0, 0, 1] = 0.0, 1.0
    decoder = build("ali", "cifar10", 4, mean=mean).decoder
    bias = decoder.stack.layers[-1].bias
    assert bias.shape == (3, 32, 32)
    with torch.no_grad():
        decoder.stack.layers[-1].op.weight.zero_()
        found = decoder.eval()(torch.randn(2, 4))
        torch.testing.assert_close(found, mean.expand(2, -1, -1, -1), atol=2e-7, rtol=1e-5)
    # log 1e-7, as far as floats near one allow
    assert bias[0, 0, 0].item() == pytest.approx(-16.118, abs=0.2)


def test_weights_start_as_the_papers_say() -> None:
    model = build("ali", "cifar10", 64)
    for layer in (layer for layer in model.modules() if isinstance(layer, Layer)):
        if layer.op.weight.numel() > 2000:
            assert layer.op.weight.std().item() == pytest.approx(0.01, rel=0.1)
        assert layer.op.bias is None or not layer.op.bias.any()
        if layer.bn is not None:
            assert (layer.bn.eps, layer.bn.momentum) == (1e-4, 0.05)
    bigan = build("bigan", "bigan_imagenet", 200, prior="uniform").discriminator
    assert not bigan.dxz.layers[-1].op.weight.any()
    injection = bigan.dx.layers[2].injection
    assert injection.weight.std().item() == pytest.approx(0.02 * 25, rel=0.05)


def test_bigans_discriminator_starts_at_log_two_and_adds_z_after_the_first_layer() -> None:
    d = build("bigan", "bigan_mnist", 50, prior="uniform").discriminator
    x, z = torch.rand(8, 1, 28, 28), torch.rand(8, 50)
    assert not d(x, z).any()
    first, second = d.dxz.layers[:2]
    assert first.injection is None
    h = nn.functional.leaky_relu(first.op(x.flatten(1)), 0.2)
    a = h @ second.op.weight.T + z @ second.injection.weight.T
    expected = nn.functional.leaky_relu((a - a.mean(0)) / (a.var(0, unbiased=False) + 1e-8).sqrt(), 0.2)
    torch.testing.assert_close(second(h, None, None, z), expected, rtol=1e-4, atol=1e-4)


def test_bigans_discriminator_of_pictures_alone_is_blind_to_black_ones() -> None:
    discriminator = networks("bigan_mnist", 50).discriminator("x").train()
    with torch.no_grad():
        for weights in discriminator.parameters():
            weights.normal_(generator=generator(0, "weights"))
    logits = discriminator.compare({"q": (torch.rand(8, 1, 28, 28),), "p": (torch.zeros(8, 1, 28, 28),)})
    assert not logits["p"].any()  # no biases, and batch norm leaves nought at nought
    assert logits["q"].all()


def test_separate_batches_have_statistics_of_their_own() -> None:
    """A shift between the two kinds shows in joint statistics and is taken away by separate ones."""
    d = build("bigan", "bigan_mnist", 50).discriminator
    initialise(d.dxz.layers[-1], generator(1, "weights"), None)
    d.dxz.layers[-1].op.weight.data.normal_(generator=generator(1, "weights"))
    pairs = {kind: (torch.rand(6, 1, 28, 28), torch.rand(6, 50)) for kind in ("q", "p")}
    apart = d.compare(pairs)
    for kind, (x, z) in pairs.items():
        torch.testing.assert_close(apart[kind], d(x, z))
    d.separate = False
    together = d.compare(pairs)
    both = d(*(torch.cat(parts) for parts in zip(*pairs.values(), strict=True)))
    torch.testing.assert_close(torch.cat(list(together.values())), both)
    assert not torch.allclose(together["q"], apart["q"])


def test_the_toys_encoder_draws_by_its_input() -> None:
    model = build("ali", "toy", 2).eval()
    x = torch.randn(5, 2)
    with torch.no_grad():
        eps = torch.randn(5, 2)
        torch.testing.assert_close(model.infer(x, eps), model.encoder.stack(torch.cat([x, eps], 1)))
        assert model.posterior(x)[1] is None
        drawn = [model.encode(x, draw=True, rng=generator(seed, "draw")) for seed in (0, 1)]
        assert not torch.equal(*drawn)
        torch.testing.assert_close(model.encode(x), model.encoder.stack(torch.cat([x, torch.zeros(5, 2)], 1)))


def test_uniform_codes_are_in_their_box_and_regressed_by_cross_entropy() -> None:
    model = build("gan", "bigan_mnist", 50, prior="uniform").eval()
    z = model.prior(500, generator(0, "z"))
    assert -1 <= z.min() < -0.99
    assert 0.99 < z.max() < 1
    assert z.var().item() == pytest.approx(1 / 3, rel=0.05)
    with torch.no_grad():
        x = model.decode(z)
        code = model.encode(x)
        assert code.abs().max() < 1
        s, t = (code.double() + 1) / 2, (z.double() + 1) / 2
        expected = -(t * s.log() + (1 - t) * (1 - s).log()).mean(1)
        torch.testing.assert_close(model.distance(z, x).double(), expected, rtol=1e-3, atol=1e-4)
