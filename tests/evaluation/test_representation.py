"""Classifiers on features, against scikit-learn as anyone would write it; the rules that their draws keep."""

from dataclasses import replace
from itertools import product
from typing import Any

import numpy as np
import pytest
import torch
from scipy.spatial.distance import cdist
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, StratifiedKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC
from torch import Tensor

from alibench.evaluation import labels, linear_svm, representation
from alibench.evaluation.data import Data, Split, as_float
from alibench.evaluation.errors import BadInput
from alibench.evaluation.metrics import neighbours, probe, svm
from alibench.evaluation.settings import Settings
from alibench.evaluation.subject import ReferenceInput, Subject
from alibench.models import REGISTRY
from tests.conftest import build, networks

# where scikit-learn stops early the tests say so themselves
pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

FEW = Settings(labels=50, draws=2)
PROTOCOLS = (svm, neighbours, probe)
TOLERANCE = 1e-10  # at which scikit-learn's solver is compared


def pixel_sets(data: Data, settings: Settings = FEW) -> representation.Sets:
    return representation.sets(representation.pixel_layers, data, settings, "test", torch.device("cpu"))


def gradient(x: np.ndarray, y: np.ndarray, c: float, machine: LinearSVC) -> float:
    """The largest entry of the objective's gradient at a LinearSVC's weights, relative to these."""
    x, worst = np.c_[x.astype(float), np.ones(len(x))], 0.0
    for k, (w, b) in enumerate(zip(machine.coef_, machine.intercept_, strict=True)):
        sign, weights = np.where(y == k, 1.0, -1.0), np.append(w, b)
        slack = np.maximum(0, 1 - sign * (x @ weights))
        found = weights - 2 * c * x.T @ (slack * sign)
        worst = max(worst, np.abs(found).max() / np.abs(weights).max())
    return worst


def plain(x: np.ndarray, y: np.ndarray, c: float, most: int = 3000) -> LinearSVC:
    return LinearSVC(C=c, dual=False, tol=TOLERANCE, max_iter=most, random_state=0).fit(x, y)


# ------------------------------------------------------------------------------------------------ the solver


def labelled(data: Data, n: int, number: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the pixels and classes of a draw of labels."""
    chosen = labels.draw(data.train.y.numpy(), n, number)
    return as_float(data.train.x).flatten(1).double().numpy()[chosen], data.train.y.numpy()[chosen]


@pytest.mark.parametrize("features", [64, 300], ids=["fewer features than images", "more"])
def test_the_solver_finds_scikit_learns_optimum_wherever_that_converged(features: int, digits: Data) -> None:
    x, y = labelled(digits, 100, 0)
    if features != 64:
        x = np.tanh(x @ np.random.RandomState(0).standard_normal((64, features)))
    x, compared = x.astype(np.float32), 0
    for solution in list(linear_svm.path(linear_svm.Span.of(x), y, 10, svm.GRID))[::5]:
        assert solution.unconverged == 0
        machine = plain(x, y, solution.c, most=800)
        if gradient(x, y, solution.c, machine) < 1e-6:
            weights, intercepts = linear_svm.Span.of(x).primal(solution.weights, x.astype(float))
            smallest = 1e-6 * np.abs(machine.coef_).max()
            np.testing.assert_allclose(weights.T, machine.coef_, rtol=1e-4, atol=smallest)
            np.testing.assert_allclose(intercepts, machine.intercept_, rtol=1e-4, atol=1e-6)
            compared += 1
    assert compared >= 5  # of 10


def test_no_other_weights_have_a_lower_objective(digits: Data) -> None:
    # where scikit-learn stops early the optimum is checked by itself: at a minimum the gradient vanishes
    x, y = labelled(digits, 60, 1)
    for solution in linear_svm.path(linear_svm.Span.of(x), y, 10, svm.GRID):
        weights, intercepts = linear_svm.Span.of(x).primal(solution.weights, x)
        machine = LinearSVC()
        machine.coef_, machine.intercept_ = weights.T, intercepts
        assert solution.unconverged == 0
        # C times the rounding of the slack
        assert gradient(x, y, solution.c, machine) < 1e-8 + 1e-11 * solution.c


def test_a_path_of_cs_gives_what_each_c_gives_alone(digits: Data) -> None:
    x, y = labelled(digits, 80, 0)
    span = linear_svm.Span.of(x)
    for solution in list(linear_svm.path(span, y, 10, svm.GRID))[::7]:
        alone = linear_svm.solve(span, y, 10, solution.c)
        assert alone.unconverged == 0
        weights = [span.primal(found.weights, x)[0] for found in (solution, alone)]
        np.testing.assert_allclose(*weights, rtol=1e-4, atol=1e-6)


def test_repeated_images_and_constant_features_are_no_obstacle() -> None:
    x = np.array([[0.0, 1.0], [0.0, 1.0], [1.0, 1.0], [1.0, 1.0]], dtype=np.float32)
    y = np.array([0, 0, 1, 1])
    for solution in linear_svm.path(linear_svm.Span.of(x), y, 2, svm.GRID):
        assert solution.unconverged == 0
        weights, intercepts = linear_svm.Span.of(x).primal(solution.weights, x)
        assert (x @ weights + intercepts).argmax(1).tolist() == y.tolist()


# -------------------- ALI's protocol


@pytest.mark.parametrize("standardise", [False, True])
def test_the_svm_protocol_is_that_of_a_plain_script(
    standardise: bool, digits: Data, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert len(svm.GRID) == 50
    assert svm.GRID[[0, -1]] == pytest.approx(np.exp([-20, 20]))
    monkeypatch.setattr(svm, "GRID", svm.GRID[::4])
    # up to 0.7: beyond, scikit-learn does not converge here
    monkeypatch.setattr(svm, "COARSE_GRID", svm.COARSE_GRID[:6])
    settings = Settings(labels=100, draws=3, standardise=standardise)
    sets = pixel_sets(digits, settings)
    rows = svm.score(sets)
    pool, v, t = (as_float(s.x).flatten(1).numpy() for s in (digits.train, digits.validation, digits.test))
    y, w, u = (s.y.numpy() for s in (digits.train, digits.validation, digits.test))

    def fitted(draw: int, c: float, *parts: np.ndarray) -> tuple[LinearSVC, list[np.ndarray]]:
        labelled = labels.draw(y, 100, draw)
        x, mean, std = pool[labelled], 0.0, 1.0
        if standardise:
            mean, std = x.mean(0), x.std(0)
            std[std == 0] = 1
        return plain((x - mean) / std, y[labelled], c), [(part - mean) / std for part in parts]

    def accuracy(draw: int, c: float, part: np.ndarray, classes: np.ndarray) -> float:
        machine, (scaled,) = fitted(draw, c, part)
        return 100 * float(machine.score(scaled, classes))

    (c,) = (row.value for row in rows if row.metric == "svm_c")
    # by the last draw, of which no accuracy is reported
    on_validation = [accuracy(3, each, v, w) for each in svm.GRID]
    assert c == svm.GRID[int(np.argmax(on_validation))]

    suffix = ", standardised" if standardise else ""
    own = [row for row in rows if row.protocol == f"C by validation{suffix}" and row.metric == "svm_accuracy"]
    assert [row.draw for row in own] == [0, 1, 2]
    for draw, row in enumerate(own):
        assert row.value == pytest.approx(accuracy(draw, c, t, u), abs=0.02)

    for draw, row in enumerate(row for row in rows if row.protocol == f"C by labels{suffix}"):
        _, (x, scored) = fitted(draw, 1.0, pool[labels.draw(y, 100, draw)], t)
        folds = StratifiedKFold(5, shuffle=True, random_state=0)
        machine = LinearSVC(dual=False, tol=1e-8, max_iter=3000, random_state=0)
        search = GridSearchCV(machine, {"C": svm.COARSE_GRID}, cv=folds).fit(x, y[labels.draw(y, 100, draw)])
        assert row.value == pytest.approx(100 * search.score(scored, u), abs=0.02)


def test_the_features_are_the_last_three_hidden_layers_and_the_mean_code_of_the_papers_networks() -> None:
    model = REGISTRY["ali"](networks("svhn", 256)).eval()
    layers = representation.encoder_layers(model.features)(torch.rand(2, 3, 32, 32))
    widths = [layer.shape[1] for layer in layers.values()]
    assert widths == [4 * 4 * 256, 512, 512, 256]
    assert sum(widths) == 5376


def test_a_plain_gans_discriminator_is_pooled_as_dcgans() -> None:
    model = REGISTRY["gan"](networks("svhn", 256)).eval()
    x = torch.rand(2, 3, 32, 32)
    layers = representation.discriminator_layers(model.discriminator.hidden)(x)
    # 32 maps of 28x28, 64 of 13x13, 128 of 10x10, 256 of 4x4, then vectors
    assert [layer.shape[1] for layer in layers.values()][:4] == [16 * maps for maps in (32, 64, 128, 256)]
    first = next(iter(model.discriminator.hidden(x).values()))
    pooled = next(iter(layers.values())).view(2, 32, 4, 4)
    assert torch.equal(pooled[:, :, 0, 0], first[:, :, :7, :7].amax((2, 3)))


def test_svm_features_of_a_model_are_those_of_its_encoder_in_evaluation_mode(digits: Data) -> None:
    subject = Subject(build("ali"), digits, FEW, 0)
    svm.measure(subject)
    sets = subject.shared["encoder"]
    with torch.no_grad():
        *hidden, code = subject.model.features(as_float(digits.test.x)).values()
    torch.testing.assert_close(torch.from_numpy(sets.scored[0]), torch.cat([*hidden[-3:], code], 1))
    torch.testing.assert_close(torch.from_numpy(sets.last_hidden().scored[0]), hidden[-1])


# -------------------- neighbours and probe


def test_one_neighbour_is_brute_force(digits: Data) -> None:
    sets = pixel_sets(digits, Settings(labels=200, draws=2, neighbours=3))
    rows = neighbours.score(sets)
    t, u = as_float(digits.test.x).flatten(1).double().numpy(), digits.test.y.numpy()
    pool, y = as_float(digits.train.x).flatten(1).double().numpy(), digits.train.y.numpy()
    for draw in range(2):
        labelled = labels.draw(y, 200, draw)
        order = cdist(t, pool[labelled]).argsort(1, kind="stable")
        expected = 100 * (y[labelled][order[:, 0]] == u).mean()
        votes = np.stack([np.bincount(y[labelled][o[:3]], minlength=10).argmax() for o in order])
        found = {row.metric: row.value for row in rows if row.draw == draw}
        assert found["nn_accuracy"] == pytest.approx(expected)
        assert found["knn_accuracy"] == pytest.approx(100 * (votes == u).mean())


def test_bigans_protocol_takes_all_of_train_once(digits: Data) -> None:
    rows = neighbours.measure(Subject(build("bigan"), digits, Settings(labels="all", draws=7), 0))
    assert {(row.labels, row.draw) for row in rows} == {(len(digits.train), 0)}


def test_the_probe_is_a_logistic_regression_chosen_on_validation(digits: Data) -> None:
    settings = Settings(labels=100, draws=2)
    order = torch.randperm(len(digits.train), generator=torch.Generator())
    rows = probe.score(pixel_sets(digits, settings))
    assert [row.draw for row in rows] == [0, 1]
    assert all(80 < row.value < 97 for row in rows)
    shuffled = replace(digits, train=Split(digits.train.x, digits.train.y[order]))
    assert all(row.value < 35 for row in probe.score(pixel_sets(shuffled, settings)))


def test_of_many_labels_a_part_chooses_the_probes_penalty_and_all_are_fitted(
    digits: Data, monkeypatch: pytest.MonkeyPatch
) -> None:
    sets = pixel_sets(digits, Settings(labels="all"))
    monkeypatch.setattr(probe, "MOST", 60)  # few, so that part and whole want other penalties
    (row,) = probe.score(sets)
    assert row.protocol == "penalty by validation on 60 labels, last hidden layer"
    assert row.labels == len(digits.train)

    def right(c: float, part: np.ndarray, held_out: tuple[np.ndarray, np.ndarray]) -> float:
        x, y = sets.labelled
        scaled = make_pipeline(StandardScaler(), LogisticRegression(C=c, max_iter=1000))
        return 100 * float(scaled.fit(x[part], y[part]).score(*held_out))

    part = np.random.RandomState(0).permutation(len(digits.train))[:60]
    best, best_of_all = (
        max(probe.GRID, key=lambda c: right(c, chooser, sets.choosing)) for chooser in (part, sets.chooser)
    )
    assert best != best_of_all
    assert row.value == pytest.approx(right(best, sets.chooser, sets.scored), abs=0.3)  # a picture of 355


# ------------------------------------------------------------------------------------------------ draws


def test_draws_are_balanced_stable_and_different(digits: Data) -> None:
    y = digits.train.y.numpy()
    draws = [labels.draw(y, 100, number) for number in range(3)]
    for draw in draws:
        assert np.bincount(y[draw]).tolist() == [10] * 10
        assert len(set(draw)) == 100
    assert np.array_equal(draws[0], labels.draw(y, 100, 0))
    assert len({tuple(draw) for draw in draws}) == 3


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_rows_are_paired_by_draw_beside_raw_pixels_and_an_untrained_encoder(
    protocol: Any, digits: Data
) -> None:
    rows = protocol.measure(Subject(build("ali"), digits, FEW, 0))
    rows += protocol.references(ReferenceInput(digits, FEW, 8, range(1), lambda seed: build("ali", seed)))
    accuracies = [row for row in rows if row.unit == "%"]
    kinds = {(row.metric, row.protocol) for row in accuracies}
    there = {(row.reference, (row.metric, row.protocol), row.draw) for row in accuracies}
    assert there == set(product(("", "raw pixels", "untrained encoder"), kinds, range(2)))
    # the model here is untrained, so it is the untrained encoder of the same seed
    own = [row.value for row in accuracies if row.reference == ""]
    assert own == [row.value for row in accuracies if row.reference == "untrained encoder"]


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_test_labels_and_other_train_labels_play_no_part(protocol: Any, digits: Data) -> None:
    sets = pixel_sets(digits)
    before = [row.value for row in protocol.score(sets)]
    drawn = np.concatenate([labels.draw(digits.train.y.numpy(), 50, number) for number in range(3)])
    x = 255 - digits.train.x
    x[drawn] = digits.train.x[drawn]
    after = pixel_sets(replace(digits, train=Split(x, digits.train.y)))
    assert before == [row.value for row in protocol.score(after)]


def test_threads_change_nothing(digits: Data) -> None:
    sets = pixel_sets(digits, Settings(labels=50, draws=3))
    alone = [row for protocol in PROTOCOLS for row in protocol.score(sets)]
    torch.set_num_threads(3)
    try:
        assert alone == [row for protocol in PROTOCOLS for row in protocol.score(sets)]
    finally:
        torch.set_num_threads(1)


def test_labels_from_validation_keep_its_last_images_to_choose_on(digits: Data) -> None:
    settings = Settings(labels=50, draws=2, labels_from="validation", kept_back=100)
    sets = pixel_sets(digits, settings)
    assert len(sets.choosing[0]) == 100
    assert np.array_equal(sets.choosing[1], digits.validation.y[-100:].numpy())
    pool = as_float(digits.validation.x[:-100]).flatten(1).numpy()
    assert all((pool == row).all(1).any() for row in sets.labelled[0])


# -------------------- what cannot be


def test_too_few_labels_of_a_class_are_refused_by_its_name(digits: Data) -> None:
    y = digits.train.y
    keep = (y != 3) | ((y == 3).cumsum(0) <= 4)
    few = replace(digits, train=Split(digits.train.x[keep], y[keep]), class_names=tuple("abcdefghij"))
    assert svm.unsupported_reason(few, FEW) == "class 'd' has 4 images in the pool of labels, 5 are needed"
    assert "must be between 50 (5 a class)" in svm.unsupported_reason(digits, Settings(labels=30))
    assert "class" in svm.unsupported_reason(digits, Settings(labels=1087))
    assert svm.unsupported_reason(digits, FEW) == ""
    with pytest.raises(BadInput, match="20 labels need 6 images of each of the 3 classes"):
        labels.draw(np.array([0, 0, 1] * 5 + [2]), 20, 0)


def test_an_svm_of_too_many_labels_is_refused(digits: Data) -> None:
    many = replace(digits, train=Split(digits.train.x.repeat(12, 1, 1, 1), digits.train.y.repeat(12)))
    assert "at most 10,000" in svm.unsupported_reason(many, Settings(labels="all"))
    assert neighbours.unsupported_reason(many, Settings(labels="all")) == ""


class Constant(torch.nn.Module):
    """Features that tell no image from another, or are no numbers."""

    def __init__(self, fill: float) -> None:
        super().__init__()
        self.fill = fill

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        return {representation.HIDDEN: torch.full((len(x), 3), self.fill)}


@pytest.mark.parametrize(
    ("fill", "reason"), [(1.0, "all features are constant"), (float("nan"), "features are not finite")]
)
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_features_that_say_nothing_leave_an_empty_cell(
    protocol: Any, fill: float, reason: str, digits: Data
) -> None:
    rows = protocol.score(representation.sets(Constant(fill), digits, FEW, "test", torch.device("cpu")))
    assert rows
    for row in rows:
        assert (row.value, row.status) == (None, "refused")
        assert reason in row.reason


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_model_without_an_encoder_has_only_its_discriminators_rows(protocol: Any, digits: Data) -> None:
    rows = protocol.measure(Subject(build("ssgan"), digits, FEW, 0))
    own = {(row.value, row.status, row.reason) for row in rows if not row.reference}
    assert own == {(None, "not applicable", "it has no encoder")}
    others = [row for row in rows if row.reference]
    assert {row.reference for row in others} == {f"{REGISTRY['ssgan'].title}, features of D"}
    assert all(row.value is not None for row in others)
