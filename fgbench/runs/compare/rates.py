"""The learning rates that are tried: log-uniform over four decades, the same for every method.

They are drawn in two rounds. The first covers the range evenly: one rate in each of n parts of equal length
on the logarithmic axis, at a random place in it. The second belongs to the best rate of the first: beyond
the end of the range if the best rate is the lowest or highest one, else between its two neighbours. So every
method tries equally many rates, one whose range lies elsewhere too.
"""

from __future__ import annotations

import itertools
from math import inf, log10
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

RANGES = {"sgd": (1e-4, 1.0), "lars": (1e-3, 10.0)}
ADAPTIVE = (1e-6, 1e-2)
"""Of optimisers that divide by the size of the gradient."""
BEYOND = 100.0
"""A range whose end was the best is made longer by this factor, once."""
LOWER = 10**0.5
"""A rate that diverges in the long run is divided by this factor, once."""


class Second(NamedTuple):
    """The rates of the second round.

    Attributes:
        rates: in ascending order.
        widened: ``lower`` or ``upper`` for the end of the range that was passed, "" for none.

    Example:
        >>> Second([0.1], "").widened
        ''
    """

    rates: list[float]
    widened: str


def range_of(optimizer: str) -> tuple[float, float]:
    """Return the range of learning rates of an optimiser: four decades.

    Args:
        optimizer: its name.

    Returns:
        The lowest and the highest rate.

    Example:
        >>> range_of("sgd"), range_of("adam")
        ((0.0001, 1.0), (1e-06, 0.01))
    """
    return RANGES.get(optimizer, ADAPTIVE)


def first(count: int, low: float, high: float, seed: int = 0) -> list[float]:
    """Draw the rates of the first round.

    Args:
        count: how many.
        low: lower end of the range.
        high: upper end.
        seed: of the places within the parts.

    Returns:
        The rates in ascending order, of three digits.

    Example:
        >>> first(4, 1e-4, 1.0)
        [0.000764, 0.00169, 0.0257, 0.28]
    """
    edges = np.linspace(log10(low), log10(high), count + 1)
    places = np.random.default_rng([seed, count]).random(count)
    found = [
        10 ** (a + u * (b - a)) for (a, b), u in zip(itertools.pairwise(edges), places, strict=True)
    ]
    return [float(f"{rate:.3g}") for rate in found]


def second(
    rates: Sequence[float], scores: Sequence[tuple[float, ...]], count: int, seed: int = 0
) -> Second:
    """Draw the rates of the second round, from what the first one found.

    Args:
        rates: of the first round, in ascending order.
        scores: of each, the smallest the best, of which the first is infinite for one that did not finish.
        count: how many are drawn.
        seed: of the places.

    Returns:
        The rates, each once and none of them one of the first round. If no rate finished, lower ones are
        drawn.

    Example:
        >>> second([0.001, 0.01, 0.1], [(0.3,), (0.2,), (0.5,)], 2).widened
        ''
        >>> second([0.001, 0.01, 0.1], [(0.3,), (0.2,), (0.1,)], 2).widened
        'upper'
    """
    best = 0 if min(scores)[0] == inf else min(range(len(scores)), key=scores.__getitem__)
    last = len(rates) - 1
    low, high = rates[max(best - 1, 0)], rates[min(best + 1, last)]
    widened = ""
    if best == 0:
        low, high, widened = rates[0] / BEYOND, rates[0], "lower"
    elif best == last:
        low, high, widened = rates[last], rates[last] * BEYOND, "upper"
    draws = (first(count, low, high, again) for again in itertools.count(seed + 1))
    return Second(next(d for d in draws if len({*d, *rates}) == count + len(rates)), widened)


def edge(rates: Sequence[float], chosen: float) -> str:
    """Return at which end of the tried rates the chosen one lies.

    Args:
        rates: all that were tried.
        chosen: the best.

    Returns:
        ``lower``, ``upper``, or "".

    Example:
        >>> edge([0.1, 0.01, 1.0], 1.0), edge([0.1, 0.01, 1.0], 0.1)
        ('upper', '')
    """
    if len(rates) < 2:
        return ""
    return {min(rates): "lower", max(rates): "upper"}.get(chosen, "")
