"""Read regular files only, and make folders that may vanish again."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from fgbench.records import interrupts

KINDS = {
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}
TRIES = 10  # another process may remove an empty parent while a folder is made in it


def read_bytes(path: Path) -> bytes:
    """Read a regular file.

    A pipe would wait for its writer, a device might never end: neither is opened for reading.

    Args:
        path: of the file, or a link to it.

    Returns:
        Its content.

    Raises:
        OSError: it cannot be read, or is something else than a file.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder:
        ...     read_bytes(Path(folder))  # doctest: +ELLIPSIS
        Traceback (most recent call last):
            ...
        IsADirectoryError: [Errno 21] Is a directory: '...'
    """
    _refuse(os.stat(path).st_mode, path)
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    with os.fdopen(os.open(path, flags), "rb") as file:
        _refuse(os.fstat(file.fileno()).st_mode, path)  # of what was opened
        return file.read()


def read_text(path: Path) -> str:
    """Read a regular file as UTF-8.

    Args:
        path: of the file, or a link to it.

    Returns:
        Its content.

    Raises:
        OSError: it cannot be read, or is something else than a file.
        UnicodeDecodeError: it is not UTF-8.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder:
        ...     _ = Path(folder, "a.txt").write_text("a")
        ...     read_text(Path(folder, "a.txt"))
        'a'
    """
    return read_bytes(path).decode("utf-8")


def why(error: Exception) -> str:
    """Return what is wrong with a file, without its path.

    Args:
        error: of a function of this module, or of a reader of its content.

    Example:
        >>> why(FileNotFoundError(errno.ENOENT, "No such file or directory", "a.txt"))
        'No such file or directory'
    """
    return str(getattr(error, "strerror", None) or error) or type(error).__name__


def make(folder: Path) -> list[Path]:
    """Make a folder with its parents.

    Args:
        folder: which may exist.

    Returns:
        The folders that were made, the innermost first; see :func:`remove`.

    Raises:
        OSError: it cannot be made.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as parent:
        ...     made = make(Path(parent, "a", "b"))
        ...     remove(made)
        ...     [path.name for path in made], Path(parent, "a").exists()
        (['b', 'a'], False)
    """
    for _ in range(TRIES):
        missing = [path for path in (folder, *folder.parents) if not path.exists()]
        with suppress(FileNotFoundError):
            folder.mkdir(parents=True, exist_ok=True)
            return missing
    folder.mkdir(parents=True, exist_ok=True)
    return []


def remove(folders: list[Path]) -> None:
    """Remove folders as far as they are empty.

    Args:
        folders: the innermost first.

    Example:
        >>> remove([Path("no-such-folder")])
    """
    with suppress(OSError):
        for folder in folders:
            folder.rmdir()


@contextmanager
def kept(folder: Path) -> Iterator[Path]:
    """Make a folder, and remove it again if nothing was put there.

    Args:
        folder: which may exist, and is then left alone.

    Yields:
        The folder.

    Raises:
        OSError: it cannot be made.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as parent:
        ...     with kept(Path(parent, "records")) as folder:
        ...         print(folder.is_dir())
        ...     print(folder.is_dir())
        True
        False
    """
    made: list[Path] = []
    try:
        with interrupts.whole():
            made = make(folder)
        yield folder
    finally:
        with interrupts.whole():
            remove(made)


def _refuse(mode: int, path: Path) -> None:
    """Raise an error unless a file is a regular one."""
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if not stat.S_ISREG(mode):
        kind = KINDS.get(stat.S_IFMT(mode), "no file")
        raise OSError(errno.EINVAL, f"{kind} where a file should be", str(path))
