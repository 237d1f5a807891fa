"""Write a file whole or not at all."""

from __future__ import annotations

import errno
import os
import secrets
from pathlib import Path


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
    belongs to this call alone, so that several processes may write one file.

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
    temporary = path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}.tmp")
    # O_EXCL with mode 666: never another process's file, readable as far as the umask allows
    binary = getattr(os, "O_BINARY", 0)  # Windows would change line ends
    handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | binary, 0o666)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    flush(path.parent)


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
