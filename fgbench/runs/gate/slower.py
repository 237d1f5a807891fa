"""Question 4: does the second tree take more time or memory?"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from fgbench.runs.gate.finding import Finding
    from fgbench.runs.gate.side import Side


def ask(a: Side, b: Side, *, device: str = "cpu", tell: Callable[[str], None]) -> list[Finding]:
    """Compare times and peak memory over plain backprop, the two trees in turn.

    Args:
        a: the tree before.
        b: the tree after.
        device: ``cpu`` or ``cuda``.
        tell: called with a line of progress now and then.

    Returns:
        The findings.
    """
    return []
