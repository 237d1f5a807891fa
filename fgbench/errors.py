"""Errors with one clear line each: what was expected, what came, what to do."""

from __future__ import annotations

import inspect
import os
import sys
import traceback
from contextlib import contextmanager
from difflib import SequenceMatcher, get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator


LONGEST = 500  # characters of a message; some of torch's list every parameter
NEAR = 0.5  # share of letters in common, in order, of names that are taken for each other
FEW = 24  # names that are listed
RAISED = (Exception, SystemExit)
"""What a method's own work may raise; an interrupt passes. A method that exits ends itself alone."""


class UsageError(Exception):
    """A user's mistake: the command line prints its one line and exits with 2."""


class DataError(UsageError):
    """A data file that is missing, truncated or not what it should be."""


class TangentLost(RuntimeError):
    """A call through which a tangent cannot travel; never a TypeError, which operators swallow."""


class BackwardRefused(RuntimeError):
    """Reverse mode was called where the estimator's claims exclude it."""


class MethodFailed(Exception):
    """A method's own work raised: the reason for its record, in one line."""


def reason(error: BaseException, owner: object = None) -> str:
    """Word what was raised in one line: its kind, its message and where.

    Args:
        error: as it was caught.
        owner: whose work it was: the last line at work in the file of its class is named, else in one
            that its class inherits from, else the last of all. Without an owner no place is named.

    Returns:
        Such as ``ValueError: no such thing (mine.py:12)``.
    """
    message = " ".join(str(error).split()) or "no message"
    message = message if len(message) <= LONGEST else f"{message[:LONGEST]}..."
    said = f"{type(error).__name__}: {message}"
    if owner is None:
        return said
    places = traceback.extract_tb(error.__traceback__)
    for file in _files(type(owner)):
        own = [place for place in places if place.filename == file]
        if own:
            return f"{said} ({Path(file).name}:{own[-1].lineno})"
    if isinstance(error, UsageError) or not places:  # the former says itself what is wrong
        return said
    return f"{said} ({Path(places[-1].filename).name}:{places[-1].lineno})"


@contextmanager
def at_work(owner: object, *, begun: bool = True) -> Iterator[None]:
    """Turn what one method's own work raises into its failure, so that other methods go on.

    Running out of memory is such a failure, and so is ``sys.exit``; an interrupt is none. With
    ``FGBENCH_DEBUG`` set the traceback is printed on stderr.

    Args:
        owner: the estimator.
        begun: whether estimates are being made; before that a :class:`UsageError` passes, the user's
            mistake.

    Raises:
        MethodFailed: with the reason, see :func:`reason`.
    """
    try:
        yield
    except RAISED as error:
        if isinstance(error, UsageError) and not begun:
            raise
        if os.environ.get("FGBENCH_DEBUG"):
            traceback.print_exception(error, file=sys.stderr)
        raise MethodFailed(reason(error, owner)) from None


def _files(made: type) -> list[str]:
    """Return the source files of a class and of those it inherits from, in the order of inheritance."""
    found = []
    for cls in made.__mro__:
        try:
            found.append(inspect.getfile(cls))
        except (TypeError, OSError):  # built in, or typed at a prompt
            continue
    return found


def unknown(kind: str, name: str, valid: Iterable[str]) -> UsageError:
    """Build the error for an unknown name, with the nearest valid one.

    Capitals are small letters and ``_`` is ``-`` when names are compared; of names that are then alike
    the one written most like what came is the nearest. Where none is near the valid ones are listed, of
    many the first.

    Args:
        kind: what was named, such as ``"estimator"``.
        name: what came.
        valid: the names that exist.

    Returns:
        The error, to be raised by the caller.
    """
    names = sorted(valid)
    near = get_close_matches(_alike(name), dict.fromkeys(map(_alike, names)), n=1, cutoff=NEAR)
    alike = [other for other in names if near and _alike(other) == near[0]]
    nearest = max(alike, key=lambda other: SequenceMatcher(None, name, other).ratio(), default="")
    some = names if len(names) <= FEW else [*names[:FEW], f"... ({len(names)} in all)"]
    hint = f"did you mean {nearest!r}?" if nearest else "valid: " + ", ".join(some)
    return UsageError(f"unknown {kind} {name!r}; {hint}")


def _alike(name: str) -> str:
    """Write a name without what is easily mistyped."""
    return name.lower().replace("_", "-")
