"""Progress on stderr: a live bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
from time import monotonic
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from types import TracebackType

EVERY_S = 10.0


class Progress:
    """Says where a long call stands.

    Args:
        verb: what is being done.
        quiet: say nothing.
    """

    def __init__(self, verb: str, quiet: bool = False) -> None:
        self._verb, self._quiet = verb, quiet
        self._prefix, self._said = "", 0.0
        self._status: Any = None

    def __enter__(self) -> Self:
        """Open the live line on a terminal."""
        if not self._quiet and sys.stderr.isatty():
            from rich.console import Console

            self._status = Console(stderr=True).status(self._verb)
            self._status.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close the live line."""
        if self._status is not None:
            self._status.stop()

    def start(self, prefix: str) -> None:
        """Name what the next messages belong to."""
        self._prefix = prefix

    def __call__(self, message: str) -> None:
        """Show a message: at once on the live line, at most every ten seconds as a plain line."""
        if self._quiet:
            return
        text = (
            f"{self._verb} {self._prefix}: {message}"
            if self._prefix
            else f"{self._verb}: {message}"
        )
        if self._status is not None:
            self._status.update(text)
        elif monotonic() - self._said >= EVERY_S:
            self._said = monotonic()
            print(text, file=sys.stderr, flush=True)
