"""The baselines of the speed table compute what the suite's models compute."""

import copy

import pytest
import torch

from alibench.benchmarks.training.recipe import Recipe
from alibench.evaluation.data import Data, Split
from alibench.evaluation.seeds import generator
from alibench.models import REGISTRY
from alibench.models.base import Model
from tests.conftest import build, networks, trainer
from tests.speed.plain import Plain, careful, naive


@pytest.mark.parametrize("name", ["ali", "bigan", "gan", "vae"])
@pytest.mark.parametrize("family", ["cifar10", "svhn", "digits", "plane"])
def test_plain_networks_are_the_suites(name: str, family: str) -> None:
    if family == "plane":
        check(build(name, dataset="grid25_easy").eval())  # of data that are scaled
    else:
        check(REGISTRY[name](networks(family)).eval())


@pytest.mark.parametrize("name", ["bigan", "gan"])
def test_plain_networks_inject_z_and_squash_codes_as_the_suites(name: str) -> None:
    model = REGISTRY[name](networks("bigan_mnist", prior="uniform")).eval()
    torch.nn.init.normal_(model.discriminator.dxz.layers[-1].op.weight)
    check(model)


def check(model: Model) -> None:
    """Compare the plain networks of a model with its own."""
    plain = Plain(model).eval()
    x = torch.rand(5, *model.decoder.shape, generator=generator(0, "x"))
    z = torch.randn(5, model.latent, generator=generator(0, "z"))
    torch.testing.assert_close(plain.encode(x, draw=False), model.encode(x), rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(plain.decode(z), model.decode(z), rtol=1e-4, atol=1e-6)
    if model.name != "vae":
        seen = (x,) if model.name == "gan" else (x, z)
        torch.testing.assert_close(plain.judge(*seen), model.discriminator(*seen), rtol=1e-4, atol=1e-6)
    learnt = [p for p in model.parameters() if p.requires_grad]
    assert sum(p.numel() for p in plain.parameters()) == sum(p.numel() for p in learnt)


@pytest.mark.parametrize("name", ["ali", "bigan", "gan", "vae"])
def test_a_naive_step_moves_every_player(name: str, digits: Data) -> None:
    model = build(name)
    step = naive(model, digits.train, Recipe(steps=1, batch=50))
    plain = next(cell.cell_contents for cell in step.__closure__ if isinstance(cell.cell_contents, Plain))
    before = copy.deepcopy(plain.state_dict())
    step()
    moved = {key[0] for key, value in plain.state_dict().items() if not torch.equal(value, before[key])}
    assert moved == {"ali": {*"egt"}, "bigan": {*"egt"}, "gan": {*"gt"}, "vae": {*"eg"}}[name]


@pytest.mark.parametrize("name", ["ali", "gan"])
def test_the_careful_update_is_the_alternating_one(name: str, digits: Data) -> None:
    """It keeps a graph that the loop's own alternating update computes anew, and gives the same weights."""
    fixed = Split(digits.train.x[:50], digits.train.y[:50])
    models = [build(name), build(name)]
    models[0].discriminator.dxz.layers[-1].op.bias.data.fill_(0.5)
    models[1].load_state_dict(models[0].state_dict())
    own, other = (trainer(model, fixed, update="alternating") for model in models)
    own.round()
    careful(other)()
    for key, value in models[0].named_parameters():
        torch.testing.assert_close(models[1].get_parameter(key), value, rtol=1e-5, atol=1e-6)
