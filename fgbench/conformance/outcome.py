"""What a check says: one line, with numbers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from fgbench.errors import RAISED, reason

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    Tell = Callable[["Outcome"], None]


@dataclass(frozen=True)
class Outcome:
    """What one check said.

    Args:
        check: what was checked, and where.
        held: whether it held.
        detail: one line: what was expected, what came, by how much.
        left_out: what the whole check would have done and this one did not, "" if nothing.
        judged: whether anything was tested; if not, ``detail`` says why.
    """

    check: str
    held: bool
    detail: str
    left_out: str = ""
    judged: bool = True


class NotJudged(Exception):
    """Why there is nothing that a check could test, in one line."""


class Fault(Exception):
    """What a check found wrong, in one line.

    Args:
        detail: the line.
        check: the check it belongs to, where that is not the one that came upon it.
    """

    def __init__(self, detail: str, check: str = "") -> None:
        super().__init__(detail)
        self.check = check


def judge(check: str, run: Callable[[], str], owner: object = None) -> Outcome:
    """Run a check that returns its detail, or raises where it does not hold.

    Args:
        check: what is checked.
        run: returns the detail; raises :class:`Fault` for what it found, and whatever the checked code
            itself raises is a finding too; :class:`NotJudged` where there is nothing to test.
        owner: what is checked, to name its own line where it raises.

    Returns:
        The outcome; nothing but an interrupt passes.
    """
    try:
        return Outcome(check, True, run())
    except NotJudged as nothing:
        return not_judged(check, str(nothing))
    except Fault as fault:
        return Outcome(fault.check or check, False, str(fault))
    except RAISED as error:
        return Outcome(check, False, told(error, owner))


def not_judged(check: str, why: str) -> Outcome:
    """Return the outcome of a check that tested nothing.

    Args:
        check: what would have been checked.
        why: what stands in the way.

    Returns:
        An outcome that neither held nor failed.
    """
    return Outcome(check, True, why, judged=False)


def collected(outcomes: Iterable[Outcome], tell: Tell | None = None) -> list[Outcome]:
    """Return outcomes in order, each told as soon as its check has run.

    Args:
        outcomes: checks that run as they are asked for.
        tell: called with each outcome.

    Returns:
        All of them.
    """
    found = []
    for outcome in outcomes:
        found.append(outcome)
        if tell is not None:
            tell(outcome)
    return found


def told(error: BaseException, owner: object = None) -> str:
    """Return the line of a fault, or the kind, message and place of anything else that was raised.

    A usage error says itself what was expected and what came.
    """
    if isinstance(error, Fault):
        return str(error)
    return reason(error, owner).removeprefix("UsageError: ")


def first_line(error: BaseException) -> str:
    """Return the first line of an error that says anything."""
    return next((line.strip() for line in str(error).splitlines() if line.strip()), "no message")


def listed(names: Iterable[str], most: int = 4) -> str:
    """Join names for one line, with a count where there are more than ``most``."""
    every = list(names)
    more = f" and {len(every) - most} more" if len(every) > most else ""
    return ", ".join(every[:most]) + more
