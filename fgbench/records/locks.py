"""Hold the right to do one run in a folder of records."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def claim(folder: Path, key: str, *, wait: bool = False) -> Iterator[bool]:
    """Hold the right to do one run in a folder while the block lasts.

    The lock is the kernel's (``flock`` on a file holding host and pid for people to read), which
    ends with its process: a lock file left by a dead process is free, a recycled pid blocks nobody
    and two processes cannot both take over. Where a system or file system has no such locks every
    claim is granted: a run may then be done twice, its record stays whole.

    Args:
        folder: of the records; made if missing.
        key: of the run.
        wait: wait until the other process is done instead of being told; look for its record then.

    Yields:
        True when the run is this process's to do, False when another one is at it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f".{key}.lock"
    while True:
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            if not _locked(handle, wait):
                yield False
                return
            if not _same_file(handle, path):
                continue  # its holder removed the file between open and lock
            os.ftruncate(handle, 0)
            os.write(handle, f"{socket.gethostname()} {os.getpid()}\n".encode())
            try:
                yield True
            finally:
                path.unlink(missing_ok=True)
            return
        finally:
            os.close(handle)


def _locked(handle: int, wait: bool) -> bool:
    """Lock an open file; true as well where there are no such locks."""
    try:
        import fcntl
    except ImportError:
        return True
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno not in (errno.ENOSYS, errno.ENOTSUP, errno.ENOLCK):
            raise
    return True


def _same_file(handle: int, path: Path) -> bool:
    """Say whether an open file is still the one under its name."""
    try:
        return os.path.samestat(os.fstat(handle), path.stat())
    except FileNotFoundError:
        return False
