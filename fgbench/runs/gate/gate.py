"""The four questions in order of price: same, true, worse, slower."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fgbench.runs.gate import slower, true, worse

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from fgbench.runs.gate.finding import Cell, Finding
    from fgbench.runs.gate.side import Side


def later_questions(
    a: Side,
    b: Side,
    changed: Sequence[Cell],
    *,
    exact: bool,
    device: str,
    tell: Callable[[str], None],
) -> list[Finding]:
    """Ask what follows the first question.

    Args:
        a: the tree before.
        b: the tree after.
        changed: exact cells whose numbers are not the same in both.
        exact: leave out what needs a quiet machine or many seeds.
        device: ``cpu`` or ``cuda``.
        tell: called with a line of progress now and then.

    Returns:
        The findings of all questions.
    """
    findings = list(true.ask(a, b, changed, tell=tell)) if changed else []
    if exact:
        return findings
    if changed:
        findings += worse.ask(a, b, changed, findings, tell=tell)
    return [*findings, *slower.ask(a, b, device=device, tell=tell)]
