"""Claim a run in a folder of records, so that two processes do not both do it."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout


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
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f".{key}.lock"
    lock = FileLock(path, thread_local=False)
    if not _acquired(lock, path, wait):
        yield False
        return
    try:
        yield True
    finally:
        if os.name == "posix":  # elsewhere the library removes it
            # Before the release: who opened the file in the meantime finds it removed, and opens a new one.
            path.unlink(missing_ok=True)
        lock.release()


def _acquired(lock: FileLock, path: Path, wait: bool) -> bool:
    """Take a lock; return True as well on a file system that has none."""
    while True:
        try:
            lock.acquire(timeout=-1 if wait else 0)
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
