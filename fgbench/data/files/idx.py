"""Read the IDX format and data sets that consist of four IDX files, as tensors."""

from __future__ import annotations

import gzip
import math
import zlib
from dataclasses import dataclass
from hashlib import md5
from typing import TYPE_CHECKING

import torch

from fgbench.data.files.cache import ELSEWHERE, download
from fgbench.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from io import BufferedReader
    from pathlib import Path

    from torch import Tensor

MOST = 1 << 30  # bytes of a file whose size is not known
CHUNK = 1 << 20
_TRAIN = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte")
_TEST = ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")


@dataclass(frozen=True)
class Sums:
    """MD5 checksums of one published file.

    Args:
        archive: of the compressed file.
        content: of the decompressed file.
        size: of the decompressed file in bytes; None where it is not known.

    Example:
        >>> Sums(archive="68b3", content="6bbc").content
        '6bbc'
    """

    archive: str
    content: str
    size: int | None = None


def read_idx(path: Path, ndim: int, content_md5: str | None, size: int | None = None) -> Tensor:
    """Read one IDX file of unsigned bytes.

    The header is a big-endian magic number, 0x0800 + ndim, and one 32-bit size per axis. No more is read or
    decompressed than these sizes say.

    Args:
        path: the file; it is decompressed where its name ends in ``.gz``.
        ndim: number of axes expected: 3 for images, 1 for labels.
        content_md5: MD5 of the decompressed content; None skips this check.
        size: bytes of the decompressed content; where it is None, at most 1 GiB.

    Returns:
        uint8 tensor with ``ndim`` axes.

    Raises:
        DataError: the file is empty, truncated, of another kind, or not the expected one.

    Example:
        >>> import tempfile, pathlib
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = pathlib.Path(folder, "labels")
        ...     _ = path.write_bytes(bytes([0, 0, 8, 1, 0, 0, 0, 2, 7, 3]))
        ...     read_idx(path, 1, None).tolist()
        [7, 3]
    """
    start = 4 + 4 * ndim
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            content = _read(file, start)
            expected = _announced(content, path, ndim, size)
            content += _read(file, expected - start + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path} cannot be read ({error}); {ELSEWHERE}") from None
    if len(content) != expected:
        has = f"{len(content)}" if len(content) < expected else f"more than {expected}"
        raise DataError(f"{path} has {has} bytes, but its header says {expected}; {ELSEWHERE}")
    if content_md5 is not None:
        actual = md5(content, usedforsecurity=False).hexdigest()
        if actual != content_md5:
            raise DataError(
                f"{path} is not the published file: md5 of its content {actual}, "
                f"expected {content_md5}; {ELSEWHERE}"
            )
    if expected == start:
        raise DataError(f"{path} holds no data; {ELSEWHERE}")
    sizes = _sizes(content, ndim)[1:]
    return torch.frombuffer(content, dtype=torch.uint8, offset=start).view(sizes)


def _announced(header: bytearray, path: Path, ndim: int, size: int | None) -> int:
    """Return the size of the content that a header announces; refuse one that is not expected."""
    if len(header) < 4 + 4 * ndim:
        raise DataError(f"{path} is truncated: {len(header)} bytes, no header; {ELSEWHERE}")
    magic, *sizes = _sizes(header, ndim)
    if magic != 0x0800 + ndim:
        raise DataError(
            f"{path} has magic number {magic:#06x}, expected {0x0800 + ndim:#06x}; {ELSEWHERE}"
        )
    announced = len(header) + math.prod(sizes)
    if announced > MOST if size is None else announced != size:
        wanted = f"at most {MOST}" if size is None else f"{size}"
        raise DataError(
            f"{path} is not the published file: its header says {announced} bytes, expected {wanted}; "
            f"{ELSEWHERE}"
        )
    return announced


def _sizes(content: bytearray, ndim: int) -> list[int]:
    """Return the numbers of a header: magic number and sizes."""
    return [int.from_bytes(content[i : i + 4]) for i in range(0, 4 + 4 * ndim, 4)]


def _read(file: gzip.GzipFile | BufferedReader, count: int) -> bytearray:
    """Read at most a number of bytes; memory is taken for those that are there."""
    content = bytearray()  # torch expects writable memory
    while len(content) < count and (part := file.read(min(count - len(content), CHUNK))):
        content += part
    return content


def read_pair(
    images: Path,
    labels: Path,
    images_md5: str | None,
    labels_md5: str | None,
    sizes: tuple[int | None, int | None] = (None, None),
) -> tuple[Tensor, Tensor]:
    """Read the images and labels of one split.

    Args:
        images: path of the images.
        labels: path of the labels.
        images_md5: MD5 of the content of the images; None skips the check.
        labels_md5: MD5 of the content of the labels; None skips the check.
        sizes: bytes of the content of both, as of :func:`read_idx`.

    Returns:
        Pixels uint8 ``[N, 1, H, W]`` and labels int64 ``[N]``.

    Raises:
        DataError: a file is damaged, or the two have different counts.

    Example:
        >>> import tempfile, pathlib
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     images, labels = pathlib.Path(folder, "images"), pathlib.Path(folder, "labels")
        ...     _ = images.write_bytes(bytes([0, 0, 8, 3, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 2, 9, 8]))
        ...     _ = labels.write_bytes(bytes([0, 0, 8, 1, 0, 0, 0, 1, 4]))
        ...     x, y = read_pair(images, labels, None, None)
        >>> tuple(x.shape), y.tolist()
        ((1, 1, 1, 2), [4])
    """
    x = read_idx(images, 3, images_md5, sizes[0]).unsqueeze(1)
    y = read_idx(labels, 1, labels_md5, sizes[1]).long()
    if len(x) != len(y):
        raise DataError(
            f"{images} has {len(x)} images, but {labels} has {len(y)} labels: "
            "they do not belong together"
        )
    return x, y


def read_splits(
    folder: Path, url: str, sums: Mapping[str, Sums]
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Read the training and test split from four IDX files; fetch those that are missing.

    Args:
        folder: where the files lie, compressed or not.
        url: the address all four archives share, up to and including the last slash.
        sums: checksums of each file, by its name without ``.gz``.

    Returns:
        Training pixels uint8 ``[N, 1, H, W]``, training labels int64 ``[N]``, test pixels and test
        labels.

    Raises:
        DataError: a file is missing and cannot be fetched, or is not the published one.

    Example:
        >>> import tempfile, pathlib
        >>> images = bytes([0, 0, 8, 3, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 2, 9, 8])
        >>> labels = bytes([0, 0, 8, 1, 0, 0, 0, 1, 4])
        >>> sums = {}
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     for name in (*_TRAIN, *_TEST):
        ...         content = images if "images" in name else labels
        ...         _ = pathlib.Path(folder, name).write_bytes(content)
        ...         sums[name] = Sums(archive="", content=md5(content).hexdigest())
        ...     [tuple(tensor.shape) for tensor in read_splits(pathlib.Path(folder), "", sums)]
        [(1, 1, 1, 2), (1,), (1, 1, 1, 2), (1,)]
    """
    paths = {file: _locate(folder, file, url, sums[file].archive) for file in sums}

    def pair(images: str, labels: str) -> tuple[Tensor, Tensor]:
        one, two = sums[images], sums[labels]
        both = paths[images], paths[labels], one.content, two.content
        return read_pair(*both, (one.size, two.size))

    return *pair(*_TRAIN), *pair(*_TEST)


def there(folder: Path, file: str) -> Path | None:
    """Return the path of a file, plain rather than compressed; None where neither is there.

    Args:
        folder: the folder; it need not exist.
        file: name without ``.gz``.

    Example:
        >>> import pathlib
        >>> there(pathlib.Path("no such folder"), "train-images-idx3-ubyte") is None
        True
    """
    paths = (folder / file, folder / f"{file}.gz")
    return next((path for path in paths if path.is_file()), None)


def _locate(folder: Path, file: str, url: str, archive_md5: str) -> Path:
    """Return the path of a file, see :func:`there`; fetch it where it is missing."""
    return there(folder, file) or download(f"{url}{file}.gz", archive_md5, folder)
