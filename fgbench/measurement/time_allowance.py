"""The time that one method may take, in all."""

from __future__ import annotations

from contextlib import contextmanager
from time import monotonic
from typing import TYPE_CHECKING

from fgbench.core.time_limit import time_limit
from fgbench.errors import MethodFailed, TimedOut

if TYPE_CHECKING:
    from collections.abc import Iterator

LEAST = 1e-3  # seconds; a limit of 0 is none


class TimeAllowance:
    """The time that one method may take; blocks of its work use it up one after another.

    Args:
        seconds: in all; None is no limit.

    Raises:
        UsageError: on its first use, for a limit that is no positive number, or where no alarm can be set.

    Example:
        >>> from time import sleep
        >>> allowance = TimeAllowance(0.01)
        >>> try:
        ...     with allowance.used():
        ...         sleep(10.0)
        ... except MethodFailed as error:
        ...     print(error)
        not finished within 0.01 s
    """

    def __init__(self, seconds: float | None) -> None:
        self._seconds, self._spent = seconds, 0.0

    @contextmanager
    def used(self) -> Iterator[None]:
        """Run a block on the time that is left; raise MethodFailed once that is used up."""
        if self._seconds is None:
            yield
            return
        begun = monotonic()
        left = self._seconds - self._spent if self._spent else self._seconds
        try:
            with time_limit(max(left, LEAST) if self._spent else left, "a method"):
                yield
        except TimedOut:
            raise MethodFailed(f"not finished within {self._seconds:g} s") from None
        finally:
            self._spent += monotonic() - begun
