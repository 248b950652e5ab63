"""The relatives since 2017, each against its paper's formulas written out, and packs of samples."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from alibench.benchmarks.commands.cli import main
from alibench.benchmarks.training.gradients import gradients
from alibench.benchmarks.training.recipe import Recipe
from alibench.benchmarks.training.trainer import Trainer, parameters
from alibench.evaluation.data import Data, as_float
from alibench.evaluation.seeds import generator
from alibench.models import REGISTRY, games
from alibench.models.base import Batch, Model
from alibench.models.layers import Unfit
from alibench.models.soft_introvae import SoftIntroVAE
from alibench.models.wae import mmd
from tests.conftest import batch_for, build, networks


def of(name: str, family: str = "digits", **options: Any) -> Any:
    return REGISTRY[name](networks(family, labels=10), **options)


@pytest.fixture
def x(digits: Data) -> Tensor:
    return as_float(digits.train.x[:24])


def losses(model: Model, batch: Batch, *learners: str) -> dict[str, Tensor]:
    return model.losses(model(batch, learners), batch.y)


# -------------------- packs


@pytest.mark.parametrize("name", ["ali", "bigan", "gan"])
def test_packs_of_one_are_the_model_itself(name: str, x: Tensor) -> None:
    plain, packed = build(name), of(name, packing=1)
    batch = batch_for(plain, x)
    players = plain.phases[0].round[0]
    for model in (plain, packed):
        gradients(model, batch, {player: parameters(model, player) for player in players}, "discriminator")
    for (key, p), (_, q) in zip(plain.named_parameters(), packed.named_parameters(), strict=True):
        assert torch.equal(p, q)
        assert (p.grad is None and q.grad is None) or torch.equal(p.grad, q.grad), key


@pytest.mark.parametrize("m", [2, 3, 4])
def test_d_sees_m_pairs_of_one_kind_at_once(m: int, x: Tensor) -> None:
    model = of("ali", packing=m)
    batch = batch_for(model, x)
    terms = model(batch, ("generator", "discriminator"))
    z, z_hat = batch.noise["z"], model.infer(x, batch.noise["eps"])
    x_tilde = model.decoder(z)

    # by hand: sample m * i + j is the j-th of pack i
    def pack(a: Tensor) -> list[Tensor]:
        return [torch.stack([a[m * i + j] for i in range(24 // m)]) for j in range(m)]

    q, p = [*pack(x), *pack(z_hat)], [*pack(x_tilde), *pack(z)]
    both = [torch.cat(sides) for sides in zip(q, p, strict=True)]
    expected = model.discriminator(*both, noise=batch.noise)
    torch.testing.assert_close(torch.cat([terms.logits["q"], terms.logits["p"]]), expected)
    assert terms.logits["q"].shape == (24 // m,)


@pytest.mark.parametrize(("name", "m"), [("ali", 2), ("bigan", 3), ("gan", 4)])
def test_one_pass_through_d_is_exact_for_packs(name: str, m: int, digits: Data) -> None:
    model = of(name, packing=m)
    training = Trainer(model, model.phases[0], Recipe(steps=9, batch=24), digits.train, generator(0, "t"))
    for _ in range(3):
        training.round()
    learners, batch = training.moves[0][0], training.batch()
    assert training.judges[tuple(learners)] == "discriminator"
    found = []
    for judge in ("discriminator", None):
        gradients(model, batch, learners, judge)
        found.append([p.grad.clone() for own in learners.values() for p in own])
    for a, b in zip(*found, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-7)


def test_packs_that_do_not_divide_the_batch_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--set", "model.ali.options.packing=3", "--set", "recipe.batch=50", "--dry-run"]
    assert main(["run", "digits", "--models", "ali", *words]) == 2
    assert "a batch of 50 does not divide into packs of 3" in capsys.readouterr().err


# -------------------- the relativistic game


def test_the_relativistic_game_by_hand(x: Tensor) -> None:
    q, p = torch.tensor([2.0, -1.0]), torch.tensor([0.5, 0.0])
    loss = games.relativistic(q, p)
    torch.testing.assert_close(loss["discriminator"], -logsigmoid(torch.tensor([1.5, -1.0])))
    torch.testing.assert_close(loss["generator"], -logsigmoid(torch.tensor([-1.5, 1.0])))
    # all logits moved by one number change nothing
    moved = games.relativistic(q + 7, p + 7)
    torch.testing.assert_close(moved["discriminator"], loss["discriminator"])


def test_r1_and_r2_are_the_squared_gradients_of_each_pair(x: Tensor) -> None:
    model = of("ali-r3", penalty=3.0)
    batch = batch_for(model, x)
    terms = model(batch, ("discriminator",))
    z, z_hat = batch.noise["z"], model.infer(x, batch.noise["eps"]).detach()
    x_tilde = model.decoder(z).detach()
    game = -logsigmoid(model.discriminator(x, z_hat) - model.discriminator(x_tilde, z))
    # one pair at a time, by plain autograd
    squares = torch.zeros(len(x))
    for i in range(len(x)):
        for pair in ((x[i], z_hat[i]), (x_tilde[i], z[i])):
            inputs = [part[None].clone().requires_grad_() for part in pair]
            slopes = torch.autograd.grad(model.discriminator(*inputs).sum(), inputs)
            squares[i] += sum(float(slope.square().sum()) for slope in slopes)
    torch.testing.assert_close(model.losses(terms)["discriminator"], game + 1.5 * squares)
    against = -logsigmoid(terms.logits["p"] - terms.logits["q"])
    torch.testing.assert_close(losses(model, batch, "generator")["generator"], against)


# -------------------- VEEGAN, AVB


def test_veegans_reconstructor_learns_from_samples_alone(x: Tensor) -> None:
    model = build("veegan")
    batch = batch_for(model, x)
    found = losses(model, batch, *model.players)
    z = batch.noise["z"]
    x_tilde = model.decoder(z)
    normal = torch.distributions.Normal(model.encoder(x_tilde), 1.0)
    distance = -normal.log_prob(z).sum(1) - z.shape[1] / 2 * math.log(2 * math.pi)
    pairs = torch.cat([x, x_tilde]), torch.cat([model.encoder(x) + batch.noise["eps"], z])
    q, p = model.discriminator(*pairs, noise=batch.noise).chunk(2)
    torch.testing.assert_close(found["encoder"], distance)
    torch.testing.assert_close(found["decoder"], distance - p)
    torch.testing.assert_close(found["discriminator"], -logsigmoid(q) - logsigmoid(-p))

    # no gradient of D reaches it, and none of its own from data
    own = parameters(model, "encoder")
    assert set(torch.autograd.grad(found["discriminator"].sum(), own, allow_unused=True)) == {None}
    blind = losses(model, Batch(torch.zeros_like(x), batch.noise), *model.players)["encoder"]
    torch.testing.assert_close(blind, distance)


def test_a_latent_too_narrow_for_veegan_is_refused() -> None:
    with pytest.raises(Unfit, match=r"more than 2 .* not 2: set latent"):
        REGISTRY["veegan"](networks("plane", 2))
    assert REGISTRY["veegan"](networks("plane", 3)).latent == 3


def test_avb_is_the_vaes_bound_with_ds_logit_for_the_divergence(x: Tensor) -> None:
    model = build("avb")
    batch = batch_for(model, x)
    model.variance.fill_(0.05)
    z, z_hat = batch.noise["z"], model.infer(x, batch.noise["eps"])
    x_hat = model.decoder(z_hat)
    q, p = model.discriminator(torch.cat([x, x]), torch.cat([z_hat, z]), noise=batch.noise).chunk(2)
    found = losses(model, batch, *model.players)
    deviation = model.variance.sqrt()  # after its step
    likelihood = torch.distributions.Normal(x_hat, deviation).log_prob(x).flatten(1).sum(1)
    torch.testing.assert_close(found["autoencoder"], q - likelihood)
    torch.testing.assert_close(found["discriminator"], -logsigmoid(q) - logsigmoid(-p))


# -------------------- autoencoders


def test_mmd_is_the_sum_over_pairs() -> None:
    a, b = torch.randn(6, 3, generator=generator(0, "a")), torch.randn(6, 3, generator=generator(0, "b"))
    kernel = [[[6 / (6 + float((u - v).square().sum())) for v in right] for u in left]
              for left, right in ((a, a), (b, b), (a, b))]  # fmt: skip
    within = sum(k[i][j] for k in kernel[:2] for i in range(6) for j in range(6) if i != j) / 30
    across = sum(map(sum, kernel[2])) / 36
    assert float(mmd(a, b)) == pytest.approx(within - 2 * across, rel=1e-5)


def test_mmd_of_one_distribution_is_zero_on_average_and_of_two_it_is_not() -> None:
    rng = generator(0, "mmd")
    tries = torch.stack(
        [mmd(torch.randn(50, 4, generator=rng), torch.randn(50, 4, generator=rng)) for _ in range(400)]
    )
    assert abs(float(tries.mean())) < 4 * float(tries.std()) / 20
    far = [
        float(mmd(torch.randn(50, 4, generator=rng) + 1, torch.randn(50, 4, generator=rng)))
        for _ in range(20)
    ]
    assert min(far) > float(tries.max())


def test_soft_introvae_by_its_formulas(x: Tensor) -> None:
    model = of("soft-introvae", rec=0.5, kl=2.0, negative=3.0)
    batch = batch_for(model, x)
    s, n = 1 / 64, len(x)

    def parts(images: Tensor, eps: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        mean, log_sigma = model.posterior(images)
        posterior = torch.distributions.Normal(mean, log_sigma.exp())
        kl = torch.distributions.kl_divergence(posterior, torch.distributions.Normal(0.0, 1.0)).sum(1)
        back = model.decoder(mean + log_sigma.exp() * eps)
        return back, (images - back).square().flatten(1).sum(1), kl

    x_hat, r, kl = parts(x, batch.noise["eps"])
    bound = s * (0.5 * r + 2 * kl)
    torch.testing.assert_close(losses(model, batch, "encoder", "decoder")["decoder"], bound)
    # batch statistics cover both kinds of fakes
    _, r_fake, kl_fake = parts(torch.cat([model.decoder(batch.noise["z"]), x_hat]), batch.noise["eps fake"])
    low = torch.exp(-2 * s * (0.5 * r_fake + 3 * kl_fake)) / 4
    torch.testing.assert_close(losses(model, batch, "encoder")["encoder"], bound + low[:n] + low[n:])
    high = s * 2 * kl_fake / 2
    torch.testing.assert_close(losses(model, batch, "decoder")["decoder"], s * 0.5 * r + high[:n] + high[n:])


def test_soft_introvae_takes_the_suites_rounds_in_all() -> None:
    for warm_up in (0.0, 0.05, 0.5, 1.0):
        model = SoftIntroVAE(networks(), warm_up=warm_up)
        assert sum(phase.share for phase in model.phases) == pytest.approx(1)


def test_alad_pays_for_both_labels_of_its_cycles(x: Tensor) -> None:
    model = build("alad")
    kinds = ("q", "p", "xx", "xx cycle", "zz", "zz cycle")
    logits = dict(zip(kinds, torch.randn(6, 3, generator=generator(0, "l")), strict=True))
    found = model.game(logits)
    total = {"discriminator": 0.0, "generator": 0.0}
    for real, fake in (("q", "p"), ("xx", "xx cycle"), ("zz", "zz cycle")):
        total["discriminator"] = total["discriminator"] - logsigmoid(logits[real]) - logsigmoid(-logits[fake])
        total["generator"] = total["generator"] - logsigmoid(-logits[real]) - logsigmoid(logits[fake])
    for player, expected in total.items():
        torch.testing.assert_close(found[player], expected)
    terms = model(batch_for(model, x), ("generator", "discriminator"))
    assert set(terms.logits) == set(kinds)


# -------------------- ALAE, BigBiGAN


def test_alaes_three_updates(x: Tensor) -> None:
    model = build("alae")
    batch = batch_for(model, x)
    z = batch.noise["z"]
    w = model.mapping(z / z.square().mean(1, keepdim=True).sqrt())
    fake = model.encoder(model.decoder(w))
    images = x.clone().requires_grad_()
    real = model.discriminator(model.encoder(images))
    (slope,) = torch.autograd.grad(real.sum(), images)
    judged = model.discriminator(fake)
    game = -logsigmoid(-judged) - logsigmoid(real) + 5 * slope.square().flatten(1).sum(1)
    for learners, expected in (
        (("encoder", "discriminator"), game),
        (("mapping", "decoder"), -logsigmoid(judged)),
        (("encoder", "decoder"), (fake - w).square().mean(1)),
    ):
        found = losses(model, batch, *learners)
        assert found.keys() == set(learners)
        for player in learners:
            torch.testing.assert_close(found[player], expected, rtol=1e-4, atol=1e-5)
    # the third update leaves the mapping alone
    third = losses(model, batch, "encoder", "decoder")["decoder"].sum()
    assert set(torch.autograd.grad(third, parameters(model, "mapping"), allow_unused=True)) == {None}


def test_alaes_prior_is_that_of_its_codes() -> None:
    model = build("alae").eval()
    with torch.no_grad():
        z, x = model.generate(5, generator(0, "a"))
        torch.testing.assert_close(x, model.decoder(z))
        assert torch.equal(z, model.codes(torch.randn(5, 4, generator=generator(0, "a"))))


def test_bigbigans_three_hinges_by_hand(x: Tensor) -> None:
    model = build("bigbigan")
    kinds = [f"{kind}{score}" for score in ("", " x", " z") for kind in "qp"]
    logits = dict(zip(kinds, torch.tensor([[2.0], [-3.0], [0.5], [0.5], [-1.0], [0.0]]), strict=True))
    found = model.game(logits)
    # the pair: 0 + 0; x: .5 + 1.5; z: 2 + 1
    assert float(found["discriminator"]) == 5.0
    assert float(found["generator"]) == (2 + 3) + (0.5 - 0.5) + (-1 - 0)


def test_bigbigans_unary_scores_are_linear_in_ds_towers_where_it_has_some(x: Tensor) -> None:
    without = build("bigbigan")
    assert not without.has_heads  # the digits' D has no towers
    assert without.unary_x.sees == ("x",)

    model = of("bigbigan", "cifar10")
    assert model.has_heads
    batch = batch_for(model, torch.rand(4, 3, 32, 32, generator=generator(0, "x")))
    terms = model(batch, ("discriminator",))
    z, z_hat = batch.noise["z"], model.infer(batch.x, batch.noise["eps"])
    images, codes = torch.cat([batch.x, model.decoder(z)]), torch.cat([z_hat, z])
    d = model.discriminator
    of_x = d.dx(d.scaling(images), batch.noise).flatten(1)
    of_z = d.dz(codes[:, :, None, None], batch.noise).flatten(1)
    for score, tower, head in ((" x", of_x, model.unary_x), (" z", of_z, model.unary_z)):
        expected = tower @ head.weight[0] + head.bias
        found = torch.cat([terms.logits[f"q{score}"], terms.logits[f"p{score}"]])
        torch.testing.assert_close(found, expected)
    joint = torch.cat([terms.logits["q"], terms.logits["p"]])
    torch.testing.assert_close(joint, d(images, codes, noise=batch.noise))
