"""What is recorded on a CPU gives the very numbers of autograd, or is not used."""

from typing import ClassVar

import pytest
import torch

from alibench.benchmarks.training import tape
from alibench.benchmarks.training.loop import train
from alibench.benchmarks.training.recipe import Recipe
from alibench.evaluation.data import Data
from alibench.models.ali import ALI
from alibench.models.base import Batch, Model, Terms
from tests.conftest import MODELS, build, networks, numbers, trainer

CPU = torch.device("cpu")
WARM = 2  # updates before one is recorded, here
LONG = WARM + 6  # updates: some of them are replayed


@pytest.fixture(autouse=True)
def early(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have updates recorded as soon as Adam has its moments."""
    monkeypatch.setattr(tape, "WARM", WARM)


def trained(model: Model, data: Data, **options: object) -> tuple[torch.Tensor, list[dict[str, float | str]]]:
    recipe = Recipe(steps=LONG, batch=20, **options)
    done = train(model, data.train, recipe, 0, CPU, labelled=data.train)
    return numbers(model), done.curves


@pytest.mark.parametrize(
    ("name", "update"),
    [*((name, "simultaneous") for name in MODELS), ("ali", "alternating"), ("gan", "alternating")],
)
def test_weights_statistics_and_curves_are_those_of_autograd(
    name: str, update: str, digits: Data, capsys: pytest.CaptureFixture[str]
) -> None:
    weights, curves = trained(build(name), digits, update=update, execution="graphs")
    expected, other = trained(build(name), digits, update=update, execution="eager")
    assert torch.equal(weights, expected)
    assert curves == other
    assert not capsys.readouterr().err  # nothing fell back


def test_updates_are_replayed_by_default_and_autograd_is_not_asked(digits: Data) -> None:
    model = build("ali")
    training, calls, forward = trainer(model, digits.train, steps=LONG, batch=20), [], model.forward
    model.forward = lambda *inputs: (calls.append(1), forward(*inputs))[1]
    for _ in range(LONG):
        training.round()
    assert len(calls) == WARM + 2  # one is recorded, one compared


def test_bf16_is_recorded_with_its_casts(digits: Data) -> None:
    weights, _ = trained(build("ali"), digits, precision="bf16", execution="graphs")
    expected, _ = trained(build("ali"), digits, precision="bf16", execution="eager")
    assert torch.equal(weights, expected)


class Reading(ALI):
    """ALI that reads a number of its batch on the host."""

    name, title, source = "reading", "reading", "test"

    def forward(self, batch: Batch, learners: tuple[str, ...]) -> Terms:
        terms = super().forward(batch, learners)
        if float(batch.x.mean()) > 2:
            raise AssertionError
        return terms


class Counting(ALI):
    """ALI whose loss depends on how often it was asked."""

    name, title, source = "counting", "counting", "test"
    asked: ClassVar[int] = 0

    def forward(self, batch: Batch, learners: tuple[str, ...]) -> Terms:
        terms = super().forward(batch, learners)
        type(self).asked += 1
        scale = 1 + 1e-3 * self.asked
        return Terms(terms.pairs, {kind: logits * scale for kind, logits in terms.logits.items()})


def test_a_model_that_reads_on_the_host_is_trained_without(
    digits: Data, capsys: pytest.CaptureFixture[str]
) -> None:
    weights, _ = trained(Reading(networks()), digits, execution="graphs")
    said = capsys.readouterr().err
    assert said.startswith("alibench: an update cannot be recorded: ")
    assert said.count("\n") == 1
    expected, _ = trained(Reading(networks()), digits, execution="eager")
    assert torch.equal(weights, expected)


def test_a_model_with_a_state_of_its_own_is_trained_without(
    digits: Data, capsys: pytest.CaptureFixture[str]
) -> None:
    trained(Counting(networks()), digits, execution="graphs")
    assert "its numbers depend on more than batch and parameters" in capsys.readouterr().err
