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
    from pathlib import Path

    from torch import Tensor

_TRAIN = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte")
_TEST = ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")


@dataclass(frozen=True)
class Sums:
    """MD5 checksums of one file: of the archive as it is published, and of its content."""

    archive: str
    content: str


def read_idx(path: Path, ndim: int, content_md5: str | None) -> Tensor:
    """Read one IDX file of unsigned bytes.

    The header is a big-endian magic number, 0x0800 + ndim, and one 32-bit size per axis.

    Args:
        path: the file; it is decompressed where its name ends in ``.gz``.
        ndim: number of axes expected: 3 for images, 1 for labels.
        content_md5: MD5 of the decompressed content; None skips this check.

    Returns:
        uint8 tensor.

    Raises:
        DataError: the file is empty, truncated, of another kind, or not the expected one.
    """
    try:
        # A bytearray, because torch wants memory that may be written.
        content = bytearray(path.read_bytes())
        if path.suffix == ".gz" and content:
            content = bytearray(gzip.decompress(content))
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path} cannot be read ({error}); {ELSEWHERE}") from error
    start = 4 + 4 * ndim
    if len(content) < start:
        raise DataError(f"{path} is truncated: {len(content)} bytes, no header; {ELSEWHERE}")
    magic, *sizes = (int.from_bytes(content[i : i + 4]) for i in range(0, start, 4))
    if magic != 0x0800 + ndim:
        raise DataError(
            f"{path} has magic number {magic:#06x}, expected {0x0800 + ndim:#06x}; {ELSEWHERE}"
        )
    expected = start + math.prod(sizes)
    if len(content) != expected:
        raise DataError(
            f"{path} has {len(content)} bytes, but its header says {expected}; {ELSEWHERE}"
        )
    if content_md5 is not None:
        found = md5(content, usedforsecurity=False).hexdigest()
        if found != content_md5:
            raise DataError(
                f"{path} is not the published file: md5 of its content {found}, "
                f"expected {content_md5}; {ELSEWHERE}"
            )
    if expected == start:
        raise DataError(f"{path} holds no data; {ELSEWHERE}")
    return torch.frombuffer(content, dtype=torch.uint8, offset=start).view(sizes)


def read_pair(
    images: Path, labels: Path, images_md5: str | None, labels_md5: str | None
) -> tuple[Tensor, Tensor]:
    """Read the images and labels of one split.

    Args:
        images: path of the images.
        labels: path of the labels.
        images_md5: MD5 of the content of the images; None skips the check.
        labels_md5: MD5 of the content of the labels; None skips the check.

    Returns:
        Pixels uint8 ``[N, 1, H, W]`` and labels int64 ``[N]``.

    Raises:
        DataError: a file is damaged, or the two have different counts.
    """
    x = read_idx(images, 3, images_md5).unsqueeze(1)
    y = read_idx(labels, 1, labels_md5).long()
    if len(x) != len(y):
        raise DataError(
            f"{images} has {len(x)} images, but {labels} has {len(y)} labels: "
            "they are not of one set"
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
    """
    paths = {file: _locate(folder, file, url, sums[file].archive) for file in sums}

    def pair(images: str, labels: str) -> tuple[Tensor, Tensor]:
        return read_pair(paths[images], paths[labels], sums[images].content, sums[labels].content)

    return *pair(*_TRAIN), *pair(*_TEST)


def _locate(folder: Path, file: str, url: str, archive_md5: str) -> Path:
    """Return the path of a file, plain rather than compressed; fetch it if neither is there."""
    for path in (folder / file, folder / f"{file}.gz"):
        if path.is_file():
            return path
    return download(f"{url}{file}.gz", archive_md5, folder)
