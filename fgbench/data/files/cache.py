"""Where data files lie, and how they get there."""

from __future__ import annotations

import os
import random
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from fgbench.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.progress import Progress

ELSEWHERE = "delete it and run again, or point FGBENCH_DATA at another folder"


def data_root(data_dir: str | None = None) -> Path:
    """Return the folder of the data sets: the argument, FGBENCH_DATA, or the user's cache.

    Args:
        data_dir: the folder, where the caller names one.

    Returns:
        The folder; it need not exist.
    """
    named = data_dir or os.environ.get("FGBENCH_DATA")
    if named:
        return Path(named).expanduser()
    import pooch

    return Path(pooch.os_cache("fgbench"))


@contextmanager
def random_kept() -> Iterator[None]:
    """Restore Python's global generator after an import: rich draws from it, sklearn has rich."""
    state = random.getstate()
    try:
        yield
    finally:
        random.setstate(state)


def source_of(folder: Path) -> str:
    """Return the text of the SOURCE.txt in a folder, or "" where there is none."""
    path = folder / "SOURCE.txt"
    return path.read_text(encoding="utf-8", errors="replace").strip() if path.is_file() else ""


def download(url: str, md5: str, folder: Path) -> Path:
    """Bring one file into a folder, unless it is there with the right checksum.

    The file appears under its name only when it is complete and its checksum is right, so a
    killed download leaves nothing that looks like data.

    Args:
        url: where the file is.
        md5: MD5 of the file, in hexadecimal digits.
        folder: where it goes; made if need be.

    Returns:
        The path of the file.

    Raises:
        DataError: it could not be had, or its checksum is wrong.
    """
    import pooch

    name = url.rsplit("/", 1)[-1]
    try:
        with progress_display() as progress:
            fetcher = pooch.HTTPDownloader(progressbar=_Bar(progress, name), chunk_size=1 << 16)
            path = pooch.retrieve(url, f"md5:{md5}", name, str(folder), downloader=fetcher)
    # Of requests every exception is an OSError; pooch answers a wrong checksum with ValueError.
    except (OSError, ValueError) as error:
        if (response := getattr(error, "response", None)) is not None:
            response.close()  # an answer such as 404 keeps its connection open
        raise DataError(
            f"{folder / name} is missing and could not be fetched from {url} ({_reason(error)}); "
            "put it there, or point FGBENCH_DATA at a folder that has it"
        ) from error
    return Path(path)


def progress_display() -> Progress:
    """Return a progress display on the standard error; it shows nothing where that is a file."""
    with random_kept():
        from rich.console import Console
        from rich.progress import Progress

    console = Console(stderr=True)
    return Progress(console=console, disable=not console.is_terminal)


def _reason(error: Exception) -> str:
    """Return what went wrong in a few words."""
    if not isinstance(error, OSError):
        return "its checksum is wrong"
    text = str(error).split(" for url")[0]
    return text if text and len(text) < 100 and "\n" not in text else type(error).__name__


class _Bar:
    """What pooch asks of a progress bar, drawn by rich; its own choice, tqdm, may be absent."""

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
        """Count some bytes more."""
        self._progress.update(self._task, advance=step)

    def reset(self) -> None:
        """Count from zero again."""
        self._progress.reset(self._task)

    def close(self) -> None:
        """Do nothing: the progress display is closed by whoever opened it."""
