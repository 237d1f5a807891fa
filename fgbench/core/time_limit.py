"""A time limit on a block that runs somebody else's code."""

from __future__ import annotations

import faulthandler
import os
import signal
import sys
import threading
from contextlib import contextmanager
from math import isfinite
from time import monotonic
from typing import TYPE_CHECKING, Any

from fgbench.errors import TimedOut, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator

AGAIN = 1.0  # seconds after which TimedOut is raised once more, in code that caught it
GRACE = 5.0  # seconds after which code that catches it every time ends with the process
LONGEST = 1e7  # seconds; the clocks of some systems take no more
FAILED = 1  # exit code of a process that is ended


@contextmanager
def time_limit(seconds: float | None, what: str) -> Iterator[None]:
    """Raise :class:`TimedOut` inside the block once its time is used up.

    An alarm of the operating system raises it between two steps of Python code, in a sleep too, and again
    every second where the block catches it. A block that does not end within five more seconds, because
    it catches the error each time or is inside a single call of compiled code, ends with the process:
    one line on stderr and exit code 1; where compiled code never lets Python run, Python prints where.

    Args:
        seconds: the limit; None is no limit.
        what: what runs, for the message: "WHAT was not finished within 5 s".

    Raises:
        UsageError: for a limit that is no positive number, and where no alarm can be set: outside the main
            thread, and on Windows.

    Example:
        >>> from time import sleep
        >>> try:
        ...     with time_limit(0.01, "a long sleep"):
        ...         sleep(10.0)
        ... except TimedOut as error:
        ...     print(error)
        a long sleep was not finished within 0.01 s
    """
    if seconds is None:
        yield
        return
    if not (isfinite(seconds) and 0 < seconds <= LONGEST):
        raise UsageError(f"a time limit is a number of seconds above 0, got {seconds:g}")
    if not hasattr(signal, "setitimer"):
        raise UsageError("a time limit needs alarms, which this operating system does not have")
    if threading.current_thread() is not threading.main_thread():
        raise UsageError("a time limit can be set in the main thread only")
    message = f"{what} was not finished within {seconds:g} s"
    over = False

    def alarm(*_: Any) -> None:
        if not over:
            raise TimedOut(message)

    def end() -> None:
        print(f"fgbench: {message}, and it does not stop by itself", file=sys.stderr, flush=True)
        os._exit(FAILED)

    last = threading.Timer(seconds + GRACE, end)
    last.daemon = True
    handler, begun = signal.signal(signal.SIGALRM, alarm), monotonic()
    left, interval = signal.setitimer(signal.ITIMER_REAL, seconds, AGAIN)
    outermost = left == 0.0
    try:
        last.start()
        if outermost and sys.__stderr__ is not None:  # by a thread that needs no turn of Python's
            faulthandler.dump_traceback_later(seconds + 2 * GRACE, exit=True, file=sys.__stderr__)
        yield
    finally:
        over = True
        last.cancel()
        if outermost:
            faulthandler.cancel_dump_traceback_later()
        left = 0.0 if outermost else max(left - (monotonic() - begun), 1e-3)
        signal.setitimer(signal.ITIMER_REAL, left, interval)
        signal.signal(signal.SIGALRM, handler)
