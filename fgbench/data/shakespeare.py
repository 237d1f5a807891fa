"""Lines of Shakespeare's plays, 1,115,394 characters, as collected for char-rnn."""

from __future__ import annotations

from hashlib import sha256
from typing import TYPE_CHECKING

from fgbench.data.characters import characters
from fgbench.data.files.cache import ELSEWHERE, data_root, download, source_of
from fgbench.errors import DataError
from fgbench.registry import register

if TYPE_CHECKING:
    from fgbench.data.arrays import Arrays

URL = "https://raw.githubusercontent.com/karpathy/char-rnn/master/data/tinyshakespeare/input.txt"
SHA256 = "86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed"
SIZE = 1_115_394


@register("datasets", "shakespeare")
def shakespeare(*, context: int = 64, data_dir: str | None = None) -> Arrays:
    """Load ``shakespeare/input.txt``, character by character; fetch it where it is missing.

    Args:
        context: characters of an example.
        data_dir: folder of the data sets; FGBENCH_DATA or the user's cache where none is given.

    Returns:
        The data set; the file is checked against its SHA-256.

    Raises:
        DataError: the file is missing and cannot be fetched, or is not the published one.

    Example:
        A damaged file is refused:

        >>> import tempfile
        >>> from pathlib import Path
        >>> with tempfile.TemporaryDirectory() as data_dir:
        ...     folder = Path(data_dir, "shakespeare")
        ...     folder.mkdir()
        ...     _ = (folder / "input.txt").write_bytes(b"To be")
        ...     try:
        ...         shakespeare(data_dir=data_dir)
        ...     except DataError as error:
        ...         print("has 5 bytes" in str(error))
        True
    """
    folder = data_root(data_dir) / "shakespeare"
    path = folder / "input.txt"
    if not path.is_file():
        path = download(URL, f"sha256:{SHA256}", folder)
    try:
        if (size := path.stat().st_size) != SIZE:
            raise DataError(f"{path} has {size} bytes, the published file {SIZE}; {ELSEWHERE}")
        content = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror}); {ELSEWHERE}") from None
    if (found := sha256(content).hexdigest()) != SHA256:
        raise DataError(
            f"{path} is not the published file: sha256 {found[:16]}…, expected {SHA256[:16]}…; {ELSEWHERE}"
        )
    return characters("shakespeare", content.decode(), context, source=source_of(folder))
