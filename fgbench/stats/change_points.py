"""Where the level of a series changes: a number tracked over commits.

Two kinds of series are told apart. An *exact* number is computed in float64 with fixed noise, so it repeats
to the last digit until the code changes; there every difference is a change. A *noisy* one, such as a time,
is cut into levels by least squares, and a cut counts only where t tests of all neighbouring levels reject.

For a fixed way to cut n independent normal numbers into k levels, the difference of two neighbouring
means over its error has a t distribution with n - k degrees of freedom. There are C(n-k-1, k-1) ways to
cut with at least two numbers a level, k - 1 differences in each, and K - 1 values of k. With the level of
each test divided by the product of these three, no cut is found in a series of one level but with
probability `FALSE_ALARM` (Bonferroni over everything that is searched).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import comb

import numpy as np
from numpy.typing import NDArray
from scipy import stats

LEAST = 8
"""Numbers from which on a change is looked for: below it chance makes one of almost any series."""
FALSE_ALARM = 0.01
"""Probability of a change in a series that has none."""
SHORTEST = 2
"""Numbers of a level: a single one may be an outlier."""
MOST = 6
"""Levels that are looked for at most, and no more than a fourth of the numbers."""
EQUAL = 1e-6
"""Relative difference up to which two numbers are the same; processors differ by up to 6e-11."""

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Levels:
    """A series cut into levels.

    Args:
        starts: index of the first number of every level, 0 included; empty where nothing was looked for.
        values: mean of each level; of an exact series its number.
        exact: whether the numbers repeat, so that every difference is a change.

    Example:
        >>> Levels((0, 5), (1.0, 2.0), True).changes
        (5,)
    """

    starts: tuple[int, ...]
    values: tuple[float, ...]
    exact: bool

    @property
    def changes(self) -> tuple[int, ...]:
        """Indices at which another level begins."""
        return self.starts[1:]


def levels(values: Sequence[float], *, single: bool) -> Levels:
    """Cut a series into levels.

    Args:
        values: finite numbers in the order of the commits.
        single: whether each is one number, not the median of samples. Only such a series can be exact:
            medians of few possible values, such as test errors, repeat by chance.

    Returns:
        The levels; none with fewer than `LEAST` numbers.

    Example:
        >>> levels([1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.02], single=True).changes
        (7,)
        >>> levels([1.0, 1.1, 0.9, 1.0, 2.0, 2.1, 1.9, 2.0], single=False).changes
        (4,)
        >>> levels([1.0, 2.0, 1.0, 2.0], single=False).changes
        ()
    """
    y = np.asarray(values, float)
    if len(y) < LEAST:
        return Levels((), (), False)
    if single and repeats(y):
        starts = (0, *(i for i in range(1, len(y)) if not same(y[i - 1], y[i])))
        return Levels(starts, tuple(float(y[i]) for i in starts), True)
    starts = _noisy(y)
    return Levels(starts, tuple(_means(y, starts)), False)


def same(one: float, two: float) -> bool:
    """Return whether two numbers differ by no more than rounding, see `EQUAL`.

    Example:
        >>> same(1.0, 1.0 + 1e-9), same(1.0, 1.001), same(0.0, 0.0)
        (True, False, True)
    """
    return bool(abs(two - one) <= EQUAL * max(abs(one), abs(two)))


def repeats(values: Sequence[float] | Floats) -> bool:
    """Return whether most numbers of a series equal the one before.

    Noise with a density never does that, so a series of noise is never taken for an exact one.

    Args:
        values: in the order of the commits.

    Returns:
        Whether more than half of the neighbours are the same.

    Example:
        >>> repeats([1.0, 1.0, 1.0, 2.0]), repeats([1.0, 1.01, 0.99, 1.0])
        (True, False)
    """
    pairs = [same(one, two) for one, two in pairwise(values)]
    return 2 * sum(pairs) > len(pairs)


def _noisy(y: Floats) -> tuple[int, ...]:
    """Return the starts of the most levels that are all confirmed."""
    n = len(y)
    most = min(MOST, n // 4)
    for k in range(most, 1, -1):
        starts = _fit(y, k)
        tests = comb(n - k - 1, k - 1) * (k - 1) * (most - 1)
        if starts and _weakest(y, starts) < FALSE_ALARM / tests:
            return starts
    return (0,)


def _fit(y: Floats, k: int) -> tuple[int, ...]:
    """Return the starts of the k levels, each of `SHORTEST` numbers or more, with the least squares left."""
    n, z = len(y), y - y.mean()  # sums of squares of small numbers, which do not cancel
    first, second = (np.concatenate([[0.0], np.cumsum(power)]) for power in (z, z**2))
    i, j = np.ogrid[: n + 1, : n + 1]
    size = j - i
    with np.errstate(divide="ignore", invalid="ignore"):
        left = second[None] - second[:, None] - (first[None] - first[:, None]) ** 2 / size
    cost = np.where(size >= SHORTEST, np.maximum(left, 0.0), np.inf)
    best, back = cost[0], []
    for _ in range(k - 1):
        total = best[:, None] + cost  # the last level begins at the row and ends before the column
        back.append(total.argmin(axis=0))
        best = total.min(axis=0)
    if not np.isfinite(best[n]):
        return ()
    starts, end = [], n
    for choice in reversed(back):
        end = int(choice[end])
        starts.append(end)
    return (0, *reversed(starts))


def _weakest(y: Floats, starts: tuple[int, ...]) -> float:
    """Return the largest p-value of the differences between neighbouring levels.

    Numbers on a grid, such as errors of few examples, are noisy by a twelfth of the square of its step at
    least, even where those of a level happen to be equal.
    """
    ends = (*starts[1:], len(y))
    sizes = np.diff([*starts, len(y)])
    means = np.asarray(_means(y, starts))
    squares = sum(
        float(((y[a:b] - m) ** 2).sum()) for a, b, m in zip(starts, ends, means, strict=True)
    )
    steps = np.diff(np.unique(y))
    grid = float(steps.min()) ** 2 / 12 if len(steps) else 0.0
    freedom = len(y) - len(starts)
    variance = max(squares, grid * freedom) / freedom
    errors = np.sqrt(variance * (1 / sizes[1:] + 1 / sizes[:-1]))
    differences = np.abs(np.diff(means))
    if not errors.all():  # all numbers are equal
        return 1.0
    return float((2 * stats.t.sf(differences / errors, freedom)).max())


def _means(y: Floats, starts: Sequence[int]) -> list[float]:
    """Return the mean of each level."""
    return [float(y[a:b].mean()) for a, b in pairwise((*starts, len(y)))]
