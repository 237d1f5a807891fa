"""Three cultivars of wine, told apart by 13 chemical measurements of 178 bottles."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fgbench.data.tables import shipped, table
from fgbench.registry import register

if TYPE_CHECKING:
    from fgbench.data.arrays import Arrays


@register("datasets", "wine")
def wine(*, data_dir: str | None = None) -> Arrays:
    """Load scikit-learn's wine: 143 + 35 bottles of 3 cultivars; needs no file and no network.

    Args:
        data_dir: not used; all data sets have this argument.

    Returns:
        The data set; inputs have mean 0 and standard deviation 1 over the training examples.

    Example:
        >>> data = wine()
        >>> data.shape, data.classes, data.train_size, data.test_size
        ((13,), 3, 143, 35)
    """
    numbers = shipped("wine_data.csv")
    return table("wine", numbers[:, :-1], numbers[:, -1], classes=3)
