"""Pairs of processes, one in each tree, that time the same cells in turn."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from fgbench.runs.gate.side import Side

ROUNDS, MOST_ROUNDS = 10, 30
"""Bursts of each step in each process, at first and where one is left."""
WHOLE_EVERY = 5
"""Rounds from one burst of a whole measurement or training to the next."""
NUMBERS = ("cpu", "time", "memory")
"""Numbers of a cell that are compared, each in units of a raw backprop step."""

Asked = dict[str, Any]
Told = dict[str, Any]


@dataclass(frozen=True)
class Pair:
    """The answers of a process in each tree about the same cells.

    Args:
        before: of each cell, the answer in the first tree.
        after: in the second.
        resident: the most bytes that each process held.

    Example:
        >>> one, other = {"status": "ok", "cpu": 2.0}, {"status": "ok", "cpu": 3.0}
        >>> Pair([one], [other], (1, 1)).ratio(0, "cpu")
        1.5
    """

    before: Sequence[Told]
    after: Sequence[Told]
    resident: tuple[int, int]

    def ratio(self, cell: int, number: str) -> float | None:
        """Return the number of a cell in the second tree over that in the first.

        Args:
            cell: its index.
            number: one of :data:`NUMBERS`.

        Returns:
            The ratio; None where a side has no such number.
        """
        one, other = self.before[cell].get(number), self.after[cell].get(number)
        return other / one if one and other else None


def timed(
    a: Side,
    b: Side,
    cells: Sequence[Asked],
    *,
    number: int,
    rounds: int,
    memory: bool,
    device: str,
    tell: Callable[[str], None],
) -> Pair:
    """Start a process in each tree and let both time all cells in turn, the order swapped every round.

    Args:
        a: the tree before.
        b: the tree after.
        cells: as the probe takes them.
        number: of the pair. Odd ones start with the second tree, and each pair has a core of its own: cores
            differ by more than trees.
        rounds: bursts of each step.
        memory: measure peaks too.
        device: ``cpu`` or ``cuda``.
        tell: called with a line of progress.

    Returns:
        What both told.

    Raises:
        ProbeError: a process ended, or gave no answer in time.
    """
    place = {"device": device, "core": _core(number)}
    with a.start("timing") as one, b.start("timing") as other:
        lives = (other, one) if number % 2 else (one, other)
        begun = {live: live.ask({"cells": list(cells), **place}) for live in lives}
        both = list(zip(begun[one]["cells"], begun[other]["cells"], strict=True))
        ready = [k for k, told in enumerate(both) if {t["status"] for t in told} == {"ok"}]
        steps = [k for k in ready if cells[k].get("what", "step") == "step"]
        whole = [k for k in ready if k not in steps]
        tell(f"time: {len(steps)} steps and {len(whole)} whole calls in turn, pair {number + 1}")

        def asking(chosen: Sequence[int], **more: Any) -> Mapping[str, Any]:
            repeats = [both[k][0].get("repeats") for k in chosen]
            return {"cells": [cells[k] for k in chosen], "repeats": repeats, **place, **more}

        for round_ in range(rounds if ready else 0):
            for live in lives if round_ % 2 else lives[::-1]:
                live.ask(asking(steps, rounds=1))
                if round_ % WHOLE_EVERY == 0:
                    live.ask(asking(whole, rounds=1))
        told = {live: live.ask(asking(range(len(cells)), memory=memory)) for live in lives}
    resident = told[one]["resident"], told[other]["resident"]
    return Pair(told[one]["cells"], told[other]["cells"], resident)


def _core(number: int) -> int | None:
    """Return the core of both processes of a pair; None where processes cannot be bound to one."""
    if not hasattr(os, "sched_getaffinity"):
        return None
    cores = sorted(os.sched_getaffinity(0))
    return cores[number % len(cores)]
