"""Outcome of a check: one line, with numbers."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from fgbench.errors import TimedOut, pass_on, reason

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    Tell = Callable[["Outcome"], None]


T = TypeVar("T")


@dataclass(frozen=True)
class Outcome:
    """Outcome of one check.

    Args:
        check: what was checked, and where.
        held: whether it held.
        detail: one line: what was expected, what came, by how much.
        left_out: what the whole check would have done and this one did not, "" if nothing.
        judged: whether anything was tested; if not, ``detail`` says why.

    Example:
        >>> Outcome("pure", True, "nothing changed").judged
        True
    """

    check: str
    held: bool
    detail: str
    left_out: str = ""
    judged: bool = True


class NotJudged(Exception):
    """Raised where a check has nothing to test, with the reason in one line.

    Example:
        >>> str(NotJudged("it draws nothing"))
        'it draws nothing'
    """


class Fault(Exception):
    """Raised by a check that does not hold, with what is wrong in one line.

    Args:
        detail: the line.
        check: the check it belongs to, where that is not the one that came upon it.

    Example:
        >>> str(Fault("changed the batch"))
        'changed the batch'
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
        The outcome; nothing but an interrupt and the end of a time limit passes.

    Example:
        >>> judge("counts", lambda: "3 parameters").held
        True
        >>> judge("counts", lambda: str(1 // 0)).held
        False
    """
    try:
        with running(check):
            return Outcome(check, True, run())
    except NotJudged as nothing:
        return not_judged(check, str(nothing))
    except Fault as fault:
        return Outcome(fault.check or check, False, str(fault))
    except BaseException as error:
        pass_on(error)
        return Outcome(check, False, told(error, owner))


def everywhere(
    check: Callable[[T], str], cases: Iterable[tuple[str, T]], owner: object = None
) -> str:
    """Run one check on all cases; the fault names the case where it does not hold.

    Args:
        check: of one case, as of :func:`judge`.
        cases: the name of each case, for the outcome, and the case.
        owner: what is checked, to name its own line where it raises.

    Returns:
        The detail of the last case, and how many there are.

    Raises:
        Fault: it does not hold on one of them.
        NotJudged: where there is nothing to test on any.

    Example:
        >>> everywhere(lambda case: f"{case} parameters", [("small", 3), ("large", 9)])
        '9 parameters (2 nets and localities)'
    """
    said: dict[bool, list[str]] = {True: [], False: []}
    for name, case in cases:
        outcome = judge(name, partial(check, case), owner)
        if not outcome.held:
            found = "" if outcome.check == name else outcome.check
            raise Fault(f"{outcome.detail} (on {name})", found)
        said[outcome.judged].append(outcome.detail)
    if not said[True]:
        raise NotJudged(said[False][-1] if said[False] else "nothing runs it")
    return f"{said[True][-1]} ({len(said[True])} nets and localities)"


@contextmanager
def running(check: str) -> Iterator[None]:
    """Note on a :class:`TimedOut` that leaves the block which check was running.

    Args:
        check: the check.

    Example:
        >>> try:
        ...     with running("pure"):
        ...         raise TimedOut("it was not finished within 1 s")
        ... except TimedOut as over:
        ...     over.__notes__
        ['pure']
    """
    try:
        yield
    except TimedOut as over:
        over.add_note(check)
        raise


def not_judged(check: str, why: str) -> Outcome:
    """Return the outcome of a check that tested nothing.

    Args:
        check: what would have been checked.
        why: what stands in the way.

    Returns:
        An outcome that neither held nor failed.

    Example:
        >>> not_judged("noise keys", "it draws nothing").judged
        False
    """
    return Outcome(check, True, why, judged=False)


def collected(outcomes: Iterable[Outcome], tell: Tell | None = None) -> list[Outcome]:
    """Collect outcomes in order, and report each as soon as its check has run.

    Where a time limit ends, the last outcome names the check that was running, as not judged.

    Args:
        outcomes: checks that run as they are asked for.
        tell: called with each outcome.

    Returns:
        All outcomes.

    Example:
        >>> len(collected([Outcome("pure", True, "")], tell=print))
        Outcome(check='pure', held=True, detail='', left_out='', judged=True)
        1
    """
    found = []

    def add(outcome: Outcome) -> None:
        found.append(outcome)
        if tell is not None:
            tell(outcome)

    try:
        for outcome in outcomes:
            add(outcome)
    except TimedOut as over:
        check = next(iter(getattr(over, "__notes__", ())), "the next check")
        left = "it and what comes after it, for want of time"
        add(Outcome(check, True, str(over), left, judged=False))
    return found


def told(error: BaseException, owner: object = None) -> str:
    """Describe an error in one line: a fault by its own, others by kind, message and place.

    Args:
        error: as raised; the message of a usage error needs no kind.
        owner: the object under check, to name its own line.

    Returns:
        The line.

    Example:
        >>> told(Fault("changed the batch"))
        'changed the batch'
    """
    if isinstance(error, Fault):
        return str(error)
    return reason(error, owner)


def first_line(error: BaseException) -> str:
    """Return the first line of an error that says anything.

    Args:
        error: as raised.

    Returns:
        The line, stripped.

    Example:
        >>> first_line(ValueError("too long"))
        'too long'
    """
    return next((line.strip() for line in str(error).splitlines() if line.strip()), "no message")


def listed(names: Iterable[str], most: int = 4) -> str:
    """Join names for one line, with a count where there are more than ``most``.

    Args:
        names: to join.
        most: of which at most this many are written out.

    Returns:
        One line.

    Example:
        >>> listed(["a", "b", "c"], most=2)
        'a, b and 1 more'
    """
    every = list(names)
    more = f" and {len(every) - most} more" if len(every) > most else ""
    return ", ".join(every[:most]) + more
