"""CIFAR-10: 50,000 + 10,000 photographs, 32 by 32, three channels, from its binary batches."""

from __future__ import annotations

import math
import os
import tarfile
import tempfile
import zlib
from hashlib import md5
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from fgbench.data.dataset import fingerprint
from fgbench.data.files.cache import ELSEWHERE, data_root, download, source_of
from fgbench.data.images import Images
from fgbench.errors import DataError
from fgbench.registry import register

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

URL = "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz"
ARCHIVE_MD5 = "c32a1d4ab5d03f1284b67883e8d87530"
FOLDER = "cifar-10-batches-bin"
MD5S = {
    "data_batch_1.bin": "5dd7e06a14cb22eb9f671a540d1b7c25",
    "data_batch_2.bin": "5ea93a67294ea407fff1d09f752e9692",
    "data_batch_3.bin": "942cd6a4bcdd0dd3c604fbe906cb4421",
    "data_batch_4.bin": "ae636b3ba5c66a11e91e8cb52e771fcb",
    "data_batch_5.bin": "53f37980c15c3d472c316c40844f3f0d",
    "test_batch.bin": "803d5f7f4d78ea53de84dbe85f74fb6d",
}
_TRAIN = tuple(f"data_batch_{i}.bin" for i in range(1, 6))
_TEST = ("test_batch.bin",)
_SHAPE = (3, 32, 32)
LARGEST = 10_000 * (1 + math.prod(_SHAPE))  # bytes of a batch


@register("datasets", "cifar10")
def cifar10(*, data_dir: str | None = None) -> Images:
    """Load CIFAR-10 (Krizhevsky, 2009) from ``cifar-10-batches-bin``; fetch it if it is missing.

    Without a SOURCE.txt in the folder the batches must have the published checksums. With a SOURCE.txt
    they may be other pixels: sizes and labels are checked, and its text becomes ``source``.

    Args:
        data_dir: folder of the data sets; FGBENCH_DATA or the user's cache where none is given.

    Returns:
        The data set. Cost: 184 MB are read once and copied once.

    Raises:
        DataError: a file is missing and cannot be fetched, or is damaged.

    Example:
        A folder with a SOURCE.txt is never completed by a download:

        >>> with tempfile.TemporaryDirectory() as data_dir:
        ...     folder = Path(data_dir, FOLDER)
        ...     folder.mkdir()
        ...     _ = (folder / "SOURCE.txt").write_text("re-encoded")
        ...     try:
        ...         cifar10(data_dir=data_dir)
        ...     except DataError as error:
        ...         print("add the missing file" in str(error))
        True
    """
    root = data_root(data_dir)
    folder = root / FOLDER
    source = source_of(folder)
    missing = [name for name in MD5S if not (folder / name).is_file()]
    if missing and source:
        raise DataError(
            f"{folder / missing[0]} is missing, and the SOURCE.txt beside it means that the batches are "
            "not the published ones: add the missing file, or point FGBENCH_DATA at another folder"
        )
    if missing:
        _unpack(download(URL, ARCHIVE_MD5, root), folder, missing)
    return load_batches(folder, source, {} if source else MD5S)


def load_batches(folder: Path, source: str, md5s: dict[str, str], per_file: int = 10_000) -> Images:
    """Read the six batches of a folder.

    A record is one label byte, then 1,024 red, 1,024 green and 1,024 blue bytes, row by row.

    Args:
        folder: where the batches lie.
        source: the text of SOURCE.txt, "" for the published batches.
        md5s: MD5 of each batch by name; batches not named are not compared.
        per_file: records in each batch.

    Returns:
        The data set.

    Raises:
        DataError: a batch is truncated, is not the published one, or holds a label above 9.

    Example:
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     for name in MD5S:
        ...         _ = Path(folder, name).write_bytes(bytes([7] + [0] * 3072))
        ...     data = load_batches(Path(folder), "zeros", {}, per_file=1)
        >>> data.shape, data.train_y.tolist(), data.source
        ((3, 32, 32), [7, 7, 7, 7, 7], 'zeros')
    """
    tensors = (
        *_read_batches(folder, _TRAIN, per_file, md5s),
        *_read_batches(folder, _TEST, per_file, md5s),
    )
    return Images(
        "cifar10",
        *tensors,
        classes=10,
        peak=255.0,
        mean=(0.4914, 0.4822, 0.4465),
        # The usual constants: standard deviations within an image, averaged over images.
        std=(0.2023, 0.1994, 0.2010),
        fingerprint=fingerprint("cifar10", *tensors),
        source=source,
    )


def _read_batches(
    folder: Path, names: tuple[str, ...], per_file: int, md5s: dict[str, str]
) -> tuple[Tensor, Tensor]:
    """Read the batches of one split into pixels and labels."""
    x = np.empty((len(names) * per_file, *_SHAPE), np.uint8)
    y = np.empty(len(names) * per_file, np.int64)
    for i, name in enumerate(names):
        records = _read_records(folder / name, per_file, md5s.get(name))
        here = slice(i * per_file, (i + 1) * per_file)
        y[here] = records[:, 0]
        x[here] = records[:, 1:].reshape(-1, *_SHAPE)
    return torch.from_numpy(x), torch.from_numpy(y)


def _read_records(path: Path, count: int, expected_md5: str | None) -> NDArray[np.uint8]:
    """Read the records of one batch, one per row."""
    size = 1 + math.prod(_SHAPE)
    try:
        has = path.stat().st_size
        content = np.fromfile(path, np.uint8, count * size)
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error}); {ELSEWHERE}") from None
    if has != count * size or len(content) != has:
        raise DataError(f"{path} has {has} bytes, expected {count * size}; {ELSEWHERE}")
    if expected_md5 is not None:
        actual = md5(content.data, usedforsecurity=False).hexdigest()
        if actual != expected_md5:
            raise DataError(
                f"{path} is not the published file: md5 {actual}, expected {expected_md5} "
                f"(files with other pixels need a SOURCE.txt beside them); {ELSEWHERE}"
            )
    records = content.reshape(count, size)
    highest = int(records[:, 0].max())
    if highest > 9:
        raise DataError(f"{path} has a label {highest}, expected 0 to 9; {ELSEWHERE}")
    return records


def _unpack(archive: Path, folder: Path, names: list[str]) -> None:
    """Extract batches from the archive; each appears under its name only when it is complete."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with (
            tempfile.TemporaryDirectory(dir=folder) as temporary,
            tarfile.open(archive, "r:gz") as tar,
        ):
            for name in names:
                if (
                    member := tar.getmember(f"{FOLDER}/{name}")
                ).size > LARGEST or not member.isfile():
                    raise OSError(f"{name} is no file of at most {LARGEST} bytes")
                tar.extract(member, temporary, filter="data")
                os.replace(Path(temporary, FOLDER, name), folder / name)
    except (OSError, EOFError, KeyError, zlib.error, tarfile.TarError) as error:
        raise DataError(f"{archive} cannot be unpacked ({error}); {ELSEWHERE}") from None
