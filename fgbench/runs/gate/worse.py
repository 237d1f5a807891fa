"""Question 3: is the second tree worse where it changed and is true?"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from fgbench.runs.gate.finding import Cell, Finding
    from fgbench.runs.gate.side import Side


def ask(
    a: Side,
    b: Side,
    changed: Sequence[Cell],
    judged: Sequence[Finding],
    *,
    tell: Callable[[str], None],
) -> list[Finding]:
    """Compare both trees over paired inits and seeds, and confirm with fresh ones.

    Args:
        a: the tree before.
        b: the tree after.
        changed: exact cells whose numbers are not the same in both.
        judged: what questions 1 and 2 found; what is untrue is never better.
        tell: called with a line of progress now and then.

    Returns:
        The findings.
    """
    return []
