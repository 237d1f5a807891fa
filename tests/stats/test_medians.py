"""The interval of a median covers what it says, and is called a range where there is none."""

from __future__ import annotations

from math import comb

import numpy as np
import pytest

from fgbench.stats.medians import LEAST, ends, median


def coverage(n: int) -> float:
    """Return the probability that the ends hold the median of a continuous distribution."""
    found = median([float(k) for k in range(1, n + 1)])
    low, high = int(found["low"]), int(found["high"])  # ranks
    return sum(comb(n, below) for below in range(low, high)) / 2**n


@pytest.mark.parametrize("n", [LEAST, 7, 9, 10, 20, 21, 50])
def test_the_interval_covers_at_least_95_percent(n: int) -> None:
    assert coverage(n) >= 0.95
    assert ends(n) == "95 % interval"


@pytest.mark.parametrize(("n", "covered"), [(3, 0.75), (5, 0.9375)])
def test_fewer_than_six_values_have_a_range(n: int, covered: float) -> None:
    assert coverage(n) == covered < 0.95  # the widest there is
    assert ends(n) == "range"
    values = np.random.default_rng(n).normal(size=n).tolist()
    found = median(values)
    assert (found["low"], found["high"], found["n"]) == (min(values), max(values), n)


def test_one_value_is_its_own_range() -> None:
    assert median([2.0]) == {"value": 2.0, "low": 2.0, "high": 2.0, "n": 1}
