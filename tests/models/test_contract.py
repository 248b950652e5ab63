"""The contract carries what later models need: labels and vector logits, cycles and several critics, phases,
stacked seeds.

The two hard models here, K+1-class ALI and ALICE with an adversarial cycle, are written against
models/base.py alone and run through the loop as it is.
"""

from collections.abc import Mapping
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, stack_module_state, vmap

from alibench.benchmarks.training.loop import train
from alibench.benchmarks.training.recipe import Recipe
from alibench.evaluation.data import Data, Split, as_float
from alibench.evaluation.seeds import generator
from alibench.models import games
from alibench.models.ali import ALI
from alibench.models.base import Batch, Model, Phase, Terms
from alibench.models.layers import Layer, Row, Style
from alibench.models.networks import Networks
from alibench.models.noise import Draw
from alibench.models.tables import FAMILIES
from tests.conftest import MODELS, batch_for, build


def networks() -> Networks:
    return Networks(FAMILIES["digits"](), (1, 8, 8), 1.0, 4, generator(0, "weights"))


class KPlusOneALI(ALI):
    """Semi-supervised ALI (section 4.4): D's K logits l; D = Z / (Z + 1) with Z = sum exp(l); label -1 is
    unlabelled.
    """

    name, title, source = "k+1", "K+1", "test"

    def __init__(self, networks: Networks) -> None:
        super().__init__(networks)
        self.discriminator.dxz.layers[-1].op = nn.Linear(256, 10)

    def forward(self, batch: Batch, learners: tuple[str, ...]) -> Terms:
        x, z = batch.x, batch.noise["z"]
        z_hat, x_tilde = self.infer(x, batch.noise["eps"]), self.decoder(z)
        h = torch.cat([torch.cat([x, x_tilde]).flatten(1), torch.cat([z_hat, z])], 1)
        q, p = self.discriminator.dxz(h, batch.noise).chunk(2)
        return Terms(pairs={"q": (x, z_hat), "p": (x_tilde, z)}, logits={"q": q, "p": p})

    def game(self, logits: Mapping[str, Tensor], y: Tensor | None = None) -> dict[str, Tensor]:
        assert y is not None
        losses = games.joint(logits["q"].logsumexp(1), logits["p"].logsumexp(1))
        labelled = nn.functional.cross_entropy(logits["q"], y.clamp(min=0), reduction="none")
        losses["discriminator"] = losses["discriminator"] + torch.where(y >= 0, labelled, 0.0)
        return losses


class ALICE(ALI):
    """ALI with an adversarial cycle on x and an explicit one on z; one update of the critics to two of the
    generator.
    """

    name, title, source = "alice", "ALICE", "test"
    players = {"generator": ("encoder", "decoder"), "critics": ("discriminator", "cycle")}

    def __init__(self, networks: Networks) -> None:
        super().__init__(networks)
        self.cycle = nn.Sequential(nn.Linear(128, 32), nn.ReLU(), nn.Linear(32, 1))

    @property
    def phases(self) -> tuple[Phase, ...]:
        return (Phase("game", (("critics",), ("generator",), ("generator",))),)

    def forward(self, batch: Batch, learners: tuple[str, ...]) -> Terms:
        terms = super().forward(batch, learners)
        (x, z_hat), (x_tilde, z) = terms.pairs["q"], terms.pairs["p"]
        x_hat = self.decoder(z_hat)
        pairs = {"xx": (x, x), "xx_hat": (x, x_hat)}
        logits = {kind: self.cycle(torch.cat(pair, 1).flatten(1)).squeeze(1) for kind, pair in pairs.items()}
        cycle = (z - self.infer(x_tilde, None)).square().sum(1)
        return Terms({**terms.pairs, **pairs}, {**terms.logits, **logits}, {"generator": 0.1 * cycle})

    def game(self, logits: Mapping[str, Tensor], y: Tensor | None = None) -> dict[str, Tensor]:
        joint, cycle = games.joint(logits["q"], logits["p"]), games.joint(logits["xx"], logits["xx_hat"])
        return {
            "critics": joint["discriminator"] + cycle["discriminator"],
            "generator": joint["generator"] + cycle["generator"],
        }


@pytest.mark.parametrize("kind", [KPlusOneALI, ALICE])
def test_hard_models_train_in_the_loop(kind: type[Model], digits: Data) -> None:
    model = kind(networks())  # type: ignore[call-arg]
    before = {key: value.clone() for key, value in model.state_dict().items()}
    half = Split(digits.train.x, torch.where(torch.arange(len(digits.train)) % 2 == 0, digits.train.y, -1))
    trained = train(model, half, Recipe(steps=3, ema=0.0), 0, torch.device("cpu"))
    assert all(not torch.equal(before[key], p) for key, p in model.named_parameters())
    assert trained.updates["encoder"] == (6 if kind is ALICE else 3)
    assert trained.updates["discriminator"] == 3


def test_k_plus_one_learns_labels_from_labelled_pairs_alone(digits: Data) -> None:
    model = KPlusOneALI(networks())
    batch = batch_for(model, as_float(digits.train.x[:20]))
    y = torch.full((20,), -1)
    unlabelled = model.losses(model(batch, ("discriminator",)), y)["discriminator"]
    y[3] = 7
    difference = model.losses(model(batch, ("discriminator",)), y)["discriminator"] - unlabelled
    assert difference[3] > 0
    assert difference.abs().sum() == difference[3].abs()


@pytest.mark.parametrize("name", MODELS)
def test_stacked_seeds_have_the_losses_and_gradients_of_each_alone(name: str, digits: Data) -> None:
    replicas = [build(name, seed) for seed in (0, 1, 2)]
    x, y = as_float(digits.train.x[:60]).view(3, 20, 1, 8, 8), torch.arange(20) % 10
    noise = [batch_for(replicas[0], x[0], seed).noise for seed in (0, 1, 2)]
    stacked = {key: torch.stack([n[key] for n in noise]) for key in noise[0]}
    for phase in replicas[0].phases:
        for learners in phase.round:
            parameters, buffers = stack_module_state(replicas)  # type: ignore[arg-type]

            def loss(
                own: dict[str, Tensor],
                fixed: dict[str, Tensor],
                x: Tensor,
                noise: dict[str, Tensor],
                group: tuple[str, ...],
            ) -> Tensor:
                model = replicas[0]
                terms = functional_call(
                    _Losses(model, group, y), (_prefixed(own), _prefixed(fixed)), (x, noise)
                )
                return sum(terms.values())  # type: ignore[return-value]

            together = vmap(grad(loss), in_dims=(0, 0, 0, 0, None))(parameters, buffers, x, stacked, learners)
            for i, model in enumerate(replicas):
                alone = model.losses(model(Batch(x[i], noise[i], y, (x[i], y)), learners))
                sum(alone[player].mean() for player in learners).backward()  # type: ignore[union-attr]
                for key, p in model.named_parameters():
                    expected = torch.zeros_like(p) if p.grad is None else p.grad
                    torch.testing.assert_close(together[key][i], expected, rtol=1e-4, atol=1e-6)
                model.zero_grad()


class _Losses(nn.Module):
    """A model's mean losses as a module's forward, as torch.func wants it."""

    def __init__(self, model: Model, learners: tuple[str, ...], y: Tensor) -> None:
        super().__init__()
        self.model, self.learners, self.y = model, learners, y

    def forward(self, x: Tensor, noise: dict[str, Tensor]) -> dict[str, Tensor]:
        losses = self.model.losses(self.model(Batch(x, noise, self.y, (x, self.y)), self.learners))
        return {player: losses[player].mean() for player in self.learners}


def _prefixed(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {f"model.{key}": tensor for key, tensor in tensors.items()}


def test_noise_is_all_the_randomness_of_an_update(digits: Data) -> None:
    for name in MODELS:
        model = build(name)
        batch = batch_for(model, as_float(digits.train.x[:20]))
        for phase in model.phases:
            torch.manual_seed(1)
            first = model.losses(model(batch, phase.round[0]))
            torch.manual_seed(2)
            second = model.losses(model(replace(batch), phase.round[0]))
            for player in phase.round[0]:
                if not model.likelihood:  # its running variance moves with every batch
                    assert torch.equal(first[player], second[player])


def test_dropout_keeps_the_mean_and_is_off_without_noise() -> None:
    layer = Layer(Row("dense", 1, 1, 1, drop=0.4), (1000,), Style(), 0)
    with torch.no_grad():
        layer.op.weight.fill_(1.0)
        layer.op.bias.zero_()  # type: ignore[union-attr, operator]
        mask = Draw("mask", (200, 1000), 0.4)(generator(0, "test"))
        kept = layer(torch.ones(200, 1000), mask, None, None)
        assert kept.mean().item() == pytest.approx(1000, abs=5 * (1000 * 0.4 / 0.6) ** 0.5 / 200**0.5)
        assert layer(torch.ones(1, 1000), None, None, None).item() == 1000


@pytest.mark.parametrize("rate", [0.2, 0.4, 0.5])
def test_masks_are_zero_at_their_rate_independently(rate: float) -> None:
    """Four numbers come from each draw of 64 bits: each of the four has the rate, and no two of them are
    related.
    """
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
