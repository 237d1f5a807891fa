"""The rule of question 4: ratios of pairs of processes, a first look, and its confirmation by fresh pairs.

Equal code gives ratios whose logarithms scatter by about .05 between pairs, and by up to .1 on a loaded
machine. The first look is cheap and lets much pass; what it suspects is judged by fresh pairs alone, whose
number is fixed in advance.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import exp
from typing import TYPE_CHECKING

import numpy as np

from fgbench.runs.gate.finding import BETTER, SAME, WORSE
from fgbench.stats.intervals import standard_error, t_quantile

if TYPE_CHECKING:
    from collections.abc import Sequence

FIRST_PAIRS, FRESH_PAIRS = 2, 5
SUSPECT = 1.12
"""Mean ratio of the first pairs from which fresh ones are asked."""
ALARM = 1.15
"""Mean ratio of the fresh pairs from which a change is one."""


@dataclass(frozen=True)
class Ratio:
    """The geometric mean of the ratios of pairs, with its 95 % interval between pairs.

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
        centre, half = float(logs.mean()), t_quantile(len(logs) - 1) * standard_error(logs)
        return cls(exp(centre), exp(centre - half), exp(centre + half))


def suspected(first: Sequence[float]) -> bool:
    """Return whether the first pairs call for fresh ones.

    Args:
        first: ratio of each pair.

    Returns:
        Whether their mean is far from 1, up or down.

    Example:
        >>> suspected([1.1, 1.1]), suspected([1.2, 1.1]), suspected([0.8, 0.9])
        (False, True, True)
    """
    value = Ratio.of(first).value
    return not 1 / SUSPECT < value < SUSPECT


def verdict(fresh: Sequence[float]) -> str:
    """Return what the fresh pairs show; the first ones, which were chosen for their ratio, do not count.

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
