"""Run the command line: ``fgbench`` and ``python -m fgbench``.

This file imports nothing heavy, so that signals are heard from the first moment on.
"""

from __future__ import annotations

import atexit
import io
import os
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

from fgbench.records import interrupts

if TYPE_CHECKING:
    from collections.abc import Iterator

CLOSED = "fgbench: standard output is closed; send it to a file or to /dev/null\n"


def main() -> None:
    """Run the command line of this process and exit with its code.

    Example:
        >>> main()  # doctest: +SKIP
    """
    interrupts.install()
    code = 2
    try:
        if _opened():
            from fgbench.cli.main import run

            code = run(sys.argv[1:])
    except KeyboardInterrupt:  # before the command began
        code = interrupts.exit_code()
        _write_error("fgbench: interrupted\n")
    interrupts.ignore()
    atexit._run_exitfuncs()
    # Taking the interpreter down restores the default action of signals, and takes a second with torch.
    os._exit(_flushed(code))


class Output(io.TextIOWrapper):
    r"""Standard output whose errors name it; characters that it cannot encode are written as escapes.

    Example:
        >>> out = Output(io.BytesIO(), encoding="ascii", errors="backslashreplace")
        >>> out.write("ε"), out.flush(), out.buffer.getvalue()
        (1, None, b'\\u03b5')
    """

    def write(self, text: str) -> int:
        """Write a text."""
        with _named():
            return super().write(text)

    def flush(self) -> None:
        """Write out what is buffered."""
        with _named():
            super().flush()


@contextmanager
def _named() -> Iterator[None]:
    """Name standard output in the errors of a block."""
    try:
        yield
    except OSError as error:
        if error.errno is not None:  # else its text would change
            error.filename = error.filename or "standard output"
        raise


def _opened() -> bool:
    """Open what this process was started without, and return whether it has a standard output."""
    # A file that is opened later would take the number of the closed one, and what libraries print would
    # go into it.
    given = sys.stdout is not None
    for number, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        if getattr(sys, name) is None:
            try:
                os.fstat(number)
            except OSError:
                os.open(os.devnull, os.O_RDWR)
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: SIM115
    if not given:
        _write_error(CLOSED)
        return False
    if isinstance(sys.stdout, io.TextIOWrapper):
        before = sys.stdout
        encoding, lines, through = before.encoding, before.line_buffering, before.write_through
        out = Output(before.detach(), encoding, "backslashreplace", None, lines, through)
        sys.stdout = sys.__stdout__ = out  # type: ignore[misc]
    return True


def _flushed(code: int) -> int:
    """Write out what standard output still holds, and return the exit code.

    Args:
        code: of the command.

    Returns:
        The code; where it is 0 and the output could not be written, 2, and 1 where its reader has gone.
    """
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        code = code or 1
    except OSError as error:
        if code == 0:
            _write_error(f"fgbench: cannot write or read: standard output: {error.strerror}\n")
        code = code or 2
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:  # or the interpreter would try it once more, and report the same
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, stream.fileno())
            os.close(null)
    return code


def _write_error(text: str) -> None:
    """Write to stderr as far as possible."""
    try:
        sys.stderr.write(text)
        sys.stderr.flush()
    except OSError:
        pass


if __name__ == "__main__":
    main()
