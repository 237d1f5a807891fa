"""Progress and errors on stderr: a live line on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import threading
from contextlib import contextmanager, suppress
from time import monotonic
from typing import TYPE_CHECKING, Any, Self

from fgbench.errors import one_line, reason

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import TracebackType

EVERY_S = 10.0
STILL_S = 60.0
"""Seconds after which a message is printed again, with the time that has passed."""


def print_error(message: str) -> None:
    """Print a message as one line on stderr, after the program's name.

    Args:
        message: the text; line breaks become spaces, and long words are cut.

    Example:
        >>> import contextlib
        >>> with contextlib.redirect_stderr(sys.stdout):
        ...     print_error("unknown method 'FG-X'")
        fgbench: unknown method 'FG-X'
    """
    print_line(f"fgbench: {one_line(message)}")


def print_line(line: str) -> None:
    """Print a line on stderr; a run goes on where that cannot be written, such as on a full disk.

    Args:
        line: the text.

    Example:
        >>> import contextlib
        >>> with contextlib.redirect_stderr(sys.stdout):
        ...     print_line("train: epoch 1/2")
        train: epoch 1/2
    """
    readable = line.encode(
        "utf-8", "backslashreplace"
    ).decode()  # names of files may hold any bytes
    with suppress(OSError):
        print(readable, file=sys.stderr, flush=True)


@contextmanager
def asides_in_one_line() -> Iterator[None]:
    """Print what threads and the ends of objects raise in this context as one line each.

    Python prints a traceback, although the run goes on.

    Example:
        >>> import contextlib
        >>> with contextlib.redirect_stderr(sys.stdout), asides_in_one_line():
        ...     thread = threading.Thread(target=lambda: [][1])
        ...     thread.start()
        ...     thread.join()
        fgbench: a thread ended with IndexError: list index out of range
    """

    def thread(given: threading.ExceptHookArgs) -> None:
        if given.exc_value is not None:
            print_error(f"a thread ended with {reason(given.exc_value)}")

    def end(given: sys.UnraisableHookArgs) -> None:
        # An interrupt comes again, and is told of then.
        if given.exc_value is not None and not isinstance(given.exc_value, KeyboardInterrupt):
            print_error(f"an object ended with {reason(given.exc_value)}")

    before = threading.excepthook, sys.unraisablehook
    threading.excepthook, sys.unraisablehook = thread, end
    try:
        yield
    finally:
        threading.excepthook, sys.unraisablehook = before


class Progress:
    """A context that shows how far a long call is: a live line on a terminal, elsewhere plain lines.

    Of lines that follow within ten seconds the last one is printed when these are over, so that what takes
    long is named while it runs.

    Args:
        verb: what is being done.
        quiet: show nothing.

    Example:
        >>> with Progress("train", quiet=True) as progress:
        ...     progress.start("seed 0")
        ...     progress("epoch 1 of 20")
    """

    def __init__(self, verb: str, quiet: bool = False) -> None:
        self._verb, self._quiet = verb, quiet
        self._prefix, self._printed = "", 0.0
        self._status: Any = None
        self._last, self._since, self._shown = "", 0.0, ""
        self._lock, self._ended = threading.Lock(), threading.Event()

    def __enter__(self) -> Self:
        """Open the live line on a terminal."""
        if not self._quiet and sys.stderr.isatty():
            from rich.console import Console

            self._status = Console(stderr=True).status(self._verb)
            self._status.start()
        elif not self._quiet:
            threading.Thread(target=self._watch, daemon=True).start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close the live line."""
        self.stop()

    def stop(self) -> None:
        """Show nothing more."""
        self._ended.set()
        if self._status is not None:
            self._status.stop()

    def start(self, prefix: str) -> None:
        """Set the prefix of the next messages, such as ``seed 0``."""
        self._prefix = prefix

    def __call__(self, message: str) -> None:
        """Show a message: on a terminal at once, elsewhere at most every ten seconds."""
        if self._quiet:
            return
        text = (
            f"{self._verb} {self._prefix}: {message}"
            if self._prefix
            else f"{self._verb}: {message}"
        )
        if self._status is not None:
            self._status.update(text)
            return
        with self._lock:
            self._last, self._since = text, monotonic()
            self._print_due()

    def _watch(self) -> None:
        """Print what is under way when a message was held back, and again while it lasts."""
        while not self._ended.wait(EVERY_S / 10):
            with self._lock:
                if not self._ended.is_set():
                    self._print_due()

    def _print_due(self) -> None:
        """Print the last message if it is time."""
        now = monotonic()
        since = now - self._printed
        if not self._last or since < EVERY_S:
            return
        if self._last != self._shown:
            print_line(self._last)
        elif since >= STILL_S:
            print_line(f"{self._last} (for {now - self._since:.0f} s)")
        else:
            return
        self._shown, self._printed = self._last, now
