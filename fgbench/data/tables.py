"""Tables of numbers: the split, and inputs with mean 0 and deviation 1; those that scikit-learn ships."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from fgbench.core.noise.keyed import Noise
from fgbench.data import goal
from fgbench.data.arrays import Arrays
from fgbench.data.dataset import fingerprint
from fgbench.errors import DataError

if TYPE_CHECKING:
    from torch import Tensor

Table = np.ndarray[Any, Any]


def shipped(name: str) -> Table:
    """Read a table that scikit-learn ships; importing it takes a hundred times as long as that.

    Args:
        name: of the file.

    Returns:
        The numbers of the file, its header left out.

    Raises:
        DataError: scikit-learn is not installed, or has no such file.

    Example:
        >>> shipped("wine_data.csv").shape
        (178, 14)
    """
    package = find_spec("sklearn")
    path = Path(package.origin or "").parent / "datasets" / "data" / name if package else None
    if path is None or not path.is_file():
        raise DataError(
            f"{name} comes with scikit-learn, which has no such file here: install it anew"
        )
    if name.startswith("diabetes"):
        return np.loadtxt(path, delimiter=None)
    return np.loadtxt(path, delimiter=",", skiprows=1)


def table(name: str, x: Table, y: Table, *, classes: int = 0) -> Arrays:
    """Return a table as a data set, every fifth example of a fixed random order for the test.

    Each input has mean 0 and standard deviation 1 over the training examples, and so have targets that are
    numbers.

    Args:
        name: the registered name.
        x: inputs ``[N, features]``.
        y: labels ``[N]``, or numbers.
        classes: number of classes, whose examples are split class by class; 0 where targets are numbers.

    Returns:
        The data set, in float64.

    Example:
        >>> data = table("mine", np.arange(20.0).reshape(10, 2), np.arange(10) % 2, classes=2)
        >>> data.train_size, data.test_y.tolist(), data.main
        (8, [0, 1], 'error')
    """
    order = Noise(0).child("table").permutation("order", len(x)).numpy()
    x, y = x[order], y[order]
    place = np.argsort(y, kind="stable") if classes else np.arange(len(x))
    in_test = np.zeros(len(x), dtype=bool)
    in_test[place[4::5]] = True
    inputs = _standardised(x, in_test)
    targets = torch.from_numpy(y.astype(np.int64)) if classes else _standardised(y, in_test)
    test = torch.from_numpy(in_test)
    parts = (inputs[~test], targets[~test], inputs[test], targets[test])
    aim = goal.classes(classes) if classes else goal.numbers((1,), goal.variance(parts[3]))
    return Arrays(name, *parts, goal=aim, fingerprint=fingerprint(name, *parts))


def _standardised(values: Table, in_test: Table) -> Tensor:
    """Return columns with mean 0 and standard deviation 1 over the training examples."""
    train = values[~in_test]
    return torch.from_numpy((values - train.mean(0)) / train.std(0))
