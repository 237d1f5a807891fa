"""The folder of data files, and downloads into it."""

from __future__ import annotations

import os
import random
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import TYPE_CHECKING

from fgbench.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.progress import Progress

SOURCE = 10_000  # characters of a SOURCE.txt that are read
ELSEWHERE = "delete it and run again, or point FGBENCH_DATA at another folder"
_offline: ContextVar[bool] = ContextVar("fgbench_offline", default=False)


class Missing(DataError):
    """A data file is missing, and downloads are off.

    Example:
        >>> issubclass(Missing, DataError)
        True
    """


@contextmanager
def offline() -> Iterator[None]:
    """Raise :class:`Missing` in this context where a file would be downloaded.

    Example:
        >>> with offline():
        ...     download("http://localhost/a.gz", "", Path("here"))
        Traceback (most recent call last):
        fgbench.data.files.cache.Missing: a.gz is missing
    """
    token = _offline.set(True)
    try:
        yield
    finally:
        _offline.reset(token)


def data_root(data_dir: str | None = None) -> Path:
    """Return the folder of the data sets: the argument, FGBENCH_DATA, or the user's cache.

    Args:
        data_dir: the folder, if the caller names one.

    Returns:
        The folder; it need not exist.

    Example:
        >>> data_root("here").as_posix()
        'here'
    """
    named = data_dir or os.environ.get("FGBENCH_DATA")
    if named:
        return Path(named).expanduser()
    import pooch

    return Path(pooch.os_cache("fgbench"))


@contextmanager
def random_kept() -> Iterator[None]:
    """Restore the state of Python's ``random`` at the end of the context.

    Importing rich (which scikit-learn does too) draws from it.

    Example:
        >>> before = random.getstate()
        >>> with random_kept():
        ...     _ = random.random()
        >>> random.getstate() == before
        True
    """
    state = random.getstate()
    try:
        yield
    finally:
        random.setstate(state)


def source_of(folder: Path) -> str:
    """Return the text of the SOURCE.txt in a folder, or "" where there is none.

    Args:
        folder: the folder; it need not exist.

    Returns:
        The text without surrounding white space, at most 10,000 characters: every record has it.

    Example:
        >>> source_of(Path("no such folder"))
        ''
    """
    path = folder / "SOURCE.txt"
    if not path.is_file():
        return ""
    with path.open(encoding="utf-8", errors="replace") as file:
        return file.read(SOURCE).strip()


def download(url: str, checksum: str, folder: Path) -> Path:
    """Download one file into a folder, unless it is there with the right checksum.

    The file appears under its name only when it is complete and its checksum is right, so a
    killed download leaves nothing that looks like data.

    Args:
        url: address of the file.
        checksum: of the file, in hexadecimal digits: its MD5, or ``sha256:`` and its SHA-256.
        folder: destination; created if needed.

    Returns:
        The path of the file.

    Raises:
        DataError: the download failed, or the checksum is wrong.
        Missing: in the context of :func:`offline`.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     file = Path(folder, "a.gz")
        ...     _ = file.write_bytes(b"")
        ...     download("http://localhost/a.gz", "d41d8cd98f00b204e9800998ecf8427e", Path(folder)).name
        'a.gz'
    """
    name = url.rsplit("/", 1)[-1]
    if _offline.get():
        raise Missing(f"{name} is missing")
    import pooch

    try:
        with progress_display() as progress:
            fetcher = pooch.HTTPDownloader(progressbar=_Bar(progress, name), chunk_size=1 << 16)
            path = pooch.retrieve(url, _named(checksum), name, str(folder), downloader=fetcher)
    # Every exception of requests is an OSError; pooch raises ValueError for a wrong checksum.
    except (OSError, ValueError) as error:
        if (response := getattr(error, "response", None)) is not None:
            response.close()  # a response such as 404 keeps its connection open
        raise DataError(
            f"{folder / name} is missing and could not be downloaded from {url} ({_reason(error)}); "
            "put it there, or point FGBENCH_DATA at a folder that has it"
        ) from None
    return Path(path)


def _named(checksum: str) -> str:
    """Return a checksum with the name of its kind, MD5 where it has none."""
    return checksum if ":" in checksum else f"md5:{checksum}"


def progress_display() -> Progress:
    """Return a progress display on stderr, which shows nothing unless that is a terminal.

    Returns:
        The display, a context.

    Example:
        >>> with progress_display() as progress:
        ...     bar = progress.add_task("decoding", total=2)
    """
    with random_kept():
        from rich.console import Console
        from rich.progress import Progress

    console = Console(stderr=True)
    return Progress(console=console, disable=not console.is_terminal)


def _reason(error: Exception) -> str:
    """Return the cause of a failed download in a few words."""
    if not isinstance(error, OSError):
        return "its checksum is wrong"
    text = str(error).split(" for url")[0]
    return text if text and len(text) < 100 and "\n" not in text else type(error).__name__


class _Bar:
    """A progress bar with the interface that pooch expects, drawn by rich; tqdm may be absent."""

    def __init__(self, progress: Progress, name: str) -> None:
        self._progress = progress
        self._task = progress.add_task(name, total=None)

    @property
    def total(self) -> float | None:
        """Bytes expected; pooch sets it once the server has answered."""
        return self._progress.tasks[0].total

    @total.setter
    def total(self, value: float) -> None:
        self._progress.update(self._task, total=value)

    def update(self, step: int) -> None:
        """Add a number of bytes."""
        self._progress.update(self._task, advance=step)

    def reset(self) -> None:
        """Set the count to zero."""
        self._progress.reset(self._task)

    def close(self) -> None:
        """Do nothing: the code that opened the progress display closes it."""
