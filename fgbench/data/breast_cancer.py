"""Malignant and benign tumours, told apart by 30 measurements of the cells of 569 patients."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fgbench.data.tables import shipped, table
from fgbench.registry import register

if TYPE_CHECKING:
    from fgbench.data.arrays import Arrays


@register("datasets", "breast_cancer")
def breast_cancer(*, data_dir: str | None = None) -> Arrays:
    """Load scikit-learn's breast cancer: 456 + 113 tumours of 2 kinds; needs no file and no network.

    Args:
        data_dir: not used; all data sets have this argument.

    Returns:
        The data set; inputs have mean 0 and standard deviation 1 over the training examples.

    Example:
        >>> data = breast_cancer()
        >>> data.shape, data.classes, data.train_size, data.test_size
        ((30,), 2, 456, 113)
    """
    numbers = shipped("breast_cancer.csv")
    return table("breast_cancer", numbers[:, :-1], numbers[:, -1], classes=2)
