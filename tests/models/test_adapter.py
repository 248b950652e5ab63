"""A model of the user's modules is ALI, or BiGAN, to the last digit, and whatever game it is given."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from alibench import adversarial_model
from alibench.benchmarks.training.gradients import gradients, judge_of
from alibench.benchmarks.training.loop import train, train_together
from alibench.benchmarks.training.outcomes import Member
from alibench.benchmarks.training.recipe import Recipe
from alibench.benchmarks.training.trainer import moves_of, parameters
from alibench.evaluation.data import Data, as_float
from alibench.models import REGISTRY, games
from alibench.models.ali import ALI
from alibench.models.base import Batch, Model
from alibench.models.layers import Unfit
from tests.conftest import batch_for, build, networks, numbers

CPU = torch.device("cpu")


def of_tables(stochastic: bool, **more: Any) -> Model:
    """Return a model of the suite's own networks, brought as a user brings theirs."""
    tables = networks()
    kind = adversarial_model(
        "brought",
        encoder=lambda shape, latent: tables.encoder("drawn" if stochastic else "code"),
        decoder=lambda shape, latent: tables.decoder(),
        discriminator=lambda shape, latent: tables.discriminator("x", "z"),
        stochastic=stochastic,
        **more,
    )
    return kind(networks())


class Pairs(nn.Module):
    """D of x and z side by side."""

    def __init__(self, shape: tuple[int, ...], latent: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(64 + latent, 16), nn.Tanh(), nn.Linear(16, 1))

    def forward(self, x: Tensor, z: Tensor) -> Tensor:
        logits: Tensor = self.layers(torch.cat([x.flatten(1), z], 1))
        return logits


def encoder(shape: tuple[int, ...], latent: int) -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.BatchNorm1d(16), nn.Linear(16, latent))


def decoder(shape: tuple[int, ...], latent: int) -> nn.Module:
    return nn.Sequential(nn.Linear(latent, 64), nn.Sigmoid(), nn.Unflatten(1, shape))


PARTS: dict[str, Callable[..., nn.Module]] = {"encoder": encoder, "decoder": decoder, "discriminator": Pairs}


def plain(seed: int = 0, **more: Any) -> Model:
    """Return a model of modules of plain torch."""
    torch.manual_seed(seed)
    return adversarial_model("plain", **(PARTS | more))(networks())


def slopes(model: Model, batch: Batch) -> list[Tensor]:
    """Return each player's gradients, of its own loss by its own parameters."""
    losses = model.losses(model(batch, tuple(model.players)))
    return [
        slope
        for player in model.players
        for slope in torch.autograd.grad(losses[player].mean(), parameters(model, player), retain_graph=True)
    ]


@pytest.mark.parametrize("name", ["ali", "bigan"])
def test_of_the_suites_networks_it_is_the_suites_model_to_the_last_digit(name: str, digits: Data) -> None:
    ours, brought = build(name), of_tables(REGISTRY[name].stochastic)
    assert torch.equal(numbers(ours), numbers(brought))
    assert {k: v.shape for k, v in brought.noise(20).items()} == {
        k: v.shape for k, v in ours.noise(20).items() if v.kind != "mask"
    }

    # A module draws its dropout itself: here is none.
    batch = batch_for(brought, as_float(digits.train.x[:20]))
    expected, found = (model.losses(model(batch, tuple(model.players))) for model in (ours, brought))
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[player], expected[player]) for player in expected)
    pairs = zip(slopes(ours, batch), slopes(brought, batch), strict=True)
    assert all(torch.equal(ours_of, brought_of) for ours_of, brought_of in pairs)

    # After training, too; but EGBAD's score takes layers of D.
    x = as_float(digits.test.x[:5])
    assert torch.equal(ours.eval().reconstruct(x), brought.eval().reconstruct(x))
    ours_scores, scores = ours.anomaly(x), brought.anomaly(x)
    assert scores.keys() == {"reconstruction"}
    assert torch.equal(scores["reconstruction"], ours_scores["reconstruction"])


def test_the_game_is_the_users(digits: Data) -> None:
    def squares(q: Tensor, p: Tensor) -> dict[str, Tensor]:
        return {"discriminator": (q - 1) ** 2 + p**2, "generator": q**2 + (p - 1) ** 2}

    model = plain(game=squares)
    terms = model(batch_for(model, as_float(digits.train.x[:20])), ("generator", "discriminator"))
    q, p = (terms.logits[kind].detach().double().numpy() for kind in "qp")
    found = {player: loss.detach().numpy() for player, loss in model.losses(terms).items()}
    np.testing.assert_allclose(found["discriminator"], (q - 1) ** 2 + p**2, rtol=1e-5)
    np.testing.assert_allclose(found["generator"], q**2 + (p - 1) ** 2, rtol=1e-5)


@pytest.mark.parametrize("game", [games.joint, games.hinge, games.relativistic])
def test_one_pass_through_the_users_discriminator_gives_both_players_gradients(
    game: Callable[..., dict[str, Tensor]], digits: Data
) -> None:
    model = plain(game=game)
    learners = {player: parameters(model, player) for player in model.players}
    batch = batch_for(model, as_float(digits.train.x[:20]))
    probe = plain(game=game)
    judge = judge_of(probe, batch, {player: parameters(probe, player) for player in probe.players})
    expected = slopes(model, batch)
    gradients(model, batch, learners, judge)
    found = [p.grad for own in learners.values() for p in own]
    assert judge == "discriminator"
    for slope, other in zip(found, expected, strict=True):
        torch.testing.assert_close(slope, other, rtol=1e-4, atol=1e-6)


def test_its_discriminator_moves_first_where_players_alternate() -> None:
    model = plain()
    first, second = moves_of(model, model.phases[0].round[0], alternating=True)
    assert (list(first), list(second)) == (["discriminator"], ["generator"])


def test_stacked_seeds_learn_what_each_learns_alone(digits: Data) -> None:
    recipe = Recipe(steps=3, batch=50, ema=0.5)
    stacked = [plain(seed) for seed in (0, 1)]
    train_together([Member(model, seed) for seed, model in enumerate(stacked)], digits.train, recipe, CPU)
    for seed, model in enumerate(stacked):
        alone, first = plain(seed), plain(seed)
        train(alone, digits.train, recipe, seed, CPU)
        moved = (numbers(alone) - numbers(first)).norm()
        assert (numbers(model) - numbers(alone)).norm() < 1e-3 * moved
    assert not torch.equal(numbers(stacked[0]), numbers(stacked[1]))


def test_networks_of_bf16_are_trained(digits: Data) -> None:
    model, first = plain(), plain()
    train(model, digits.train, Recipe(steps=3, batch=50, precision="bf16"), 0, CPU)
    assert numbers(model).isfinite().all()
    assert all(not torch.equal(p, q) for p, q in zip(model.parameters(), first.parameters(), strict=True))


def test_layers_of_unknown_width_find_it_before_training() -> None:
    model = plain(encoder=lambda shape, latent: nn.Sequential(nn.Flatten(), nn.LazyLinear(latent)))
    assert model.encoder[1].weight.shape == (4, 64)  # type: ignore[index]


def test_its_base_is_no_model_of_the_suite() -> None:
    assert REGISTRY["ali"] is ALI
    assert all(kind.name == name and "name" in vars(kind) for name, kind in REGISTRY.items())


def test_every_model_has_networks_of_its_own() -> None:
    ready = encoder((1, 8, 8), 4)
    kind = adversarial_model("shared", **(PARTS | {"encoder": lambda shape, latent: ready}))
    kind(networks())
    with pytest.raises(Unfit, match="encoder=<lambda> returned the module of another seed: make a new one"):
        kind(networks())
