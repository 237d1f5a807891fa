"""Write a file whole or not at all."""

from __future__ import annotations

import errno
import os
import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from fgbench.records import interrupts

fcntl: Any
try:
    import fcntl
except ImportError:  # not on Windows
    fcntl = None

TEMPORARY = re.compile(r"\.fgbench-\d+-[0-9a-f]{8}\.tmp")


def write_text(path: Path, text: str) -> None:
    """Write a text as UTF-8, with line ends as they are, whole or not at all.

    Args:
        path: in a folder that exists; an earlier file of that name is replaced.
        text: the content.

    Raises:
        OSError: it cannot be written; an earlier file is left as it was.

    Example:
        >>> from pathlib import Path
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder:
        ...     write_text(Path(folder, "a.txt"), "one line")
        ...     print([file.name for file in Path(folder).iterdir()])
        ['a.txt']
    """
    write_bytes(path, text.encode())


def write_bytes(path: Path, data: bytes) -> None:
    """Write bytes whole or not at all.

    They go into a temporary file of the same folder, which is flushed to the disk and renamed: a reader, or a
    kill at any moment, meets the earlier file or the new one. The temporary name begins with a dot and
    belongs to this call alone, so that several processes may write one file. A signal waits for the end.

    Args:
        path: in a folder that exists; an earlier file of that name is replaced.
        data: the content.

    Raises:
        OSError: it cannot be written; an earlier file is left as it was.

    Example:
        >>> from pathlib import Path
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder:
        ...     write_bytes(Path(folder, "a.bin"), b"abc")
        ...     print(Path(folder, "a.bin").read_bytes())
        b'abc'
    """
    with interrupts.whole(), _named(path):
        temporary = path.with_name(f".fgbench-{os.getpid()}-{secrets.token_hex(4)}.tmp")
        # O_EXCL with mode 666: never another process's file, readable as far as the umask allows
        binary = getattr(os, "O_BINARY", 0)  # Windows would change line ends
        handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | binary, 0o666)
        try:
            with os.fdopen(handle, "wb") as file:
                _lock(file.fileno())
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)
        flush(path.parent)


def tidy(folder: Path) -> None:
    """Remove the temporary files of writers that were killed.

    A writer holds a lock on its file, which ends with its process.

    Args:
        folder: where files are written; may be missing.

    Example:
        >>> tidy(Path("no-such-folder"))
    """
    if fcntl is None:
        return
    with suppress(OSError):
        for name in os.listdir(folder):
            if TEMPORARY.fullmatch(name):
                with suppress(OSError):
                    _remove_unlocked(folder / name)


def _remove_unlocked(path: Path) -> None:
    """Remove a file that no process has locked."""
    handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        path.unlink()
    finally:
        os.close(handle)


def _lock(handle: int) -> None:
    """Lock a file that is being written, where the system can."""
    if fcntl is not None:
        with suppress(OSError):
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)


@contextmanager
def _named(path: Path) -> Iterator[None]:
    """Name the file in errors that name none, such as that of a full disk."""
    try:
        yield
    except OSError as error:
        if error.errno is not None:  # else its text would change
            error.filename = error.filename or str(path)
        raise


def flush(path: Path) -> None:
    """Wait until a file, or the names in a folder, are on the disk.

    Args:
        path: of the file or folder; a folder is passed over where the system cannot flush one.

    Example:
        >>> from pathlib import Path
        >>> flush(Path("."))
    """
    folder = path.is_dir()
    if folder and os.name != "posix":
        return
    handle = os.open(path, os.O_RDONLY if folder else os.O_RDWR)
    try:
        os.fsync(handle)
    except OSError as error:
        if not folder or error.errno not in (
            errno.EINVAL,
            errno.ENOTSUP,
        ):  # some network file systems
            raise
    finally:
        os.close(handle)
