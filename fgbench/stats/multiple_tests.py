"""P-values of several tests at once: Holm for few that are reported, Benjamini-Hochberg over sites.

What was not tested (None) is left as it is and counts for nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from fgbench.stats.intervals import Floats


LEVEL = 0.05  # of every test: the probability of a false rejection among those shown together


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """Adjust p-values so that any false rejection has at most the level's probability.

    The i-th smallest of m is multiplied by m - i + 1, the number of hypotheses that can still be
    true once the smaller ones are rejected, and never falls below an earlier one; this holds
    whatever the dependence.

    Args:
        p_values: one per test, None where nothing was tested.

    Returns:
        Adjusted p-values in the same order, at most 1.

    Example:
        >>> holm([0.01, None, 0.04])
        [0.02, None, 0.04]
    """

    def adjusted(tested: Floats) -> Floats:
        order = np.argsort(tested, kind="stable")
        steps = tested[order] * np.arange(len(tested), 0, -1)
        found = np.empty_like(tested)
        found[order] = np.minimum(np.maximum.accumulate(steps), 1.0)
        return found

    return _tested(p_values, adjusted)


def benjamini_hochberg(p_values: Sequence[float | None]) -> list[float | None]:
    """Adjust p-values so that among what is rejected at a level, that share is false on average.

    The i-th smallest of m is multiplied by m / i, and never exceeds a later one.

    For tables of many sites, where one false alarm among true ones does no harm. It holds for
    independent tests and for positively dependent ones, as sites that share their slopes are.

    Args:
        p_values: one per test, None where nothing was tested.

    Returns:
        Adjusted p-values in the same order, at most 1 (Benjamini and Hochberg 1995).

    Example:
        >>> benjamini_hochberg([0.01, 0.04, None])
        [0.02, 0.04, None]
    """

    def adjusted(tested: Floats) -> Floats:
        order = np.argsort(tested, kind="stable")
        steps = tested[order] * (len(tested) / np.arange(1, len(tested) + 1))
        found = np.empty_like(tested)
        found[order] = np.minimum(np.minimum.accumulate(steps[::-1])[::-1], 1.0)
        return found

    return _tested(p_values, adjusted)


def _tested(
    p_values: Sequence[float | None], adjust: Callable[[Floats], Floats]
) -> list[float | None]:
    """Adjust what was tested and leave the rest in its place."""
    tested = np.array([p for p in p_values if p is not None], dtype=np.float64)
    found = iter(adjust(tested).tolist() if len(tested) else [])
    return [None if p is None else next(found) for p in p_values]
