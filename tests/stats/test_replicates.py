"""From points to a headline, on cases small enough for paper."""

from __future__ import annotations

from math import exp, log, sqrt

import numpy as np
import pytest
from scipy import stats

from fgbench.stats.bias import bias
from fgbench.stats.intervals import Floats, MeanError, Number, scale
from fgbench.stats.replicates import (
    ONE_INIT,
    THESE_POINTS,
    bias_over,
    efficiency_over,
    mean_over,
    paired_log_ratio,
    scale_over,
    spread,
    variance_over,
)


def points_of(values: list[float], width: float = 0.1) -> list[Number]:
    """Points with an interval of a factor around each value."""
    return [Number(v, v * (1 - width), v * (1 + width), 64) for v in values]


def test_inits_are_the_replicates_and_moments_a_fixed_factor() -> None:
    # two inits, two moments, two batches; the mean of means is unmoved by the order
    inits = [0, 0, 0, 0, 1, 1, 1, 1]
    moments = [0, 0, 1, 1, 0, 0, 1, 1]
    found = spread([1, 3, 10, 14, 2, 4, 11, 15], inits, moments)
    assert (found.mean, found.n, found.df, found.reason) == (7.5, 2, 1, "")
    assert found.error == pytest.approx(0.5)
    back = spread([15, 11, 4, 2, 14, 10, 3, 1], inits[::-1], moments[::-1])
    assert (back.mean, back.error) == (found.mean, found.error)


def test_an_uneven_number_of_batches_does_not_weigh_an_init() -> None:
    assert spread([1.0, 1.0, 1.0, 3.0], [0, 0, 0, 1]).mean == 2.0


def test_one_init_takes_batches_within_each_moment() -> None:
    first, second = [1.0, 2.0, 3.0], [11.0, 15.0]
    found = spread(first + second, [0] * 5, [0, 0, 0, 1, 1])
    a, b = 1.0 / 3, 8.0 / 2  # variances of the two means
    assert found.mean == (2.0 + 13.0) / 2
    assert found.error == pytest.approx(sqrt(a + b) / 2)
    assert found.df == pytest.approx((a + b) ** 2 / (a**2 / 2 + b**2 / 1))
    assert found.reason == ONE_INIT
    # one moment is the plain t interval
    plain = spread(first, [0] * 3)
    assert plain.half == pytest.approx(stats.t.ppf(0.975, 2) / sqrt(3))


def test_nothing_replicated_has_no_error() -> None:
    assert spread([1.0, 2.0], [0, 0], [0, 1]).half is None
    with pytest.raises(ValueError, match="2 values, 1 inits"):
        spread([1.0, 2.0], [0])


def test_efficiency_over_points_is_the_geometric_mean_of_inefficiency() -> None:
    points = points_of([1 / 3, 1 / 9, 1 / 5])  # inefficiencies 2, 8, 4
    found = efficiency_over(points, [0, 1, 2])
    assert found.value == pytest.approx(1 / 5)
    half = stats.t.ppf(0.975, 2) * log(2) / sqrt(3)
    assert found.low == pytest.approx(1 / (1 + 4 * exp(half)))
    assert found.high == pytest.approx(1 / (1 + 4 * exp(-half)))
    assert (found.n, found.reason) == (3, "")


def test_variance_and_mean_over_points() -> None:
    assert variance_over(points_of([2.0, 8.0]), [0, 1]).value == pytest.approx(4.0)
    assert variance_over([Number.exact(0.0, 9)] * 3, [0, 1, 2]) == Number.exact(0.0, 3)
    found = mean_over(points_of([-1.0, 3.0]), [0, 1])
    assert found.value == 1.0
    assert found.high == pytest.approx(1.0 + stats.t.ppf(0.975, 1) * 2.0)


def test_one_point_is_returned_as_it_is() -> None:
    point = points_of([0.25])[0]
    for over in (efficiency_over, variance_over, mean_over):
        assert over([point], [3]) is point


def test_points_without_replicates_average_their_own_ends() -> None:
    found = efficiency_over(points_of([1 / 3, 1 / 9]), [0, 0], [0, 2])
    assert found.reason == THESE_POINTS
    ends = [sqrt((1 / a - 1) * (1 / b - 1)) for a, b in ((0.3, 0.1), (1.1 / 3, 1.1 / 9))]
    assert [found.low, found.high] == pytest.approx([1 / (1 + e) for e in ends])
    for second in (0.25, 0.5):
        bare = [Number(0.5, None, None, 1), Number(second, None, None, 1)]
        assert efficiency_over(bare, [0, 0], [0, 1]).low is None


def test_an_unresolved_point_makes_the_mean_null_with_the_count() -> None:
    points = [*points_of([0.5, 0.4]), Number(None, 0.0, 0.1, 64, "unresolved")]
    found = efficiency_over(points, [0, 1, 2])
    assert (found.value, found.low, found.high, found.n) == (None, None, None, 2)
    assert found.reason == "1 of 3 points: unresolved"
    assert efficiency_over([], []).reason == "no points"


def test_points_at_exactness_or_rounding_stay_exact_and_finite() -> None:
    ones = [Number.exact(1.0, 64), Number.exact(1.0 - 1e-15, 64)]
    found = efficiency_over(ones, [0, 1])
    assert found.low == found.value == found.high == 1.0
    mixed = efficiency_over([Number.exact(1.0, 64), *points_of([0.5])], [0, 1])
    assert mixed.value == pytest.approx(1.0, abs=1e-5)
    assert mixed.json()["low"] is not None
    assert efficiency_over([Number.exact(0.0, 4), *points_of([0.5])], [0, 1]).value is not None


def bias_point(seed: int, shift: float) -> tuple[Floats, float]:
    """Gram matrix and sum of squares of 64 draws in 6 dimensions with this bias per element."""
    d = np.random.default_rng(seed).standard_normal((64, 6)) + shift
    sums = d.reshape(2, 32, 6).sum(0)
    return sums @ sums.T, float((d**2).sum())


def test_bias_over_points_averages_squares_and_tests_them_together() -> None:
    grams, sums = zip(*(bias_point(seed, 0.1) for seed in range(6)), strict=True)
    own = [bias(g, s, 64) for g, s in zip(grams, sums, strict=True)]
    squares = np.array([b.squared for b in own], dtype=float)
    assert squares.min() < 0.0
    found = bias_over(grams, sums, 64, list(range(6)))
    assert found.value == pytest.approx(sqrt(squares.mean()))
    half = stats.t.ppf(0.975, 5) * squares.std(ddof=1) / sqrt(6)
    assert found.high == pytest.approx(sqrt(squares.mean() + half))
    assert (found.n, found.reason) == (6, "")
    # together they see what none sees alone
    assert found.detectable is not None
    assert found.p_value is not None
    assert found.detectable < min(b.detectable or 0.0 for b in own)
    assert found.p_value < min(b.p_value or 0.0 for b in own)


def test_bias_over_points_that_repeat_the_same_noise_gains_nothing() -> None:
    gram, total = bias_point(3, 0.05)
    once, thrice = (
        bias(gram, total, 64),
        bias_over([gram] * 3, [total] * 3, 64, [0, 0, 0], [0, 1, 2]),
    )
    assert thrice.p_value == once.p_value
    assert thrice.value == pytest.approx(once.value)
    assert thrice.reason == THESE_POINTS
    assert thrice.high == pytest.approx(once.high)
    assert bias_over([gram], [total], 64, [0]) == once


def test_exact_bias_over_points_is_exact() -> None:
    found = bias_over(np.zeros((4, 8, 8)), np.zeros(4), 8, [0, 1, 2, 3])
    assert (found.value, found.low, found.high, found.p_value) == (0.0, 0.0, 0.0, 1.0)
    rounding = 1e-30 * np.random.default_rng(1).standard_normal((2, 8, 8))
    assert bias_over(rounding, [1e-30, 2e-30], 8, [0, 1]).high == 0.0
    assert bias_over(np.zeros((2, 3, 3)), np.ones(2), 3, [0, 1]).value is None


def test_a_paired_ratio_is_the_t_test_of_log_ratios() -> None:
    random = np.random.default_rng(4)
    a = np.exp(random.standard_normal(10))
    b = a / 1.1 * np.exp(0.03 * random.standard_normal(10))
    found = paired_log_ratio(a.tolist(), b.tolist(), list(range(10)))
    expected = stats.ttest_rel(np.log(a), np.log(b))
    assert (found.t, found.p_value) == pytest.approx((expected.statistic, expected.pvalue))
    ends = expected.confidence_interval(0.95)
    assert [found.ratio.low, found.ratio.high] == pytest.approx(list(np.exp(ends)))
    same = paired_log_ratio([2.0, 3.0], [2.0, 3.0], [0, 1])
    assert (same.ratio, same.t, same.p_value) == (Number.exact(1.0, 2), 0.0, 1.0)


@pytest.mark.parametrize("bad", [None, 0.0, float("inf"), float("nan")])
def test_a_paired_ratio_needs_positive_numbers(bad: float | None) -> None:
    found = paired_log_ratio([1.0, bad], [1.0, 1.0], [0, 1])
    assert (found.ratio.value, found.p_value) == (None, None)
    assert found.ratio.reason == "1 of 2 points have no positive number in both"
    alone = paired_log_ratio([2.0], [1.0], [0])
    assert alone.ratio.value == pytest.approx(2.0)
    assert alone.p_value is None


def test_a_bias_over_batches_reaches_as_high_as_over_draws() -> None:
    """Four U that are below 0 and agree: t over them alone gave [0, 0]."""
    d = [np.random.default_rng(seed).standard_normal((32, 40)) for seed in range(4)]
    lowest = [errors - errors.mean(0) for errors in d]
    grams, sums = np.stack([e @ e.T for e in lowest]), [float((e**2).sum()) for e in lowest]
    found = bias_over(grams, sums, 32, inits=[0] * 4)
    assert found.squared is not None
    assert found.squared < 0.0
    assert (found.n, found.low) == (4, 0.0)
    assert found.high == found.draws_high
    assert found.detectable is not None
    assert found.high is not None
    assert found.high > found.detectable / 2


def test_the_scale_over_points_is_tested_over_draws() -> None:
    """Its interval is t's over inits; its test takes the draws of all points as replicates."""
    random = np.random.default_rng(3)
    series = [random.standard_normal(64) ** 2 for _ in range(5)]
    found = scale_over(series, range(5))
    assert found.number == mean_over([scale(x) for x in series], range(5))
    error = MeanError.together([MeanError.of(x) for x in series])
    assert found.number.value is not None
    assert found.p_value == error.p_value(found.number.value - 1.0)
    assert found.json() == {**found.number.json(), "p_value": found.p_value}
    off = scale_over([0.5 * x for x in series], range(5))
    assert off.p_value is not None
    assert off.p_value < 1e-6
    exact = scale_over([np.full(6, 1.0 + 1e-7), np.full(6, 1.0)], range(2), rounding=1e-6)
    assert exact.p_value == 1.0
    assert scale_over([np.full(6, 0.1)] * 2, range(2)).p_value == 0.0
    assert scale_over([[1.0], [2.0]], range(2)).p_value is None


def test_five_inits_that_agree_by_chance_do_not_reject_the_scale() -> None:
    """300 experiments of 5 inits x 64 draws at p < .005: t over inits, at twice its reach, rejects
    this often where it is skewed; over draws 3 of 300 are 1.5 expected, 9 a false alarm below 1e-4."""
    random = np.random.default_rng(4)
    rejected = 0
    for _ in range(300):
        x = random.standard_normal((5, 64)) ** 2
        found = scale_over(list(x), range(5))
        assert found.p_value is not None
        rejected += found.p_value < 0.005
    assert rejected < 9
