"""Claim a run in a folder of records, so that two processes do not both do it."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from time import sleep

from filelock import FileLock, Timeout

from fgbench.records import atomic, files, interrupts

LOCK = re.compile(r"\.[0-9a-f]{32}\.lock")
LOOK_S = 0.05  # seconds between two tries of a claim that is waited for


@contextmanager
def claim(folder: Path, key: str, *, wait: bool = False) -> Iterator[bool]:
    """Hold the claim to one run in a folder while the block lasts.

    The lock is the operating system's (by the library ``filelock``) and ends with its process: a lock
    file that a killed process left behind is free, and a process that gets an old process's number
    blocks nobody. On a file system without locks every claim is granted: a run may then be done twice,
    its record stays whole.

    Args:
        folder: of the records; made if missing.
        key: of the run.
        wait: wait until the other process is done instead of returning; look for its record then.

    Yields:
        True when the run is this process's to do, False when another one is at it.

    Example:
        >>> from pathlib import Path
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder:
        ...     with claim(Path(folder), "a") as first, claim(Path(folder), "a") as second:
        ...         print(first, second)
        True False
    """
    path = folder / f".{key}.lock"
    lock = FileLock(path, thread_local=False)
    with files.kept(folder):
        granted = False
        try:
            granted = _claimed(lock, path, wait)
            yield granted
        finally:
            with interrupts.whole():
                if granted or lock.is_locked:
                    _release(lock, path)


def _claimed(lock: FileLock, path: Path, wait: bool) -> bool:
    """Take a lock; return False where another process has it and is not waited for."""
    while True:
        with interrupts.whole():
            if _acquired(lock, path):
                return True
        if not wait:
            return False
        sleep(LOOK_S)


def _acquired(lock: FileLock, path: Path) -> bool:
    """Try to take a lock; return True as well on a file system that has none."""
    while True:
        try:
            lock.acquire(timeout=0)
        except Timeout:
            if path.exists():
                return False
            # Its holder removed the file between open and lock: there is no holder any more.
        except OSError as error:
            if error.errno not in (errno.ENOTSUP, errno.ENOLCK):
                raise
            return True
        else:
            return True


def _release(lock: FileLock, path: Path) -> None:
    """Remove the file of a lock and release it."""
    if os.name == "posix":  # elsewhere the library removes it
        # Before the release: who opened the file in the meantime finds it removed, and opens a new one.
        path.unlink(missing_ok=True)
    lock.release()


def tidy(folder: Path) -> None:
    """Remove what killed processes have left in a folder of records: lock files and temporary files.

    Args:
        folder: of the records; may be missing.

    Example:
        >>> tidy(Path("no-such-folder"))
    """
    atomic.tidy(folder)
    with suppress(OSError):
        for name in os.listdir(folder):
            if LOCK.fullmatch(name):
                with suppress(OSError), claim(folder, name[1:-5]):
                    pass  # removed with the claim; one that is held stays
