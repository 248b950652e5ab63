"""Semi-supervised training: D of K+1 classes, feature matching, and which labels are seen."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from alibench.benchmarks.config import compute, loading
from alibench.benchmarks.training.batches import repeated
from alibench.benchmarks.training.gradients import gradients
from alibench.benchmarks.training.loop import train
from alibench.benchmarks.training.recipe import Recipe
from alibench.benchmarks.training.trainer import parameters
from alibench.evaluation import labels
from alibench.evaluation.data import Data, Split, as_float
from alibench.evaluation.errors import BadInput
from alibench.evaluation.metrics import classifier
from alibench.evaluation.seeds import generator
from alibench.evaluation.settings import Settings
from alibench.evaluation.subject import Subject
from alibench.models import REGISTRY
from alibench.models.base import Batch, Model
from alibench.models.tables import FAMILIES
from tests.conftest import batch_for, build, networks, trainer

CPU = torch.device("cpu")
KINDS = [name for name, model in REGISTRY.items() if model.semi_supervised]


def other_player(model: Model) -> str:
    (other,) = (player for player in model.players if player != "discriminator")
    return other


def few(data: Data, n: int = 100, number: int = 0) -> Split:
    index = labels.draw(data.train.y.numpy(), n, number)
    return Split(data.train.x[index], data.train.y[index])


@pytest.mark.parametrize("name", KINDS)
def test_the_game_is_a_cross_entropy_over_k_plus_one_classes(name: str) -> None:
    """The (K+1)-way softmax of [l, 0], with plain logarithms."""
    rng = generator(0, "logits")
    q, p = (3 * torch.randn(50, 10, generator=rng, dtype=torch.float64) for _ in range(2))
    q_classes, p_classes = (torch.softmax(torch.cat([kind, torch.zeros(50, 1)], 1), 1) for kind in (q, p))
    losses = build(name).game({"q": q, "p": p})
    expected = -(1 - q_classes[:, 10]).log() - p_classes[:, 10].log()
    torch.testing.assert_close(losses["discriminator"], expected)
    assert ("generator" in losses) == (name == "ssali")
    if name == "ssali":  # both terms swapped
        swapped = -q_classes[:, 10].log() - (1 - p_classes[:, 10]).log()
        torch.testing.assert_close(losses["generator"], swapped)


@pytest.mark.parametrize("name", KINDS)
def test_labelled_images_are_named_among_the_k_classes(name: str, digits: Data) -> None:
    """The rest of D's loss: -log p(y | one of K), of the K+1 classes' softmax."""
    model = build(name).double().eval()
    batch = batch_for(model, as_float(digits.train.x[:20]))
    noise = {key: value.double() for key, value in batch.noise.items() if key in ("z", "eps")}  # no dropout
    x, (_, y) = batch.x.double(), batch.labelled
    terms = model(Batch(x, noise, labelled=(x.flip(0), y)), tuple(model.players))
    rest = model.losses(terms)["discriminator"] - model.game(terms.logits)["discriminator"]
    seen = [x.flip(0)]
    if name == "ssali":
        seen.append(model.infer(seen[0], noise["eps"][20:]))
    logits = model.discriminator(*seen)
    p = torch.softmax(torch.cat([logits, torch.zeros(20, 1, dtype=torch.float64)], 1), 1)
    torch.testing.assert_close(rest, -(p[torch.arange(20), y] / (1 - p[:, 10])).log())


@pytest.mark.parametrize("name", KINDS)
def test_labelled_images_teach_d_alone(name: str, digits: Data) -> None:
    x = as_float(digits.train.x)
    found = []
    for start, y in ((20, 0), (40, 1)):
        labelled = (x[start : start + 20], torch.full((20,), y))
        model = build(name).eval()  # the batch's statistics are the one way from image to image
        batch = replace(batch_for(model, x[:20]), labelled=labelled)
        gradients(model, batch, {player: parameters(model, player) for player in model.players})
        found.append({player: [p.grad for p in parameters(model, player)] for player in model.players})
    other, d = (
        list(zip(*(one[p] for one in found), strict=True)) for p in (other_player(model), "discriminator")
    )
    assert all(torch.allclose(a, b, rtol=1e-4, atol=1e-6) for a, b in other)
    assert not any(torch.allclose(a, b) for a, b in d)


def weights(name: str, data: Split, labelled: Split | None) -> Mapping[str, Tensor]:
    model = build(name)
    train(model, data, Recipe(steps=5, batch=50), 0, CPU, labelled=labelled)
    return model.state_dict()


@pytest.mark.parametrize("name", KINDS)
def test_labels_of_unlabelled_images_are_never_seen(name: str, digits: Data) -> None:
    labelled = few(digits)
    first = weights(name, digits.train, labelled)
    for y in (digits.train.y.roll(1), torch.full_like(digits.train.y, -1)):
        again = weights(name, Split(digits.train.x, y), labelled)
        assert all(torch.equal(value, again[key]) for key, value in first.items())
    other = weights(name, digits.train, Split(labelled.x, labelled.y.roll(1)))
    assert not all(torch.equal(value, other[key]) for key, value in first.items())


def test_other_models_train_as_if_there_were_no_labels(digits: Data) -> None:
    for name in ("ali", "gan"):
        without, beside = weights(name, digits.train, None), weights(name, digits.train, few(digits))
        assert all(torch.equal(value, beside[key]) for key, value in without.items())


@pytest.mark.parametrize("name", KINDS)
def test_a_training_without_labels_is_refused(name: str, digits: Data) -> None:
    with pytest.raises(ValueError, match=f"{name} learns from labels"):
        train(build(name), digits.train, Recipe(steps=1), 0, CPU)


@pytest.mark.parametrize("labels_from", ["train", "validation"])
def test_a_seeds_labels_are_the_draw_of_its_number(labels_from: str, digits: Data) -> None:
    settings = ["metrics=['reconstruction']", "evaluation.kept_back=100", "evaluation.labels=50"]
    settings += [f"evaluation.labels_from='{labels_from}'"]
    (suite,) = loading.load("digits", settings, only=["ssali", "ali"])
    pool = labels.pools(digits, suite.evaluation).labelled
    for seed in (0, 1, 2):
        found = compute.labelled_of(suite, "ssali", seed)
        index = labels.draw(pool.y.numpy(), 50, seed)
        assert torch.equal(found.x, pool.x[index])
        assert torch.equal(found.y, pool.y[index])
        assert found.y.bincount().tolist() == [5] * 10
    assert compute.labelled_of(suite, "ali", 0) is None
    everything = replace(suite, evaluation=replace(suite.evaluation, labels="all"))
    assert torch.equal(compute.labelled_of(everything, "ssali", 0).y, pool.y)


def test_few_labels_come_round_alike(digits: Data) -> None:
    labelled = few(digits, 50)
    training, orders = trainer(build("ssali"), digits.train, labelled, batch=100), []
    known = as_float(labelled.x)
    for _ in range(3):
        x, y = training.batch().labelled
        same = (x[:, None] == known).flatten(2).all(2)
        assert same.sum(0).tolist() == [2] * 50  # each twice in a batch of 100
        assert torch.equal(labelled.y[same.int().argmax(1)], y)
        orders.append(same.int().argmax(1).tolist())
    assert orders[0] != orders[1] != orders[2]
    assert len(repeated(labelled, 120)) == 150
    assert repeated(labelled, 50) is labelled  # enough of them


def test_the_decoder_matches_ds_last_hidden_layer_under_its_dropout(digits: Data) -> None:
    model = build("ssgan")
    batch = batch_for(model, as_float(digits.train.x[:20]))
    found = model.losses(model(batch, ("decoder",)))["decoder"]
    first, second, last = model.discriminator.dxz.layers
    images = torch.cat([batch.x, model.decoder(batch.noise["z"])]).flatten(1)
    h = first((images - 0.5) * 2, None, None, None)
    h = second(h, batch.noise["dxz.1"][:40], None, None)
    torch.testing.assert_close(found, (h[:20].mean(0) - h[20:].mean(0)).square().sum().expand(20))
    assert last.row.drop  # which is not of the features: it is on the last layer's input
    generated = model.decoder(batch.noise["z"]).detach()
    quiet = {"z": batch.noise["z"]}
    same = model.losses(model(Batch(generated, quiet, labelled=batch.labelled), ("decoder",)))["decoder"]
    assert same.abs().max() < 1e-10


@pytest.mark.parametrize("family", ["digits", "cifar10", "svhn", "bigan_mnist"])
def test_hidden_layers_of_d_lead_to_its_logits(family: str) -> None:
    own = networks(family)
    d: Any = own.discriminator("x", outputs=10).eval()
    x = torch.rand(3, *own.shape, generator=generator(0, "x"))
    with torch.no_grad():
        layers = list(d.hidden(x).values())
        assert len(layers) == len(d.dx.layers) + len(d.dxz.layers) - 1
        assert layers[0].dim() == (4 if d.dx.layers else 2)
        last, logits = d.judge(x)
        torch.testing.assert_close(layers[-1].flatten(1), last)
        torch.testing.assert_close(d.dxz.layers[-1](layers[-1], None, None, None).flatten(1), logits)
        assert logits.shape == (3, 10)


def test_a_d_of_separate_passes_does_without_masks() -> None:
    d = networks(replace(FAMILIES["digits"](), separate=True)).discriminator("x").eval()
    x = torch.rand(6, 1, 8, 8, generator=generator(0, "x"))
    with torch.no_grad():
        found = d.compare({"q": (x[:3],), "p": (x[3:],)}, {"z": torch.zeros(3, 4)})
        torch.testing.assert_close(torch.cat(list(found.values())), d(x))


@pytest.mark.parametrize("name", KINDS)
def test_a_short_training_tells_most_digits_from_a_hundred_labels(name: str, digits: Data) -> None:
    model = build(name, latent=8)
    train(model, digits.train, Recipe(steps=120, lr=2e-3), 0, CPU, labelled=few(digits))
    (measured,) = classifier.measure(Subject(model, digits, Settings(), 0, "validation"))
    assert measured.value > 80


class Fixed(torch.nn.Module):
    """Says class 3 of everything."""

    semi_supervised, inference = True, "none"

    def classify(self, x: Tensor) -> Tensor:
        assert x.max() <= 1
        return torch.eye(10)[3].expand(len(x), 10)


def test_accuracy_is_the_share_of_scored_images_named_right(digits: Data) -> None:
    for split, part in (("test", digits.test), ("validation", digits.validation)):
        (row,) = classifier.measure(Subject(Fixed(), digits, Settings(labels=50), 2, split))
        assert row.value == pytest.approx(100 * float((part.y == 3).double().mean()))
        about = (row.metric, row.n, row.split, row.protocol, row.labels, row.draw)
        assert about == ("class_accuracy", len(part), split, "K+1 classes", 50, 2)
    everything = Subject(Fixed(), digits, Settings(labels="all"), 0)
    assert classifier.measure(everything)[0].labels == len(digits.train)
    settings = Settings(labels=50, labels_from="validation", kept_back=100)
    own = Subject(Fixed(), digits, settings, 0, "validation")
    assert classifier.measure(own)[0].n == 100  # those that no label comes from
    (empty,) = classifier.measure(Subject(build("ali"), digits, Settings(), 0))
    assert (empty.value, empty.status, empty.reason) == (None, "not applicable", "it learns no classes")
    assert classifier.unsupported_reason(digits, Settings(labels=20))
    assert not classifier.unsupported_reason(digits, Settings(labels=50))


@pytest.mark.parametrize("suite", ["digits", "cifar10", "svhn"])
def test_semi_supervised_suites_differ_from_their_models_in_labels_alone(suite: str) -> None:
    (_, own), (_, other) = loading.read(f"{suite}_semisup"), loading.read(suite)
    for key in ("dataset", "networks", "latent", "recipe"):
        assert own[key] == other[key]
    assert {"ssali", "ssgan"} <= set(own["models"])
    assert own["evaluation"]["labels"] == (100 if suite == "digits" else 1000)
    # the SVM's draws have the numbers of the seeds
    assert "svm" not in own["metrics"] or own["evaluation"]["draws"] == own["seeds"]


def test_data_without_enough_labels_are_refused() -> None:
    assert loading.load("digits_semisup")
    with pytest.raises(BadInput, match=r"'ssgan' learns classes from labels: evaluation.labels = 40"):
        loading.load("digits", ["evaluation.labels=40", "metrics=['reconstruction']"], only=["ssgan"])


def test_networks_see_what_the_papers_let_them_see() -> None:
    for name, sees in (("ssali", ("x", "z")), ("ssgan", ("x",))):
        model = build(name)
        assert model.discriminator.sees == sees
        assert hasattr(model, "encoder") == (name == "ssali") == (model.inference != "none")


def test_a_code_of_a_model_without_an_encoder_is_refused_by_name(digits: Data) -> None:
    model = build("ssgan").eval()
    for ask in (model.encode, model.reconstruct, model.features):
        with pytest.raises(NotImplementedError, match="ssgan has no encoder"):
            ask(as_float(digits.test.x[:2]))
