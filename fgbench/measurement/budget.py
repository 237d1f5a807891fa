"""Measure at a fixed cost: the most directions whose estimate fits a budget of forward equivalents."""

from __future__ import annotations

from dataclasses import fields, is_dataclass, replace
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable

    from fgbench.core.estimator import Estimator

OPTION = "directions"
ALONE = f"it has no option {OPTION}: it is measured at its own cost"
ROUNDING = 1e-9  # relative: prices are sums of shares of one pass


class Fitted(NamedTuple):
    """An estimator that fits a budget.

    Args:
        estimator: with the directions that fit; None where even the cheapest estimate costs more.
        spent: forward equivalents of one estimate; of the cheapest where none fits.
        note: why the budget is not spent on directions, or "".

    Example:
        >>> Fitted(None, 3.5, "an estimate costs more").estimator is None
        True
    """

    estimator: Estimator | None
    spent: float
    note: str


def fitted(estimator: Any, price: Callable[[Estimator], float], most: float) -> Fitted:
    """Return an estimator with the most directions whose estimate costs no more than a budget.

    Every direction costs the same, so the prices of one and of two tell how many fit. The estimate with that
    many is priced as well, and directions are removed while it costs too much.

    Args:
        estimator: any; one without an option ``directions`` is left as it is.
        price: makes one estimate and returns its forward equivalents.
        most: the budget, in forward equivalents.

    Returns:
        The estimator that fits.

    Cost: three estimates, one of them with the directions that fit.

    Example:
        >>> from fgbench.estimators.fg_a import ActivityForwardGradient
        >>> found = fitted(ActivityForwardGradient(), lambda e: 1.5 + 2.0 * e.directions, most=8.0)
        >>> found.estimator.directions, found.spent
        (3, 7.5)
    """
    limit = most * (1 + ROUNDING)
    if not (is_dataclass(estimator) and any(f.name == OPTION for f in fields(estimator))):
        spent = price(estimator)
        return Fitted(estimator, spent, ALONE) if spent <= limit else _dear(spent, most)
    one, two = (price(_with(estimator, n)) for n in (1, 2))
    if one > limit:
        return _dear(one, most)
    if two <= one:
        return Fitted(_with(estimator, 1), one, "another direction costs nothing: it has one")
    directions = 1 + int((limit - one) / (two - one))
    while directions > 1 and (spent := price(_with(estimator, directions))) > limit:
        directions -= 1
    return Fitted(_with(estimator, directions), spent if directions > 1 else one, "")


def _with(estimator: Any, directions: int) -> Any:
    """Return the estimator with another number of directions."""
    return replace(estimator, **{OPTION: directions})


def _dear(spent: float, most: float) -> Fitted:
    """Return the result where nothing fits."""
    return Fitted(
        None,
        spent,
        f"an estimate costs {spent:g} forward equivalents, more than the {most:g} asked",
    )
