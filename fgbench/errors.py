"""Errors with one clear line each: what was expected, what came, what to do."""

from __future__ import annotations

from difflib import get_close_matches
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable


class UsageError(Exception):
    """A user's mistake: the command line prints its one line and exits with 2."""


class DataError(UsageError):
    """A data file that is missing, truncated or not what it should be."""


class TangentLost(RuntimeError):
    """A call through which a tangent cannot travel; never a TypeError, which operators swallow."""


class BackwardRefused(RuntimeError):
    """Reverse mode was called where the estimator's claims exclude it."""


def unknown(kind: str, name: str, valid: Iterable[str]) -> UsageError:
    """Build the error for an unknown name, with the nearest valid one.

    Args:
        kind: what was named, such as ``"estimator"``.
        name: what came.
        valid: the names that exist.

    Returns:
        The error, to be raised by the caller.
    """
    names = sorted(valid)
    near = get_close_matches(name, names, n=1, cutoff=0.4)
    if not near:
        near = [other for other in names if other.lower() == name.lower()]
    hint = f"did you mean {near[0]!r}?" if near else "valid: " + ", ".join(names)
    return UsageError(f"unknown {kind} {name!r}; {hint}")
