"""Statistics over seeds agree with scipy and with known answers, and cover what they say."""

import numpy as np
import pytest
from scipy import stats

from alibench.results import statistics


@pytest.mark.parametrize("n", [2, 3, 5, 10])
def test_the_interval_is_students(n: int) -> None:
    x = np.random.default_rng(n).normal(3, 2, n)
    expected = stats.t.interval(0.95, n - 1, loc=x.mean(), scale=stats.sem(x))
    assert statistics.interval(x) == pytest.approx(expected, rel=1e-12)


def test_one_seed_has_no_interval() -> None:
    assert all(np.isnan(statistics.interval([1.0])))


@pytest.mark.parametrize("n", [3, 5, 10])
def test_intervals_cover_the_mean_as_often_as_they_say(n: int) -> None:
    """20,000 samples: the share covered is within three of its own deviations of 95 %."""
    x = np.random.default_rng(n).normal(size=(20_000, n))
    half = stats.t.ppf(0.975, n - 1) * x.std(axis=1, ddof=1) / np.sqrt(n)
    share = float((abs(x.mean(axis=1)) <= half).mean())
    ours = np.array([statistics.interval(row) for row in x[:500]])
    np.testing.assert_allclose(
        ours.T, np.stack([x.mean(axis=1) - half, x.mean(axis=1) + half])[:, :500], rtol=1e-9
    )
    assert share == pytest.approx(0.95, abs=3 * np.sqrt(0.95 * 0.05 / 20_000))


def test_welch_agrees_with_scipy() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.normal(0, 1, 5), rng.normal(1, 3, 9)
    assert statistics.welch(a, b) == pytest.approx(stats.ttest_ind(a, b, equal_var=False).pvalue, rel=1e-12)


def test_samples_without_spread_are_told_apart_if_they_differ() -> None:
    assert statistics.welch([25.0] * 5, [25.0] * 5) == 1
    assert statistics.welch([25.0] * 5, [24.0] * 5) == 0


def test_samples_without_spread_are_equal_whatever_their_sizes() -> None:
    """The mean of three times 0.1 is not that of five, in floating point."""
    assert np.mean([0.1] * 3) != np.mean([0.1] * 5)
    assert statistics.welch([0.1] * 3, [0.1] * 5) == 1


@pytest.mark.parametrize("sizes", [(2, 2), (5, 5), (5, 12)])
def test_welchs_interval_agrees_with_scipy(sizes: tuple[int, int]) -> None:
    rng = np.random.default_rng(sizes[1])
    a, b = rng.normal(0, 1, sizes[0]), rng.normal(1, 3, sizes[1])
    for level in (0.05, 0.2):
        expected = stats.ttest_ind(b, a, equal_var=False).confidence_interval(1 - level)
        assert statistics.welch_interval(a, b, level) == pytest.approx(tuple(expected), rel=1e-9)


def test_welchs_interval_without_spread_is_the_difference_and_one_value_has_none() -> None:
    assert statistics.welch_interval([25.0] * 5, [24.0] * 6) == (-1, -1)
    assert all(np.isnan(statistics.welch_interval([1.0], [1.0, 2.0])))


def test_holm_steps_down() -> None:
    # by hand: sorted .01 .02 .03 .04; times 4 3 2 1: .04 .06 .06 .04, then never smaller than the one before
    assert statistics.holm([0.03, 0.01, 0.04, 0.02]).tolist() == pytest.approx([0.06, 0.04, 0.06, 0.06])
    assert statistics.holm([0.5, 0.9]).tolist() == [1.0, 1.0]


def test_holm_holds_the_error_rate_of_the_whole_family() -> None:
    """2,000 families of ten true nulls, half of each one test: some error in at most 5 %, but for chance."""
    z = np.random.default_rng(1).normal(size=(2000, 10))
    z[:, 5:] = z[:, 5:6]
    p = 2 * stats.norm.sf(abs(z))
    share = float(np.mean([statistics.holm(row).min() < 0.05 for row in p]))
    assert share <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / 2000)


def test_against_the_best_is_one_sided_and_counts_the_others() -> None:
    """Of three models, by scipy's one-sided test: twice the p of the model that is most clearly ahead."""
    rng = np.random.default_rng(2)
    samples = {name: rng.normal(mean, 1, 8) for name, mean in (("a", 0.0), ("b", 0.5), ("c", 4.0))}
    for better, side in (("lower", "greater"), ("higher", "less")):
        for name, p in statistics.against_best(samples, better).items():
            others = [samples[other] for other in samples if other != name]
            tests = [stats.ttest_ind(samples[name], x, equal_var=False, alternative=side) for x in others]
            assert p == pytest.approx(min(1.0, 2 * min(test.pvalue for test in tests)))
    assert statistics.against_best({"a": np.zeros(5)}, "lower") == {}
    without_spread = {"a": np.zeros(5), "b": np.zeros(5), "c": np.ones(5)}
    assert statistics.against_best(without_spread, "lower") == {"a": 1.0, "b": 1.0, "c": 0.0}


@pytest.mark.parametrize("gap", [0.0, 1.0])
@pytest.mark.parametrize("models", [2, 9])
def test_the_best_is_among_those_that_may_be_it(models: int, gap: float) -> None:
    """In 95 of 100 tables of five seeds, but for chance, however far the others are; spreads of 1 to 3."""
    rng, tables = np.random.default_rng(models), 300
    x = rng.normal(size=(tables, models, 5)) * np.linspace(1, 3, models)[:, None]
    x += gap * np.arange(models)[:, None]
    names = [str(model) for model in range(models)]
    found = [statistics.against_best(dict(zip(names, table, strict=True)), "lower") for table in x]
    left_out = np.mean([p["0"] < statistics.LEVEL for p in found])
    assert left_out <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / tables)


def test_among_many_models_the_worse_are_told_from_the_best() -> None:
    """24 models of five seeds that lie four deviations behind: most are told, as few are by Holm's pairs."""
    x = np.random.default_rng(5).normal(size=(25, 5))
    x[1:] += 4
    p = statistics.against_best({str(i): row for i, row in enumerate(x)}, "lower")
    pairs = [(a, b) for a in range(25) for b in range(a)]
    by_pairs = dict(
        zip(pairs, statistics.holm([statistics.welch(x[a], x[b]) for a, b in pairs]), strict=True)
    )
    told = sum(value < statistics.LEVEL for value in p.values())
    assert told >= 18
    assert sum(by_pairs[i, 0] < statistics.LEVEL for i in range(1, 25)) <= told / 2


def test_equivalence_is_two_one_sided_tests() -> None:
    """By hand, from means and deviations; and at the margin itself it errs in one case of twenty."""
    a, b = np.array([1.0, 2.0, 3.0, 4.0]), np.array([2.0, 3.0, 3.5, 5.0, 4.0])
    va, vb = a.var(ddof=1) / 4, b.var(ddof=1) / 5
    freedom = (va + vb) ** 2 / (va**2 / 3 + vb**2 / 4)
    away = a.mean() - b.mean()
    by_hand = stats.t.sf((3.0 - abs(away)) / np.sqrt(va + vb), freedom)
    assert statistics.equivalence(a, b, 3.0) == pytest.approx(by_hand)
    assert statistics.equivalence(a, a, 0.0) == pytest.approx(0.5)
    assert statistics.equivalence(np.zeros(3), np.zeros(3), 0.1) == 0
    assert statistics.equivalence(np.zeros(3), np.ones(3), 0.1) == 1
    rng = np.random.default_rng(0)
    found = [statistics.equivalence(*rng.normal([[0], [2]], 1, (2, 10)), 2.0) < 0.05 for _ in range(2000)]
    assert 0.035 < np.mean(found) < 0.065


@pytest.mark.parametrize("margin", [0.4, 0.6, 0.9])
def test_the_power_of_equivalence_is_how_often_it_is_shown(margin: float) -> None:
    """Of 600 pairs of samples whose means are the same: within three deviations of such a count."""
    rng = np.random.default_rng(0)
    pairs = [(rng.normal(0, 1, 60), rng.normal(0, 2, 90)) for _ in range(600)]
    shown = np.mean([statistics.equivalence(a, b, margin) < statistics.LEVEL for a, b in pairs])
    power = np.mean([statistics.equivalence_power(a, b, margin) for a, b in pairs])
    assert shown == pytest.approx(power, abs=0.06)
    assert statistics.equivalence_power(np.zeros(3), np.zeros(3), 0.1) == 1
