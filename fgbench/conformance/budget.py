"""The false alarms of all checks together: a budget, and what a registry spends of it.

An exact check compares float64 numbers that differ by rounding or by a fault, so it raises no false alarm.
A sampled check does, with the probability that all its stages reject what is right: stages draw afresh, and
within a stage Bonferroni's inequality holds whatever depends on what.
"""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING

from fgbench.conformance.sampled import STAGES

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from fgbench.conformance.outcome import Outcome

BUDGET = 1e-3
"""Probability that any check of the registry rejects an entry that keeps its claims."""
DRAWN = "draws, smallest p"  # in the detail of a sampled check that held
REJECTED = "draws is not"  # in that of one that did not


def false_alarm(stages: Sequence[tuple[int, float]] = STAGES) -> float:
    """Return the probability that one sampled check rejects what is right.

    Args:
        stages: draws and level of each stage; it rejects where every stage does.

    Returns:
        The product of their levels.

    Example:
        >>> f"{false_alarm():.0e}"
        '1e-05'
    """
    return prod(level for _, level in stages)


def sampled(outcomes: Iterable[Outcome]) -> list[str]:
    """Return the names of the outcomes that rest on draws.

    Args:
        outcomes: of any checks.

    Returns:
        Their names, in order.

    Example:
        >>> from fgbench.conformance.outcome import Outcome
        >>> drawn = Outcome("bias", True, "8 draws, smallest p 0.4")
        >>> sampled([Outcome("pure", True, "two calls agree"), drawn])
        ['bias']
    """
    return [o.check for o in outcomes if DRAWN in o.detail or REJECTED in o.detail]


def spent(checks: int) -> float:
    """Return what a number of sampled checks spends of the budget, by Bonferroni's inequality.

    Args:
        checks: how many.

    Returns:
        The probability that one of them rejects what is right, at most.

    Example:
        >>> round(spent(50), 6)
        0.0005
    """
    return checks * false_alarm()


def affordable() -> int:
    """Return how many sampled checks a registry can have within the budget.

    Example:
        >>> affordable()
        100
    """
    return int(BUDGET / false_alarm() + 0.5)
