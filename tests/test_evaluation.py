"""Metrics against independent computations, known answers and the rules of a fair comparison."""

from types import SimpleNamespace

import numpy as np
import pytest
import scipy.linalg
import torch
from sklearn.svm import LinearSVC
from torch import Tensor, nn

from benchmarks.data import load
from evaluation import extractors, fidelity, mixture_score, modes, reconstruction, svm, throughput
from evaluation.base import Baseline, Data, Measurement, Settings, Subject, as_float, as_uint8, generator
from models import REGISTRY
from models.base import Model
from models.networks import Networks
from models.tables import FAMILIES
from tests.conftest import build

FEW = Settings(samples=2000, labels=50, draws=2)


def value(rows: list[Measurement], metric: str, **where: object) -> float:
    (row,) = (r for r in rows if r.metric == metric and all(getattr(r, key) == v for key, v in where.items()))
    assert row.value is not None
    return row.value


def baseline(data: Data, seeds: int = 1) -> Baseline:
    return Baseline(data, FEW, 8, range(seeds), lambda seed: build("ali", seed, data.name))


# ------------------------------------------------------------------------------------------------ fidelity


def features(images: Tensor) -> tuple[np.ndarray, np.ndarray]:
    with torch.no_grad():
        x, logits = extractors.load("digits-cnn")(as_float(images))
    return x.double().numpy(), logits.double().numpy()


def test_fid_is_the_frechet_distance_by_a_matrix_square_root(digits: Data) -> None:
    a, b = digits.train.x[:300], digits.test.x[:300]
    (fa, _), (fb, _) = features(a), features(b)
    root = scipy.linalg.sqrtm(np.cov(fa.T) @ np.cov(fb.T))
    expected = ((fa.mean(0) - fb.mean(0)) ** 2).sum() + np.trace(np.cov(fa.T) + np.cov(fb.T) - 2 * root.real)
    assert fidelity.scores(a, b, "digits-cnn")["fid"] == pytest.approx(expected, rel=1e-4)


def test_kid_is_the_unbiased_mmd_of_the_cubic_kernel(digits: Data) -> None:
    a, b = digits.train.x[:60], digits.test.x[:60]
    (fa, _), (fb, _) = features(a), features(b)

    def kernel(x: np.ndarray, y: np.ndarray) -> float:
        return (x @ y / len(x) + 1) ** 3

    n = len(fa)
    aa = sum(kernel(fa[i], fa[j]) for i in range(n) for j in range(n) if i != j) / (n * (n - 1))
    bb = sum(kernel(fb[i], fb[j]) for i in range(n) for j in range(n) if i != j) / (n * (n - 1))
    ab = sum(kernel(x, y) for x in fa for y in fb) / n**2
    assert fidelity.scores(a, b, "digits-cnn")["kid"] == pytest.approx(1000 * (aa + bb - 2 * ab), rel=1e-6, abs=1e-8)


def test_classifier_score_is_the_inception_scores_formula(digits: Data) -> None:
    _, logits = features(digits.test.x)
    p = np.exp(logits - logits.max(1, keepdims=True))
    p /= p.sum(1, keepdims=True)
    expected = np.exp((p * (np.log(p) - np.log(p.mean(0)))).sum(1).mean())
    found = fidelity.scores(digits.test.x, digits.train.x, "digits-cnn")["classifier_score"]
    assert found == pytest.approx(expected, rel=1e-6)
    assert 1 < found <= 10


def test_identical_sets_have_no_distance_and_noise_is_far(digits: Data) -> None:
    assert fidelity.scores(digits.test.x, digits.test.x, "digits-cnn")["fid"] == pytest.approx(0, abs=1e-4)
    rows = fidelity.references(baseline(digits))
    floor, noise = (value(rows, "fid", reference=name) for name in ("held-out data", "noise"))
    assert noise > 50 * floor > 0


def test_every_row_has_the_references_n_and_names_the_extractor(digits: Data) -> None:
    subject = Subject(build("vae").eval(), digits, FEW, 0)
    rows = fidelity.measure(subject) + fidelity.references(baseline(digits))
    assert {row.n for row in rows if row.metric != "fid_half"} == {len(digits.test)}
    assert {row.extractor for row in rows} == {extractors.identity("digits-cnn")}
    assert len(digits.test) / 2 / 4 >= extractors.WIDTH
    assert {row.reference for row in rows} == {"", "VAE, with observation noise", "held-out data", "noise"}


def test_extrapolation_is_linear_in_one_over_n(digits: Data) -> None:
    rows = fidelity.references(baseline(digits))
    whole, half, limit = (value(rows, m, reference="noise") for m in ("fid", "fid_half", "fid_extrapolated"))
    # fid(n) = limit + c / n through both
    assert (half - limit) == pytest.approx(2 * (whole - limit))


def test_unknown_options_of_torch_fidelity_are_refused() -> None:
    with pytest.raises(TypeError, match="kid_subset_sise"):
        fidelity._calculate(fid=True, kid_subset_sise=10)


def test_the_shipped_extractor_is_what_its_command_makes_and_knows_digits(digits: Data) -> None:
    shipped, fitted = extractors.load("digits-cnn"), extractors.fit(digits)
    assert extractors.accuracy(shipped, digits.test.x, digits.test.y) > 95
    # another machine's arithmetic moves weights a little in 840 steps, not what they know
    agreement = [network(as_float(digits.test.x))[1].argmax(1) for network in (shipped, fitted)]
    assert (agreement[0] == agreement[1]).double().mean() > 0.97
    assert extractors.provenance("digits-cnn")["command"] == "alibench fit-extractor digits"
    assert digits.sha256 in extractors.provenance("digits-cnn")["data"]


# ------------------------------------------------------------------------------------------------ SVM


def test_draws_are_balanced_stable_and_different(digits: Data) -> None:
    y = digits.train.y.numpy()
    draws = [svm.draw_labels(y, 100, draw) for draw in range(3)]
    for draw in draws:
        assert np.bincount(y[draw]).tolist() == [10] * 10
        assert len(set(draw)) == 100
    assert np.array_equal(draws[0], svm.draw_labels(y, 100, 0))
    assert len({tuple(draw) for draw in draws}) == 3


def test_the_chosen_c_has_the_best_validation_accuracy_of_the_grid(digits: Data) -> None:
    x, y = as_float(digits.train.x).flatten(1).numpy(), digits.train.y.numpy()
    v, w = as_float(digits.validation.x).flatten(1).numpy(), digits.validation.y.numpy()
    labelled = svm.draw_labels(y, 100, 0)
    mean, std = x[labelled].mean(0), x[labelled].std(0)
    std[std == 0] = 1

    def accuracy(c: float) -> float:
        machine = LinearSVC(C=c, dual=False, tol=1e-5, max_iter=20_000, random_state=0)
        machine.fit((x[labelled] - mean) / std, y[labelled])
        return float((machine.predict((v - mean) / std) == w).mean())

    assert len(svm.GRID) == 50
    assert svm.GRID[[0, -1]] == pytest.approx(np.exp([-20, 20]))
    coarse = [accuracy(c) for c in svm.GRID[::7]]
    assert accuracy(svm.choose_c((x[labelled], y[labelled]), (v, w))) >= max(coarse) - 1 / len(w)


def test_rotation_changes_no_prediction(digits: Data) -> None:
    x, y = as_float(digits.train.x).flatten(1).numpy(), digits.train.y.numpy()
    wide = np.tanh(x @ np.random.RandomState(0).standard_normal((64, 300)))  # more features than labels
    labelled = svm.draw_labels(y, 50, 0)
    mean, std = wide[labelled].mean(0), wide[labelled].std(0)
    plain = LinearSVC(C=0.01, dual=False, tol=1e-6, random_state=0).fit((wide[labelled] - mean) / std, y[labelled])
    rotated = svm.machine(0.01).fit(wide[labelled], y[labelled])
    assert (plain.predict((wide - mean) / std) == rotated.predict(wide)).mean() > 0.995


def test_accuracies_are_paired_by_draw_and_both_protocols_are_there(digits: Data) -> None:
    rows = svm.measure(Subject(build("ali").eval(), digits, FEW, 0)) + svm.references(baseline(digits))
    accuracies = [row for row in rows if row.metric == "svm_accuracy"]
    assert {(r.reference, r.protocol, r.draw) for r in accuracies} == {
        (reference, protocol, draw)
        for reference in ("", "raw pixels", "untrained encoder")
        for protocol in ("C by validation", "C by labels")
        for draw in range(2)
    }
    assert all(row.value is not None and 50 < row.value < 100 for row in accuracies)
    # the model here is untrained, so it is the untrained encoder of the same seed
    own = [row.value for row in accuracies if row.reference == ""]
    assert own == [row.value for row in accuracies if row.reference == "untrained encoder"]


# ------------------------------------------------------------------------------------------------ modes


def test_the_two_rules_of_counting_modes_on_known_samples() -> None:
    mixture = load("grid25_easy").mixture
    assert mixture is not None
    c = mixture.centres
    samples = torch.cat(
        [
            c[0] + 0.1 * torch.tensor([2.9, 0.0]).expand(20, 2),  # enough, within 3 sigma
            c[1] + 0.1 * torch.tensor([0.0, 2.9]).expand(19, 2),  # one too few
            c[2] + 0.1 * torch.tensor([3.1, 0.0]).expand(9961, 2),  # outside 3 sigma
        ]
    )
    strict, lenient, share = modes.count(samples, mixture)
    assert (strict, lenient) == (1, 3)
    assert share == pytest.approx(0.39)


def test_real_data_and_noise_on_the_grid() -> None:
    rows = modes.references(baseline(load("grid25_easy"), seeds=2))
    assert value(rows, "modes_3sigma", reference="held-out data") == 25
    # a two-dimensional Gaussian has 1 - exp(-9/2) within 3 sigma
    assert value(rows, "high_quality", reference="held-out data") == pytest.approx(98.89, abs=1.2)
    assert value(rows, "modes_paper", reference="noise", seed=1) == 25
    assert value(rows, "high_quality", reference="noise", seed=0) < 40


# ------------------------------------------------------------------------------------------------ reconstruction


class Shift(Model):
    """Reconstructs x + 0.1 through its mean code, and x + 0.3 through drawn ones."""

    name, title, stochastic, latent = "shift", "Shift", True, 64

    def __init__(self) -> None:
        nn.Module.__init__(self)
        self.encoder = self.decoder = SimpleNamespace(noise=0)  # type: ignore[assignment]

    def posterior(self, x: Tensor, y: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return x.flatten(1) + 0.1, torch.zeros(len(x), 64)

    def encode(self, x: Tensor, draw: bool = False, rng: torch.Generator | None = None, y: Tensor | None = None) -> Tensor:
        return x.flatten(1) + (0.3 if draw else 0.1)

    def decode(self, z: Tensor, rng: torch.Generator | None = None, y: Tensor | None = None) -> Tensor:
        return z.view(-1, 1, 8, 8)


def test_a_mixtures_score_counts_modes_that_are_told_apart_and_even() -> None:
    data = load("alice_toy")
    assert data.mixture is not None
    centres = data.mixture.centres
    for count in (1, 2, 5):
        assert mixture_score.score(centres[:count].repeat(20, 1), data.mixture) == pytest.approx(count)
    uneven = torch.cat([centres[:1].repeat(3, 1), centres[1:2]])
    entropy = -(0.75 * np.log(0.75) + 0.25 * np.log(0.25))
    assert mixture_score.score(uneven, data.mixture) == pytest.approx(np.exp(entropy))
    # half way between two modes nothing is told apart
    assert mixture_score.score((centres[:1] + centres[1:2]) / 2, data.mixture) == pytest.approx(1.0)
    assert mixture_score.score(data.test.x, data.mixture) == pytest.approx(5.0, abs=0.05)


def test_a_model_leaves_empty_what_it_cannot_have(digits: Data) -> None:
    autoencoder = Subject(build("ae"), digits, FEW, 0)
    empty = {fidelity: {column.metric for column in fidelity.COLUMNS}, throughput: {"sample_rate"}}
    for metric, expected in empty.items():
        assert {row.metric for row in metric.measure(autoencoder) if row.status == "not applicable"} == expected
    assert all("no samples" in row.reason for row in fidelity.measure(autoencoder))
    (accuracy, c) = svm.measure(Subject(build("cali"), digits, FEW, 0))
    assert (accuracy.value, c.value) == (None, None)
    assert "told the class" in accuracy.reason


def test_a_conditional_model_is_given_the_labels_of_what_it_is_compared_with(digits: Data) -> None:
    model = build("cali")
    subject = Subject(model, digits, FEW, 0)
    x, y = as_float(digits.test.x), digits.test.y
    with torch.no_grad():
        torch.testing.assert_close(subject.codes, model.encode(x, y=y))
        torch.testing.assert_close(subject.reconstructions, model.reconstruct(x, y=y))
        z = model.prior(len(x), subject.rng("samples"))
        torch.testing.assert_close(subject.samples, model.decode(z, y=y))


def test_an_encoder_that_draws_by_its_input_has_no_mean_code() -> None:
    data = load("alice_toy")
    networks = Networks(FAMILIES["alice_toy"](), (2,), 1.0, 2, generator(0, "weights"))
    subject = Subject(REGISTRY["ali"](networks), data, FEW, 0)
    mean, drawn, sigma = reconstruction.measure(subject)
    assert (mean.status, drawn.status, sigma.status) == ("not applicable", "ok", "not applicable")
    x = data.test.x
    codes, rng = subject.drawn_codes, subject.rng("reconstructions")
    with torch.no_grad():  # the decoder draws too, in the order of the batches
        x_hat = torch.cat([subject.model.decode(z, rng) for z in codes.split(1000)])
    assert drawn.value == pytest.approx(float((x - x_hat).double().square().sum(1).mean()), rel=1e-5)
    rng = subject.rng("samples")
    assert torch.equal(subject.samples, subject.model.sample(FEW.samples, rng))


def test_reconstruction_error_is_per_pixel_through_mean_and_drawn_codes(digits: Data) -> None:
    rows = reconstruction.measure(Subject(Shift(), digits, FEW, 0))
    assert value(rows, "reconstruction_error", protocol="mean code") == pytest.approx(0.01)
    assert value(rows, "reconstruction_error", protocol="drawn code") == pytest.approx(0.09)
    assert value(rows, "posterior_sigma") == pytest.approx(1.0)


def test_on_the_plane_squared_distances_are_summed_over_coordinates() -> None:
    x = torch.zeros(4, 2)
    assert reconstruction.error(x, x + torch.tensor([3.0, 4.0]), images=False) == pytest.approx(25)


def test_what_a_model_cannot_have_is_an_empty_cell_with_the_reason(digits: Data) -> None:
    rows = reconstruction.measure(Subject(build("bigan").eval(), digits, FEW, 0))
    (drawn,) = (row for row in rows if row.protocol == "drawn code")
    assert drawn.value is None
    assert drawn.status == "not applicable"
    assert "deterministic" in drawn.reason


def test_trivial_reconstructors_by_linear_algebra(digits: Data) -> None:
    rows = reconstruction.references(baseline(digits))
    x, y = as_float(digits.test.x).flatten(1).double(), digits.test.y
    t, u = as_float(digits.train.x).flatten(1).double(), digits.train.y
    assert value(rows, "reconstruction_error", reference="mean") == pytest.approx(((x - t.mean(0)) ** 2).mean().item())
    by_class = torch.stack([t[u == c].mean(0) for c in range(10)])[y]
    assert value(rows, "reconstruction_error", reference="class mean") == pytest.approx(((x - by_class) ** 2).mean().item())
    _, _, v = torch.linalg.svd(t - t.mean(0), full_matrices=False)
    residual = (x - t.mean(0)) - (x - t.mean(0)) @ v[:8].T @ v[:8]
    assert value(rows, "reconstruction_error", reference="PCA") == pytest.approx((residual**2).mean().item())


# ------------------------------------------------------------------------------------------------ all


@pytest.mark.parametrize("metric", [reconstruction, fidelity, svm])
def test_evaluation_is_deterministic_and_independent_of_the_process(metric, digits: Data) -> None:  # type: ignore[no-untyped-def]
    torch.manual_seed(1)
    first = metric.measure(Subject(build("ali").eval(), digits, FEW, 3))
    torch.manual_seed(2)
    np.random.seed(5)  # noqa: NPY002 the global state must play no part
    assert first == metric.measure(Subject(build("ali").eval(), digits, FEW, 3))


def test_validation_and_test_are_kept_apart(digits: Data) -> None:
    model = build("ali").eval()
    for metric in (reconstruction, fidelity):
        on_validation = metric.measure(Subject(model, digits, FEW, 0, "validation"))
        assert {row.split for row in on_validation if row.split} == {"validation"}
        assert on_validation != metric.measure(Subject(model, digits, FEW, 0))


def test_samples_are_drawn_once_for_all_metrics(digits: Data) -> None:
    subject = Subject(build("ali").eval(), digits, FEW, 0)
    assert subject.samples is subject.samples
    assert torch.equal(subject.samples, Subject(build("ali").eval(), digits, FEW, 0).samples)
    assert as_uint8(subject.samples).shape == digits.test.x.shape


def test_throughput_scales_with_the_work() -> None:
    x = torch.randn(400, 400, generator=generator(0, "test"))

    def work(times: int) -> float:
        rows = throughput.rate("train_rate", lambda: [x @ x for _ in range(times)], 100, "test", 0.2)
        assert [row.kind for row in rows] == ["timing", "timing"]
        return value(rows, "train_rate")

    # eight times the work is much slower: no figure of speed is asserted
    assert work(1) > 2 * work(8) > 0
