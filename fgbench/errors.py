"""Errors whose message is one line: what was expected, what came, and the nearest valid name."""

from __future__ import annotations

import builtins
import inspect
import os
import re
import sys
import threading
import traceback
from contextlib import contextmanager, nullcontext, redirect_stdout
from difflib import SequenceMatcher, get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence


LONGEST = 500  # characters of a message; some messages of torch list every parameter
LINE = 200  # characters above which long words of a message are cut
WORD = 60  # characters that are left of a long word or quoted text in such a message
PATH = 150  # the same where it is a path
NEAR = 0.5  # similarity from which a name is suggested, see difflib.get_close_matches
FEW = 24  # valid names that a message lists at most


class TimedOut(BaseException):
    """Raised inside a block that has used up its time; see :mod:`fgbench.core.time_limit`.

    No Exception, so that code under the limit that catches those does not stop it.

    Example:
        >>> issubclass(TimedOut, Exception)
        False
    """


def pass_on(error: BaseException) -> None:
    """Raise an error again if it ends the run: a Ctrl-C, or time that is used up.

    Code of others may raise anything: ``sys.exit``, a ``GeneratorExit``, an error of its own that is no
    ``Exception``. Everything that it raises ends that code only, so its callers catch ``BaseException``
    and pass these two on.

    Args:
        error: as caught.

    Example:
        >>> try:
        ...     raise SystemExit(3)
        ... except BaseException as error:
        ...     pass_on(error)
    """
    if type(error) is KeyboardInterrupt or isinstance(error, TimedOut):
        raise error


def one_line(text: str, most: int = LONGEST) -> str:
    r"""Format a text as one printable line of limited length.

    White space becomes single spaces, and characters that a terminal does not print (control characters,
    lone surrogates, marks that reverse the direction) become escapes. In a text of more than 200
    characters, long words and long quoted texts are cut in their middle.

    Args:
        text: any text.
        most: characters at which the line ends.

    Returns:
        The line.

    Example:
        >>> one_line("several\n  lines, \x1b[31mred")
        'several lines, \\x1b[31mred'
        >>> one_line(f"unknown method {'x' * 9999!r}")
        "unknown method 'xxxxxxxxxxxxxxxxxxx...(10001 characters)...xxxxxxxxx'"
    """
    line = " ".join(str.split(text))
    if not line.isprintable():
        line = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in line)
    if len(line) > LINE:
        line = _LONG.sub(lambda word: _cut(word[0]), line)
    return line if len(line) <= most else f"{line[:most]}..."


_LONG = re.compile(rf"'[^']{{{WORD},}}'|\"[^\"]{{{WORD},}}\"|[^\s'\"]{{{WORD},}}")


def _cut(word: str) -> str:
    """Return the beginning and the end of a word that is too long for a message."""
    if len(word) <= (PATH if "/" in word else WORD):
        return word
    return f"{word[: WORD // 3]}...({len(word)} characters)...{word[-WORD // 6 :]}"


class UsageError(Exception):
    r"""A user's mistake: the command line prints its message as one line and exits with 2.

    Args:
        message: becomes one printable line, see :func:`one_line`.

    Example:
        >>> str(UsageError("draws must be 1 or more,\n got 0"))
        'draws must be 1 or more, got 0'
    """

    def __init__(self, message: object = "") -> None:
        super().__init__(one_line(str(message)))
        # One that is raised while another error is handled is shown alone; `from error` shows both.
        self.__suppress_context__ = True


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


class Unwritten(Notice):
    """A record cannot be written; its numbers are returned and shown, and the command does not succeed.

    Example:
        >>> issubclass(Unwritten, Notice)
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

    A :class:`UsageError` and its kinds are shown without their type: the message is meant for the user.

    Args:
        error: the error, as it was caught.
        owner: the object whose code raised it, or the path of its file. The line named is the last one of
            the traceback in the file of its class, else in the file of a class that it inherits from, else
            the last of all. Without an owner no line is named.
        others: objects that its code calls, such as a locality and its readouts. Where a file outside
            fgbench that defines one of them is deeper in the traceback, that line is named first.

    Returns:
        Such as ``ValueError: no such thing (mine.py:12)``.

    Example:
        >>> reason(ValueError("no such thing"))
        'ValueError: no such thing'
    """
    line = message(error) or "no message"
    if not isinstance(error, UsageError):  # its message is meant for the user
        line = f"{_name(type(error))}: {line}"
    if owner is None:
        return line
    places = _places(error)
    theirs = {file for other in others for file in _files(type(other))[:1] if not _ours(file)}
    deepest = max((i for i, place in enumerate(places) if place.filename in theirs), default=-1)
    for file in [str(owner)] if isinstance(owner, Path) else _files(type(owner)):
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
        isinstance(owner, Path) or isinstance(error, UsageError) or not places
    ):  # a UsageError needs no line: its message is enough
        return line
    return f"{line} ({_place(places[-1])})"


def _place(frame: traceback.FrameSummary) -> str:
    """Return file and line of a frame."""
    return f"{Path(frame.filename).name}:{frame.lineno}"


def _ours(file: str) -> bool:
    """Return whether a file is part of fgbench."""
    return Path(file).is_relative_to(Path(__file__).parent)


def message(error: BaseException) -> str:
    """Return the message of an error as one line; code of others may raise while it makes it.

    Args:
        error: the error, as it was caught.

    Returns:
        The line, "" where there is no message.

    Example:
        >>> class Mute(Exception):
        ...     def __str__(self):
        ...         raise KeyError("text")
        >>> message(Mute())
        'its message cannot be read (KeyError)'
    """
    try:
        return one_line(str(error))
    except BaseException as another:
        pass_on(another)
        return f"its message cannot be read ({_name(type(another))})"


def _name(cls: type) -> str:
    """Return the name of a class; its metaclass may have another attribute of that name."""
    name: str = type.__dict__["__name__"].__get__(cls)
    return one_line(name)


def _places(error: BaseException) -> list[traceback.FrameSummary]:
    """Return the places of an error's traceback, from the outermost to the one that raised it."""
    return list(traceback.extract_tb(error.__traceback__))


@contextmanager
def at_work(
    owner: object, *others: object, begun: bool = True, undo: bool = True
) -> Iterator[None]:
    """Convert errors inside one method to :class:`MethodFailed`, so that other methods still run.

    This covers everything that can be raised, ``sys.exit`` among it, except what :func:`pass_on` passes. With
    ``FGBENCH_DEBUG`` set the traceback is printed on stderr.

    Args:
        owner: the estimator.
        others: the objects that its code calls, see :func:`reason`.
        begun: whether estimates are being made. Before that a :class:`UsageError` is the user's mistake
            and passes unchanged.
        undo: whether :func:`undone` is entered; not where the time counts.

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
        with undone() if undo else nullcontext():
            yield
    except BaseException as error:
        pass_on(error)
        if isinstance(error, UsageError) and not begun:
            raise UsageError(_where(owner) + message(error)) from None
        if os.environ.get("FGBENCH_DEBUG"):
            traceback.print_exception(error, file=sys.stderr)
        raise MethodFailed(reason(error, owner, others)) from None


OUTSIDE = "fgbench_file_"
"""Begins the name of the module that a user's file becomes."""


def _where(owner: object) -> str:
    """Return the name of the user's file that an object comes from, "" for none."""
    if not str(type(owner).__module__).startswith(OUTSIDE):
        return ""
    return "".join(f"{Path(file).name}: " for file in _files(type(owner))[:1])


@contextmanager
def undone(*, imported: bool = False) -> Iterator[None]:
    """Undo what code of others changes for the whole process, and keep what it prints out of the results.

    These are the working folder, torch's default type, gradient mode and number of threads, and the
    standard output, which goes to stderr meanwhile. Threads that it starts end with the process.

    Args:
        imported: whether it is being imported; Python's built-in names are restored too.

    Cost: some microseconds.

    Example:
        >>> before = os.getcwd()
        >>> with undone():
        ...     os.chdir("/")
        >>> os.getcwd() == before
        True
    """
    folder, torch = _folder(), sys.modules.get("torch")
    before = None if torch is None else _settings(torch)
    built_in = dict(vars(builtins)) if imported else {}
    thread = threading.current_thread()
    daemon, thread._daemonic = thread.daemon, True  # type: ignore[attr-defined]  # new threads inherit it
    try:
        with redirect_stdout(sys.stderr):
            yield
    finally:
        thread._daemonic = daemon  # type: ignore[attr-defined]
        vars(builtins).update(built_in)
        if folder and _folder() != folder:
            os.chdir(folder)
        if torch is not None and before is not None and _settings(torch) != before:
            torch.set_default_dtype(before[0])
            torch.set_grad_enabled(before[1])
            torch.set_num_threads(before[2])


def _folder() -> str:
    """Return the working folder, "" where it has been removed."""
    try:
        return os.getcwd()
    except OSError:
        return ""


def _settings(torch: Any) -> tuple[Any, bool, int]:
    """Return the settings of torch that hold for the whole process."""
    return torch.get_default_dtype(), torch.is_grad_enabled(), torch.get_num_threads()


def _files(owner: type) -> list[str]:
    """Return the source files of a class and of its base classes, in the order of inheritance."""
    files = []
    for cls in owner.__mro__:
        try:
            files.append(inspect.getfile(cls))
        except Exception:
            continue  # built in, typed at a prompt, or its attributes are not what they should be
    return files


def unknown(kind: str, name: str, valid: Iterable[str]) -> UsageError:
    """Build the error for an unknown name, with the nearest valid one.

    Names are compared without regard to case and with ``_`` equal to ``-``. If no name is near, the valid
    ones are listed, at most 24, or 4 after a long name.

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
    names, few = sorted(valid), FEW if len(name) <= WORD else FEW // 6
    near = []
    if len(name) <= LINE:  # the time of a comparison grows with the length
        near = get_close_matches(_alike(name), dict.fromkeys(map(_alike, names)), n=1, cutoff=NEAR)
    alike = [other for other in names if near and _alike(other) == near[0]]
    nearest = max(alike, key=lambda other: SequenceMatcher(None, name, other).ratio(), default="")
    listed = names if len(names) <= few else [*names[:few], f"... ({len(names)} in all)"]
    hint = f"did you mean {nearest!r}?" if nearest else "valid: " + ", ".join(listed)
    return UsageError(f"unknown {kind} {name!r}; {hint}")


def _alike(name: str) -> str:
    """Return a name in lower case with ``-`` for ``_``."""
    return name.lower().replace("_", "-")
