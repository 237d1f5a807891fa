"""The command line ``fgbench``: its commands, and errors as one line and an exit code.

Exit codes: 0 success (a diverged run is a result), 1 a run failed or a check did not hold, 2 wrong usage,
3 all that a check tested held, but it left something out, or a benchmark of ``gate`` failed, 4 ``gate``
could not run, 130 interrupted (143 by SIGTERM, 129 by SIGHUP). :mod:`fgbench.__main__` is the entry, which
hears signals before this file is imported.
An error inside a method is reported in one line at the end; with FGBENCH_DEBUG set its traceback is
printed as well.
"""

from __future__ import annotations

import os
import warnings
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.exceptions import TyperException

from fgbench.cli import (
    compare_commands,
    gate_command,
    new,
    read_commands,
    records_commands,
    run_commands,
    suites_command,
)
from fgbench.cli.progress import asides_in_one_line, print_error
from fgbench.errors import (
    BackwardRefused,
    MethodFailed,
    Notice,
    TangentLost,
    TimedOut,
    Unwritten,
    UsageError,
    reason,
)
from fgbench.records import interrupts

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
app.command(epilog=compare_commands.EQUAL)(compare_commands.compare)
app.add_typer(compare_commands.leaderboard, name="leaderboard")
app.command(epilog=gate_command.EPILOG)(gate_command.gate)
app.command()(run_commands.sweep)
app.command()(run_commands.fusion)
app.command()(run_commands.table1)
app.command()(run_commands.show)
app.command()(run_commands.check)
app.command()(new.new)
app.add_typer(suites_command.suites, name="suites")
app.add_typer(records_commands.records, name="records")
app.command()(read_commands.report)
app.command(cls=read_commands.FigureHelp)(read_commands.figure)
app.command()(read_commands.paper)
app.command(epilog=read_commands.EXAMINED)(read_commands.doctor)
app.command()(read_commands.demo)


@cache
def command() -> Any:
    """Return the commands and their options, read from the signatures once per process.

    Example:
        >>> command() is command()
        True
    """
    return typer.main.get_command(app)


def run(arguments: list[str]) -> int:
    """Run one command line; report a user's mistake as one line on stderr.

    Args:
        arguments: without the program's name.

    Returns:
        The exit code.

    Example:
        >>> run(["list", "presets"])  # doctest: +ELLIPSIS
        BP ... bp/end ...
        ...
        0
    """
    try:
        with warnings.catch_warnings(), asides_in_one_line():
            unwritten = _print_notices()
            code = int(command()(arguments, standalone_mode=False) or 0) or 2 * bool(unwritten)
    except typer.Exit as ended:
        code = ended.exit_code
    except KeyboardInterrupt:
        code = INTERRUPTED
    except (Exception, TimedOut) as error:
        if not interrupts.due():
            return _report(error, arguments)
        code = INTERRUPTED  # what a library made of the interrupt
    if code == INTERRUPTED:
        print_error("interrupted" + _how_to_continue(arguments))
        return interrupts.exit_code()
    return code


def _print_notices() -> list[str]:
    """Print notices as lines on stderr; return a list to which those on unwritten records are added."""
    shown = warnings.showwarning
    unwritten: list[str] = []

    def show(message: Warning | str, category: type[Warning], *where: Any, **more: Any) -> None:
        """Print one warning."""
        if issubclass(category, Notice):
            print_error(str(message))
            if issubclass(category, Unwritten):
                unwritten.append(str(message))
        else:
            shown(message, category, *where, **more)

    warnings.showwarning = show
    warnings.simplefilter("always", Notice)
    return unwritten


def _report(error: BaseException, arguments: list[str]) -> int:
    """Print an error as one line and return the exit code; a fault of the program is raised again."""
    if isinstance(error, UsageError | TyperException):
        text = error.format_message() if isinstance(error, TyperException) else str(error)
        if text:  # without arguments typer prints the help and raises an error without a message
            print_error(text + _dashed(error, arguments))
        return 2
    if isinstance(error, BackwardRefused | MethodFailed | TangentLost | TimedOut):
        print_error(str(error))
        return 1
    if isinstance(error, OSError):
        path = error.filename2 or error.filename  # of a rename: its destination
        where = f"{path}: " if path else ""
        why = error.strerror or error
        if isinstance(error, (FileExistsError, NotADirectoryError)) and Path(str(path)).is_file():
            why = "expected a folder"
        print_error(f"cannot write or read: {where}{why}")
        return 2
    if _no_memory(error):
        print_error(f"out of memory: {reason(error)}")
        return 1
    raise error


def _dashed(error: BaseException, arguments: list[str]) -> str:
    """Return a hint where a file or folder was taken for an option because its name begins with a dash."""
    paths = [a for a in arguments if a.startswith("-") and os.path.lexists(a)]
    hint = f"; a path that begins with a dash is typed ./{paths[0]}" if paths else ""
    return hint * (type(error).__name__ == "NoSuchOption")


def _how_to_continue(arguments: list[str]) -> str:
    """Return how an interrupted run is continued, "" where the same command begins anew."""
    if not arguments:
        return ""
    again = "; run the same command again"
    if arguments[0] == "gate":
        return f"{again}: answers are kept"
    given = any(a.startswith(("-o", "--records")) for a in arguments)
    if arguments[0] in ("train", "sweep", "compare") or (
        arguments[0] in ("measure", "table1") and given
    ):
        return f"{again} to continue from its folder of records"
    return ""


def _no_memory(error: BaseException) -> bool:
    """Return whether an error means that memory ran out; Python, torch and the loader word it differently."""
    if not isinstance(error, MemoryError | ImportError | RuntimeError):
        return False
    words = ("allocate memory", "out of memory", "failed to map segment")
    return isinstance(error, MemoryError) or any(w in str(error).lower() for w in words)
