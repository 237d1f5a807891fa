"""The rule of question 4: ratios of pairs of processes, cheap looks first, and a verdict by fresh pairs.

The logarithms of ratios of equal code scatter by about .06 between pairs, and by .11 on a machine with ten
times as many processes at work as cores. A look suspects much; what two looks in turn suspect is judged by
fresh pairs alone. All numbers of pairs are fixed in advance. The verdict asks for a mean beyond 1.15 and for
a 99 % interval between the pairs that excludes 1, so that the more they scatter, the more it takes.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import exp
from typing import TYPE_CHECKING

import numpy as np

from fgbench.runs.gate.finding import BETTER, SAME, WORSE
from fgbench.stats.intervals import standard_error

if TYPE_CHECKING:
    from collections.abc import Sequence

LOOKS, FRESH_PAIRS = (2, 2), 7
"""Pairs of each look, and of the verdict."""
SUSPECT = 1.12
"""Mean ratio of the pairs of a look from which fresh ones are asked."""
ALARM = 1.15
"""Mean ratio of the fresh pairs from which a change is one."""


@dataclass(frozen=True)
class Ratio:
    """The geometric mean of the ratios of pairs, with its 99 % interval between pairs.

    Args:
        value: the mean.
        low: lower end; None of a single pair.
        high: upper end.

    Example:
        >>> Ratio.of([1.2, 1.2, 1.2]).low
        1.2
    """

    value: float
    low: float | None
    high: float | None

    @classmethod
    def of(cls, ratios: Sequence[float]) -> Ratio:
        """Compute it from one positive number per pair.

        Args:
            ratios: at least one.

        Returns:
            The mean; its interval is Student's t of the logarithms.
        """
        if len(set(ratios)) == 1:
            return cls(ratios[0], *((ratios[0],) * 2 if len(ratios) > 1 else (None, None)))
        logs = np.log(np.asarray(ratios, dtype=np.float64))
        centre, half = float(logs.mean()), _quantile(len(logs) - 1) * standard_error(logs)
        return cls(exp(centre), exp(centre - half), exp(centre + half))


def suspected(look: Sequence[float]) -> bool:
    """Return whether the pairs of a look call for fresh ones.

    Args:
        look: ratio of each pair.

    Returns:
        Whether their mean is far from 1, up or down.

    Example:
        >>> suspected([1.1, 1.1]), suspected([1.2, 1.1]), suspected([0.8, 0.9])
        (False, True, True)
    """
    value = Ratio.of(look).value
    return not 1 / SUSPECT < value < SUSPECT


def verdict(fresh: Sequence[float]) -> str:
    """Return what the fresh pairs show; those of the looks, chosen for their ratio, do not count.

    Args:
        fresh: ratio of each fresh pair.

    Returns:
        ``worse``, ``better`` or ``same``.

    Example:
        >>> verdict([1.3, 1.28, 1.33]), verdict([1.0, 1.6, 1.02]), verdict([0.5, 0.5])
        ('worse', 'same', 'better')
    """
    found = Ratio.of(fresh)
    if found.value > ALARM and found.low is not None and found.low > 1:
        return WORSE
    if found.value < 1 / ALARM and found.high is not None and found.high < 1:
        return BETTER
    return SAME


def _quantile(df: float) -> float:
    """Return the two-sided 99 % quantile of Student's t."""
    from scipy.special import stdtrit

    return float(stdtrit(df, 0.995))
