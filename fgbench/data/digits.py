"""The optical digits that come with scikit-learn: 1,437 + 360 images, 8 by 8, one channel."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch

from fgbench.data.dataset import fingerprint
from fgbench.data.files.cache import random_kept
from fgbench.data.images import Images
from fgbench.registry import register


@register("datasets", "digits")
def digits(*, data_dir: str | None = None) -> Images:
    """Load scikit-learn's digits, which need no file and no network.

    The split is fixed and stratified: with the images sorted by class, every fifth is a test image.

    Args:
        data_dir: not used; all data sets have this argument.

    Returns:
        The data set; pixels run from 0 to 16.

    Example:
        >>> data = digits()
        >>> data.shape, len(data.train_y), len(data.test_y)
        ((1, 8, 8), 1437, 360)
    """
    pixels, labels = _pixels_and_labels()
    in_test = np.zeros(len(labels), dtype=bool)
    in_test[np.argsort(labels, kind="stable")[::5]] = True
    x = torch.from_numpy(pixels.astype(np.uint8)).view(-1, 1, 8, 8)
    y = torch.from_numpy(labels.astype(np.int64))
    test = torch.from_numpy(in_test)
    tensors = (x[~test], y[~test], x[test], y[test])
    return Images(
        "digits",
        *tensors,
        classes=10,
        peak=16.0,
        mean=(0.3058,),
        std=(0.3762,),
        fingerprint=fingerprint("digits", *tensors),
    )


def _pixels_and_labels() -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Read the file of ``load_digits``; importing scikit-learn takes a hundred times as long as that."""
    package = find_spec("sklearn")
    if package is not None and package.origin is not None:
        path = Path(package.origin).parent / "datasets" / "data" / "digits.csv.gz"
        if path.is_file():
            table = np.loadtxt(path, delimiter=",")
            return table[:, :-1], table[:, -1]
    with random_kept():  # another layout, or none: scikit-learn finds it, or says what is missing
        from sklearn.datasets import load_digits

    pixels, labels = load_digits(return_X_y=True)
    return np.asarray(pixels), np.asarray(labels)
