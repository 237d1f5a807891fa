"""The mean of estimates beside their noise: formulas against the vectors themselves, identities, faults."""

from __future__ import annotations

from itertools import combinations, product
from math import sqrt
from typing import Any

import numpy as np
import pytest

from fgbench.stats import intervals, mean_direction, replicates
from fgbench.stats.blocks import blocks
from fgbench.stats.intervals import Floats, Number
from fgbench.stats.mean_direction import Estimates
from fgbench.stats.variance import relative_variance


def facts(e: Floats, g: Floats) -> tuple[Floats, Floats, Floats, Floats]:
    """X, Y, |d|² and the Gram matrix of block sums of draws e of the truth g."""
    size, d = float(g @ g), e - g
    sums = np.zeros((int(blocks(len(e)).max()) + 1, len(g)))
    np.add.at(sums, blocks(len(e)), d)
    return e @ g / size, (e**2).sum(1) / size, (d**2).sum(1) / size, sums @ sums.T / size


def drawn(draws: int, d: int = 5, shift: float = 0.4, seed: int = 1) -> tuple[Floats, Floats]:
    """Draws about a mean that is off by a shift, and the truth."""
    random = np.random.default_rng(seed)
    g = random.standard_normal(d)
    return g + shift + 0.3 * random.standard_normal((draws, d)), g


@pytest.mark.parametrize("draws", [12, 70])
def test_signal_and_noise_are_those_of_the_vectors(draws: int) -> None:
    e, g = drawn(draws)
    x, y, _, gram = facts(e, g)
    pairs = float(np.mean([a @ b for a, b in combinations(e, 2)]))
    spread = float(e.var(0, ddof=1).sum())
    made = Estimates.of_errors(x, y, gram)
    assert made.moments()[0][0] == pytest.approx(pairs / (g @ g), rel=1e-12)
    assert made.moments()[1][0] == pytest.approx(spread / (g @ g), rel=1e-12)
    assert mean_direction.signal_to_noise(made).value == pytest.approx(pairs / spread, rel=1e-12)
    assert mean_direction.squared_mean(made).value == pytest.approx(pairs / (g @ g), rel=1e-12)
    h = np.arange(5.0)
    towards = e @ h / (h @ h)
    inverse = mean_direction.inverse_cosine(made, towards, float(g @ g / (h @ h)))
    mean = e.mean(0)
    assert inverse.value == pytest.approx(pairs * (h @ h) / (mean @ h) ** 2, rel=1e-12)
    naive = float(mean @ mean) / spread  # what averaging left of the noise, not taken off
    assert naive > 1.001 * pairs / spread


def test_without_one_block_is_the_statistic_of_the_others() -> None:
    e, g = drawn(70)
    x, y, _, gram = facts(e, g)
    left = e[blocks(70) != 3]
    pairs = float(np.mean([a @ b for a, b in combinations(left, 2)]))
    found = Estimates.of_errors(x, y, gram).moments()
    assert found[0][4] == pytest.approx(pairs / (g @ g), rel=1e-12)
    assert found[1][4] == pytest.approx(left.var(0, ddof=1).sum() / (g @ g), rel=1e-12)


def test_error_is_variance_and_squared_bias_over_every_vector_of_signs() -> None:
    g = np.array([1.0, -2.0, 0.5, 3.0])
    v = np.array(list(product((-1.0, 1.0), repeat=4)))
    for factor in (1.0, 1.5):
        e = factor * (v @ g)[:, None] * v
        x, y, d2, gram = facts(e, g)
        variance, off = factor**2 * 3.0, (factor - 1.0) ** 2  # E|e|² = 4 factor², Ee = factor g
        error = mean_direction.normalised_error(d2)
        assert error.value == pytest.approx(variance + off, rel=1e-12)
        measured = relative_variance(d2, gram).value
        assert measured is not None
        assert error.value == pytest.approx(measured * 15 / 16 + off, rel=1e-12)
        assert Estimates.of_errors(x, y, gram).moments()[1][0] == pytest.approx(measured)


def test_the_control_leaves_the_error_of_signs_exact() -> None:
    random = np.random.default_rng(3)
    g = random.standard_normal(50)
    v = random.choice([-1.0, 1.0], (64, 50))
    slopes = (v @ g) ** 2 / (g @ g)
    d2 = facts((v @ g)[:, None] * v, g)[2]
    found = mean_direction.normalised_error(d2, slopes)
    assert found.value == pytest.approx(49.0, rel=1e-12)
    assert found.low == pytest.approx(found.high, rel=1e-9)
    plain = mean_direction.normalised_error(d2)
    assert plain.value != pytest.approx(49.0, rel=1e-3)
    assert mean_direction.normalised_error(d2, np.zeros(64)) == plain


def test_what_does_not_vary_is_exact() -> None:
    g = np.array([3.0, 4.0])
    same = np.tile(2.0 * np.array([4.0, 3.0]), (6, 1))
    x, y, d2, gram = facts(same, g)
    made = Estimates.of_errors(x, y, gram)
    cosine = mean_direction.cosine_of_mean(mean_direction.inverse_cosine(made, x), 1.0)
    assert cosine.value == cosine.low == cosine.high == pytest.approx(24 / 25, rel=1e-12)
    assert mean_direction.signal_to_noise(made).reason == mean_direction.NO_NOISE
    error = mean_direction.normalised_error(d2)
    assert error.value == error.low == error.high == pytest.approx((25 + 4) / 25, rel=1e-12)
    assert mean_direction.normalised_error(np.zeros(6)) == Number.exact(0.0, 6)


def test_a_mean_against_the_truth_has_a_negative_cosine() -> None:
    e, g = drawn(256, shift=0.0)
    x, y, _, gram = facts(-e, g)
    found = mean_direction.cosine_of_mean(
        mean_direction.inverse_cosine(Estimates.of_errors(x, y, gram), x), float(np.sign(x.mean()))
    )
    assert found.low == -1.0
    assert found.value is not None
    assert found.high is not None
    assert -1.0 <= found.value <= found.high < -0.9


def test_a_mean_below_its_noise_is_unresolved() -> None:
    random = np.random.default_rng(5)
    g = random.standard_normal(3000)
    v = random.standard_normal((32, 3000))
    x, y, _, gram = facts((v @ g)[:, None] * v, g)
    made = Estimates.of_errors(x, y, gram)
    ratio = mean_direction.resolved(mean_direction.signal_to_noise(made))
    assert (ratio.value, ratio.low, ratio.reason) == (None, 0.0, mean_direction.UNRESOLVED)
    assert ratio.high is not None
    assert ratio.high > 1 / 3001
    cosine = mean_direction.cosine_of_mean(mean_direction.inverse_cosine(made, x), 1.0)
    assert (cosine.value, cosine.high, cosine.reason) == (None, 1.0, mean_direction.UNRESOLVED)
    nothing = mean_direction.inverse_cosine(made, random.standard_normal(32))
    assert nothing.reason == mean_direction.UNRESOLVED
    assert mean_direction.cosine_of_mean(nothing, 1.0).value is None


@pytest.mark.parametrize(("y", "reason"), [([1.0] * 3, "fewer than 4"), ([np.inf] * 8, "finite")])
def test_too_few_draws_or_none_that_is_finite_are_told(y: list[float], reason: str) -> None:
    made = Estimates(np.array(y), np.eye(len(y)))
    for found in (mean_direction.signal_to_noise(made), mean_direction.squared_mean(made)):
        assert found.value is None
        assert reason in found.reason
    assert mean_direction.inverse_cosine(made, np.ones(len(y))).value is None


@pytest.mark.parametrize("d2", [[], [np.nan, 1.0], [2.0]])
def test_an_error_of_no_draws_has_no_interval(d2: list[float]) -> None:
    found = mean_direction.normalised_error(np.array(d2))
    assert (found.low, found.high) == (None, None)
    assert found.value == (2.0 if d2 == [2.0] else None)


# points and ratios


def test_ratios_are_averaged_on_the_scale_that_all_of_them_have() -> None:
    sure = [Number(2.0, 1.0, 4.0, 9), Number(8.0, 4.0, 16.0, 9)]
    assert replicates.ratio_over(sure, [0, 1]).value == pytest.approx(4.0)
    vague = [Number(v, v - 1.5, v + 1.5, 9) for v in (1.0, 1.2, 1.4, 1.6)]
    pooled = replicates.ratio_over(vague, range(4))
    assert pooled.value == pytest.approx(1.3)
    assert pooled.reason == "pooled over points"
    lost = replicates.ratio_over([Number(v, -9.0, 9.0, 9) for v in (-1.0, 2.0, 1.0)], range(3))
    assert (lost.value, lost.low, lost.reason) == (None, 0.0, mean_direction.UNRESOLVED)
    missing = [*vague, Number(None, None, None, 9, mean_direction.NO_NOISE)]
    assert "1 of 5 points: no noise" in replicates.ratio_over(missing, range(5)).reason


def test_the_interval_of_a_ratio_moves_by_both_parts() -> None:
    a, b = Number(8.0, 4.0, 32.0, 5), Number(2.0, 1.0, 16.0, 9)
    found = intervals.ratio(a, b)
    assert (found.value, found.n) == (4.0, 5)
    assert found.low == pytest.approx(4 * 2.0 ** -sqrt(1 + 9))
    assert found.high == pytest.approx(4 * 2.0 ** sqrt(4 + 1))
    assert intervals.ratio(Number.exact(0.0, 3), b) == Number.exact(0.0, 3)
    assert intervals.ratio(a, Number.exact(0.0, 3)).reason == "divided by 0"
    assert intervals.ratio(Number(None, None, None, 1, "why"), b).reason == "why"
    open_end: Any = intervals.ratio(a, Number(2.0, None, None, 1, "one draw"))
    assert (open_end.value, open_end.low, open_end.reason) == (4.0, None, "one draw")


def test_the_ends_of_a_ratio_are_the_jackknife_over_blocks_written_out() -> None:
    """From the vectors: leave each block out; blocks of 70 draws have two or three."""
    _, g = drawn(70)
    e = 0.15 + np.random.default_rng(3).standard_normal((70, 5))  # the mean is lost in the noise
    x, y, _, gram = facts(e, g)
    which, size = blocks(70), float(g @ g)

    def ratio(left: Floats) -> float:
        total = left.sum(0)
        pairs = (total @ total - (left**2).sum()) / (len(left) * (len(left) - 1))
        return float(pairs / left.var(0, ddof=1).sum())

    without = np.array([ratio(e[which != i]) for i in range(32)])
    jackknife = sqrt(31 * without.var())
    # products of two different draws about their mean, block by block
    centred = e - e.mean(0)
    means = np.stack([centred[which == i].mean(0) for i in range(32)])
    pairs = (means @ means.T)[np.triu_indices(32, 1)]
    null = sqrt(2 * pairs.var(ddof=1) / (32 * 31)) / float(e.var(0, ddof=1).sum())
    quantile = intervals.t_quantile(intervals.freedom(32, without))
    below = max(sqrt(max(jackknife**2 - null**2, 0.0)), null)
    found = mean_direction.signal_to_noise(Estimates.of_errors(x, y, gram))
    assert found.value == pytest.approx(ratio(e), rel=1e-10)
    assert found.low == pytest.approx(ratio(e) - quantile * below, rel=1e-9)
    assert found.high == pytest.approx(ratio(e) + quantile * max(jackknife, null), rel=1e-9)
    assert below != pytest.approx(jackknife, rel=1e-3)
    squared = mean_direction.squared_mean(Estimates.of_errors(x, y, gram))
    assert squared.value == pytest.approx(ratio(e) * e.var(0, ddof=1).sum() / size, rel=1e-10)


@pytest.mark.parametrize("controlled", [False, True])
def test_the_ends_of_an_error_are_those_of_its_logarithm(controlled: bool) -> None:
    d2 = facts(*drawn(40))[2]
    control = np.random.default_rng(2).uniform(0.9, 1.1, 40)
    found = mean_direction.normalised_error(d2, control if controlled else None)

    def error(kept: Any) -> float:
        if controlled:  # |e - g|² - |g|² over the mean of the control
            return float(1.0 + (d2[kept] - 1.0).sum() / control[kept].sum())
        return float(d2[kept].mean())

    logs = np.log([error(np.arange(40) != i) for i in range(40)])
    half = intervals.t_quantile(intervals.freedom(40, logs)) * sqrt(39 * logs.var())
    value = error(np.full(40, True))
    expected = [value * np.exp(-half), value, value * np.exp(half)]
    assert [found.low, found.value, found.high] == pytest.approx(expected, rel=1e-9)
