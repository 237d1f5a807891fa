"""Run a command line in a forked child: what it breaks there, and how long it takes, stays there."""

from __future__ import annotations

import atexit
import os
import resource
import signal
import sys
import threading
import traceback
import warnings
from pathlib import Path
from time import monotonic, sleep
from typing import NamedTuple

MEMORY = 16 << 30  # bytes that a child may address


class Answer(NamedTuple):
    """What a command answered; ``code`` is None where it did not end in time."""

    code: int | None
    out: str
    err: str

    @property
    def lines(self) -> list[str]:
        return [line for line in self.err.splitlines() if line.strip()]


def answer(arguments: list[str], folder: Path, seconds: float = 20.0, stdin: str = "") -> Answer:
    """Run ``fgbench ARGUMENTS`` in a folder, as a process would, without starting one."""
    from fgbench.cli.main import run

    files = [folder / f".{name}" for name in ("out", "err")]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of a fork beside threads
        child = os.fork()
    if child == 0:
        _become(files, folder)
        code = 70
        try:
            code = run(arguments)
            threading._shutdown()  # type: ignore[attr-defined]
            atexit._run_exitfuncs()
            sys.stdout.flush()
            sys.stderr.flush()
        except BaseException:
            traceback.print_exc(file=sys.__stderr__)
        finally:
            os._exit(code)
    code = _waited(child, monotonic() + seconds)
    out, err = (file.read_text(encoding="utf-8", errors="replace") for file in files)
    return Answer(code, out, err)


def _become(files: list[Path], folder: Path) -> None:
    """Set up the child: its folder, its streams and its memory."""
    import torch

    torch.set_num_threads(1)
    os.chdir(folder)
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    atexit._clear()
    warnings.resetwarnings()  # as in the program, where they are no errors
    for kind in (DeprecationWarning, PendingDeprecationWarning, ImportWarning, ResourceWarning):
        warnings.simplefilter("ignore", kind)
    for number, file in enumerate(files, 1):
        opened = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        os.dup2(opened, number)
    sys.stdout = sys.__stdout__ = os.fdopen(1, "w", encoding="utf-8", closefd=False)
    sys.stderr = sys.__stderr__ = os.fdopen(
        2, "w", encoding="utf-8", errors="backslashreplace", buffering=1, closefd=False
    )


def _waited(child: int, until: float) -> int | None:
    """Return the exit code of a child, negative for a signal; None where it had to be killed."""
    while monotonic() < until:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        sleep(0.005)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return None
