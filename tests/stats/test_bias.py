"""Numbers from a Gram matrix of blocks, against the vectors they stand for."""

from __future__ import annotations

from itertools import product
from math import sqrt

import numpy as np
import pytest
from scipy import stats

from fgbench.stats.bias import Bias, bias, coupled
from fgbench.stats.blocks import blocks, sign_flip_p
from fgbench.stats.intervals import Floats, Number
from fgbench.stats.variance import relative_variance


def gram_of(d: Floats) -> Floats:
    """Gram matrix of block sums of the rows of d."""
    which = blocks(len(d))
    sums = np.stack([d[which == i].sum(0) for i in range(which.max() + 1)])
    return np.asarray(sums @ sums.T, dtype=np.float64)


def errors_of(draws: int, d: int, seed: int, scale: float = 1.0) -> Floats:
    """Errors of scale * <g, v> v with g the first unit vector."""
    v = np.random.default_rng(seed).standard_normal((draws, d))
    e = scale * v[:, :1] * v
    e[:, 0] -= 1.0
    return e


def test_blocks_are_dealt_in_turn_and_an_extension_moves_no_draw() -> None:
    assert blocks(3).tolist() == [0, 1, 2]
    assert np.bincount(blocks(100)).tolist() == [4] * 4 + [3] * 28
    assert blocks(100)[:64].tolist() == blocks(64).tolist()
    assert len(blocks(0)) == 0


@pytest.mark.parametrize("draws", [6, 32, 70])
def test_the_squared_bias_is_the_mean_over_pairs_of_draws(draws: int) -> None:
    d = errors_of(draws, 7, seed=1)
    pairs = [d[k] @ d[j] for k in range(draws) for j in range(draws) if j != k]
    found = bias(gram_of(d), (d**2).sum(), draws)
    assert found.squared == pytest.approx(np.mean(pairs), rel=1e-10)


@pytest.mark.parametrize("draws", [2, 3, 5, 32, 70])
@pytest.mark.parametrize("shift", [0.0, 3.0])
def test_relative_variance_is_the_sample_variance_of_the_vectors(draws: int, shift: float) -> None:
    d = errors_of(draws, 7, seed=2) + shift
    found = relative_variance((d**2).sum(1), gram_of(d))
    assert found.value == pytest.approx(d.var(0, ddof=1).sum(), rel=1e-10)
    if draws < 4:
        assert (found.low, found.high) == (None, None)
    else:
        which = blocks(draws)
        left = [d[which != i].var(0, ddof=1).sum() for i in range(which.max() + 1)]
        blocked = len(left)
        df = freedom_twin(blocked, (d**2).sum(1), np.ones(draws))
        half = stats.t.ppf(0.975, df) * sqrt((blocked - 1) * np.log(left).var())
        ends = (found.value or 0.0) * np.exp([-half, half])
        assert [found.low, found.high] == pytest.approx(list(ends), rel=1e-8)


def test_one_deviating_draw_among_constant_ones_has_a_wide_interval_not_an_error() -> None:
    d = np.ones((40, 3))
    d[7] = 2.0
    found = relative_variance((d**2).sum(1), gram_of(d))
    assert found.value == pytest.approx(d.var(0, ddof=1).sum())
    assert found.low is not None
    assert found.high is not None
    assert 0.0 < found.low < 1e-3 < 1e3 < found.high


def freedom_twin(blocked: int, above: Floats, below: Floats) -> float:
    """Degrees of freedom from the excess kurtosis of a mean ratio without each draw."""
    keep = ~np.eye(len(above), dtype=bool)
    left = [above[k].sum() / below[k].sum() for k in keep]
    return float(2 / (2 / (blocked - 1) + max(stats.kurtosis(left), 0.0) / len(above)))


def controlled_twin(e: Floats, z: Floats) -> float:
    """Mean |e|²/z̄ less the mean product of different draws over z̄², from the vectors."""
    n = len(e)
    products = e @ e.T
    different = (products.sum() - np.trace(products)) / (n * (n - 1))
    return float((e**2).sum(1).mean() / z.mean() - different / z.mean() ** 2)


def test_controlled_relative_variance_is_the_jackknife_written_out() -> None:
    d = errors_of(70, 9, seed=4)
    x = d[:, 0] + 1.0
    e = d.copy()
    e[:, 0] += 1.0
    found = relative_variance((d**2).sum(1), gram_of(d), x, x)
    assert found.value == pytest.approx(controlled_twin(e, x), rel=1e-10)
    keep = [blocks(70) != i for i in range(32)]
    left = np.log([controlled_twin(e[k], x[k]) for k in keep])
    half = stats.t.ppf(0.975, freedom_twin(32, (e**2).sum(1), x)) * sqrt(31 * left.var())
    assert found.high == pytest.approx((found.value or 0.0) * np.exp(half), rel=1e-6)


def test_a_control_that_leaves_no_variance_is_left_out() -> None:
    # e = g + small noise, with a control that has nothing to do with it
    random = np.random.default_rng(5)
    d = 0.01 * random.standard_normal((64, 6))
    squares, x = (d**2).sum(1), d[:, 0] + 1.0
    control = random.standard_normal(64) ** 2
    plain = relative_variance(squares, gram_of(d))
    assert relative_variance(squares, gram_of(d), x, control) == plain
    assert relative_variance(squares, gram_of(d), x, np.zeros(64)) == plain


def test_a_constant_error_has_no_variance_and_an_exact_bias() -> None:
    d = np.tile(np.random.default_rng(6).standard_normal(11), (70, 1))
    size = float(np.linalg.norm(d[0]))
    for draws in (2, 3, 70):
        one = relative_variance((d[:draws] ** 2).sum(1), gram_of(d[:draws]))
        assert one == Number.exact(0.0, draws)
    found = bias(gram_of(d), (d**2).sum(), 70)
    assert [found.value, found.low, found.high] == pytest.approx([size] * 3, rel=1e-12)
    assert found.detectable == 0.0
    assert found.p_value is not None
    assert found.p_value <= 1e-3


def test_no_error_is_exactly_zero_bias_and_zero_variance() -> None:
    assert bias(np.zeros((8, 8)), 0.0, 8) == Bias.exact(0.0, 8)
    assert bias(np.zeros((8, 8)), 0.0, 8).json() == {
        "value": 0.0,
        "low": 0.0,
        "high": 0.0,
        "p_value": 1.0,
        "detectable": 0.0,
        "squared": 0.0,
        "draws_low": 0.0,
        "draws_high": 0.0,
        "n": 8,
        "reason": "",
    }
    assert relative_variance(np.zeros(8), np.zeros((8, 8))) == Number.exact(0.0, 8)
    d = 1e-15 * np.random.default_rng(7).standard_normal((40, 5))
    assert bias(gram_of(d), (d**2).sum(), 40).value == 0.0
    d *= 1e6
    assert bias(gram_of(d), (d**2).sum(), 40) != Bias.exact(0.0, 40)
    assert bias(gram_of(d), (d**2).sum(), 40, rounding=1e-6) == Bias.exact(0.0, 40)
    squares = (d**2).sum(1)
    assert relative_variance(squares, gram_of(d), rounding=1e-6) == Number.exact(0.0, 40)
    assert relative_variance(squares, gram_of(d)).value != 0.0


def test_too_few_draws_are_null() -> None:
    d = errors_of(5, 5, seed=8)  # 2^4 patterns of signs: no p below 1/16
    found = bias(gram_of(d), (d**2).sum(), 5)
    assert found.reason == "fewer than 6 draws"
    assert {v for name, v in found.json().items() if name not in ("n", "reason")} == {None}
    assert found.json()["reason"] == "fewer than 6 draws"
    assert relative_variance([1.0], [[1.0]]).reason == "one draw"
    assert bias(np.full((8, 8), np.nan), np.nan, 8).value is None
    assert bias(np.ones((8, 8)), np.nan, 8).reason == "a draw is not finite"


def test_few_draws_of_a_noisy_estimate_get_no_verdict() -> None:
    """However large the bias is: an interval, and no p-value below 32 draws."""
    d = 3.0 + errors_of(32, 400, seed=10)
    few, enough = (bias(gram_of(d[:n]), (d[:n] ** 2).sum(), n) for n in (31, 32))
    assert (few.p_value, few.detectable) == (None, None)
    assert few.reason == "fewer than 32 draws: no test"
    assert few.low is not None
    assert few.low > 0.0
    assert enough.p_value is not None
    assert enough.p_value < 1e-3
    assert (enough.draws_low, enough.draws_high) == (enough.low, enough.high)


@pytest.mark.parametrize("shift", [0.0, 0.5])
def test_null_error_and_interval_follow_their_formulas(shift: float) -> None:
    d = errors_of(128, 30, seed=9) + shift
    gram = gram_of(d)
    off = gram[np.triu_indices(32, 1)]
    s0 = sqrt(2 * off.var(ddof=1) * (32 / 128) ** 2 / (128**2 * (1 - 1 / 32)))
    found = bias(gram, (d**2).sum(), 128)
    assert found.detectable == pytest.approx(sqrt(3 * s0), rel=1e-10)
    everyone = np.arange(32)
    left = [gram[np.ix_(everyone != i, everyone != i)] for i in everyone]
    u = np.array([(g.sum() - np.trace(g)) / (31 * 30 * 16) for g in left])
    jackknife = sqrt(31 * u.var())
    below, above = max(sqrt(max(jackknife**2 - s0**2, 0.0)), s0), max(jackknife, s0)
    assert found.squared is not None
    assert found.low == pytest.approx(sqrt(max(found.squared - 2.0395134 * below, 0.0)), rel=1e-6)
    assert found.high == pytest.approx(sqrt(found.squared + 2.0395134 * above), rel=1e-6)
    assert (found.low == 0.0) == (shift == 0.0)


def test_a_control_that_leaves_only_the_squared_bias_to_chance_takes_its_standard_error() -> None:
    """Directions of fixed norm: mean |e|²/z̄ is d, and across g the mean product over z̄² is left."""
    v = np.sign(np.random.default_rng(12).standard_normal((256, 10)))
    g = np.random.default_rng(13).standard_normal(10)
    g /= np.linalg.norm(g)
    x = (v @ g) ** 2
    d = (v @ g)[:, None] * v - g
    found = relative_variance((d**2).sum(1), gram_of(d), x, x)
    across = d - np.outer(d @ g, g)
    off = gram_of(across)[np.triu_indices(32, 1)]
    s0 = sqrt(2 * off.var(ddof=1) * (32 / 256) ** 2 / (256**2 * (1 - 1 / 32)))
    assert found.value is not None
    half = stats.t.ppf(0.975, 32 * 31 / 2) * s0 / x.mean() ** 2 / found.value
    assert found.high == pytest.approx(found.value * np.exp(half), rel=1e-6)
    # without the control the slopes vary too
    plain = relative_variance((d**2).sum(1), gram_of(d))
    assert (plain.high or 0.0) / (plain.low or 1.0) > 1.2 > 1.05 > found.high / (found.low or 1.0)


def test_the_value_is_null_only_if_undetectable_and_unseen() -> None:
    d = errors_of(32, 4000, seed=10)
    unseen = bias(gram_of(d), (d**2).sum(), 32)
    assert unseen.detectable is not None
    assert unseen.detectable > 1.0
    assert (unseen.value, unseen.reason) == (None, "unresolved")
    assert unseen.high is not None
    assert unseen.high > 0.0
    d += 3.0
    seen = bias(gram_of(d), (d**2).sum(), 32)
    assert seen.detectable is not None
    assert seen.value == pytest.approx(3.0 * 4000**0.5, rel=0.1)
    d = errors_of(256, 20, seed=10)
    fine = bias(gram_of(d), (d**2).sum(), 256)
    assert fine.value is not None
    assert fine.detectable is not None
    assert fine.detectable < 1.0


def test_sign_flips_of_few_blocks_are_enumerated() -> None:
    gram = np.random.default_rng(11).standard_normal((5, 9))
    gram = gram @ gram.T
    off = gram - np.diag(np.diag(gram))
    patterns = np.array(list(product([-1.0, 1.0], repeat=5)))
    sums = np.einsum("si,ij,sj->s", patterns, off, patterns)
    assert sign_flip_p(gram) == np.mean(sums >= off.sum() - 1e-9)
    assert sign_flip_p(np.ones((4, 4))) == 1 / 8


def test_random_sign_flips_agree_with_enumeration_and_repeat() -> None:
    """14 blocks are sampled: |p - exact| < 5 se has a false alarm of 6e-7."""
    d = np.random.default_rng(12).standard_normal((14, 30)) + 0.2
    gram = d @ d.T
    off = gram - np.diag(np.diag(gram))
    patterns = 1.0 - 2.0 * ((np.arange(2**13)[:, None] >> np.arange(14)) & 1)
    exact = np.mean(((patterns @ off) * patterns).sum(1) >= off.sum() - 1e-9)
    assert 0.001 < exact < 0.5
    assert abs(sign_flip_p(gram) - exact) < 5 * sqrt(exact / 1e4)
    assert sign_flip_p(gram) == sign_flip_p(7.0 * gram)
    assert sign_flip_p(np.ones((32, 32))) == 1e-4


def test_the_coupled_truth_is_exact_where_both_estimates_are_one() -> None:
    found = coupled(np.zeros(64), np.zeros((32, 32)), 0.0)
    assert found.exact
    assert found.scale == Number.exact(1.0, 64)
    assert (found.test.p_value, found.bias.p_value) == (1.0, 1.0)
    d = errors_of(64, 5, seed=13) * 0.02
    other = coupled(d[:, 0], gram_of(d), (d**2).sum())
    assert not other.exact
    assert other.scale.value == pytest.approx(1.0 + d[:, 0].mean())
    assert other.bias == bias(gram_of(d), (d**2).sum(), 64)


def test_the_upper_end_is_never_below_what_the_draws_could_have_seen() -> None:
    """Errors whose sum is 0 have the lowest U there is; the interval once read [0, 0] there."""
    for d in (20, 500):
        lowest = errors_of(64, d, seed=d)
        lowest -= lowest.mean(0)
        found = bias(gram_of(lowest), (lowest**2).sum(), 64)
        assert found.squared is not None
        assert found.squared < 0.0
        assert found.high is not None
        assert found.detectable is not None
        assert found.detectable / 2 < found.high == found.draws_high
        # √(t31 s0) beside √(3 s0)
        assert found.high >= (1 - 1e-9) * sqrt(stats.t.ppf(0.975, 31) / 3) * found.detectable
    assert (found.value, found.reason) == (None, "unresolved")
    assert found.json()["reason"] == "unresolved"
