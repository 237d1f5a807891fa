"""How many paired seeds a comparison needs before its tests can decide anything."""

from __future__ import annotations

from math import sqrt
from typing import TYPE_CHECKING

from fgbench.stats.intervals import t_quantile
from fgbench.stats.multiple_tests import LEVEL

if TYPE_CHECKING:
    from fgbench.stats.paired_seeds import Difference

MOST = 200  # seeds that are thought of
POWER = 0.8


def smallest_p(seeds: int, comparisons: int = 1) -> float:
    """Return the smallest p-value that sign flips over some seeds can have, adjusted by Holm's method.

    The observed signs and their opposites are 2 of 2ⁿ patterns, whatever the differences are.

    Args:
        seeds: pairs.
        comparisons: how many are made; the smallest p of them is multiplied by their number.

    Returns:
        The p-value.

    Example:
        >>> smallest_p(5), smallest_p(10, comparisons=5)
        (0.0625, 0.009765625)
    """
    return min(1.0, comparisons * 2.0 ** (1 - seeds))


def least_seeds(comparisons: int = 1) -> int:
    """Return the fewest seeds with which a sign-flip test can reject at the 5 % level at all.

    Args:
        comparisons: how many are made.

    Returns:
        A number of seeds.

    Example:
        >>> least_seeds(), least_seeds(5), least_seeds(9)
        (6, 8, 9)
    """
    return next(n for n in range(2, MOST) if smallest_p(n, comparisons) <= LEVEL)


def power(seeds: int, comparisons: int = 1, effect: float = 1.0) -> float:
    """Return the probability that a difference between two methods is seen.

    It is that of a two-sided paired t test at the 5 % level divided by the number of comparisons, and 0
    where no sign-flip test can reject.

    Args:
        seeds: pairs.
        comparisons: how many are made.
        effect: the true difference over its standard deviation between seeds.

    Returns:
        The power.

    Example:
        >>> round(power(20, comparisons=9), 1), power(5)
        (0.9, 0.0)
    """
    from scipy.stats import nct

    if smallest_p(seeds, comparisons) > LEVEL:
        return 0.0
    critical = _critical(seeds - 1.0, LEVEL / comparisons / 2)
    return float(nct.sf(critical, seeds - 1, effect * sqrt(seeds)))


def seeds_for(comparisons: int = 1, effect: float = 1.0, wanted: float = POWER) -> int:
    """Return the fewest seeds with which a difference is seen with a probability of four fifths.

    Args:
        comparisons: how many are made.
        effect: the true difference over its standard deviation between seeds.
        wanted: the probability.

    Returns:
        A number of seeds, at most `MOST`.

    Example:
        >>> 10 <= seeds_for() < seeds_for(9) <= 20
        True
    """
    enough = (n for n in range(2, MOST) if power(n, comparisons, effect) >= wanted)
    return next(enough, MOST)


def seeds_to_decide(found: Difference, margin: float, comparisons: int = 1) -> int | None:
    """Return how many seeds would decide a comparison, if its numbers stayed as they are.

    It is decided where the difference is established, or one as large as the margin is ruled out. The part
    of the error that comes from the test examples does not shrink with seeds.

    Args:
        found: the difference as it was measured.
        margin: the largest difference that does not matter.
        comparisons: how many are made.

    Returns:
        A number of seeds; None where no number up to `MOST` decides it.

    Example:
        >>> from fgbench.stats.paired_seeds import difference
        >>> found = difference([0.10, 0.12, 0.11], [0.09, 0.12, 0.11])
        >>> seeds_to_decide(found, margin=0.02)
        3
    """
    spread = max(found.error**2 - found.fixed, 0.0) * found.seeds
    for n in range(2, MOST + 1):
        error = sqrt(spread / n + found.fixed)
        seen = abs(found.value) > _critical(n - 1.0, LEVEL / comparisons / 2) * error
        seen &= smallest_p(n, comparisons) <= LEVEL and abs(found.value) > 0.0
        alike = abs(found.value) + _critical(n - 1.0, LEVEL / comparisons) * error < margin
        if seen or alike:
            return n
    return None


def _critical(df: float, tail: float) -> float:
    """Return the t quantile with some probability above it."""
    if tail == 0.025:
        return t_quantile(df)
    from scipy.special import stdtrit

    return float(stdtrit(df, 1.0 - tail))
