"""One backward pass through D for all players: exact where it is used, and used only where it is exact."""

import copy
from collections.abc import Callable, Mapping
from itertools import chain

import pytest
import torch
from torch import Tensor, nn

from alibench.benchmarks.training.gradients import gradients, judge_of
from alibench.benchmarks.training.recipe import Recipe
from alibench.benchmarks.training.trainer import Trainer, parameters
from alibench.evaluation.data import Data, Split, as_float
from alibench.evaluation.seeds import generator
from alibench.models import REGISTRY
from alibench.models.ali import ALI
from alibench.models.base import Batch, Model, Phase, Terms
from alibench.models.tables import FAMILIES
from tests.conftest import MODELS, batch_for, build, networks, trainer


def convolutional(name: str, family: str = "cifar10") -> Model:
    """Return a model of the paper's networks for 32x32 images, its weights so large that logits differ."""
    model = REGISTRY[name](networks(family, 8, mean=torch.full((3, 32, 32), 0.5)))
    with torch.no_grad():
        for p in model.parameters():
            p.mul_(3)
    return model


Learners = dict[str, list[Tensor]]


def learners_of(model: Model) -> Learners:
    return {player: parameters(model, player) for player in model.phases[0].round[0]}


def found(model: Model, batch: Batch, judge: str | None, learners: Learners | None = None) -> Learners:
    """Return each player's gradients, one pass through D or separate ones."""
    learners = learners or learners_of(model)
    gradients(model, batch, learners, judge)
    return {player: [p.grad.clone() for p in own] for player, own in learners.items()}


def error(found: list[Tensor], expected: list[Tensor]) -> float:
    """Return the largest relative error of a parameter's gradient, by norms; 0 where it is none at all."""
    apart = torch.stack([(a.double() - b.double()).norm() for a, b in zip(found, expected, strict=True)])
    sizes = torch.stack([b.double().norm() for b in expected])
    return float(torch.where(apart == 0, 0.0, apart / sizes).max())


def assert_one_is_two(model: Model, batch: Batch, judge: str = "discriminator", *learners: Learners) -> None:
    """One pass through D gives every player the gradients of separate passes, to 1e-4 of their norms."""
    before = [buffer.clone() for buffer in model.buffers()]
    one = found(model, batch, judge, *learners)
    for buffer, value in zip(model.buffers(), before, strict=True):
        buffer.copy_(value)  # AVB's variance moves with every pass
    two = found(model, batch, None, *learners)
    for player, expected in two.items():
        assert error(one[player], expected) < 1e-4, player


def by_the_book(model: Model, batch: Batch) -> dict[str, Tensor]:
    """ALI's and BiGAN's gradients from plain logarithms: D's on detached pairs, then the generator's."""
    found = {}
    x, z = batch.x, batch.noise["z"]
    z_hat, x_tilde = model.infer(x, batch.noise.get("eps")), model.decoder(z)

    def logits(x_fake: Tensor, z_fake: Tensor) -> tuple[Tensor, Tensor]:
        both = model.discriminator(torch.cat([x, x_fake]), torch.cat([z_fake, z]), noise=batch.noise)
        q, p = torch.sigmoid(both.double()).chunk(2)
        return q, p

    q, p = logits(x_tilde.detach(), z_hat.detach())
    (-q.log() - (1 - p).log()).mean().backward()
    found |= {key: p.grad.clone() for key, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    q, p = logits(x_tilde, z_hat)
    (-(1 - q).log() - p.log()).mean().backward()
    found |= {key: p.grad.clone() for key, p in model.named_parameters() if "discriminator" not in key}
    return found


@pytest.mark.parametrize("judge", [None, "discriminator"])
@pytest.mark.parametrize("name", ["ali", "bigan"])
def test_gradients_are_those_of_two_separate_passes_by_the_book(
    name: str, judge: str | None, digits: Data
) -> None:
    model = build(name)
    batch = batch_for(model, as_float(digits.train.x[:50]))
    expected = by_the_book(copy.deepcopy(model), batch)
    gradients(model, batch, learners_of(model), judge)
    for key, p in model.named_parameters():
        torch.testing.assert_close(p.grad, expected[key], rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("around", [0, 5, 10, 20, -5, -10, -20])
@pytest.mark.parametrize(("make", "name"), [(build, "ali"), (convolutional, "ali"), (convolutional, "gan")])
def test_one_pass_is_two_at_any_logit(make: Callable[[str], Model], name: str, around: int) -> None:
    """Also where sigmoid(l) or sigmoid(-l) is 2e-9."""
    model = make(name)
    batch = batch_for(model, torch.rand(8, *model.decoder.shape, generator=generator(0, "x")))
    with torch.no_grad():
        model.discriminator.dxz.layers[-1].op.bias.fill_(around)
        logits = torch.cat(list(model(batch, tuple(learners_of(model))).logits.values()))
    assert (logits - around).abs().max() < 3
    assert logits.std() > 1e-4
    assert_one_is_two(model, batch)


@pytest.mark.parametrize("around", [40.0, 200.0, -200.0])
def test_the_generator_learns_on_where_ds_slope_is_lost(around: float, digits: Data) -> None:
    """Beyond a logit of 28 D's own slope is taken as 1e-12; the generator's gradient is not bent by that."""
    model = build("ali")
    batch = batch_for(model, as_float(digits.train.x[:20]))
    with torch.no_grad():
        model.discriminator.dxz.layers[-1].op.bias.fill_(around)
    one, two = found(model, batch, "discriminator"), found(model, batch, None)
    assert error(one["generator"], two["generator"]) < 1e-4
    for a, b in zip(one["discriminator"], two["discriminator"], strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-10)


@pytest.mark.parametrize("name", [name for name in MODELS if not REGISTRY[name].whole_groups])
def test_a_learners_gradient_does_not_depend_on_who_else_learns(name: str, digits: Data) -> None:
    model = build(name)
    batch = batch_for(model, as_float(digits.train.x[:50]))
    for phase in model.phases:
        for group in phase.round:
            gradients(model, batch, {player: parameters(model, player) for player in group})
            together = {player: [p.grad for p in parameters(model, player)] for player in group}
            for player in group:
                fresh = build(name)
                gradients(fresh, batch, {player: parameters(fresh, player)})
                for p, expected in zip(parameters(fresh, player), together[player], strict=True):
                    torch.testing.assert_close(p.grad, expected)


def noise(shape: tuple[int, ...], n: int) -> Split:
    """Return n random images or points, of ten classes in turn."""
    x = torch.randn(n, *shape, generator=generator(0, "x"))
    return Split((64 * x + 128).clamp(0, 255).byte() if len(shape) == 3 else x, torch.arange(n) % 10)


class Mixing(nn.Module):
    """An operation across samples, without a telling name: each minus a thousandth of their mean."""

    def forward(self, h: Tensor) -> Tensor:
        return h - 0.001 * h.mean(0)


class Matching(ALI):
    """ALI whose generator also matches D's logits of the two kinds: a direct loss that uses D."""

    name, title, source = "matching", "matching", "test"

    def forward(self, batch: Batch, learners: tuple[str, ...]) -> Terms:
        terms = super().forward(batch, learners)
        matching = (terms.logits["q"] - terms.logits["p"]).square()
        return Terms(terms.pairs, terms.logits, {"generator": matching})


class Penalised(ALI):
    """ALI with a loss of D's own beside the game."""

    name, title, source = "penalised", "penalised", "test"

    def forward(self, batch: Batch, learners: tuple[str, ...]) -> Terms:
        terms = super().forward(batch, learners)
        return Terms(terms.pairs, terms.logits, {"discriminator": terms.logits["q"].square()})


QUICK = {("ali", "cifar10"), ("aae", "svhn")}
DENSE = ("digits", "plane", "toy", "alice_toy", "bigan_mnist")
EVERY = [
    # in the test session convolutions are looked at where D has no batch norm and where it has
    pytest.param(family, name, marks=[] if family in DENSE or (name, family) in QUICK else pytest.mark.slow)
    for family in FAMILIES
    for name in MODELS
]


@pytest.mark.parametrize(("family", "name"), EVERY)
def test_the_pass_that_the_loop_chooses_is_exact_once_weights_have_moved(family: str, name: str) -> None:
    """After five updates: first weights may be special, as BiGAN's last layer of D, which is zero."""
    shape = networks(family).shape
    split = noise(shape, 40)
    mean = torch.full(shape, 0.5) if len(shape) == 3 else None
    model = REGISTRY[name](networks(family, 8, labels=10, mean=mean))
    for phase in model.phases:
        training = Trainer(model, phase, Recipe(steps=9, batch=8), split, generator(0, "t"), split)
        for _ in range(5 if any(training.judges.values()) else 0):
            training.round()
        for learners in chain(*training.moves):
            if judge := training.judges[tuple(learners)]:
                assert_one_is_two(model, training.batch(), judge, learners)


def test_batch_norm_in_d_takes_two_passes_whatever_its_last_layer_holds() -> None:
    """BiGAN's: with a last layer of zeros no logit has a slope, and nothing shows that samples are mixed."""
    for name in ("bigan", "gan"):
        model = REGISTRY[name](networks("bigan_mnist"))
        assert not any(model.discriminator.dxz.layers[-1].op.weight.flatten())
        assert set(trainer(model, noise((1, 28, 28), 20), batch=10).judges.values()) == {None}


def judged(model: Model, digits: Data) -> str | None:
    return judge_of(model.train(), batch_for(model, as_float(digits.train.x[:4])), learners_of(model))


@pytest.mark.parametrize("flat", [False, True])  # below a last layer of zeros no slope shows
def test_d_with_an_operation_across_samples_takes_two_passes(flat: bool, digits: Data) -> None:
    model = build("ali")
    layers = model.discriminator.dxz.layers
    layers[0].bn = Mixing()
    if flat:
        nn.init.zeros_(layers[-1].op.weight)
    assert judged(model, digits) is None


@pytest.mark.parametrize(("family", "judge"), [("svhn", None), ("cifar10", "discriminator")])
def test_d_with_batch_norm_takes_two_passes(family: str, judge: str | None) -> None:
    model = convolutional("ali", family).train()
    batch = batch_for(model, torch.rand(4, 3, 32, 32, generator=generator(0, "x")))
    assert judge_of(model, batch, learners_of(model)) == judge


@pytest.mark.parametrize("kind", [Matching, Penalised])
def test_a_loss_beside_the_game_that_uses_d_takes_two_passes(kind: type[ALI], digits: Data) -> None:
    assert judged(kind(networks()), digits) is None


@pytest.mark.parametrize(
    ("name", "judge"),
    [
        ("ali", "discriminator"),
        ("alice", "discriminator"),  # the cycle is the generator's and does not use D
        ("gan-jlr", "discriminator"),
        ("aae", "discriminator"),
        ("ali-relativistic", "discriminator"),
        ("veegan", "discriminator"),
        ("avb", "discriminator"),
        ("cali", None),  # the condition, which the generator learns, enters D beside the pairs
        ("alice-adversarial", None),  # pairs of the cycles depend on those of the game
        ("ssali", None),  # vector logits
        ("ssgan", None),
    ],
)
def test_who_judges(name: str, judge: str | None, digits: Data) -> None:
    assert judged(build(name), digits) == judge


def test_slopes_are_the_games_own(digits: Data) -> None:
    """Nothing about ALI's losses is written into the loop: another game has its own ratio."""

    class LeastSquares(ALI):
        name, title, source = "ls", "ls", "test"

        def game(self, logits: Mapping[str, Tensor], y: Tensor | None = None) -> dict[str, Tensor]:
            q, p = logits["q"], logits["p"]
            return {
                "discriminator": (q - 1).square() + (p + 1).square(),
                "generator": (q + 1).square() + 2 * (p - 1).square(),
            }

    model = LeastSquares(networks())
    assert_one_is_two(model, batch_for(model, as_float(digits.train.x[:50])))


def test_gradients_lie_as_their_parameters_do() -> None:
    """A fused optimiser goes through both in the order of memory, whatever their strides say."""
    model = convolutional("ali")
    batch = batch_for(model, torch.rand(4, 3, 32, 32, generator=generator(0, "x")))
    gradients(model, batch, learners_of(model), "discriminator")
    strides = [(p.grad.stride(), p.stride()) for p in model.parameters() if p.grad is not None]
    assert len(strides) == len(list(model.parameters()))
    assert all(gradient == own for gradient, own in strides)


def test_asking_who_judges_leaves_the_model_and_the_seeds_numbers_alone(digits: Data) -> None:
    model, rng = build("ali"), generator(0, "t")
    before = {key: value.clone() for key, value in model.state_dict().items()}
    state = rng.get_state()
    Trainer(model, Phase("game", (tuple(model.players),)), Recipe(steps=1), digits.train, rng)
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())
    assert torch.equal(rng.get_state(), state)
