"""Gradients are those of the CPU, and one backward pass through D gives what one a player gives."""

import itertools
from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from alibench.benchmarks.training.gradients import gradients
from alibench.evaluation.arithmetic import tf32
from alibench.evaluation.data import as_float
from alibench.evaluation.seeds import generator
from alibench.models import REGISTRY
from alibench.models.base import Batch, Model
from tests.gpu.cases import CPU, DEVICE, SHAPES, SMALL, apart, build, flat, moved, recipe, split, trainer

pytestmark = pytest.mark.gpu

# Distance of a player's gradients relative to their length. fp32 sums in another order; TF32 rounds factors
# to 11 bits and bf16 whatever passes between layers to 8, in some ten layers forth and back.
LIMITS = {"fp32": 2e-4, "tf32": 5e-2, "bf16": 2e-1}
EXACT = 1e-3  # the same for two ways on one device, after updates that may have made logits large

EVERY = sorted(REGISTRY)
CASES = [(family, name) for family in ("digits", "plane", "cifar10") for name in EVERY]
CASES += [(family, name) for family in SHAPES if (family, EVERY[0]) not in CASES for name in ("ali", "wali")]
GAMES = ("ali", "bigan", "gan", "aae", "gan-jlr")
SHARED = [(family, name) for family in SHAPES for name in GAMES]
if SMALL:
    CASES = [*(("digits", name) for name in ("ali", "gan", "ssali", "wali")), ("cifar10", "ali")]
    SHARED = [(family, name) for family in ("digits", "bigan_mnist") for name in ("ali", "bigan", "gan")]


def gradient(parameters: Sequence[Tensor]) -> Tensor:
    """Return the gradients of some parameters as one vector."""
    return flat(p.grad for p in parameters)


@torch.no_grad()
def awaken(model: Model) -> None:
    """Give weights that start at zero, BiGAN's last layer of D, others: no gradient is zero by them."""
    rng = generator(0, "weights")
    for p in model.parameters():
        if p.dim() > 1 and not p.any():
            p.copy_(0.02 * torch.randn(p.shape, generator=rng))


def in_double(batch: Batch) -> Batch:
    """Return a batch in double precision."""
    noise = {key: value.double() for key, value in batch.noise.items()}
    labelled = None if batch.labelled is None else (batch.labelled[0].double(), batch.labelled[1])
    return Batch(batch.x.double(), noise, batch.y, labelled)


@pytest.mark.parametrize(("family", "name"), CASES)
def test_gradients_are_those_of_the_cpu(family: str, name: str, device: torch.device) -> None:
    """Every player's in every phase, by the pass that the loop takes; on CIFAR-10's networks also in TF32 and
    bf16.

    At first weights an untrained decoder's images hardly differ, and batch norm enlarges what does: there
    fp32 itself is far from double precision, by `rounding`, and limits grow with it. Conditional models
    compute in fp32 alone.
    """
    n = 32 if SHAPES[family] in (SHAPES["digits"], SHAPES["plane"]) else 8
    x, y, rng = as_float(split(family, n).x), torch.arange(n) % 10, generator(0, "noise")
    model = build(family, name)
    batch = Batch(x, {key: draw(rng) for key, draw in model.noise(n).items()}, y, (x, y))
    there, doubled = moved(batch, device), in_double(batch)
    for phase in range(len(model.phases)):
        expected, found, exact = (
            trainer(family, name, recipe(batch=n), place, phase) for place in (CPU, device, CPU)
        )
        assert found.judges == expected.judges
        for one in (expected, found, exact):
            awaken(one.model)
        exact.model.double()
        moves = zip(*(itertools.chain(*one.moves) for one in (expected, found, exact)), strict=True)
        for learners, others, references in moves:
            judge = expected.judges[tuple(learners)]
            gradients(expected.model, batch, learners, judge)
            rounding = dict.fromkeys(learners, 0.0)
            if not model.conditional:
                gradients(exact.model, doubled, references, judge)
                for player, own in learners.items():
                    rounding[player] = apart(gradient(own), gradient(references[player]))
            for kind in LIMITS if family == "cifar10" and not SMALL else ("fp32",):
                autocast = torch.autocast(DEVICE.type, torch.bfloat16, enabled=kind == "bf16")
                with tf32(kind == "tf32"):
                    gradients(found.model, there, others, judge, autocast)
                for player in learners:
                    error = apart(gradient(others[player]), gradient(learners[player]))
                    limit = LIMITS[kind] * max(1, 10 * rounding[player] / LIMITS["fp32"])
                    assert error < limit, (phase, player, kind)


@pytest.mark.parametrize(("family", "name"), SHARED)
def test_one_pass_through_d_is_one_a_player_after_some_updates(
    family: str, name: str, device: torch.device
) -> None:
    """At first weights alone D may be flat: a last layer that starts at zero hides what lies below it."""
    training = trainer(family, name, recipe(lr=1e-3, ema=0), device)
    for _ in range(5):
        training.round()
    moves = [learners for move in training.moves for learners in move if training.judges[tuple(learners)]]
    if not moves:
        pytest.skip("the loop takes a pass a player here")
    for learners in moves:
        batch, judge, ways = training.batch(), training.judges[tuple(learners)], []
        for way in (judge, None):
            with tf32(False):
                gradients(training.model, batch, learners, way)
            ways.append(flat(p.grad for player in learners if player != judge for p in learners[player]))
        assert apart(*ways) < EXACT
