"""Interquartile mean, its interval and performance profiles, against definitions and libraries."""

from __future__ import annotations

from math import sqrt

import numpy as np
import pytest
from scipy import stats

from fgbench.errors import UsageError
from fgbench.stats import aggregate
from fgbench.stats.aggregate import interquartile_mean, iqm, performance_profile, stratified
from fgbench.stats.intervals import Floats


def scores(tasks: int, runs: int, seed: int = 0) -> list[Floats]:
    random = np.random.default_rng(seed)
    return [3.0 * k + random.standard_normal(runs) for k in range(tasks)]


def test_the_interquartile_mean_is_the_middle_half_and_no_outlier_moves_it() -> None:
    values = [0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 100.0]
    assert iqm(values) == np.mean([2.0, 3.0, 4.0, 5.0])
    assert iqm([values, [-v for v in values]]).tolist() == [3.5, -3.5]
    tasks = scores(3, 10)
    assert interquartile_mean(tasks).value == stats.trim_mean(np.concatenate(tasks), 0.25)


def test_the_interval_of_a_mean_of_one_task_is_close_to_t() -> None:
    """Of a mean the bootstrap's normal percentiles at t sqrt(n/(n - 1)) give ± t s / sqrt(n)."""
    (one,) = scores(1, 20, seed=1)
    value, low, high, n = stratified([one], lambda a: a.mean(-1))
    half = stats.t.ppf(0.975, 19) * one.std(ddof=1) / sqrt(20)
    assert (value, n) == (one.mean(), 20)
    assert [low, high] == pytest.approx([value - half, value + half], abs=0.12 * half)


def test_runs_are_resampled_within_their_tasks() -> None:
    """Constant tasks far apart: nothing varies; resampled together they would."""
    apart = [np.zeros(5), np.full(5, 10.0), np.full(5, 20.0)]
    found = interquartile_mean(apart)
    assert (found.low, found.value, found.high) == (found.value, found.value, found.value)


def test_degrees_of_freedom_are_those_of_the_tasks_that_decide() -> None:
    """Of three tasks far apart the middle half is almost the middle task."""
    df = aggregate._freedom(scores(3, 10), iqm)
    assert 9.0 <= df < 15.0
    alike = aggregate._freedom([t - 3.0 * k for k, t in enumerate(scores(3, 10))], iqm)
    assert alike > 18.0


def test_the_same_scores_have_the_same_interval() -> None:
    tasks = scores(2, 7)
    assert interquartile_mean(tasks) == interquartile_mean([t.copy() for t in tasks])


def test_single_runs_have_no_interval_and_no_task_is_refused() -> None:
    found = interquartile_mean([[1.0], [2.0, 3.0, 4.0]])
    assert (found.low, found.high) == (None, None)
    assert found.reason
    for none in ([], [[1.0], []]):
        with pytest.raises(UsageError, match="at least one task, and a run of each"):
            interquartile_mean(none)


def test_a_profile_is_the_share_of_runs_above_averaged_over_tasks() -> None:
    share, low, high = performance_profile([[1.0, 2.0, 3.0, 4.0], [2.0, 2.0]], [0.0, 2.0, 5.0])
    assert share.tolist() == [1.0, 0.25, 0.0]  # above 2: a half, and none at all
    assert (low < share)[[0, 1]].all()
    assert (high > share)[[1, 2]].all()
    assert (low >= 0).all()
    assert (high <= 1).all()


def test_the_band_of_one_task_is_wilsons() -> None:
    share, low, high = performance_profile([np.arange(10.0)], [2.5])
    twin = stats.binomtest(7, 10).proportion_ci(0.95, method="wilson")
    assert share[0] == 0.7
    assert [low[0], high[0]] == pytest.approx([twin.low, twin.high])
    # four equal tasks are four times the runs
    _, low4, high4 = performance_profile([np.arange(10.0)] * 4, [2.5])
    twin = stats.binomtest(28, 40).proportion_ci(0.95, method="wilson")
    assert [low4[0], high4[0]] == pytest.approx([twin.low, twin.high])


@pytest.mark.parametrize("runs", [1, 7, 60, 5000])
def test_wilsons_interval_is_scipys_where_hits_and_runs_are_whole(runs: int) -> None:
    for hits in {0, 1, runs // 3, runs}:
        low, high = aggregate.wilson(np.asarray(hits / runs), np.asarray(float(runs)))
        twin = stats.binomtest(hits, runs).proportion_ci(0.95, method="wilson")
        assert [low, high] == pytest.approx([twin.low, twin.high], rel=1e-13, abs=1e-16)


def test_tasks_that_differ_leave_less_to_chance_than_their_runs_together() -> None:
    """Half of the runs lie above, but which tasks' is certain."""
    share, low, high = performance_profile([np.zeros(10), np.ones(10)], [0.5])
    together = stats.binomtest(10, 20).proportion_ci(0.95, method="wilson")
    assert share[0] == 0.5
    assert together.low < low[0] - 0.1 < 0.4
    assert 0.6 < high[0] + 0.1 < together.high
    assert high[0] > low[0]


@pytest.mark.parametrize("sizes", [(4,), (5, 9), (3, 3, 4)])
def test_the_bootstrap_is_expanded_by_t_and_the_root_of_n_over_n_less_1(
    sizes: tuple[int, ...],
) -> None:
    """By hand: percentiles of the same resampling, where a normal has ± t √(n/(n − 1))."""
    random = np.random.default_rng(11)
    tasks = [random.standard_normal(n) * (k + 1) for k, n in enumerate(sizes)]
    value, low, high, n = stratified(tasks, lambda a: a.mean(-1))
    assert n == min(sizes)
    again = np.random.default_rng(aggregate.SEED)
    picks = [t[again.integers(0, len(t), (aggregate.RESAMPLES, len(t)))] for t in tasks]
    means = np.concatenate(picks, 1).mean(1)
    z = stats.t.ppf(0.975, degrees_of_freedom(tasks)) * sqrt(min(sizes) / (min(sizes) - 1))
    expected = np.quantile(means, [stats.norm.cdf(-z), stats.norm.cdf(z)])
    assert [low, high] == pytest.approx(expected, rel=1e-9)
    assert value == pytest.approx(np.concatenate(tasks).mean(), rel=1e-12)


def degrees_of_freedom(tasks: list[Floats]) -> float:
    """Satterthwaite's, of the mean of all runs: a task has the share Σ (x − mean)²/N² of its variance."""
    total = sum(map(len, tasks))
    shares = [float(((t - t.mean()) ** 2).sum()) * (len(t) - 1) / len(t) for t in tasks]
    shares = [share / (total - 1) ** 2 for share in shares]  # the jackknife leaves one of N out
    parts = zip(shares, tasks, strict=True)
    return sum(shares) ** 2 / sum(share**2 / (len(t) - 1) for share, t in parts)


def test_the_freedom_of_a_mean_is_satterthwaites() -> None:
    random = np.random.default_rng(12)
    tasks = [random.standard_normal(4), 3.0 * random.standard_normal(9)]
    found = aggregate._freedom(tasks, lambda a: a.mean(-1))
    assert found == pytest.approx(degrees_of_freedom(tasks), rel=1e-10)
    assert aggregate._freedom([np.ones(4), np.ones(3)], lambda a: a.mean(-1)) == 5.0  # N less tasks


def test_the_band_of_unequal_tasks_is_wilsons_of_as_many_runs_as_have_their_variance() -> None:
    tasks = [np.array([0.0, 1.0, 1.0]), np.array([0.0, 0.0, 0.0, 1.0, 1.0])]
    share, low, high = performance_profile(tasks, [0.5])
    assert share[0] == pytest.approx((2 / 3 + 2 / 5) / 2)
    one, two = 2.5 / 4, 2.5 / 6  # (hits + 1/2)/(n + 1)
    variance = (one * (1 - one) / 3 + two * (1 - two) / 5) / 4
    near = (one + two) / 2
    ends = aggregate.wilson(share, np.array(near * (1 - near) / variance))
    assert [low[0], high[0]] == pytest.approx([float(end[0]) for end in ends], rel=1e-12)


def test_the_interquartile_mean_of_a_task_that_never_varies_has_no_width() -> None:
    found = interquartile_mean([[2.0, 2.0, 2.0], [2.0, 2.0]])
    assert (found.low, found.value, found.high, found.n) == (2.0, 2.0, 2.0, 2)
