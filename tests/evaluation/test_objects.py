"""`from alibench import evaluate`: models of the suite, and objects that know nothing of it."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from alibench import evaluate
from alibench.evaluation.data import Data, as_float
from alibench.evaluation.errors import BadInput
from alibench.evaluation.metrics import METRICS
from alibench.evaluation.settings import Settings
from alibench.evaluation.subject import Subject
from tests.conftest import build

FEW = Settings(labels=50, draws=2)


def test_a_model_of_the_suite_has_the_numbers_of_its_run(digits: Data) -> None:
    model = build("ali").eval()
    frame = evaluate(model, digits, ["reconstruction", "neighbours"], FEW, seed=3)
    subject = Subject(model, digits, FEW, 3)
    rows = [row for name in ("reconstruction", "neighbours") for row in METRICS[name].measure(subject)]
    assert frame.metric.tolist() == [row.metric for row in rows]
    assert frame.value.fillna(-1).tolist() == [-1 if row.value is None else row.value for row in rows]


def test_a_generator_alone_is_measured_by_what_it_can(digits: Data) -> None:
    x = as_float(digits.train.x)
    frame = evaluate(SimpleNamespace(sample=lambda n: x[:n]), digits, settings=FEW).set_index("metric")
    # a model that returns the training set
    assert frame.value["precision"] > 0.9
    assert frame.value["recall"] > 0.8
    for metric in ("reconstruction_error", "svm_accuracy", "code_use"):
        assert frame.status[metric] == "not applicable"
        assert frame.reason[metric] == "it has no encoder"
    assert frame.status["latent_error"] == "not applicable"
    assert {"modes_paper", "mixture_score", "train_rate"} & set(frame.index) == set()


def test_an_encoder_alone(digits: Data) -> None:
    frame = evaluate(SimpleNamespace(encode=lambda x: x.flatten(1)), digits, settings=FEW)
    cells = frame[frame.metric == "svm_accuracy"]
    assert (cells.value > 70).all()
    assert set(frame[frame.metric == "fid"].status) == {"not applicable"}
    assert set(frame[frame.metric == "reconstruction_error"].reason) == {"it has no decoder"}


def test_samples_come_from_the_seed_where_the_object_takes_a_generator(digits: Data) -> None:
    def sample(n: int, rng: torch.Generator) -> Tensor:
        return torch.rand(n, 1, 8, 8, generator=rng)

    own = SimpleNamespace(sample=sample)
    numbers = [evaluate(own, digits, ["fidelity"], FEW, seed=seed).value.tolist() for seed in (0, 0, 1)]
    assert numbers[0] == numbers[1] != numbers[2]


def test_a_users_layers_are_used(digits: Data) -> None:
    alone = SimpleNamespace(encode=lambda x: x.flatten(1)[:, :4])
    layers = {"features": lambda x: {"first": x.flatten(1), "code": alone.encode(x)}}
    own = SimpleNamespace(**vars(alone), **layers)
    more, fewer = (evaluate(model, digits, ["neighbours"], FEW).value.mean() for model in (own, alone))
    assert more > fewer + 20


def test_a_users_module_is_evaluated_without_dropout_and_left_as_it_was(digits: Data) -> None:
    class Coder(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer, self.drop = torch.nn.Linear(64, 32), torch.nn.Dropout(0.9)

        def encode(self, x: Tensor) -> Tensor:
            return self.drop(self.layer(x.flatten(1)))

    model = Coder().train()
    found = evaluate(model, digits, ["neighbours"], FEW)
    assert model.training
    without = SimpleNamespace(encode=lambda x: model.layer(x.flatten(1)))
    assert found.value.tolist() == evaluate(without, digits, ["neighbours"], FEW).value.tolist()


@pytest.mark.parametrize(
    ("own", "metrics", "told"),
    [
        ({}, "reconstruction", "has neither sample(n) nor encode(x)"),
        ({"sample": lambda n: torch.rand(n + 1, 1, 8, 8)}, "fidelity", "returned a tensor (356, 1, 8, 8)"),
        ({"encode": lambda x: x}, "neighbours", "latent) is needed"),
        ({"sample": lambda n: torch.rand(n, 1, 8, 8)}, "fidelty", "did you mean 'fidelity'?"),
        ({"sample": lambda n: torch.rand(n, 1, 8, 8)}, "modes", "is not a known mixture"),
    ],
)
def test_what_cannot_be_is_refused_by_name(own: Any, metrics: str, told: str, digits: Data) -> None:
    with pytest.raises(BadInput) as refused:
        evaluate(SimpleNamespace(**own), digits, [metrics], FEW)
    assert told in str(refused.value)
