"""MNIST: 60,000 + 10,000 handwritten digits, 28 by 28, one channel."""

from __future__ import annotations

from fgbench.data.dataset import fingerprint
from fgbench.data.files import idx
from fgbench.data.files.cache import data_root, source_of
from fgbench.data.images import Images
from fgbench.registry import register

URL = "https://ossci-datasets.s3.amazonaws.com/mnist/"
SUMS = {
    "train-images-idx3-ubyte": idx.Sums(
        archive="f68b3c2dcbeaaa9fbdd348bbdeb94873",
        content="6bbc9ace898e44ae57da46a324031adb",
        size=47_040_016,
    ),
    "train-labels-idx1-ubyte": idx.Sums(
        archive="d53e105ee54ea40749a09fcbcd1e9432",
        content="a25bea736e30d166cdddb491f175f624",
        size=60_008,
    ),
    "t10k-images-idx3-ubyte": idx.Sums(
        archive="9fb629c4189551a2d022fa330f9573f3",
        content="2646ac647ad5339dbf082846283269ea",
        size=7_840_016,
    ),
    "t10k-labels-idx1-ubyte": idx.Sums(
        archive="ec29112dd5afa0611ce80d1b7f02629c",
        content="27ae3e4e09519cfbb04c329615203637",
        size=10_008,
    ),
}


@register("datasets", "mnist")
def mnist(*, data_dir: str | None = None) -> Images:
    """Load MNIST (LeCun, Cortes and Burges) from ``MNIST/raw``; fetch what is missing there.

    Args:
        data_dir: folder of the data sets; FGBENCH_DATA or the user's cache where none is given.

    Returns:
        The data set; the content of every file is checked against the published MD5.

    Raises:
        DataError: a file is missing and cannot be fetched, or is not the published one.

    Example:
        A damaged file is refused:

        >>> import tempfile
        >>> from pathlib import Path
        >>> from fgbench.errors import DataError
        >>> with tempfile.TemporaryDirectory() as data_dir:
        ...     folder = Path(data_dir, "MNIST", "raw")
        ...     folder.mkdir(parents=True)
        ...     for name in SUMS:
        ...         _ = (folder / name).write_bytes(b"")
        ...     try:
        ...         mnist(data_dir=data_dir)
        ...     except DataError as error:
        ...         print("truncated: 0 bytes" in str(error))
        True
    """
    folder = data_root(data_dir) / "MNIST" / "raw"
    tensors = idx.read_splits(folder, URL, SUMS)
    return Images(
        "mnist",
        *tensors,
        classes=10,
        peak=255.0,
        mean=(0.1307,),
        std=(0.3081,),
        fingerprint=fingerprint("mnist", *tensors),
        source=source_of(folder),
    )
