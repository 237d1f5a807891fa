"""Median of a few values with the distribution-free interval of its order statistics."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

LEAST = 6
"""Fewest values with a 95 % interval: all of n lie on one side of the median with probability 2 · 2⁻ⁿ."""


def median(values: Sequence[float]) -> dict[str, Any]:
    """Return the median of independent values with its interval.

    The number of values below the median is binomial, so that two order statistics hold the median with a
    known probability whatever the distribution is. Their interval covers at least 95 %; fewer than 6 values
    have none, and the ends are then the smallest and largest value, see :func:`ends`.

    Args:
        values: at least one, in any unit.

    Returns:
        ``value``, ``low`` and ``high`` in that unit, and ``n``, the number of values.

    Example:
        >>> median([3.0, 1.0, 2.0])
        {'value': 2.0, 'low': 1.0, 'high': 3.0, 'n': 3}
        >>> [median(range(20))[end] for end in ("low", "high")]
        [5.0, 14.0]
    """
    low, high = float(min(values)), float(max(values))
    if len(values) >= LEAST:
        from scipy.stats import quantile_test

        low, high = map(float, quantile_test(values, q=0, p=0.5).confidence_interval(0.95))
    return {"value": float(np.median(values)), "low": low, "high": high, "n": len(values)}


def ends(n: int) -> str:
    """Return what the ends of :func:`median` are, for captions.

    Args:
        n: number of values.

    Example:
        >>> ends(5), ends(6)
        ('range', '95 % interval')
    """
    return "range" if n < LEAST else "95 % interval"
