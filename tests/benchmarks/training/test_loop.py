"""The loop: its gradients, steps, schedule, averages and phases against independent computations."""

import gc
import weakref
from dataclasses import replace

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from alibench.benchmarks.commands.cli import main
from alibench.benchmarks.training.average import Average
from alibench.benchmarks.training.loop import train
from alibench.benchmarks.training.outcomes import Diverged
from alibench.benchmarks.training.recipe import Recipe, steps_of
from alibench.benchmarks.training.trainer import Trainer, parameters
from alibench.evaluation.data import Data, Split, as_float
from alibench.evaluation.seeds import generator
from alibench.models.base import Phase
from tests.conftest import MODELS, build, numbers, trainer

CPU = torch.device("cpu")


def test_no_player_sees_anothers_step_of_the_same_round(digits: Data) -> None:
    model = build("ali")
    trainer(model, digits.train).round()
    for player in model.players:
        alone = build("ali")
        own = trainer(alone, digits.train)
        adam = torch.optim.Adam(parameters(alone, player), lr=own.recipe.lr, betas=(0.5, 0.999))
        own.optimisers = {(player,): adam}
        own.round()
        for found, expected in zip(parameters(alone, player), parameters(model, player), strict=True):
            torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-8)


def test_a_player_of_several_groups_has_one_optimiser(digits: Data) -> None:
    model = build("ali")
    phase = Phase("game", (("discriminator",), ("generator", "discriminator")))
    playing = Trainer(model, phase, Recipe(steps=1, batch=50), digits.train, generator(0, "t"))
    playing.round()
    for player, steps in (("generator", 1.0), ("discriminator", 2.0)):
        state = playing.optimisers[player,].state
        assert len(state) == len(parameters(model, player))
        assert {float(own["step"]) for own in state.values()} == {steps}


@pytest.mark.parametrize(
    ("decay_to", "falling"),
    [(0.0, [0.16, 0.12, 0.08, 0.04, 0.0]), (0.01, [0.2 * 0.01 ** (step / 5) for step in range(1, 6)])],
    ids=["linear, to zero", "BiGAN's: exponential, to a hundredth"],
)
def test_the_rate_is_constant_and_then_falls(decay_to: float, falling: list[float], digits: Data) -> None:
    training = trainer(build("vae"), digits.train, steps=10, lr=0.2, decay=0.5, decay_to=decay_to)
    rates = []
    for step in range(11):
        training.set_rate(step / 10)
        rates.append(training.optimisers["autoencoder",].param_groups[0]["lr"])
    assert rates == pytest.approx([0.2] * 6 + falling)


def test_a_player_may_have_a_rate_of_its_own(digits: Data) -> None:
    """Adam's first step is the rate times the gradient's sign, and both rates fall alike."""
    model = build("ali")
    before = {player: [p.detach().clone() for p in parameters(model, player)] for player in model.players}
    training = trainer(model, digits.train, steps=10, lr=1e-3, lr_of={"generator": 1e-2}, decay=1.0)
    training.set_rate(0.5)
    training.round()
    for player, rate in (("generator", 5e-3), ("discriminator", 5e-4)):
        moved = torch.cat(
            [
                (p - old).abs().flatten()
                for p, old in zip(parameters(model, player), before[player], strict=True)
            ]
        )
        assert moved.median().item() == pytest.approx(rate, rel=1e-3)
        assert moved.max().item() < 1.001 * rate

    # a state taken apart by groups is put together again
    state = {key: tensor.clone() for key, tensor in training.state().items()}
    other = trainer(build("ali", 1), digits.train, steps=10, lr=1e-3, lr_of={"generator": 1e-2}, decay=1.0)
    other.restore(state)
    other.set_rate(0.5)
    for one in (training, other):
        one.round()
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), other.model.parameters(), strict=True))


def test_a_rate_of_nobody_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--models", "ali", "--set", "model.ali.recipe.lr_of.encoder=0.1", "--dry-run"]
    assert main(["run", "digits", *words]) == 2
    assert "model.ali.recipe.lr_of: unknown player 'encoder'" in capsys.readouterr().err


def test_weight_decay_is_added_to_the_gradient(digits: Data) -> None:
    """Adam's first step is lr times the sign of gradient plus decay times weight."""
    model = build("ae")
    before = [p.detach().clone() for p in parameters(model, "autoencoder")]
    trainer(model, digits.train, lr=0.01, weight_decay=1e9).round()
    for p, old in zip(parameters(model, "autoencoder"), before, strict=True):
        large = old.abs() > 1e-3
        torch.testing.assert_close(p[large], (old - 0.01 * old.sign())[large], rtol=1e-4, atol=1e-6)


def test_settled_statistics_are_those_of_the_final_weights_on_all_of_train(digits: Data) -> None:
    """The plain mean over batches of an epoch; the moving average lags behind the weights."""
    recipe = Recipe(steps=30, batch=1087 // 3, ema=0, lr=1e-2)
    errors = []
    for statistics in (0, 3):
        model = build("ae")
        train(model, digits.train, replace(recipe, statistics=statistics), 0, CPU)
        layer = model.encoder.stack.layers[0]
        with torch.no_grad():
            h = layer.op(as_float(digits.train.x).flatten(1))
        errors.append(float((layer.bn.running_mean - h.mean(0)).abs().max() / h.std(0).mean()))
        assert layer.bn.momentum == 0.05
    assert errors[1] < 0.01 < errors[0]


def test_adam_steps_are_those_of_the_formula(digits: Data) -> None:
    model = build("vae")
    training = trainer(model, digits.train, steps=2, lr=0.01, beta1=0.5, beta2=0.999)
    p = parameters(model, "autoencoder")[0]
    value, m, v = p.detach().double().clone(), 0.0, 0.0
    for t in (1, 2):
        training.round()
        g = p.grad.double()
        m, v = 0.5 * m + 0.5 * g, 0.999 * v + 0.001 * g**2
        value -= 0.01 * (m / (1 - 0.5**t)) / ((v / (1 - 0.999**t)).sqrt() + 1e-8)
    torch.testing.assert_close(p.detach().double(), value, rtol=1e-5, atol=1e-6)


def test_average_covers_weights_and_batch_statistics() -> None:
    model = build("ali")
    average = Average(model, 0.2)
    state = {key: value for key, value in model.state_dict().items() if value.is_floating_point()}
    expected = {key: value.double() for key, value in state.items()}
    for decay in (2 / 11, 0.2, 0.2):  # (1 + t) / (10 + t) until it reaches the decay asked for
        for value in state.values():
            value.add_(1 + decay)
        average.update()
        expected = {key: decay * old + (1 - decay) * state[key].double() for key, old in expected.items()}
    average.copy_to_model()
    assert any("running_var" in key for key in expected)
    for key, value in expected.items():
        torch.testing.assert_close(model.state_dict()[key].double(), value, rtol=1e-5, atol=1e-6)


def test_second_phase_starts_from_the_averaged_decoder_and_does_not_touch_it(digits: Data) -> None:
    recipe = Recipe(steps=4, batch=50, ema=0.5)
    whole, first = build("gan"), build("gan")
    trained = train(whole, digits.train, recipe, 0, CPU)
    first.regression = 0.0
    train(first, digits.train, recipe, 0, CPU)
    for key, value in first.decoder.state_dict().items():
        assert torch.equal(whole.decoder.state_dict()[key], value)
    assert trained.updates == {"decoder": 4, "discriminator": 4, "encoder": 2}
    critics = train(build("wali"), digits.train, recipe, 0, CPU)  # of which one learns five times a round
    assert critics.updates == {"encoder": 4, "decoder": 4, "discriminator": 20}


@pytest.mark.parametrize("name", MODELS)
def test_same_seed_same_weights_another_seed_others(name: str, digits: Data) -> None:
    def weights(seed: int) -> torch.Tensor:
        model = build(name, seed)
        train(model, digits.train, Recipe(steps=3, batch=50), seed, CPU, labelled=digits.train)
        return numbers(model)

    torch.manual_seed(1)  # the process's own generator plays no part
    first = weights(0)
    torch.manual_seed(2)
    assert torch.equal(first, weights(0))
    assert not torch.equal(first, weights(1))


@pytest.mark.parametrize("name", MODELS)
def test_divergence_is_raised_with_phase_and_step(name: str, digits: Data) -> None:
    model = build(name)
    with torch.no_grad():
        next(iter(model.decoder.parameters())).fill_(float("nan"))
    with pytest.raises(Diverged, match="phase 'game' at step 1 of 3"):
        train(model, digits.train, Recipe(steps=3), 0, CPU, labelled=digits.train)


def test_divergence_between_ticks_is_found_at_the_end(digits: Data) -> None:
    model = build("vae")
    model.encoder.stack.layers[0].bn.running_mean.fill_(float("inf"))  # which no loss of training sees
    with pytest.raises(Diverged, match="after the last step"):
        train(model, digits.train, Recipe(steps=1, ema=0.0), 0, CPU)


class HostReads(TorchDispatchMode):
    """Counts operations that make the host wait for the device."""

    count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        reads = ("_local_scalar_dense", "item", "nonzero", "is_nonzero")
        self.count += func._schema.name.removeprefix("aten::") in reads
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("name", MODELS)
def test_a_round_never_waits_for_the_device(name: str, digits: Data) -> None:
    model, few = build(name), Split(digits.train.x[:40], digits.train.y[:40])
    for phase in model.phases:
        training = Trainer(model, phase, Recipe(steps=10, batch=20), few, generator(0, "t"), few)
        average = Average(model, 0.9)
        with HostReads() as reads:
            for _ in range(3):  # more than an epoch
                training.round()
                average.update()
        assert reads.count == 0
        with HostReads() as reads:  # the counter does count
            torch.ones(()).item()
        assert reads.count == 1


def test_a_trainer_that_is_not_used_any_more_is_freed_at_once(digits: Data) -> None:
    """Its optimisers' moments may fill a device: they do not wait for Python's collector."""
    training = trainer(build("ali"), digits.train, steps=40)
    for _ in range(30):
        training.round()
    gone = weakref.ref(training)
    gc.collect()
    gc.disable()
    try:
        del training
        assert gone() is None
    finally:
        gc.enable()


def test_phases_have_their_share_of_steps() -> None:
    model = build("gan")
    assert [steps_of(phase, Recipe(steps=1000)) for phase in model.phases] == [1000, 500]


@pytest.mark.parametrize("name", ["ali", "gan", "vae"])
def test_alternating_players_move_one_after_the_other_on_one_batch(name: str, digits: Data) -> None:
    """D first, then the others against the D that has moved; as two groups of a round, but on one batch."""
    model, expected = build(name), build(name)
    alternating = trainer(model, digits.train, update="alternating")
    group = expected.phases[0].round[0]
    order = [player for player in ("discriminator", "generator", "decoder", "autoencoder") if player in group]
    assert [player for learners in alternating.moves[0] for player in learners] == order
    phase = Phase("game", tuple((player,) for player in order))
    reference = Trainer(expected, phase, Recipe(steps=1, batch=50), digits.train, generator(0, "t"))
    drawn = reference.batch()
    reference.batch = lambda picked: drawn
    reference.round()
    alternating.round()
    for key, value in model.state_dict().items():
        assert torch.equal(value, expected.state_dict()[key]), key


def test_update_and_precision_change_rounding_alone(digits: Data) -> None:
    def weights(**options: str) -> torch.Tensor:
        model = build("ali")
        train(model, digits.train, Recipe(steps=20, batch=50, **options), 0, CPU)
        return torch.cat([p.detach().flatten() for p in model.parameters()])

    start = torch.cat([p.detach().flatten() for p in build("ali").parameters()])
    plain = weights(update="separate")
    moved = (plain - start).norm()
    # Adam's first steps follow the signs of gradients near zero, too
    assert (weights() - plain).norm() < 0.02 * moved
    assert 0 < (weights(precision="bf16") - plain).norm() < 0.5 * moved
    assert (weights(update="alternating") - plain).norm() > 0.02 * moved
