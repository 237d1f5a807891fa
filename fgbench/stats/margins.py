"""Margins of equivalence: the largest difference of two test results that does not matter."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fgbench.errors import UsageError
from fgbench.records.metrics import FRACTION

if TYPE_CHECKING:
    from fgbench.records.metrics import Shown

FIXED = {"mnist": 0.005, "cifar10": 0.02, "digits": 0.03}
"""By data set, as fractions, fixed before any comparison; of 360 test examples of digits 3 points are 11."""
USUAL = 0.02
"""Of an error on other data."""
SHARE = 0.05
"""Of the level of chance, for metrics other than an error."""


def margin_of(data: str, metric: Shown) -> float:
    """Return the margin of equivalence on a data set.

    Args:
        data: data set with options.
        metric: its main metric.

    Returns:
        The margin, in the unit of the metric in records.

    Raises:
        UsageError: for a metric without a known level of chance, whose margin must be given.

    Example:
        >>> from fgbench.records.metrics import ERROR
        >>> margin_of("mnist[train=100]", ERROR), margin_of("wine", ERROR)
        (0.005, 0.02)
    """
    if metric.unit == FRACTION:
        return FIXED.get(data.partition("[")[0], USUAL)
    if metric.chance:
        return SHARE * abs(metric.chance)
    raise UsageError(
        f"{data} has no margin of equivalence: give the difference in {metric.words} that does not matter"
    )
