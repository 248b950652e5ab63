"""Networks that torch.compile has seen compute the same update, and the model is left as it was."""

from pathlib import Path

import pytest
import torch

from alibench.benchmarks.commands.cli import main
from alibench.benchmarks.training.loop import train
from alibench.benchmarks.training.recipe import Recipe
from alibench.evaluation.data import Data
from tests.conftest import TINY, build, numbers, trainer

CPU = torch.device("cpu")


def test_one_pass_through_d_still_serves_all_and_the_model_is_left_alone(digits: Data) -> None:
    model = build("ali")
    training = trainer(model, digits.train, compile=True)
    assert set(training.judges.values()) == {"discriminator"}
    with training.compiled:
        assert "forward" in vars(model.encoder)
        assert "judge" in vars(model.discriminator)
    for network in (model.encoder, model.decoder, model.discriminator):
        assert not {"forward", "judge"} & vars(network).keys()


def test_a_model_that_needs_several_passes_is_refused_before_anything_is_made(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    asked = ("--models", "alice-adversarial", "--set", "compile=true", "--out", str(out))
    assert main(["run", "digits", *TINY, *asked]) == 2
    said = "model 'alice-adversarial' takes 2 backward passes through its networks, compiled ones allow one"
    assert said in capsys.readouterr().err
    assert not out.exists()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["ali", "vae", "wali", "gan-posthoc"])
def test_compiled_networks_train_to_the_same_weights(name: str, digits: Data) -> None:
    """Four updates, to a thousandth of what they moved the weights by: fused operations round elsewhere."""
    first, plain, fused = (build(name) for _ in range(3))
    for model, compiled in ((plain, False), (fused, True)):
        train(model, digits.train, Recipe(steps=4, decay=0, ema=0, compile=compiled), 0, CPU)
    moved = (numbers(plain) - numbers(first)).norm()
    assert (numbers(fused) - numbers(plain)).norm() < 1e-3 * moved
