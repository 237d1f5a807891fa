"""Fashion-MNIST: 60,000 + 10,000 articles of clothing, 28 by 28, one channel."""

from __future__ import annotations

from pathlib import Path

from fgbench.data.dataset import fingerprint
from fgbench.data.files import idx
from fgbench.data.files.cache import data_root, source_of
from fgbench.data.images import Images
from fgbench.registry import register

URL = "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/"
DEBIAN = Path("/usr/share/datasets/fashion-mnist")
"""Where Debian's package dataset-fashion-mnist puts the files."""
SUMS = {
    "train-images-idx3-ubyte": idx.Sums(
        archive="8d4fb7e6c68d591d4c3dfef9ec88bf0d",
        content="f4a8712d7a061bf5bd6d2ca38dc4d50a",
        size=47_040_016,
    ),
    "train-labels-idx1-ubyte": idx.Sums(
        archive="25c81989df183df01b3e8a0aad5dffbe",
        content="9018921c3c673c538a1fc5bad174d6f9",
        size=60_008,
    ),
    "t10k-images-idx3-ubyte": idx.Sums(
        archive="bef4ecab320f06d8554ea6380940ec79",
        content="8181f5470baa50b63fa0f6fddb340f0a",
        size=7_840_016,
    ),
    "t10k-labels-idx1-ubyte": idx.Sums(
        archive="bb300cfdad3c16e7a12a480ee83cd310",
        content="15d484375f8d13e6eb1aabb0c3f46965",
        size=10_008,
    ),
}


@register("datasets", "fashion_mnist")
def fashion_mnist(*, data_dir: str | None = None) -> Images:
    """Load Fashion-MNIST (arXiv:1708.07747) from ``FashionMNIST/raw``; fetch what is missing.

    Where that folder has none of the files, those of Debian's package ``dataset-fashion-mnist`` are used.

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
        ...     folder = Path(data_dir, "FashionMNIST", "raw")
        ...     folder.mkdir(parents=True)
        ...     for name in SUMS:
        ...         _ = (folder / name).write_bytes(b"")
        ...     try:
        ...         fashion_mnist(data_dir=data_dir)
        ...     except DataError as error:
        ...         print("truncated: 0 bytes" in str(error))
        True
    """
    folder = data_root(data_dir) / "FashionMNIST" / "raw"
    if not any(idx.there(folder, file) for file in SUMS):
        folder = DEBIAN if all(idx.there(DEBIAN, file) for file in SUMS) else folder
    tensors = idx.read_splits(folder, URL, SUMS)
    return Images(
        "fashion_mnist",
        *tensors,
        classes=10,
        peak=255.0,
        mean=(0.2860,),
        std=(0.3530,),
        fingerprint=fingerprint("fashion_mnist", *tensors),
        source=source_of(folder),
    )
