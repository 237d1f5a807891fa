"""Cells of tables: a number with its interval, a bias with its verdict, a spread."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from fgbench.stats.bias_verdict import judge

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


def number(found: Any, digits: int = 3) -> str:
    """Format a measured number as ``value [low, high]``; a dash where there is none.

    Args:
        found: the number, with its interval where it is a mapping; None where there is none.
        digits: significant digits.

    Returns:
        One cell; ``< high`` for a number of which only the upper end is known.

    Example:
        >>> number({"value": 0.5, "low": 0.4, "high": 0.6})
        '0.5 [0.4, 0.6]'
        >>> number({"value": None, "low": 0.0, "high": 0.25})
        '< 0.25'
    """
    if found is None:
        return "-"
    if not isinstance(found, dict):
        return f"{found:.{digits}g}"
    value, low, high = (found.get(k) for k in ("value", "low", "high"))
    if value is None:
        return "-" if high is None else f"< {high:.{digits}g}"
    if low is None or high is None or low == high:
        return f"{value:.{digits}g}"
    return f"{value:.{digits}g} [{low:.{digits}g}, {high:.{digits}g}]"


def bias(found: Mapping[str, Any], adjusted: float | None) -> str:
    """Format a bias with its verdict, both of them over draws.

    Where a bias is seen its interval stands beside the p-value, and only its upper end where the lower one
    is 0: the test is one-sided and the sharper of the two. Where none is seen the smallest that the test
    would have seen says what that is worth.

    Args:
        found: the measured bias.
        adjusted: its p-value adjusted for the other rows, see
            :func:`fgbench.stats.bias_verdict.adjusted_p_values`; None where there was no test.

    Returns:
        One cell.

    Example:
        >>> found = {"value": 0.3, "detectable": 0.1, "draws_low": 0.2, "draws_high": 0.4}
        >>> bias(found, 0.002)
        '0.3 [0.2, 0.4] (p=0.002)'
        >>> bias(found, 0.4)
        'not rejected (p=0.4, detectable 0.1)'
    """
    low, high = (found.get(f"draws_{end}") for end in ("low", "high"))
    if adjusted is None:
        upper = number({"value": None, "high": high})
        return "-" if high is None else f"not tested ({upper})"
    verdict = judge(found, adjusted)
    if verdict.exact:
        return f"{number(found['value'])} (exact)"
    if not verdict.biased:
        return f"not rejected (p={adjusted:.2g}, detectable {number(found['detectable'])})"
    value = number({"value": found["value"], "low": low, "high": high})
    if low == 0.0 and high is not None:
        value = f"{number(found['value'])}, at most {number(high)}"
    return f"{value} (p={adjusted:.2g})"


def spread(values: Sequence[float]) -> str:
    """Format mean, smallest and largest as ``mean [min, max]``.

    Args:
        values: numbers.

    Returns:
        One cell; a dash for none, the value alone for one.

    Example:
        >>> spread([1.0, 2.0, 6.0])
        '3 [1, 6]'
    """
    if not values:
        return "-"
    if len(values) == 1:
        return f"{values[0]:.3g}"
    return f"{np.mean(values):.3g} [{min(values):.3g}, {max(values):.3g}]"
