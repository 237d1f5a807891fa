"""The targets of a batch, and further parts of it that losses or windows use."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from torch import Tensor


class Targets(NamedTuple):
    """Targets together with what a locality gives with a batch: the image itself, noise that was drawn.

    Attributes:
        labels: the targets, as losses take them.
        given: name to tensor ``[b, ...]``, one row per example.

    Example:
        >>> import torch
        >>> y = Targets(torch.tensor([0, 1]), {"image": torch.ones(2, 4)})
        >>> labels_of(y), labels_of(torch.tensor([2]))
        (tensor([0, 1]), tensor([2]))
    """

    labels: Any
    given: dict[str, Tensor]


def labels_of(targets: Any) -> Any:
    """Return the targets alone, without what a locality gives with them.

    Example:
        >>> labels_of(Targets([1, 2], {}))
        [1, 2]
    """
    return targets.labels if isinstance(targets, Targets) else targets


def given_of(targets: Any) -> dict[str, Tensor]:
    """Return what a locality gives with the targets by name, ``{}`` for nothing.

    Example:
        >>> given_of([1, 2])
        {}
    """
    return targets.given if isinstance(targets, Targets) else {}
