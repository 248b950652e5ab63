"""What needs CUDA: the same update as on the CPU, and a short run of each model."""

import pytest
import torch

from benchmarks import data
from benchmarks.gradients import gradients
from benchmarks.loop import Recipe, parameters, train, train_together
from evaluation import reconstruction
from evaluation.base import Data, Settings, Subject, as_float
from models.base import Batch
from tests.conftest import MODELS, batch_for, build

pytestmark = pytest.mark.gpu


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("dataset", ["digits", "grid25_easy"])
def test_gradients_are_those_of_the_cpu(name: str, dataset: str) -> None:
    loaded = data.load(dataset)
    on_cpu, on_gpu = build(name, dataset=dataset), build(name, dataset=dataset).cuda()
    batch = batch_for(on_cpu, as_float(loaded.train.x[:50]))
    assert batch.y is not None
    labelled = (batch.x.cuda(), batch.y.cuda())
    moved = Batch(batch.x.cuda(), {key: value.cuda() for key, value in batch.noise.items()}, batch.y.cuda(), labelled)
    for phase in on_cpu.phases:
        for group in phase.round:
            gradients(on_cpu, batch, {player: parameters(on_cpu, player) for player in group})
            gradients(on_gpu, moved, {player: parameters(on_gpu, player) for player in group})
            for player in group:
                for a, b in zip(parameters(on_cpu, player), parameters(on_gpu, player), strict=True):
                    assert a.grad is not None
                    assert b.grad is not None
                    torch.testing.assert_close(b.grad.cpu(), a.grad, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("name", ["ali", "bigan", "gan", "vae"])
def test_a_short_run_learns_and_is_measured(name: str, digits: Data) -> None:
    device = torch.device("cuda")

    def error(steps: int) -> float:
        model = build(name, latent=8)
        train(model, digits.train, Recipe(steps=steps), 0, device)
        value = reconstruction.measure(Subject(model, digits, Settings(), 0, device=device))[0].value
        assert value is not None
        return value

    assert error(600) < 0.9 * error(1)


@pytest.mark.parametrize("name", ["ali", "gan", "vae", "wali"])
def test_recorded_rounds_are_the_rounds(name: str, digits: Data) -> None:
    def weights(execution: str) -> torch.Tensor:
        model = build(name)
        train(model, digits.train, Recipe(steps=20, execution=execution), 0, torch.device("cuda"))  # type: ignore[arg-type]
        return torch.cat([value.double().flatten() for value in model.state_dict().values()])

    torch.testing.assert_close(weights("graphs"), weights("eager"), rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("name", ["ali", "gan", "vae"])
def test_stacked_seeds_are_the_seeds_alone(name: str, digits: Data) -> None:
    device, recipe = torch.device("cuda"), Recipe(steps=3)
    models = [build(name, seed) for seed in range(3)]
    train_together(models, digits.train, recipe, range(3), device, labelled=[None] * 3)
    for seed, model in enumerate(models):
        alone = build(name, seed)
        train(alone, digits.train, recipe, seed, device)
        for key, value in alone.state_dict().items():
            torch.testing.assert_close(model.state_dict()[key], value, rtol=1e-2, atol=1e-3)
