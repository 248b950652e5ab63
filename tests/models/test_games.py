"""Losses against values computed by hand, and against the papers' formulas written with plain logarithms."""

import math

import pytest
import torch

from alibench.models import games


def test_joint_game_is_the_papers_value_with_labels_swapped_for_the_generator() -> None:
    # D(x, Gz(x)) = 0.9 and D(Gx(z), z) = 0.2: V = log .9 + log .8, V' = log .1 + log .2
    q, p = torch.logit(torch.tensor([0.9, 0.2], dtype=torch.float64))
    losses = games.joint(q[None], p[None])
    assert losses["discriminator"].item() == pytest.approx(-(math.log(0.9) + math.log(0.8)))
    assert losses["generator"].item() == pytest.approx(-(math.log(0.1) + math.log(0.2)))


def test_gan_is_non_saturating() -> None:
    q, p = torch.logit(torch.tensor([0.7, 0.1], dtype=torch.float64))
    losses = games.non_saturating(q[None], p[None])
    assert losses["discriminator"].item() == pytest.approx(-(math.log(0.7) + math.log(0.9)))
    assert losses["decoder"].item() == pytest.approx(-math.log(0.1))


def test_losses_stay_finite_where_the_sigmoid_is_zero_or_one() -> None:
    extreme = torch.tensor([-1e4, 1e4], requires_grad=True)
    for game in (games.joint, games.non_saturating):
        for loss in game(extreme, extreme.flip(0)).values():
            (gradient,) = torch.autograd.grad(loss.sum(), extreme, retain_graph=True)
            assert loss.isfinite().all()
            assert gradient.isfinite().all()
