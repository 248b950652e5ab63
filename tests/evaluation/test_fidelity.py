"""Fidelity against independent float64 computations, known answers, and inputs that have none."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch_fidelity.metric_kid import kid_features_to_metric

from alibench.evaluation import files, manifold, store
from alibench.evaluation.data import Data, Split, as_float
from alibench.evaluation.features import extractors
from alibench.evaluation.features.extractor import Extractor
from alibench.evaluation.measurement import Measurement
from alibench.evaluation.metrics import fidelity, health
from alibench.evaluation.metrics.fidelity import Features
from alibench.evaluation.objects import ObjectModel
from alibench.evaluation.seeds import generator
from alibench.evaluation.settings import Settings
from alibench.evaluation.subject import ReferenceInput, Subject
from alibench.models.base import Model
from tests.conftest import build
from tests.evaluation.conftest import cell, value

pytestmark = pytest.mark.usefixtures("own_home")


@pytest.fixture
def registered(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Settings]:
    """Register an extractor for this test alone, of a function of images; return settings that name it."""
    monkeypatch.setattr(extractors, "MAKERS", {})

    def register(
        network: Callable[[Tensor], Any], width: int = 4, name: str = "mine", sha256: str = "0" * 64
    ) -> Settings:
        extractors.register(
            name, lambda data, settings, device: Extractor(name, sha256, width, network, device)
        )
        return Settings(extractor=name)

    return register


def pixels(images: Tensor) -> tuple[Tensor, None]:
    """Return the corners' brightness as features; no logits."""
    return as_float(images)[:, 0, ::4, ::4].flatten(1), None


def returning(x: Tensor) -> Model:
    """Return a model whose samples are x, from the first on."""
    return ObjectModel(SimpleNamespace(sample=lambda n: x[:n]))


def measured(x: Tensor, data: Data, settings: Settings | None = None) -> list[Measurement]:
    """Return the fidelity of a model that returns x."""
    return fidelity.measure(Subject(returning(x), data, settings or Settings(), 0))


def baseline(data: Data, settings: Settings | None = None, seeds: int = 1) -> ReferenceInput:
    return ReferenceInput(data, settings or Settings(), 8, range(seeds), lambda seed: build("ali", seed))


# -------------------- by independent means


def frechet(a: np.ndarray, b: np.ndarray) -> float:
    """Return |μ - ν|² + tr(A + B - 2 (√A B √A)^½), by symmetric eigenvalues."""

    def moments(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        centred = x - x.mean(0)
        return x.mean(0), centred.T @ centred / (len(x) - 1)

    (m, p), (n, q) = moments(a), moments(b)
    w, v = np.linalg.eigh(p)
    root = (v * np.sqrt(np.maximum(w, 0))) @ v.T
    cross = np.sqrt(np.maximum(np.linalg.eigvalsh(root @ q @ root), 0)).sum()
    return float(((m - n) ** 2).sum() + np.trace(p) + np.trace(q) - 2 * cross)


def kernel_distance(a: np.ndarray, b: np.ndarray) -> float:
    """Return the unbiased MMD² of the cubic kernel, in thousandths."""

    def kernel(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        k: np.ndarray = (x @ y.T / x.shape[1] + 1) ** 3
        return k

    def within(x: np.ndarray) -> float:
        k = kernel(x, x)
        return float(k[~np.eye(len(x), dtype=bool)].mean())

    return 1000 * (within(a) + within(b) - 2 * float(kernel(a, b).mean()))


def kernel_distance_by_subsets(a: np.ndarray, b: np.ndarray, size: int) -> float:
    """Return the mean over torch-fidelity's 100 subsets, whose indices numpy's RandomState draws."""
    rng = np.random.RandomState(0)
    draws = [(rng.choice(len(a), size, False), rng.choice(len(b), size, False)) for _ in range(100)]
    return float(np.mean([kernel_distance(a[i], b[j]) for i, j in draws]))


def score(logits: np.ndarray) -> float:
    p = np.exp(logits - logits.max(1, keepdims=True))
    p /= p.sum(1, keepdims=True)
    return float(np.exp((p * (np.log(p) - np.log(p.mean(0)))).sum(1).mean()))


def distances(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.stack([np.sqrt(((x - b) ** 2).sum(1)) for x in a])


def balls(x: np.ndarray, k: int) -> np.ndarray:
    return np.sort(distances(x, x), axis=1)[:, k]  # the first is the sample itself


def manifolds(fake: np.ndarray, real: np.ndarray) -> dict[str, float]:
    """Return precision and recall (k = 3), density and coverage (k = 5) by their definitions."""
    apart = distances(fake, real)
    back = apart.T
    return {
        "precision": (apart <= balls(real, 3)).any(1).mean(),
        "recall": (back <= balls(fake, 3)).any(1).mean(),
        "density": (apart < balls(real, 5)).sum() / (5 * len(fake)),
        "coverage": (apart < balls(real, 5)).any(0).mean(),
    }


def expected(fake: Features, real: Features) -> dict[str, float]:
    a, b = fake.x.double().numpy(), real.x.double().numpy()
    half = len(a) // 2
    return {
        "kid": kernel_distance(a, b),
        "fid": frechet(a, b),
        "fid_half": (frechet(a[:half], b) + frechet(a[half : 2 * half], b)) / 2,
        "classifier_score": score(fake.logits.double().numpy()),
        **manifolds(a, b),
    }


def found(fake: Features, real: Features) -> dict[str, float]:
    rows = [
        *fidelity._kid(fake, real, ""),
        *fidelity._fid(fake, real, ""),
        *fidelity._score(fake, "classifier_score", ""),
        *fidelity._manifold(fake, real, ""),
    ]
    return {row.metric: value(rows, row.metric) for row in rows if row.metric != "fid_extrapolated"}


@pytest.mark.parametrize("seed", range(6))
def test_every_measure_of_random_features_is_the_independent_computation(seed: int) -> None:
    rng = np.random.RandomState(seed)
    n, width = 150 + 17 * seed, (2, 5, 8, 12, 16, 18)[seed]
    mixing = rng.standard_normal((width, width)) / np.sqrt(width)
    kind = torch.float32 if seed % 2 else torch.float64

    def features(shift: float) -> Features:
        x = torch.from_numpy(shift + rng.standard_normal((n, width)) @ mixing).to(kind)
        return Features(x, torch.from_numpy(rng.standard_normal((n, 7))).to(kind))

    real, fake = features(0.0), features(0.2 * seed)
    assert found(fake, real) == pytest.approx(expected(fake, real), rel=1e-4)


def test_every_measure_of_digits_is_the_independent_computation(digits: Data) -> None:
    extractor = extractors.get(digits, Settings())
    real = Features.of(digits.test.x, extractor)
    noise = torch.randint(256, digits.test.x.shape, generator=generator(0, "test")).to(torch.uint8)
    for images in (digits.validation.x, digits.train.x[:355], noise):
        fake = Features.of(images, extractor)
        assert found(fake, real) == pytest.approx(expected(fake, real), rel=1e-4)


def test_a_single_feature_has_a_covariance_too() -> None:
    a, b = torch.from_numpy(np.random.RandomState(0).standard_normal((2, 50, 1)) * [[[1.0]], [[3.0]]])
    expected = (a.mean() - b.mean()) ** 2 + (a.std() - b.std()) ** 2
    assert fidelity.frechet(Features(a, None), Features(b, None)) == pytest.approx(float(expected))


def test_kid_of_more_than_a_subset_is_the_mean_over_the_same_subsets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fidelity, "SUBSET", 40)
    rng = np.random.RandomState(0)
    a, b = rng.standard_normal((90, 6)), 0.5 + rng.standard_normal((70, 6))
    (row,) = fidelity._kid(Features(torch.from_numpy(a), None), Features(torch.from_numpy(b), None), "")
    assert row.value == pytest.approx(kernel_distance_by_subsets(a, b, 40), rel=1e-9)
    assert row.protocol == "unbiased MMD², cubic kernel, 100 subsets of 40"


def test_distances_on_the_grid_have_no_rounding_whatever_the_order() -> None:
    x = torch.rand((60, 2048), generator=generator(0, "test"))
    (grid,) = manifold.exact(x)
    doubled = torch.cat([grid, grid])[torch.randperm(120, generator=generator(1, "test"))]
    apart = torch.cdist(doubled, doubled)
    assert int((apart == 0).sum()) == 2 * 120  # each point is at its own place and at its twin's
    alone = torch.cat([torch.cdist(row, doubled) for row in doubled.split(1)])
    assert torch.equal(apart, alone)
    largest = float(x.abs().max())
    torch.testing.assert_close(grid * largest / 2**20, x.double(), rtol=0, atol=largest / 2**20)


@pytest.mark.parametrize("seed", range(8))
def test_repeated_samples_lie_in_their_own_balls(seed: int) -> None:
    rng = generator(seed, "test")
    points = torch.randn((5, 40), generator=rng, dtype=torch.float64)
    real, fake = (Features(points[torch.randint(5, (n,), generator=rng)], None) for n in (117, 110))
    assert fidelity.precision_recall(fake, real) == (1.0, 1.0)


# ------------------------------------------------------------------------------------------------ invariance


def test_measures_depend_on_neither_batch_nor_order(digits: Data, monkeypatch: pytest.MonkeyPatch) -> None:
    shuffled = torch.randperm(355, generator=generator(0, "test"))
    x = as_float(digits.validation.x[torch.arange(355) % 300])  # some of them twice
    other = replace(digits, test=Split(digits.test.x[shuffled], digits.test.y[shuffled]))
    before = measured(x, digits)
    monkeypatch.setattr(fidelity, "BATCH", 33)
    after = measured(x[shuffled.flip(0)], other)
    for metric in ("kid", "fid", "classifier_score", "precision", "recall", "density", "coverage"):
        assert value(after, metric) == pytest.approx(value(before, metric), rel=1e-6), metric


# -------------------- known answers


def test_precision_and_recall_are_the_right_way_round() -> None:
    along = torch.linspace(0, 1, 50, dtype=torch.float64)
    line = torch.stack([torch.zeros(50, dtype=torch.float64), along], 1)
    both = Features(torch.cat([line, line + torch.tensor([10.0, 0.0])]), None)
    one = Features(line + 0.001, None)
    # half of what is real is never generated; half of what is generated is not real
    assert fidelity.precision_recall(fake=one, real=both) == (1.0, 0.5)
    assert fidelity.precision_recall(fake=both, real=one) == (0.5, 1.0)
    assert manifold.density_coverage(both.x, one.x)[1] == 0.5
    assert manifold.density_coverage(one.x, both.x)[1] == 1.0


def test_equal_pictures_are_covered_by_themselves_and_by_what_lies_beside_them() -> None:
    """Six or more equal ones have their nearest neighbours at distance 0, where no model's sample falls."""
    equal = torch.full((7, 3), 0.5)
    assert manifold.density_coverage(equal, equal)[1] == 1.0
    assert manifold.density_coverage(equal, equal + 0.1)[1] == 0.0
    apart = torch.cat([equal, torch.tensor([[0.7, 0.5, 0.5]])])  # the nearest that differs, at 0.2
    assert manifold.radii(apart, 5)[:7].tolist() == pytest.approx([0.2] * 7)
    assert manifold.density_coverage(apart, equal + 0.1)[1] == 1.0
    assert manifold.density_coverage(apart, torch.tensor([[0.8, 0.5, 0.5]]))[1] == 0.125  # the eighth alone


def test_samples_like_data_with_many_equal_pictures_are_not_called_collapsed() -> None:
    rng = generator(0, "test")
    real = torch.zeros(60, 1, 4, 4, dtype=torch.uint8)
    real[40:] = torch.randint(256, (20, 1, 4, 4), generator=rng)
    samples = as_float(real[torch.randperm(60, generator=rng)]) + 0.01 * torch.rand(
        60, 1, 4, 4, generator=rng
    )
    assert health._covered(real, samples.clamp(0, 1)).value > 80


def test_real_data_against_themselves_are_at_no_distance(digits: Data) -> None:
    rows = measured(as_float(digits.test.x), digits)
    assert value(rows, "fid") == pytest.approx(0, abs=1e-6)
    assert value(rows, "kid") <= 0
    assert [value(rows, metric) for metric in ("precision", "recall", "density", "coverage")] == [1, 1, 1, 1]


def test_a_model_that_returns_one_image_has_no_spread(digits: Data) -> None:
    one = as_float(digits.validation.x[:1]).expand(355, -1, -1, -1)
    extractor = extractors.get(digits, Settings())
    real = Features.of(digits.test.x, extractor).x.double()
    point = Features.of(digits.validation.x[:1], extractor).x.double()
    rows = measured(one, digits)
    spread = float(((point - real.mean(0)) ** 2).sum() + torch.cov(real.T).trace())
    assert value(rows, "fid") == pytest.approx(spread)
    assert value(rows, "classifier_score") == pytest.approx(1.0)
    assert value(rows, "recall") == 0.0
    assert value(rows, "coverage") < 0.1


def test_noise_is_far_held_out_data_and_those_of_train_are_near(digits: Data) -> None:
    rows = fidelity.references(baseline(digits))
    of = {(row.reference, row.metric): row.value for row in rows}
    for metric, times in (("fid", 50), ("fid_half", 30)):
        assert of["noise", metric] > times * of["held-out data", metric] > 0
    for metric in ("precision", "recall", "density", "coverage", "classifier_score"):
        assert of["noise", metric] < 0.5 * of["held-out data", metric], metric
    train = measured(as_float(digits.train.x), digits)
    assert value(train, "fid") < 2 * of["held-out data", "fid"]
    assert min(value(train, metric) for metric in ("precision", "recall", "density", "coverage")) > 0.8
    # fid(n) = limit + c / n, through n and n / 2
    whole, half, limit = (of["noise", metric] for metric in ("fid", "fid_half", "fid_extrapolated"))
    assert half - limit == pytest.approx(2 * (whole - limit))


# -------------------- what a row says


def test_every_row_says_split_number_extractor_and_protocol(digits: Data) -> None:
    rows = fidelity.measure(Subject(build("vae"), digits, Settings(), 0))
    rows += fidelity.references(baseline(digits))
    assert {row.n for row in rows if row.metric != "fid_half"} == {len(digits.test)}
    assert {row.n for row in rows if row.metric == "fid_half"} == {len(digits.test) // 2}
    assert {row.extractor for row in rows} == {extractors.get(digits, Settings()).identity}
    assert {row.split for row in rows} == {"test"}
    assert {row.reference for row in rows} == {"", "VAE, with observation noise", "held-out data", "noise"}
    assert {row.metric: row.protocol for row in rows} == {
        "kid": "unbiased MMD², cubic kernel",
        "fid": "n",
        "fid_half": "n/2",
        "fid_extrapolated": "linear in 1/n",
        "classifier_score": "one split",
        **dict.fromkeys(("precision", "recall"), "k = 3"),
        **dict.fromkeys(("density", "coverage"), "k = 5"),
    }


def test_the_settings_choose_reference_and_number_and_rows_say_so(digits: Data) -> None:
    settings = Settings(samples=260, reference="validation")
    rows = measured(as_float(digits.train.x), digits, settings)
    rows += fidelity.references(baseline(digits, settings))
    assert {row.split for row in rows} == {"validation"}
    assert {(row.n, row.protocol) for row in rows if row.metric == "fid"} == {(260, "n, reference n = 355")}
    assert "100 subsets of 260" in cell(rows, "kid", reference="noise").protocol
    # what is held out is the split that is not the reference
    extractor, sides = extractors.get(digits, settings), (digits.test.x[:260], digits.validation.x)
    independent = frechet(*(Features.of(x, extractor).x.double().numpy() for x in sides))
    assert value(rows, "fid", reference="held-out data") == pytest.approx(independent, rel=1e-6)


def test_fewer_held_out_images_than_the_reference_has_are_used_and_called_so(digits: Data) -> None:
    smaller = replace(digits, validation=Split(digits.validation.x[:280], digits.validation.y[:280]))
    rows = fidelity.references(baseline(smaller))
    for metric in ("fid", "fid_half"):
        assert cell(rows, metric, reference="held-out data").note == "n = 280, which raises FID"
        assert cell(rows, metric, reference="noise").reason == ""
    assert cell(rows, "fid", reference="held-out data").n == 280
    assert cell(rows, "recall", reference="held-out data").protocol == "k = 3, reference n = 355"


def test_a_model_without_samples_and_an_extractor_without_classes_leave_cells_empty(
    digits: Data, registered: Callable[..., Settings]
) -> None:
    empty = fidelity.measure(Subject(build("ae"), digits, Settings(), 0))
    assert {row.metric for row in empty} == {c.metric for c in fidelity.COLUMNS} - {"inception_score", "cmmd"}
    assert {row.status for row in empty} == {"not applicable"}
    assert all("no samples" in row.reason for row in empty)
    rows = measured(as_float(digits.train.x), digits, registered(pixels))
    assert cell(rows, "classifier_score").status == "not applicable"
    assert value(rows, "fid") > 0


# -------------------- what has no number


NO_IMAGES = [(float("nan"), "not finite"), (float("inf"), "not finite")]
NO_IMAGES += [(-0.5, "from -0.5 to 1"), (1.01, "from 0 to 1.01")]


@pytest.mark.parametrize(("pixel", "reason"), [*NO_IMAGES, (None, "samples have shape (1, 4, 8)")])
def test_samples_that_are_no_images_have_no_number(pixel: float | None, reason: str, digits: Data) -> None:
    x = as_float(digits.train.x[:355]).clone()
    x[3, 0, 0, 0] = pixel or 0.0
    rows = measured(x[:, :, :4] if pixel is None else x, digits)
    assert {row.metric for row in rows} == {column.metric for column in fidelity.columns(Settings())}
    assert {(row.value, row.status, row.n, row.split) for row in rows} == {(None, "refused", 355, "test")}
    assert all(reason in row.reason and row.extractor.startswith("digits-cnn@") for row in rows)


def test_rounding_beyond_the_range_is_no_reason(digits: Data) -> None:
    x = as_float(digits.train.x[:355])
    assert value(measured(x + 5e-5, digits), "fid") == value(measured(x, digits), "fid")


def test_a_measure_with_too_few_samples_is_refused_and_others_are_not(digits: Data) -> None:
    def refused(n: int) -> dict[str, str]:
        rows = measured(as_float(digits.train.x), digits, Settings(samples=n))
        assert all((row.value is None) == (row.status == "refused") for row in rows)
        return {row.metric: row.reason for row in rows if row.status == "refused"}

    few = refused(127)
    assert set(few) == {"fid", "fid_half", "fid_extrapolated"}
    assert few["fid"] == "FID on 32 features needs 128 images on each side, there are 127"
    assert "there are 63" in few["fid_half"]
    assert set(refused(128)) == {"fid_half", "fid_extrapolated"}
    assert set(refused(256)) == set()
    assert set(refused(5)) == {*few, "density", "coverage"}
    assert set(refused(3)) == {*few, "density", "coverage", "precision", "recall"}
    assert set(refused(1)) == {*few, "density", "coverage", "precision", "recall", "kid"}


def test_a_reference_that_is_too_small_for_fid_is_refused(digits: Data) -> None:
    small = replace(digits, test=Split(digits.test.x[:100], digits.test.y[:100]))
    rows = measured(as_float(digits.train.x), small, Settings(samples=300))
    assert {row.metric for row in rows if row.status == "refused"} == {"fid", "fid_half", "fid_extrapolated"}
    assert "there are 100" in cell(rows, "fid").reason


def test_a_number_that_is_none_is_refused(digits: Data, registered: Callable[..., Settings]) -> None:
    # a class that no image has at all: the formula takes the logarithm of zero
    certain = torch.tensor([0.0, -2000.0])
    settings = registered(lambda images: (pixels(images)[0], certain.expand(len(images), 2)))
    row = cell(measured(as_float(digits.train.x), digits, settings), "classifier_score")
    assert (row.value, row.status, row.reason) == (None, "refused", "it came out as nan")


def test_a_reference_without_variance_and_features_that_are_no_numbers_are_refused(
    digits: Data, registered: Callable[..., Settings]
) -> None:
    x = as_float(digits.train.x)
    flat = replace(digits, test=Split(digits.test.x[:1].expand(355, -1, -1, -1), digits.test.y))
    rows = measured(x, flat)
    assert {row.reason for row in rows} == {"the features of the reference are all the same"}
    assert not any(row.status == "ok" for row in rows)
    # the logarithm of black
    settings = registered(lambda images: (as_float(images).flatten(1).log()[:, :4], None))
    reasons = {row.reason for row in measured(x, digits, settings) if row.status == "refused"}
    assert reasons == {"the features of the samples are not finite"}


def test_what_cannot_be_measured_is_refused_by_name(digits: Data) -> None:
    assert fidelity.unsupported_reason(digits, Settings()) == ""
    assert "evaluation.reference=train" in fidelity.unsupported_reason(digits, Settings(reference="train"))
    unlabelled = replace(digits, classes=0, extractor="", name="bare")
    reason = fidelity.unsupported_reason(unlabelled, Settings())
    assert reason.startswith("dataset 'bare' has no feature extractor")


# -------------------- torch-fidelity's traps


def test_unknown_options_of_torch_fidelity_are_refused() -> None:
    x = torch.rand((20, 3), generator=generator(0, "test"), dtype=torch.float64)
    ignored = kid_features_to_metric(x, x, kid_subset_size=10, kid_kernel_poly_degre=2, verbose=False)
    assert ignored == kid_features_to_metric(x, x, kid_subset_size=10, verbose=False)
    with pytest.raises(TypeError, match="kid_kernel_poly_degre"):
        fidelity.call(
            "metric_kid", "kid_features_to_metric", x, x, kid_subset_size=10, kid_kernel_poly_degre=2
        )


def test_what_is_kept_is_found_by_content_and_not_by_name(
    digits: Data, registered: Callable[..., Settings], own_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.hub, "_get_torch_home", lambda: str(own_home / "torch"))
    x, settings = as_float(digits.train.x), registered(pixels)
    first = value(measured(x, digits, settings), "fid")
    other = replace(digits, test=Split(255 - digits.test.x, digits.test.y))
    assert value(measured(x, other, settings), "fid") > 2 * first  # the same names, other images
    registered(lambda images: (5 * pixels(images)[0], None), sha256="1" * 64)
    # the same name, other weights
    assert value(measured(x, digits, settings), "fid") == pytest.approx(25 * first)
    assert not (own_home / "torch").exists()  # torch-fidelity keeps nothing


# -------------------- one pass, and what is kept


def test_images_pass_the_extractor_once_and_real_ones_once_for_all_runs(
    digits: Data, registered: Callable[..., Settings]
) -> None:
    seen: list[int] = []

    def counting(images: Tensor) -> tuple[Tensor, None]:
        seen.append(len(images))
        return pixels(images)

    settings, x = registered(counting), as_float(digits.train.x)
    first = measured(x, digits, settings)
    assert sum(seen) == 355 + 355  # the reference and the samples
    assert measured(x, digits, settings) == first
    assert sum(seen) == 355 + 2 * 355
    fidelity.references(baseline(digits, settings, seeds=2))
    assert sum(seen) == 355 + 2 * 355 + 3 * 355  # held-out data and two draws of noise
    fidelity.references(baseline(digits, settings, seeds=2))
    assert sum(seen) == 355 + 2 * 355 + 3 * 355 + 2 * 355


DAMAGE: dict[str, Callable[[Path], object]] = {
    "cut short": lambda file: file.write_bytes(file.read_bytes()[:-8]),
    "empty": lambda file: file.write_bytes(b""),
    "a bit flipped": lambda file: file.write_bytes(bytes([*(raw := file.read_bytes())[:-1], raw[-1] ^ 1])),
    "of another key": lambda file: file.write_bytes((file.parent / "b.safetensors").read_bytes()),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_file_is_made_again(damage: str, own_home: Path) -> None:
    x, made = torch.arange(6.0).view(2, 3).T, []

    def compute() -> dict[str, Tensor]:
        made.append(x)
        return {"x": x}

    store.kept("b", lambda: {"x": torch.zeros(3, 2)})
    for expected in (1, 1):
        assert torch.equal(store.kept("a", compute)["x"], x)
        assert len(made) == expected
    DAMAGE[damage](own_home / "statistics" / "a.safetensors")
    for expected in (2, 2):
        assert torch.equal(store.kept("a", compute)["x"], x)
        assert len(made) == expected
    assert {p.name for p in (own_home / "statistics").iterdir()} == {"a.safetensors", "b.safetensors"}


def test_a_home_that_cannot_be_written_to_changes_no_number(digits: Data, own_home: Path) -> None:
    expected = measured(as_float(digits.train.x), digits)
    (own_home / "statistics").rename(own_home / "before")
    (own_home / "statistics").write_text("no folder")
    assert measured(as_float(digits.train.x), digits) == expected


def test_keys_tell_types_shapes_and_contents_apart() -> None:
    x = torch.arange(6, dtype=torch.uint8)
    parts: list[tuple[Any, ...]] = [(x,), (x.view(2, 3),), (x.to(torch.int8),), (x.flip(0),)]
    parts += [(x, "a"), ("a", x), ("a", "b"), ("ab",), ("a b",)]
    assert len({files.digest(*p) for p in parts}) == len(parts)
    assert files.digest(x.view(2, 3).T) == files.digest(x.view(2, 3).T.clone())
