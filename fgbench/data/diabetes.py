"""The progress of diabetes in 442 patients after a year, from ten numbers at its start."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fgbench.data.tables import shipped, table
from fgbench.registry import register

if TYPE_CHECKING:
    from fgbench.data.arrays import Arrays


@register("datasets", "diabetes")
def diabetes(*, data_dir: str | None = None) -> Arrays:
    """Load scikit-learn's diabetes: regression on 354 + 88 patients; needs no file and no network.

    Inputs and targets have mean 0 and standard deviation 1 over the training examples.

    Args:
        data_dir: not used; all data sets have this argument.

    Returns:
        The data set.

    Example:
        >>> data = diabetes()
        >>> data.shape, data.train_size, data.test_size, list(data.metrics)
        ((10,), 354, 88, ['mse', 'r2'])
    """
    return table("diabetes", shipped("diabetes_data_raw.csv.gz"), shipped("diabetes_target.csv.gz"))
