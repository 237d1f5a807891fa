"""Errors whose message is one line: what was expected, what came, and the nearest valid name."""

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
    from collections.abc import Iterable, Iterator, Sequence


LONGEST = 500  # characters of a message; some messages of torch list every parameter
NEAR = 0.5  # similarity from which a name is suggested, see difflib.get_close_matches
FEW = 24  # valid names that a message lists at most
RAISED = (Exception, SystemExit)
"""Errors inside a method that end that method only. An interrupt is not among them, ``sys.exit`` is."""


class UsageError(Exception):
    """A user's mistake: the command line prints its message as one line and exits with 2.

    Example:
        >>> str(UsageError("draws must be 1 or more, got 0"))
        'draws must be 1 or more, got 0'
    """


class DataError(UsageError):
    """A data file is missing, truncated or not the expected one.

    Example:
        >>> issubclass(DataError, UsageError)
        True
    """


class Notice(UserWarning):
    """A warning that the command line prints as one line, such as on a damaged checkpoint.

    Example:
        >>> issubclass(Notice, UserWarning)
        True
    """


class TangentLost(RuntimeError):
    """Forward mode met a call that it cannot differentiate.

    Not a TypeError, because Python's operators catch those.

    Example:
        >>> issubclass(TangentLost, RuntimeError)
        True
    """


class BackwardRefused(RuntimeError):
    """Reverse mode was called although the estimator claims not to use it.

    Example:
        >>> issubclass(BackwardRefused, RuntimeError)
        True
    """


class MethodFailed(Exception):
    """An error inside a method; the message is the reason for its record, in one line.

    Example:
        >>> str(MethodFailed("ValueError: no such thing (mine.py:12)"))
        'ValueError: no such thing (mine.py:12)'
    """


def reason(error: BaseException, owner: object = None, others: Sequence[object] = ()) -> str:
    """Format an error as one line: its type, its message and the line that raised it.

    Args:
        error: the error, as it was caught.
        owner: the object whose code raised it. The line named is the last one of the traceback in the
            file of its class, else in the file of a class that it inherits from, else the last of all.
            Without an owner no line is named.
        others: objects that its code calls, such as a locality and its readouts. Where a file outside
            fgbench that defines one of them is deeper in the traceback, that line is named first.

    Returns:
        Such as ``ValueError: no such thing (mine.py:12)``.

    Example:
        >>> reason(ValueError("no such thing"))
        'ValueError: no such thing'
    """
    message = " ".join(str(error).split()) or "no message"
    message = message if len(message) <= LONGEST else f"{message[:LONGEST]}..."
    line = f"{type(error).__name__}: {message}"
    if owner is None:
        return line
    places = traceback.extract_tb(error.__traceback__)
    theirs = {file for other in others for file in _files(type(other))[:1] if not _ours(file)}
    deepest = max((i for i, place in enumerate(places) if place.filename in theirs), default=-1)
    for file in _files(type(owner)):
        inside = [i for i, place in enumerate(places) if place.filename == file]
        if inside:
            named = f"{Path(file).name}:{places[inside[-1]].lineno}"
            if deepest <= inside[-1]:
                return f"{line} ({named})"
            own = "" if _ours(file) else f", called from {named}"
            return f"{line} ({_place(places[deepest])}{own})"
    if deepest >= 0:
        return f"{line} ({_place(places[deepest])})"
    if (
        isinstance(error, UsageError) or not places
    ):  # a UsageError needs no line: its message is enough
        return line
    return f"{line} ({_place(places[-1])})"


def _place(frame: traceback.FrameSummary) -> str:
    """Return file and line of a frame."""
    return f"{Path(frame.filename).name}:{frame.lineno}"


def _ours(file: str) -> bool:
    """Return whether a file is part of fgbench."""
    return Path(file).is_relative_to(Path(__file__).parent)


@contextmanager
def at_work(owner: object, *others: object, begun: bool = True) -> Iterator[None]:
    """Convert errors inside one method to :class:`MethodFailed`, so that other methods still run.

    This covers running out of memory and ``sys.exit``, but not an interrupt. With ``FGBENCH_DEBUG`` set
    the traceback is printed on stderr.

    Args:
        owner: the estimator.
        others: the objects that its code calls, see :func:`reason`.
        begun: whether estimates are being made. Before that a :class:`UsageError` is the user's mistake
            and passes unchanged.

    Raises:
        MethodFailed: with the reason, see :func:`reason`.

    Example:
        >>> try:
        ...     with at_work(object()):
        ...         raise SystemExit(3)
        ... except MethodFailed as error:
        ...     print(str(error).partition(" (")[0])
        SystemExit: 3
    """
    try:
        yield
    except RAISED as error:
        if isinstance(error, UsageError) and not begun:
            raise
        if os.environ.get("FGBENCH_DEBUG"):
            traceback.print_exception(error, file=sys.stderr)
        raise MethodFailed(reason(error, owner, others)) from None


def _files(owner: type) -> list[str]:
    """Return the source files of a class and of its base classes, in the order of inheritance."""
    files = []
    for cls in owner.__mro__:
        try:
            files.append(inspect.getfile(cls))
        except (TypeError, OSError):  # built in, or typed at a prompt
            continue
    return files


def unknown(kind: str, name: str, valid: Iterable[str]) -> UsageError:
    """Build the error for an unknown name, with the nearest valid one.

    Names are compared without regard to case and with ``_`` equal to ``-``. If no name is near, the valid
    ones are listed, at most 24.

    Args:
        kind: what was named, such as ``"estimator"``.
        name: the unknown name.
        valid: the names that exist.

    Returns:
        The error, to be raised by the caller.

    Example:
        >>> print(unknown("law", "gausian", ["gaussian", "rademacher"]))
        unknown law 'gausian'; did you mean 'gaussian'?
    """
    names = sorted(valid)
    near = get_close_matches(_alike(name), dict.fromkeys(map(_alike, names)), n=1, cutoff=NEAR)
    alike = [other for other in names if near and _alike(other) == near[0]]
    nearest = max(alike, key=lambda other: SequenceMatcher(None, name, other).ratio(), default="")
    listed = names if len(names) <= FEW else [*names[:FEW], f"... ({len(names)} in all)"]
    hint = f"did you mean {nearest!r}?" if nearest else "valid: " + ", ".join(listed)
    return UsageError(f"unknown {kind} {name!r}; {hint}")


def _alike(name: str) -> str:
    """Return a name in lower case with ``-`` for ``_``."""
    return name.lower().replace("_", "-")
