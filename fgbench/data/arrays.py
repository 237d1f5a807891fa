"""Arrays in general: inputs of any shape and kind, as they go to the network, and their targets."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from torch.utils._pytree import tree_flatten_with_path, tree_leaves

from fgbench.core.losses import IGNORED, cross_entropy
from fgbench.data.dataset import DataSet
from fgbench.errors import DataError

if TYPE_CHECKING:
    from fgbench.data.dataset import Batch
    from fgbench.data.goal import Goal


@dataclass(frozen=True, eq=False)
class Arrays(DataSet):
    """Inputs and targets of any shape, which go to the network as they are.

    Args:
        name: the registered name.
        train_x: training inputs ``[N, ...]``, a tensor or a tuple or dictionary of tensors.
        train_y: training targets ``[N, ...]``.
        test_x: test inputs, as ``train_x``.
        test_y: test targets, as ``train_y``.
        goal: what is predicted, the loss and the metrics, see :mod:`fgbench.data.goal`.
        fingerprint: 16 hexadecimal digits that identify the bytes of the data set.
        source: where the data come from.

    Raises:
        DataError: a split is empty, parts of it do not fit each other, a number is not finite, or a label
            is out of range.

    Example:
        >>> import torch
        >>> from fgbench.data import goal
        >>> x, y = torch.randn(8, 3), torch.randn(8)
        >>> data = Arrays("mine", x, y, x, y, goal=goal.numbers((1,), 1.0), fingerprint="0" * 16)
        >>> data.shape, data.outputs, data.main
        ((3,), (1,), 'mse')
    """

    goal: Goal = field(kw_only=True, repr=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        for what, x, y in self._splits():
            for kind, batch in (("inputs", x), ("targets", y)):
                check_finite(f"{self.name}: the {what} {kind}", batch)
            if self.goal.loss is cross_entropy:
                _check_labels(f"{self.name}: the {what} split", y, self.classes)

    @property
    def classes(self) -> int:
        """Size of the last axis of a prediction."""
        return self.goal.outputs[-1]


def check_finite(what: str, batch: Batch) -> None:
    """Check that all numbers are finite.

    Args:
        what: a name for them, in the plural.
        batch: a tensor, or a tuple or dictionary of tensors.

    Raises:
        DataError: naming the first that is not.

    Example:
        >>> import torch
        >>> check_finite("inputs", torch.zeros(3))
    """
    for path, t in tree_flatten_with_path(batch)[0]:
        if t.is_floating_point() and not bool((finite := t.isfinite()).all()):
            first = (~finite).nonzero()[0].tolist()
            where = "".join(map(str, path)) + str(first)
            raise DataError(
                f"{what} have {t[tuple(first)].item()} at {where}: fill in or leave out such examples"
            )


def _check_labels(what: str, y: Batch, classes: int) -> None:
    """Raise DataError for labels out of range."""
    for labels in tree_leaves(y):
        counted = labels[labels != IGNORED] if labels.dim() > 1 else labels
        if labels.is_floating_point():
            raise DataError(f"{what} needs integer labels, not {labels.dtype}")
        if not len(counted):
            raise DataError(f"{what} has no label but {IGNORED}, which is left out of the loss")
        low, high = int(counted.min()), int(counted.max())
        if low < 0 or high >= classes:
            raise DataError(
                f"{what} has labels {low} to {high}, but {classes} classes: labels run from 0 to "
                f"{classes - 1}"
            )
