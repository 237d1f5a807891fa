"""A fixed cost: as many directions as an estimate may have for its price in forward passes."""

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
    """What a budget buys of an estimator.

    Args:
        estimator: with the directions that fit, None where a single estimate is dearer.
        spent: forward equivalents of one estimate; of the cheapest where none fits.
        note: why the budget is not spent on directions, or "".
    """

    estimator: Estimator | None
    spent: float
    note: str


def fitted(estimator: Any, price: Callable[[Estimator], float], most: float) -> Fitted:
    """Give an estimator the most directions whose estimate costs no more than a budget.

    A direction costs the same whichever it is, so that the prices of one and of two say how many fit; the
    estimate with that many is then priced as well, and directions are taken back while it is too dear.

    Args:
        estimator: any; one without an option ``directions`` stays as it is.
        price: makes one estimate and returns its forward equivalents.
        most: the budget, in forward equivalents.

    Returns:
        The estimator that fits.

    Cost: three estimates, one of them with the directions that fit.
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
    """Say that nothing fits."""
    return Fitted(
        None,
        spent,
        f"an estimate costs {spent:g} forward equivalents, more than the {most:g} asked",
    )
