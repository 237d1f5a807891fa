"""Form of a study: one simulated run, how often it is repeated, and the band of each share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

from fgbench.stats.intervals import Number
from fgbench.stats.multiple_tests import LEVEL

Answers = dict[str, float]
Run = partial[Answers]  # called with the run's generator

COVERAGE, SIZE, POWER = (0.93, 0.97), (0.03, 0.07), (0.95, 1.0)
EXACT = (1.0, 1.0)
SINGLE = 1e-7  # relative: rounding of directions in single precision


@dataclass(frozen=True)
class Study:
    """One simulation that is repeated.

    Args:
        name: unique; with the number of the run it keys the generator.
        run: one run, a function of its own generator: an answer per claim, whether an interval held
            the truth or a test rejected, or the share of several such.
        runs: how often.
        bands: answer to the band in which its mean must lie.
        code: dotted names of the modules that decide the answers; their parts are run anew where any of
            these changes.

    Example:
        >>> Study("always", partial(lambda random: {"yes": 1.0}), 10, {"yes": EXACT}).runs
        10
    """

    name: str
    run: Run
    runs: int
    bands: Mapping[str, tuple[float, float]]
    code: tuple[str, ...] = ("fgbench.stats",)


def holds(found: Number, answer: float) -> float:
    """Return 1 where an interval holds the answer, up to rounding of the directions, else 0.

    Args:
        found: the interval.
        answer: what is true.

    Returns:
        1 or 0; 0 where there is no interval.

    Example:
        >>> holds(Number(0.5, 0.4, 0.6, 64), 0.55), holds(Number(0.5, 0.4, 0.6, 64), 0.7)
        (1.0, 0.0)
    """
    if found.low is None or found.high is None:
        return 0.0
    slack = SINGLE * abs(answer)
    return float(found.low - slack <= answer <= found.high + slack)


def below(p_value: float | None, level: float = LEVEL) -> float:
    """Return 1 where a test rejects, 0 where it does not or nothing was tested.

    Example:
        >>> below(0.01), below(0.2), below(None)
        (1.0, 0.0, 0.0)
    """
    return float(p_value is not None and p_value < level)
