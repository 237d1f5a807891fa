"""A text file of one's own, character by character."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from fgbench.data.characters import MOST, characters
from fgbench.errors import DataError
from fgbench.registry import register

if TYPE_CHECKING:
    from fgbench.data.arrays import Arrays


@register("datasets", "text")
def text(*, path: str, context: int = 64, data_dir: str | None = None) -> Arrays:
    """Load a text file in UTF-8: windows of characters, the last tenth of the file for the test.

    Args:
        path: the file.
        context: characters of an example.
        data_dir: not used; all data sets have this argument.

    Returns:
        The data set.

    Raises:
        DataError: the file is missing, too short, too long or no text.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     file = Path(folder, "mine.txt")
        ...     _ = file.write_text("to be or not to be " * 10)
        ...     data = text(path=str(file), context=8)
        >>> data.outputs, data.test_size
        ((8, 7), 2)
    """
    file = Path(path).expanduser()
    if not file.is_file():
        raise DataError(f"no file {path}; expected a text file in UTF-8")
    try:
        if file.stat().st_size > 4 * MOST:
            raise DataError(
                f"{path} has {file.stat().st_size} bytes; at most {MOST} characters are read"
            )
        content = file.read_text("utf-8")
    except UnicodeDecodeError as error:
        raise DataError(
            f"{path} is no text in UTF-8: byte {error.start} is {error.object[error.start]:#04x}; convert "
            "it, as with iconv"
        ) from None
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}") from None
    return replace(characters(path, content, context), name="text")
