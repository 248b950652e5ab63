"""What is particular to each variant of ALI, GAN and the autoencoders, against independent computations."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from alibench.benchmarks.training.trainer import parameters
from alibench.evaluation.data import Data, as_float
from alibench.evaluation.seeds import generator
from alibench.models import REGISTRY
from alibench.models.base import Batch, Model
from tests.conftest import batch_for, build, networks


def with_options(name: str, **options: Any) -> Any:
    return REGISTRY[name](networks(labels=10), **options)


def same_weights(a: Model, b: Model) -> None:
    """Give b the weights that it shares with a."""
    b.load_state_dict(a.state_dict() | {k: v for k, v in b.state_dict().items() if k not in a.state_dict()})


@pytest.fixture
def x(digits: Data) -> Tensor:
    return as_float(digits.train.x[:20])


def losses(model: Model, batch: Batch, *learners: str) -> dict[str, Tensor]:
    return model.losses(model(batch, learners), batch.y)


def test_joint_regression_gives_the_decoder_a_quarter_of_the_encoders_loss(x: Tensor) -> None:
    gan, jlr = build("gan"), build("gan-jlr")
    same_weights(gan, jlr)
    batch = batch_for(jlr, x)
    found = losses(jlr, batch, *jlr.players)
    game = losses(gan, batch, "decoder", "discriminator")
    z = batch.noise["z"]
    distance = (z - jlr.encoder(jlr.decoder(z))).square().sum(1)
    torch.testing.assert_close(found["encoder"], distance)
    torch.testing.assert_close(found["decoder"], game["decoder"] + 0.25 * distance)
    torch.testing.assert_close(found["discriminator"], game["discriminator"])


def test_post_hoc_inference_plays_alis_game_and_leaves_the_decoder_alone(x: Tensor) -> None:
    model = build("gan-posthoc")
    batch = batch_for(model, x)
    found = losses(model, batch, "encoder", "pair discriminator")
    z, d = batch.noise["z"], model.pair_discriminator
    x_tilde = model.decoder(z)
    pairs = torch.cat([x, x_tilde]), torch.cat([model.infer(x, batch.noise["eps"]), z])
    q, p = d(*pairs, noise=batch.noise).chunk(2)
    torch.testing.assert_close(found["encoder"], softplus(q) + softplus(-p))
    torch.testing.assert_close(found["pair discriminator"], softplus(-q) + softplus(p))
    decoder = list(model.decoder.parameters())
    assert set(torch.autograd.grad(found["encoder"].sum(), decoder, allow_unused=True)) == {None}


def test_autoencoders_minimise_the_l2_and_the_l1_norm(x: Tensor) -> None:
    for name, norm in (("ae", 2), ("ae-l1", 1)):
        model = build(name)
        difference = (x - model.decoder(model.encoder(x))).flatten(1)
        expected = torch.linalg.vector_norm(difference, norm, dim=1) ** norm
        torch.testing.assert_close(losses(model, batch_for(model, x), "autoencoder")["autoencoder"], expected)


def test_beta_weighs_the_kl_term(x: Tensor) -> None:
    bounds = {}
    for beta in (0.0, 1.0, 4.0):
        model = with_options("beta-vae", beta=beta)
        bounds[beta] = losses(model, batch_for(model, x), "autoencoder")["autoencoder"]
    vae = with_options("vae")
    torch.testing.assert_close(bounds[1.0], losses(vae, batch_for(vae, x), "autoencoder")["autoencoder"])
    kl = bounds[1.0] - bounds[0.0]
    torch.testing.assert_close(bounds[4.0] - bounds[0.0], 4 * kl, rtol=1e-4, atol=1e-3)


def test_aaes_prior_is_what_d_calls_real(x: Tensor) -> None:
    model = build("aae")
    batch = batch_for(model, x)
    z_hat = model.encoder(x)
    q, p = model.discriminator(torch.cat([z_hat, batch.noise["z"]]), noise=batch.noise).chunk(2)
    found = losses(model, batch, *model.players)
    torch.testing.assert_close(found["discriminator"], softplus(-p) + softplus(q))
    error = (x - model.decoder(z_hat)).square().flatten(1).sum(1)
    torch.testing.assert_close(found["autoencoder"], error + softplus(-q))


@pytest.mark.parametrize("name", ["alice", "alice-adversarial"])
def test_alice_at_weight_zero_is_ali_for_the_generator(name: str, x: Tensor) -> None:
    ali, alice = build("ali"), with_options(name, weight=0.0)
    same_weights(ali, alice)
    batch = batch_for(alice, x)
    of_generator = [losses(model, batch, "generator")["generator"] for model in (alice, ali)]
    torch.testing.assert_close(*of_generator)


def test_alices_explicit_cycles_are_squared_errors(x: Tensor) -> None:
    bare, model = with_options("alice", weight=0.0), with_options("alice", weight=3.0)
    batch = batch_for(model, x)
    z, eps = batch.noise["z"], batch.noise["eps"]
    x_hat = model.decoder(model.infer(x, eps))
    z_cycle = model.infer(model.decoder(z), eps)
    cycle = (x - x_hat).square().flatten(1).mean(1) + (z - z_cycle).square().mean(1)
    weighted, plain = (losses(one, batch, *model.players) for one in (model, bare))
    for player, weight in (("generator", 3.0), ("discriminator", 0.0)):
        difference = weighted[player] - plain[player]
        torch.testing.assert_close(difference, weight * cycle, rtol=1e-4, atol=1e-4)


def test_alices_rounds_are_those_of_the_toy() -> None:
    assert with_options("alice").phases[0].round == (("generator", "discriminator"),)
    rounds = with_options("alice", generator_updates=5).phases[0].round
    assert rounds == (("discriminator",), *[("generator",)] * 5)


def test_alices_adversarial_cycle_calls_the_true_pair_real(x: Tensor) -> None:
    model = with_options("alice-adversarial", weight=0.1)
    zero = {kind: torch.zeros(2) for kind in ("q", "p", "xx", "xx cycle", "zz", "zz cycle")}
    neutral = model.game(zero)
    for kind in ("xx", "zz"):
        game = model.game(zero | {kind: torch.full((2,), 5.0), f"{kind} cycle": torch.full((2,), -5.0)})
        assert (game["discriminator"] < neutral["discriminator"]).all()  # D tells them apart
        expected = neutral["generator"] + 0.1 * (softplus(torch.tensor(5.0)) - softplus(torch.tensor(0.0)))
        torch.testing.assert_close(game["generator"], expected)
    assert set(model(batch_for(model, x), tuple(model.players)).logits) == set(zero)


def test_the_label_changes_every_network_of_conditional_ali(x: Tensor) -> None:
    model = build("cali").eval()
    ones, twos = torch.full((20,), 1), torch.full((20,), 2)
    z = model.prior(20, generator(0, "z"))
    with torch.no_grad():
        for use in (lambda y: model.encode(x, y=y), lambda y: model.decode(z, y=y)):
            assert not torch.allclose(use(ones), use(twos))
        d = [model.discriminator(x, z, c=model.condition(y)) for y in (ones, twos)]
        assert not torch.allclose(*d)
        onehot = nn.functional.one_hot(ones, 10).to(torch.uint8)  # the same said as attributes
        torch.testing.assert_close(model.decode(z, y=onehot), model.decode(z, y=ones))
    with pytest.raises(ValueError, match="needs labels"):
        model.sample(3, generator(0, "z"))


def test_a_frozen_embedding_is_no_players() -> None:
    trained, frozen = (with_options("cali", embedding=way) for way in ("trained", "frozen"))
    assert len(parameters(trained, "generator")) == len(parameters(frozen, "generator")) + 2


def test_the_wasserstein_penalty_is_that_of_a_linear_critic(x: Tensor) -> None:
    """A critic w.(x, z) has the gradient w everywhere, and its estimate is a difference of means."""
    model = with_options("wali", penalty=10.0)

    class Linear(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.w = nn.Parameter(torch.linspace(-0.3, 0.5, 68))

        def forward(self, x: Tensor, z: Tensor) -> Tensor:
            return torch.cat([x.flatten(1), z], 1) @ self.w

        def compare(self, pairs: dict[str, tuple[Tensor, Tensor]], *_: object) -> dict[str, Tensor]:
            return {kind: self(*pair) for kind, pair in pairs.items()}

        def noise(self, n: int) -> dict[str, Any]:
            return {}

    model.discriminator = critic = Linear()
    batch = batch_for(model, x)
    terms = model(batch, ("discriminator",))
    found = model.losses(terms)
    q, p = (critic(*terms.pairs[kind]) for kind in ("q", "p"))
    penalty = 10 * (critic.w.norm() - 1) ** 2
    torch.testing.assert_close(found["discriminator"], p - q + penalty)
    torch.testing.assert_close(found["generator"], q - p)
    # and it is differentiated to the second order: d/dw of the penalty alone
    (gradient,) = torch.autograd.grad(terms.losses["discriminator"].mean(), [critic.w])
    torch.testing.assert_close(gradient, (20 * (critic.w.norm() - 1) * critic.w / critic.w.norm()).detach())


def test_the_wasserstein_critic_has_neither_batch_norm_nor_dropout() -> None:
    model = REGISTRY["wali"](networks("svhn"))
    assert not model.discriminator.noise(2)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in model.discriminator.modules())
    assert any(isinstance(module, nn.BatchNorm2d) for module in model.encoder.modules())
    assert list(model.phases[0].round).count(("discriminator",)) == 5
