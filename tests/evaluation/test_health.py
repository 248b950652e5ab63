"""Signs of a training that failed, on models that failed in a known way."""

from collections.abc import Mapping
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor

from alibench.benchmarks.data.datasets import load
from alibench.benchmarks.training.recipe import Recipe
from alibench.benchmarks.training.trainer import Trainer
from alibench.evaluation.data import Data, Split, as_float
from alibench.evaluation.measurement import Measurement
from alibench.evaluation.metrics import health
from alibench.evaluation.objects import ObjectModel
from alibench.evaluation.seeds import generator
from alibench.evaluation.settings import Settings
from alibench.evaluation.subject import ReferenceInput, Subject
from alibench.models.ali import ALI
from alibench.models.base import LOG_SIGMA, Model, Phase
from tests.conftest import MODELS, build


def rows(model: Model, data: Data) -> dict[str, Measurement]:
    return {row.metric: row for row in health.measure(Subject(model, data, Settings(), 0))}


def taught(model: Model, data: Data, player: str, steps: int) -> Model:
    """Let one player learn against the others as they are."""
    phase, rng = Phase("game", ((player,),)), generator(0, "test")
    trainer = Trainer(model, phase, Recipe(steps=steps), data.train, rng)
    for _ in range(steps):
        trainer.round()
    return model


@pytest.mark.parametrize("name", MODELS)
def test_every_model_has_every_sign_or_the_reason_why_not(name: str, digits: Data) -> None:
    found = rows(build(name), digits)
    assert set(found) == {column.metric for column in health.COLUMNS}
    for row in found.values():
        assert row.value is not None or (row.status == "not applicable" and row.reason)
    adversarial = "discriminator" in build(name).players and not build(name).critic
    assert (found["d_accuracy_q"].value is not None) == adversarial


@pytest.mark.parametrize("name", ["ali", "gan", "ssali", "ssgan", "aae"])
def test_what_d_thinks_is_the_probability_in_its_logits(name: str, digits: Data) -> None:
    model = build(name).eval()
    subject = Subject(model, digits, Settings(), 0)
    found = health.logits(subject)
    assert {len(value) for value in found.values()} == {len(digits.test)}
    with torch.no_grad():
        doubt = health.wrong(model, found)
    sign = -1.0 if name == "aae" else 1.0  # there the prior's codes are D's data
    for kind, wrong in (("q", -sign), ("p", sign)):
        odds = found[kind].logsumexp(1) if found[kind].dim() > 1 else found[kind]
        torch.testing.assert_close(doubt[kind], torch.sigmoid(wrong * odds.double()))


def test_d_judges_without_dropout_and_the_same_twice(digits: Data) -> None:
    model = build("ali")
    first, second = (health.logits(Subject(model, digits, Settings(), 0)) for _ in range(2))
    assert torch.equal(first["q"], second["q"])
    subject = Subject(model, digits, Settings(), 0)
    with torch.no_grad():
        x, z = as_float(digits.test.x), model.encode(as_float(digits.test.x))
        by_mean = model.discriminator(x, z)
    # drawn codes differ from mean ones a little, dropout would differ a lot
    assert float((health.logits(subject)["q"] - by_mean).abs().mean()) < 0.5 * float(by_mean.abs().mean())


@pytest.mark.parametrize("name", ["gan", "ali"])
def test_a_game_whose_d_has_won_says_so(name: str, digits: Data) -> None:
    before = rows(build(name), digits)
    assert before["d_saturation"].value < 5
    assert "D has won" not in before["alarms"].reason
    after = rows(taught(build(name), digits, "discriminator", 400), digits)
    assert min(after["d_accuracy_q"].value, after["d_accuracy_p"].value) > 99
    assert after["d_saturation"].value > 90
    assert "D has won" in after["alarms"].reason


def test_codes_that_ignore_x(digits: Data) -> None:
    model = build("bigan")
    with torch.no_grad():
        for parameter in model.encoder.stack.layers[-1].parameters():
            parameter.zero_()
    found = rows(model, digits)
    assert found["code_use"].value == pytest.approx(0.0, abs=1e-9)
    assert "codes ignore x" in found["alarms"].reason


# an object of the user's that encodes and decodes without loss
MIRROR = SimpleNamespace(encode=lambda x: x.flatten(1), decode=lambda z: z.view(-1, 1, 8, 8))


def test_codes_that_say_all(digits: Data) -> None:
    found = rows(ObjectModel(MIRROR), digits)
    assert found["code_use"].value == pytest.approx(100.0)
    assert "codes ignore x" not in found["alarms"].reason


def test_data_that_any_code_reconstructs(digits: Data) -> None:
    black = replace(digits, test=Split(torch.zeros_like(digits.test.x), digits.test.y))
    row = rows(ObjectModel(MIRROR), black)["code_use"]
    assert (row.value, row.status, row.reason) == (None, "refused", "any code reconstructs the data exactly")


def test_a_lost_reparametrisation_noise(digits: Data) -> None:
    model = build("ali")
    last = model.encoder.stack.layers[-1].op
    half = last.out_features // 2
    healthy = rows(model, digits)["alarms"].reason
    with torch.no_grad():
        last.weight[half:] = 0
        last.bias[half:] = LOG_SIGMA[0]
    assert "noise is lost" not in healthy
    assert "noise is lost" in rows(model, digits)["alarms"].reason


def test_drawing_a_code_costs_what_the_errors_differ_by(digits: Data) -> None:
    model = build("vae").eval()
    subject = Subject(model, digits, Settings(), 0)
    x = as_float(digits.test.x).double()
    each = (subject.drawn_reconstructions, subject.reconstructions)
    drawn, mean = ((x - x_hat).square().mean() for x_hat in each)
    cost = next(row.value for row in health.measure(subject) if row.metric == "drawing_cost")
    assert cost == pytest.approx(float(drawn - mean), rel=1e-6, abs=1e-12)


def sampling(x: Tensor) -> Model:
    """Return a model that gives these samples, over and over."""
    return ObjectModel(SimpleNamespace(sample=lambda n: x[torch.arange(n) % len(x)]))


def test_collapse_shows_in_coverage(digits: Data) -> None:
    train = as_float(digits.train.x)
    assert rows(sampling(train), digits)["data_coverage"].value > 80
    for collapsed in (train[:1], torch.zeros(1, 1, 8, 8)):
        found = rows(sampling(collapsed), digits)
        assert found["data_coverage"].value < 10
        assert "samples collapsed" in found["alarms"].reason


def test_a_mode_collapse_on_the_plane_alarms() -> None:
    grid = load("grid25_easy")
    centres = grid.train.y  # which mode each point is of
    for modes, alarming in ((25, False), (4, True)):
        found = rows(sampling(grid.train.x[centres < modes]), grid)
        assert ("samples collapsed" in found["alarms"].reason) == alarming


def test_real_data_are_covered_by_other_real_data(digits: Data) -> None:
    (row,) = health.references(ReferenceInput(digits, Settings(), 8, range(1), build))
    assert row.reference == "held-out data"
    assert row.value > 90


def test_what_is_no_image_alarms(digits: Data) -> None:
    found = rows(sampling(torch.full((1, 1, 8, 8), float("nan"))), digits)
    assert (found["data_coverage"].value, found["data_coverage"].status) == (None, "refused")
    assert found["alarms"].reason == "output cannot be measured"


def test_too_few_data_for_coverage(digits: Data) -> None:
    few = replace(digits, test=Split(digits.test.x[:4], digits.test.y[:4]))
    row = rows(build("ali"), few)["data_coverage"]
    assert (row.value, row.status, row.reason) == (None, "refused", "4 samples: more than 5 are needed")


@pytest.mark.parametrize("game", ["least squares", "hinge"])
def test_a_game_that_is_not_logistic_has_no_verdicts(game: str, digits: Data) -> None:
    class Other(ALI):
        def game(self, logits: Mapping[str, Tensor], y: Tensor | None = None) -> dict[str, Tensor]:
            q, p = logits["q"], logits["p"]
            if game == "hinge":
                return {"discriminator": (1 - q).relu() + (1 + p).relu(), "generator": q - p}
            return {"discriminator": (q - 1) ** 2 + p**2, "generator": q**2 + (p - 1) ** 2}

    model = build("ali")
    model.__class__ = Other
    found = rows(model, digits)
    for metric in ("d_accuracy_q", "d_accuracy_p", "d_saturation"):
        assert found[metric].status == "not applicable"
        assert "not logistic" in found[metric].reason
    assert "D has won" not in found["alarms"].reason
