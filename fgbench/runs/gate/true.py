"""Question 2: are the estimates of the second tree what they claim to be?"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from fgbench.runs.gate.finding import Cell, Finding
    from fgbench.runs.gate.side import Side


def ask(a: Side, b: Side, changed: Sequence[Cell], *, tell: Callable[[str], None]) -> list[Finding]:
    """Judge what changed by exact designs and by the coverage of intervals.

    Args:
        a: the tree before; asked only where the second one fails, so that an old fault is called old.
        b: the tree that is judged.
        changed: exact cells whose numbers are not the same in both.
        tell: called with a line of progress now and then.

    Returns:
        The findings.
    """
    return []
