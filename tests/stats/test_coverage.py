"""Coverage, size and power measured on laws with known answers, with faults each check refuses.

One rule judges all: `runs` is fixed in advance, and a share is refused if a binomial with the rate
at the edge of the allowed band would give it with probability below 1e-6 a side. Seeds are fixed.
The band of an interval is .93 to .97 where it claims .95. `make calibrate` repeats this with more runs.
"""

from __future__ import annotations

from collections.abc import Callable
from math import sqrt

import numpy as np
import pytest
from scipy import stats

from fgbench.stats.bias import bias, coupled
from fgbench.stats.blocks import blocks
from fgbench.stats.intervals import Floats, Number, control_valid, efficiency, scale, scale_test
from fgbench.stats.replicates import efficiency_over, paired_log_ratio, spread
from fgbench.stats.variance import relative_variance
from tests.makers.binomial import refused

pytestmark = pytest.mark.slow

BAND = (0.93, 0.97)
RUNS = 1500


def covered(found: Number, answer: float) -> bool:
    """Whether an interval holds the answer."""
    return found.low is not None and found.high is not None and found.low <= answer <= found.high


def slopes_and_norms(draws: int, d: int, seed: int) -> tuple[Floats, Floats]:
    """X and Y of a forward gradient in d dimensions, from the laws of <g, v>² and |v|² alone."""
    random = np.random.default_rng(seed)
    x = random.standard_normal((RUNS, draws)) ** 2
    return x, x * (x + random.chisquare(d - 1, (RUNS, draws)))


def vectors(runs: int, draws: int, d: int, seed: int) -> Floats:
    """Errors e - g of forward gradients, g the first unit vector: [runs, draws, d]."""
    v = np.random.default_rng(seed).standard_normal((runs, draws, d))
    v *= v[..., :1].copy()
    v[..., 0] -= 1.0
    return v


def gram_of(d: Floats) -> Floats:
    """Gram matrix of block sums of the rows of d, whose number 32 divides."""
    sums = d.reshape(-1, blocks(len(d)).max() + 1, d.shape[1]).sum(0)
    return np.asarray(sums @ sums.T, dtype=np.float64)


def test_the_rule_refuses_what_a_wrong_interval_gives_and_no_sound_one() -> None:
    assert not any(refused(share, RUNS, BAND) for share in (0.91, 0.935, 0.95, 0.97))
    assert all(refused(share, RUNS, BAND) for share in (0.69, 0.86, 0.997))


@pytest.mark.parametrize("controlled", [False, True])
@pytest.mark.parametrize(("draws", "d"), [(64, 20), (256, 20), (64, 2000), (1000, 2000)])
def test_efficiency_covers(draws: int, d: int, controlled: bool) -> None:
    x, y = slopes_and_norms(draws, d, seed=draws + d)
    found = [efficiency(a, b, a if controlled else None) for a, b in zip(x, y, strict=True)]
    assert not refused(np.mean([covered(n, 1 / (d + 2)) for n in found]), RUNS, BAND)


def counted_twice(x: Floats, y: Floats) -> Number:
    """Planted: v and -v, whose estimates are equal, taken as two draws."""
    return efficiency(np.tile(x, 2), np.tile(y, 2))


def as_if_independent(x: Floats, y: Floats) -> Number:
    """Planted: errors of mean X and mean Y added, which in truth nearly cancel."""
    value = x.mean() ** 2 / y.mean()
    half = 1.97 * sqrt((4 * x.var() / x.mean() ** 2 + y.var() / y.mean() ** 2) / len(x))
    return Number(value, value * np.exp(-half), value * np.exp(half), len(x))


@pytest.mark.parametrize("fault", [counted_twice, as_if_independent])
def test_planted_faults_of_the_efficiency_interval_are_refused(
    fault: Callable[[Floats, Floats], Number],
) -> None:
    x, y = slopes_and_norms(256, 20, seed=276)
    share = np.mean([covered(fault(a, b), 1 / 22) for a, b in zip(x, y, strict=True)])
    assert refused(share, RUNS, BAND)


def test_a_control_of_the_wrong_law_is_caught_before_it_ruins_the_interval() -> None:
    """False refusals: |t| > 4, 6e-5 each; allowed here: 2 per cent or less."""
    x, y = slopes_and_norms(256, 200, seed=1)
    norms = y / x / 200
    assert np.mean([control_valid(n) for n in norms[:500]]) > 0.98
    assert not any(control_valid(1.21 * n) for n in norms[:500])
    wrong = [efficiency(1.21 * a, 1.4641 * b, 1.21 * a) for a, b in zip(x, y, strict=True)]
    assert refused(np.mean([covered(n, 1 / 202) for n in wrong]), RUNS, BAND)


def test_scale_covers() -> None:
    x, _ = slopes_and_norms(256, 20, seed=2)
    assert not refused(np.mean([covered(scale(a), 1.0) for a in x]), RUNS, BAND)


@pytest.mark.parametrize("draws", [64, 256])
@pytest.mark.parametrize("controlled", [False, True])
def test_relative_variance_covers_and_a_chi_squared_per_coordinate_does_not(
    draws: int, controlled: bool
) -> None:
    runs, dims = 1000, 20
    hits, textbook = [], []
    for d in vectors(runs, draws, dims, seed=draws):
        x = d[:, 0] + 1.0
        squares = (d**2).sum(1)
        found = relative_variance(squares, gram_of(d), *((x, x) if controlled else ()))
        hits.append(covered(found, dims + 1.0))
        df = draws * dims
        ends = squares.mean() * df / stats.chi2.ppf([0.975, 0.025], df)
        textbook.append(ends[0] <= dims + 1.0 <= ends[1])
    assert not refused(np.mean(hits), runs, BAND)
    assert refused(np.mean(textbook), runs, BAND)


def test_bias_has_its_size_and_power_and_its_interval_covers() -> None:
    """Size .05 at no bias, power .69 to .90 at sqrt(3 sqrt(2 d) / draws), coverage .93 to .99."""
    runs, moved_runs, draws, dims = 400, 200, 64, 20
    size, power, covers, halved = [], [], [], []
    shift = np.zeros(dims)
    shift[1] = sqrt(3 * sqrt(2 * dims) / draws)
    errors = vectors(runs, draws, dims, seed=3)
    for d in errors:
        found = bias(gram_of(d), (d**2).sum(), draws)
        size.append(found.p_value is not None and found.p_value < 0.05)
        # planted: a normal test whose variance of U lacks the 2 of a pair counted twice
        error = (found.detectable or 0.0) ** 2 / 3 / sqrt(2)
        halved.append((found.squared or 0.0) > 1.645 * error)
    for d in errors[:moved_runs] + shift:
        found = bias(gram_of(d), (d**2).sum(), draws)
        power.append(found.p_value is not None and found.p_value < 0.05)
        covers.append(covered(Number(found.value, found.low, found.high, draws), shift[1]))
    assert not refused(np.mean(size), runs, (0.045, 0.06))
    assert refused(np.mean(halved), runs, (0.045, 0.06))
    assert not refused(np.mean(power), moved_runs, (0.69, 0.90))
    assert refused(np.mean(size[:moved_runs]), moved_runs, (0.69, 0.90))
    assert not refused(np.mean(covers), moved_runs, (0.93, 0.99))


def test_the_coupled_truth_sees_a_scale_that_the_plain_test_cannot() -> None:
    """256 draws, scale 1.02, noise of a hundredth of the slope: coupled power is at least .97."""
    runs, draws, dims = 100, 256, 20
    random = np.random.default_rng(4)
    seen: list[bool] = []
    unseen: list[bool] = []
    plain: list[bool] = []
    for d in vectors(runs, draws, dims, seed=5):
        e = d + np.eye(dims)[0]
        v = e / np.sqrt(np.maximum(e[:, :1], 1e-300))  # up to a sign that nothing here depends on
        noise = 0.01 * random.standard_normal((draws, 1)) * v
        for delta, into in ((noise, unseen), (0.02 * e + noise, seen)):
            found = coupled(delta[:, 0], gram_of(delta), (delta**2).sum())
            into.append(found.test.p_value < 0.05)
        plain.append(scale_test(1.02 * e[:, 0] + noise[:, 0]).p_value < 0.05)
    assert np.mean(seen) >= 0.97
    for none in (unseen, plain):
        assert not refused(np.mean(none), runs, (0.04, 0.07))
    assert refused(np.mean(seen), runs, (0.04, 0.07))


def test_points_cover_with_inits_as_replicates_and_not_with_all_points_pooled() -> None:
    """Five inits of two batches, standard deviations .3 and .1 of log inefficiency."""
    random = np.random.default_rng(6)
    inits = [0, 0, 1, 1, 2, 2, 3, 3, 4, 4]
    logs = 3.0 + 0.3 * np.repeat(random.standard_normal((RUNS, 5)), 2, axis=1)
    logs += 0.1 * random.standard_normal((RUNS, 10))
    found = [
        efficiency_over([Number.exact(v, 64) for v in 1 / (1 + np.exp(row))], inits) for row in logs
    ]
    share = np.mean([covered(n, 1 / (1 + np.exp(3.0))) for n in found])
    assert not refused(share, RUNS, (0.94, 0.96))
    pooled = [spread(row, range(10)) for row in logs]
    assert refused(np.mean([abs(p.mean - 3.0) <= (p.half or 0) for p in pooled]), RUNS, BAND)


def test_one_init_covers_its_own_mean_with_moments_kept_apart() -> None:
    """Three moments a factor of ten apart, four batches each; pooling them is far too wide."""
    random = np.random.default_rng(7)
    moments = np.repeat([0, 1, 2], 4)
    logs = 2.3 * moments + 0.2 * random.standard_normal((RUNS, 12))
    apart = [spread(row, [0] * 12, moments.tolist()) for row in logs]
    share = np.mean([abs(p.mean - 2.3) <= (p.half or 0) for p in apart])
    assert not refused(share, RUNS, (0.94, 0.96))
    pooled = [spread(row, [0] * 12) for row in logs]
    assert refused(np.mean([abs(p.mean - 2.3) <= (p.half or 0) for p in pooled]), RUNS, BAND)


def test_a_paired_ratio_has_its_size_and_sees_ten_per_cent() -> None:
    """Ten inits, standard deviation .03 of a paired log ratio, .3 of either alone."""
    random = np.random.default_rng(8)
    a = np.exp(0.3 * random.standard_normal((RUNS, 10)))
    b = a * np.exp(0.03 * random.standard_normal((RUNS, 10)))
    inits = range(10)
    same = [paired_log_ratio(p, q, inits).p_value for p, q in zip(a, b, strict=True)]
    worse = [paired_log_ratio(1.1 * p, q, inits).p_value for p, q in zip(a, b, strict=True)]
    unpaired = stats.ttest_ind(np.log(1.1 * a), np.log(b), axis=1).pvalue
    shares = [np.mean(np.array(p, dtype=float) < 0.05) for p in (same, worse)]
    assert not refused(shares[0], RUNS, (0.045, 0.055))
    assert shares[1] > 0.94
    assert np.mean(unpaired < 0.05) < 0.2
