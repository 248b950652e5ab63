"""A file that makes a model by `adversarial_model` is a plug-in like any other: found, placed, and blamed."""

from pathlib import Path

import pytest

from alibench.benchmarks.config import blame, loading, plugins
from alibench.evaluation.errors import BadInput
from alibench.models import REGISTRY
from tests.benchmarks.config.test_plugins import written
from tests.conftest import MODELS

HEAD = """import torch
from torch import nn
from alibench import adversarial_model
from alibench.models import games

def encoder(shape, latent):
    return nn.Sequential(nn.Flatten(), nn.Linear(64, latent))

def decoder(shape, latent):
    return nn.Sequential(nn.Linear(latent, 64), nn.Sigmoid(), nn.Unflatten(1, shape))

class Pairs(nn.Module):
    def __init__(self, shape, latent, outputs=1):
        super().__init__()
        self.layer = nn.Linear(64 + latent, outputs)
    def forward(self, x, z):
        return self.layer(torch.cat([x.flatten(1), z], 1))

class Listed(nn.Module):
    def __init__(self, shape, latent):
        super().__init__()
        self.layers = [nn.Linear(64, latent)]

parts = dict(encoder=encoder, decoder=decoder, discriminator=Pairs)
"""
LINE = HEAD.count("\n") + 1  # of what follows


def test_the_class_is_the_files_at_the_line_that_makes_it(tmp_path: Path) -> None:
    text = "mine = adversarial_model('mine', **parts)\nother = adversarial_model('other', **parts)\n"
    kinds = plugins.load(written(tmp_path, HEAD + text))
    assert [kind.name for kind in kinds] == [kind.title for kind in kinds] == ["mine", "other"]
    assert [blame.PLACES[kind].rpartition("mine.py, ")[2] for kind in kinds] == [
        f"line {LINE}",
        f"line {LINE + 1}",
    ]
    assert {kind.__module__ for kind in kinds} == {f"{blame.MODULE}mine"}


# what is written in place of a part -> what is said of it when the file is read
NEVER = {
    "a module": (
        "encoder=encoder((1, 8, 8), 8)",
        "encoder is of type Sequential, a module that all "
        "seeds would share: give the class or a function that makes it",
    ),
    "a number": ("decoder=3", "decoder is of type int: give the class or a function that makes it"),
    "a class of another signature": (
        "encoder=nn.Identity, decoder=nn.Flatten, discriminator=nn.ReLU6",
        "discriminator=ReLU6 is called with (shape, latent): too many positional arguments",
    ),
    "a game's name": ("game='hinge'", "game is of type str: a function of logits q and p that gives {"),
    "a game of other players": (
        "game=games.non_saturating",
        "game=non_saturating gave discriminator a tensor (2,), decoder a tensor (2,) for B = 2: a function",
    ),
    "a game of means": (
        "game=lambda q, p: {k: v.mean() for k, v in games.joint(q, p).items()}",
        "game=<lambda> gave discriminator a tensor (), generator a tensor () for B = 2",
    ),
    "a game of two losses": (
        "game=lambda q, p: (q, p)",
        "game=<lambda> gave a tuple for B = 2: a function of",
    ),
}


@pytest.mark.parametrize("case", NEVER)
def test_what_makes_no_networks_is_refused_where_it_stands(case: str, tmp_path: Path) -> None:
    part, told = NEVER[case]
    path = written(tmp_path, f"{HEAD}mine = adversarial_model('mine', **(parts | dict({part})))\n")
    with pytest.raises(BadInput) as refused:
        plugins.load(path)
    assert f"mine.py, line {LINE}: TypeError: {told}" in str(refused.value)
    assert set(REGISTRY) == set(MODELS)


# and what is said of it when it is built, before any training
UNFIT = {
    "logits of ten classes": (
        "discriminator=lambda shape, latent: Pairs(shape, latent, 10)",
        "discriminator=<lambda> of (2, 1, 8, 8) and (2, 8) gave a tensor (2, 10): (2,) or (2, 1) is needed",
    ),
    "a code of another width": (
        "encoder=lambda shape, latent: encoder(shape, 9)",
        "encoder=<lambda> of (2, 1, 8, 8) gave a tensor (2, 9): (2, 8) is needed; mean and log sigma "
        "(2, 16): with stochastic=True",
    ),
    "a code where mean and log sigma are meant": (
        "stochastic=True",
        "encoder=encoder of (2, 1, 8, 8) gave a tensor (2, 8): (2, 16) is needed, torch.cat([mean, log",
    ),
    "flat images": (
        "decoder=lambda shape, latent: nn.Linear(latent, 64)",
        "decoder=<lambda> of (2, 8) gave a tensor (2, 64): (2, 1, 8, 8) is needed, as nn.Unflatten(1, shape)",
    ),
    "a layer of another width": (
        "decoder=lambda shape, latent: nn.Linear(7, 64)",
        "decoder=<lambda> of (2, 8): RuntimeError: mat1 and mat2 shapes cannot be multiplied",
    ),
    "layers in a list": ("encoder=Listed", "encoder=Listed has no parameters: keep layers in attributes"),
    "no module": ("encoder=lambda shape, latent: None", "encoder=<lambda> returned a NoneType: an nn.Module"),
}


@pytest.mark.parametrize("case", UNFIT)
def test_networks_that_do_not_fit_are_refused_before_training(case: str, tmp_path: Path) -> None:
    part, told = UNFIT[case]
    plugins.load(written(tmp_path, f"{HEAD}\nmine = adversarial_model('mine', **(parts | dict({part})))\n"))
    (suite,) = loading.load("digits", only=["vae"])
    with pytest.raises(BadInput) as refused:
        suite.build("mine", 0)
    assert f"mine.py, line {LINE + 1}: " in str(refused.value)
    assert told in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_mistake_in_the_users_forward_has_its_line(tmp_path: Path) -> None:
    text = HEAD.replace("[x.flatten(1), z]", "[x, z]") + "mine = adversarial_model('mine', **parts)\n"
    plugins.load(written(tmp_path, text))
    (suite,) = loading.load("digits", only=["vae"])
    with pytest.raises(BadInput, match=r"mine.py, line 17, in forward: ValueError: discriminator=Pairs of "):
        suite.build("mine", 0)
