"""Matching of the two joints: distances with a known value, a calibrated test, models that match or not."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import binom, multivariate_normal
from torch import Tensor, nn

from alibench.evaluation import two_sample
from alibench.evaluation.data import Data, Split
from alibench.evaluation.measurement import Measurement
from alibench.evaluation.metrics import matching
from alibench.evaluation.objects import ObjectModel
from alibench.evaluation.seeds import generator
from alibench.evaluation.settings import Settings
from alibench.evaluation.subject import ReferenceInput, Subject
from alibench.models.base import Model
from tests.conftest import build
from tests.evaluation.conftest import cell, value


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=generator(seed, "test"))


# ------------------------------------------------------------------------------------- distances


def mean_kernel(variance: float, dimensions: int, s: float) -> float:
    """E exp(-|a - b|² / (s v)), where a - b is normal of that variance and v = 2 * dimensions."""
    return (1 + 2 * variance / (s * 2 * dimensions)) ** (-dimensions / 2)


def test_mmd_of_two_gaussians_is_their_closed_form() -> None:
    d, n = 3, 2000
    expected = np.mean(
        [mean_kernel(8, d, s) + mean_kernel(2, d, s) - 2 * mean_kernel(5, d, s) for s in (0.25, 1, 4)]
    )
    found = two_sample.mmd(2 * normal(n, d), normal(n, d, seed=1))
    assert found == pytest.approx(expected, rel=0.1)


def test_mmd_is_the_sum_over_all_pairs_and_unbiased() -> None:
    x, y = normal(30, 2).double(), normal(20, 2, seed=1).double()
    v = 2 * float(y.var(0).sum())

    def k(a: Tensor, b: Tensor) -> float:
        squared = float((a - b).square().sum())
        return float(np.mean([math.exp(-squared / (s * v)) for s in two_sample.BANDWIDTHS]))

    def within(z: Tensor) -> float:
        return float(np.mean([k(a, b) for i, a in enumerate(z) for j, b in enumerate(z) if i != j]))

    across = np.mean([k(a, b) for a in x for b in y])
    assert two_sample.mmd(x, y) == pytest.approx(within(x) + within(y) - 2 * across, abs=1e-9)

    # its mean over pairs of sets from one distribution is 0
    draws = [two_sample.mmd(normal(50, 2, seed=2 * i), normal(50, 2, seed=2 * i + 1)) for i in range(200)]
    assert abs(np.mean(draws)) < 3 * np.std(draws) / math.sqrt(len(draws))


def test_sliced_wasserstein_of_scaled_and_of_shifted_codes() -> None:
    x, other = normal(2000, 4), normal(2000, 4, seed=1)
    assert two_sample.sliced_wasserstein(2 * x, other) == pytest.approx(1, rel=0.05)
    # a shift's projections have a mean square of |shift|² / D
    assert two_sample.sliced_wasserstein(x + 2, x) == pytest.approx(2, rel=0.1)
    assert two_sample.sliced_wasserstein(x[torch.randperm(len(x))], x) == 0


def test_worst_dimension_is_the_largest_distance_of_distribution_functions() -> None:
    x, other = normal(400, 3), normal(300, 3, seed=1)
    x[:, 1] += 1
    points = torch.cat([x, other])[:, 1].numpy()
    by_hand = max(
        abs(float((x[:, 1].numpy() <= t).mean()) - float((other[:, 1].numpy() <= t).mean())) for t in points
    )
    assert two_sample.worst_dimension(x, other) == pytest.approx(by_hand)


def test_total_correlation_of_known_correlations() -> None:
    rho, z = 0.8, normal(50_000, 3)
    z[:, 1] = rho * z[:, 0] + math.sqrt(1 - rho**2) * z[:, 1]
    assert two_sample.total_correlation(5 * z - 1) == pytest.approx(-0.5 * math.log(1 - rho**2), abs=0.01)
    assert math.isnan(two_sample.total_correlation(torch.cat([z, torch.ones(len(z), 1)], 1)))
    assert two_sample.total_correlation(z[:, :1]) == 0


# ------------------------------------------------------------------------------------- the classifier


@pytest.mark.slow
def test_interval_holds_chance_for_two_halves_of_one_distribution() -> None:
    """In 95 % of 200 tries; more than 19 misses have a probability below 1 %."""
    sets = (normal(2, 60, 3, seed=i).numpy() for i in range(200))
    intervals = [two_sample.told_apart(q, p).interval for q, p in sets]
    misses = sum(not low <= 50 <= high for low, high in intervals)
    assert misses <= binom.ppf(0.995, 200, 0.05)


def test_interval_is_that_of_the_binomial_law() -> None:
    low, high = two_sample.Told(60, 100).interval
    assert binom.sf(59, 100, low / 100) == pytest.approx(0.025, abs=1e-6)
    assert binom.cdf(60, 100, high / 100) == pytest.approx(0.025, abs=1e-6)


def test_classifier_finds_a_shift_as_often_as_it_can_be_found() -> None:
    # of N(0, 1) and N(2, 1), the best rule is right in Phi(1) = 84.1 %
    q, p = normal(1000, 1).numpy(), 2 + normal(1000, 1, seed=1).numpy()
    assert two_sample.told_apart(q, p).accuracy == pytest.approx(84.1, abs=4)


def test_classifier_finds_narrow_modes_as_often_as_they_can_be_found() -> None:
    """25 Gaussians from uniform noise, beside codes that say nothing: Bayes' rule is known."""
    rng, side, deviation = np.random.RandomState(0), 10.0, 0.2
    modes = np.stack(np.meshgrid(np.arange(-4, 5, 2), np.arange(-4, 5, 2)), -1).reshape(-1, 2)

    def drawn(n: int) -> tuple[np.ndarray, np.ndarray]:
        data = modes[rng.randint(25, size=n)] + deviation * rng.randn(n, 2)
        return data, side * (rng.rand(n, 2) - 0.5)

    def is_data(x: np.ndarray) -> np.ndarray:
        squared = ((x[:, None] - modes) ** 2).sum(-1)
        density = np.exp(-squared / (2 * deviation**2)).mean(1) / (2 * np.pi * deviation**2)
        return np.asarray(density > 1 / side**2)

    data, noise = drawn(100_000)
    best = 50 * (is_data(data).mean() + 1 - is_data(noise).mean())
    data, noise = (np.concatenate([x, rng.randn(4000, 2)], 1) for x in drawn(4000))
    assert two_sample.told_apart(data, noise).accuracy == pytest.approx(best, abs=3)


def test_classifier_finds_a_dependence_as_often_as_it_can_be_found() -> None:
    # z of x, or of the next x, with as much noise: the best rule looks at z - x, N(0, 1) or N(0, 3)
    x, eps = normal(4000, 1), normal(4000, 1, seed=1)
    z = x + eps
    pairs, apart = (torch.cat([x, codes], 1).numpy() for codes in (z, z.roll(1, 0)))
    ratio = multivariate_normal.logpdf
    own, other = [[1, 1], [1, 2]], [[1, 0], [0, 2]]
    right = [(ratio(rows, cov=own) > ratio(rows, cov=other)).mean() for rows in (pairs, apart)]
    best = 50 * (right[0] + 1 - right[1])
    assert two_sample.told_apart(pairs, apart).accuracy == pytest.approx(best, abs=3)


# ------------------------------------------------------------------------------------- models

N = 600
CENTRE = torch.tensor([3.0, -1.0])  # of the points, which are z + CENTRE with a little noise


def points(seed: int, n: int = N) -> Split:
    x = normal(n, 2, seed=seed) + CENTRE
    return Split(x, torch.full((n,), -1))


@pytest.fixture(scope="module")
def plane() -> Data:
    """A Gaussian in the plane."""
    return Data("plane", points(10), points(11), points(12), classes=0)


class Function(nn.Module):
    """A network without weights."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


class Known(Model):
    """An encoder and a decoder that are given functions."""

    name, title, source, players = "known", "known", "", {}

    def __init__(self, encode: Callable[[Tensor], Tensor], decode: Callable[[Tensor], Tensor]) -> None:
        nn.Module.__init__(self)
        self.latent, self.uniform = 2, False
        self.encoder, self.decoder = Function(encode), Function(decode)  # type: ignore[assignment]


class Broken(Known):
    """A decoder whose observation noise is not finite."""

    likelihood = True

    def observe(self, x: Tensor, rng: torch.Generator) -> Tensor:
        return x / 0


def measured(
    plane: Data, encode: Callable[[Tensor], Tensor], decode: Callable[[Tensor], Tensor] | None = None
) -> list[Measurement]:
    model = Known(encode, decode or (lambda z: z + CENTRE))
    return matching.measure(Subject(model, plane, Settings(samples=N), 0))


def test_an_oracle_matches(plane: Data) -> None:
    rows = measured(plane, lambda x: x - CENTRE)
    # Smirnov's law: passed by one of two dimensions in 0.1 % of draws
    assert value(rows, "codes_worst") < 2.07 * math.sqrt(2 / N)
    assert value(rows, "codes_sliced") < 0.2
    assert abs(value(rows, "codes_mmd")) < 5
    assert value(rows, "pairs_told_low") <= 50 <= value(rows, "pairs_told_high")


def test_an_encoder_that_ignores_x_has_the_marginals_alone(plane: Data) -> None:
    rows = measured(plane, lambda x: normal(len(x), 2, seed=99))
    assert abs(value(rows, "codes_mmd")) < 5
    assert value(rows, "pairs_told") > 85
    assert value(rows, "pairs_told_shuffled") == pytest.approx(50, abs=7)


def test_a_collapsed_posterior_matches_by_what_it_observes_and_not_by_its_mean(plane: Data) -> None:
    """Both joints are independent: they are one where the decoder's noise is the data's."""
    rows = measured(
        plane, lambda x: normal(len(x), 2, seed=99), lambda z: normal(len(z), 2, seed=98) + CENTRE
    )
    assert value(rows, "pairs_told_low") <= 50 <= value(rows, "pairs_told_high")
    rows = measured(plane, lambda x: normal(len(x), 2, seed=99), lambda z: CENTRE.expand(len(z), 2))
    assert abs(value(rows, "codes_mmd")) < 5  # the codes cannot show it
    assert value(rows, "pairs_told") > 95


def test_codes_scaled_by_two_are_found_in_codes_and_pairs(plane: Data) -> None:
    rows = measured(plane, lambda x: 2 * (x - CENTRE))
    # the distance of 600 codes has a deviation of .05
    assert value(rows, "codes_sliced") == pytest.approx(1, abs=0.2)
    assert value(rows, "codes_mmd") > 20
    assert value(rows, "pairs_told") > 80
    assert value(rows, "pairs_told_shuffled") > 60


def test_samples_of_a_wrong_decoder_are_told_by_x_alone(plane: Data) -> None:
    rows = measured(plane, lambda x: x - CENTRE, lambda z: z + CENTRE + 4)
    assert value(rows, "pairs_told_shuffled") > 95


def test_what_cannot_be_measured_has_its_reason(plane: Data) -> None:
    constant = measured(plane, lambda x: torch.zeros(len(x), 2))
    assert "constant" in cell(constant, "codes_correlation").reason
    assert value(constant, "codes_worst") == pytest.approx(0.5, abs=0.05)

    broken = measured(plane, lambda x: torch.full((len(x), 2), torch.nan))
    assert {row.status for row in broken} == {"refused"}
    assert "codes of the encoder: 600 of 600 are not finite" in broken[0].reason

    samples = type("Samples", (), {"sample": lambda self, n: normal(n, 2), "encode": lambda self, x: x})()
    uncoded = matching.measure(Subject(ObjectModel(samples), plane, Settings(), 0))
    assert {row.reason for row in uncoded} == {"it does not tell the codes of its samples"}

    noisy = matching.measure(Subject(Broken(lambda x: x, lambda z: z), plane, Settings(samples=N), 0))
    refusals = {row.reason for row in noisy if row.reference}
    assert refusals == {"the features of the samples are not finite"}
    assert value(noisy, "pairs_told", reference="") > 0

    few = Data("few", points(10), points(11), points(12, 30), classes=0)
    assert "needs 40 of each, there are 30" in measured(few, lambda x: x - CENTRE)[0].reason


def test_references_are_floor_far_end_and_noise(plane: Data) -> None:
    source = ReferenceInput(
        plane, Settings(samples=N), 2, range(2), lambda seed: build("ali", seed, "grid25_easy", 2)
    )
    rows = matching.references(source)
    for seed in range(2):
        floor: dict[str, Any] = {"reference": "prior draws", "seed": seed}
        assert abs(value(rows, "codes_mmd", **floor)) < 5
        assert value(rows, "pairs_told", **floor) == pytest.approx(50, abs=10)
        # chance is right in 50 ± 2 %
        assert value(rows, "pairs_told", reference="noise", seed=seed) > 60
    assert value(rows, "codes_worst", reference="untrained encoder", seed=0) > 0.1
