"""The command line ``fgbench``: its commands, and errors as one line and an exit code.

Exit codes: 0 success (a diverged run is a result), 1 a run failed or a check did not hold, 2 wrong usage,
3 all that a quick check tested held, but it left something out, 130 interrupted.
An error inside a method is reported in one line at the end; with FGBENCH_DEBUG set its traceback is
printed as well.
"""

from __future__ import annotations

import sys
from importlib import metadata
from typing import Annotated

import typer
from typer.exceptions import TyperException

from fgbench.cli import read_commands, run_commands
from fgbench.cli.progress import print_error
from fgbench.errors import BackwardRefused, MethodFailed, TangentLost, UsageError, reason

INTERRUPTED = 130  # the exit code that typer gives a Ctrl-C

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


def _print_version(asked: bool) -> None:
    """Print the versions of fgbench and torch, and exit."""
    if asked:
        print(f"fgbench {metadata.version('fgbench')} (torch {metadata.version('torch')})")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version."
        ),
    ] = False,
) -> None:
    """Measure, train and compare ways of learning without backprop."""


app.command("list")(read_commands.list_)
app.command()(read_commands.explain)
app.command(epilog=run_commands.WITHOUT_NUMBERS)(run_commands.measure)
app.command()(run_commands.train)
app.command()(run_commands.speed)
app.command()(run_commands.sweep)
app.command()(run_commands.fusion)
app.command()(run_commands.table1)
app.command()(run_commands.check)
app.command()(read_commands.report)
app.command(cls=read_commands.FigureHelp)(read_commands.figure)
app.command()(read_commands.paper)
app.command()(read_commands.doctor)
app.command()(read_commands.demo)


def main() -> None:
    """Run the command line of this process and exit with its code.

    Example:
        >>> from unittest.mock import patch
        >>> with patch("sys.argv", ["fgbench", "list", "nothing"]):  # a mistake, reported on stderr
        ...     main()
        Traceback (most recent call last):
            ...
        SystemExit: 2
    """
    sys.exit(run(sys.argv[1:]))


def run(arguments: list[str]) -> int:
    """Run one command line; report a user's mistake as one line on stderr.

    Args:
        arguments: without the program's name.

    Returns:
        The exit code.

    Example:
        >>> run(["list", "presets"])  # doctest: +ELLIPSIS
        BP                      bp/end
        L-BP                    bp/module
        ...
        0
    """
    try:
        code = int(app(arguments, standalone_mode=False) or 0)
    except typer.Exit as ended:
        code = ended.exit_code
    except (UsageError, TyperException) as error:
        if str(
            error
        ):  # without arguments typer prints the help and raises an error without a message
            text = error.format_message() if isinstance(error, TyperException) else str(error)
            print_error(text)
        return 2
    except (BackwardRefused, MethodFailed, TangentLost) as error:
        print_error(str(error))
        return 1
    except OSError as error:
        path = error.filename2 or error.filename  # of a rename: its destination
        where = f"{path}: " if path else ""
        print_error(f"cannot write or read: {where}{error.strerror or error}")
        return 2
    except (MemoryError, ImportError, RuntimeError) as error:
        if not _no_memory(error):
            raise
        print_error(f"out of memory: {reason(error)}")
        return 1
    if code == INTERRUPTED:
        hint = "; run the same command again to continue from its folder of records"
        print_error("interrupted" + hint * _resumable(arguments))
    return code


def _resumable(arguments: list[str]) -> bool:
    """Return whether the same command continues an interrupted run."""
    given = any(a.startswith(("-o", "--records")) for a in arguments)
    return arguments[0] in ("train", "sweep") or (arguments[0] == "table1" and given)


def _no_memory(error: Exception) -> bool:
    """Return whether an error means that memory ran out; Python, torch and the loader word it differently."""
    words = ("allocate memory", "out of memory", "failed to map segment")
    return isinstance(error, MemoryError) or any(w in str(error).lower() for w in words)


if __name__ == "__main__":
    main()
