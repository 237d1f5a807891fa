"""Cells of tables: a number with its interval, a bias with its verdict, a spread."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from fgbench.stats.bias_verdict import judge
from fgbench.stats.multiple_tests import LEVEL

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


def undecided(about: Mapping[str, Any]) -> str:
    """Return why a comparison is undecided and how many seeds would decide it, as the end of a sentence.

    Args:
        about: a record's comparison, see :func:`fgbench.runs.against.judged`.

    Returns:
        A phrase, "" for a comparison that is decided or was not made.

    Example:
        >>> about = {"verdict": "undecided", "n": 5, "comparisons": 1, "smallest_p": 0.0625}
        >>> undecided(about | {"least_seeds": 6, "seeds_to_decide": 9, "examples": 0})  # doctest: +ELLIPSIS
        'with 5 seeds no sign-flip test can reject (its smallest p is 0.062); at least 6 are needed, ...
    """
    if about.get("verdict") != "undecided":
        return ""
    wanted, n = about["seeds_to_decide"], about["n"]
    here = f"about {wanted} here" if wanted else "more than 200 here"
    if about["examples"] and not wanted:
        here = f"no number of seeds decides it on {about['examples']} test examples"
    if about["smallest_p"] > LEVEL:
        many = f" of {about['comparisons']} comparisons" * (about["comparisons"] > 1)
        return (
            f"with {n} seeds no sign-flip test{many} can reject (its smallest p is "
            f"{about['smallest_p']:.2g}); at least {about['least_seeds']} are needed, {here}"
        )
    return f"{n} seeds; {here}"


def verdict_cell(about: Mapping[str, Any]) -> str:
    """Format the verdict of a comparison in a cell of a table.

    Args:
        about: as of :func:`undecided`.

    Returns:
        The verdict, ``reference`` for the reference's own, a dash where there is none.

    Example:
        >>> [verdict_cell(about) for about in ({"own": True}, {"verdict": "worse"}, {"verdict": ""})]
        ['reference', 'worse', '-']
    """
    return "reference" if about.get("own") else str(about.get("verdict") or "-")


def points(about: Mapping[str, Any], factor: float = 100.0) -> str:
    """Format a difference with its interval, with a sign.

    Args:
        about: ``value low high``.
        factor: by which numbers are multiplied.

    Returns:
        One cell, a dash where there is no difference.

    Example:
        >>> points({"value": 0.03, "low": 0.02, "high": 0.04}), points({"value": None})
        ('+3 [+2, +4]', '-')
    """
    if about.get("value") is None:
        return "-"
    value, low, high = (factor * about[name] for name in ("value", "low", "high"))
    if low == high:
        return f"{value:+.3g}" if value else "0"
    return f"{value:+.3g} [{low:+.3g}, {high:+.3g}]"
