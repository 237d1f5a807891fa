"""Change points of a series: none in noise, every one of exact numbers, planted steps found."""

from __future__ import annotations

from itertools import combinations
from math import comb

import numpy as np
import pytest

from fgbench.stats import change_points
from fgbench.stats.change_points import LEAST, levels


def noise(n: int, seed: int = 0) -> np.ndarray:
    return 1.0 + 0.03 * np.random.default_rng(seed).standard_normal(n)


@pytest.mark.parametrize("n", [1, 2, 5, LEAST - 1])
@pytest.mark.parametrize("single", [True, False])
def test_fewer_than_eight_commits_have_no_change_point(n: int, single: bool) -> None:
    values = np.where(np.arange(n) < n // 2, 1.0, 9.0)
    assert levels(values.tolist(), single=single).starts == ()


def test_equal_commits_have_none() -> None:
    for single in (True, False):
        assert levels([0.1] * 20, single=single).changes == ()
    last_digit = [1.0 + 6e-11 * (at % 2) for at in range(20)]  # two instruction sets
    assert levels(last_digit, single=True).changes == ()


def test_an_exact_number_changes_wherever_it_differs() -> None:
    values = [2.0] * 5 + [2.001] + [2.0] * 5 + [1.5]
    found = levels(values, single=True)
    assert found.exact
    assert found.changes == (5, 6, 11)
    assert found.values == (2.0, 2.001, 2.0, 1.5)
    median = levels(values, single=False)  # medians of few possible values repeat by chance
    assert not median.exact
    assert median.changes == ()


@pytest.mark.parametrize("at", [2, 6, 10])
def test_a_planted_step_is_found_where_it_is(at: int) -> None:
    values = noise(12) * np.where(np.arange(12) < at, 1.0, 1.3)
    found = levels(values.tolist(), single=False)
    assert found.changes == (at,)
    assert found.values == pytest.approx([values[:at].mean(), values[at:].mean()])


def test_a_step_up_and_back_is_found_whole() -> None:
    up = (np.arange(20) >= 7) & (np.arange(20) < 14)
    values = noise(20) * np.where(up, 1.4, 1.0)
    assert levels(values.tolist(), single=False).changes == (7, 14)


def test_an_outlier_is_no_level() -> None:
    values = noise(16)
    values[9] = 3.0
    assert levels(values.tolist(), single=False).changes == ()


def test_numbers_on_a_grid_need_more_than_a_coin_would_give() -> None:
    one = [0.1] * 4 + [0.2] * 4
    assert levels(one, single=False).changes == ()
    assert levels([0.1] * 8 + [0.2] * 8, single=False).changes == (8,)


@pytest.mark.parametrize("scale", [1e-12, 1.0, 1e12])
def test_units_do_not_matter(scale: float) -> None:
    values = noise(12) * np.where(np.arange(12) < 6, 1.0, 1.3)
    assert levels((scale * values).tolist(), single=False).changes == (6,)
    assert levels((scale * (1e3 + values)).tolist(), single=False).changes == (6,)
    assert levels((-scale * values).tolist(), single=False).changes == (6,)


@pytest.mark.parametrize(("n", "k"), [(8, 2), (12, 3), (13, 4)])
def test_the_fit_is_the_best_of_all_and_the_tests_count_all(n: int, k: int) -> None:
    y = noise(n, seed=n)

    def left(starts: tuple[int, ...]) -> float:
        ends = (*starts[1:], n)
        return sum(((y[a:b] - y[a:b].mean()) ** 2).sum() for a, b in zip(starts, ends, strict=True))

    ways = [
        (0, *cut)
        for cut in combinations(range(1, n), k - 1)
        if min(np.diff((0, *cut, n))) >= change_points.SHORTEST
    ]
    assert len(ways) == comb(n - k - 1, k - 1)
    assert change_points._fit(y, k) == min(ways, key=left)
