"""Losses per example: the default of every network, and those of data sets whose targets are numbers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from torch.nn import functional as F

if TYPE_CHECKING:
    from torch import Tensor

IGNORED = -100
"""The label of a token that has no loss, as in PyTorch."""


class Loss(Protocol):
    """A function from predictions and targets to one loss per example.

    The loss of an example depends on its own prediction alone. A loss per token is averaged over tokens.

    Example:
        >>> loss: Loss = squared_error
    """

    def __call__(self, prediction: Tensor, targets: Any, /) -> Tensor:
        """Return ``[b]`` from predictions ``[b, ...]`` and the targets of the same examples."""


def cross_entropy(prediction: Tensor, labels: Tensor) -> Tensor:
    """Compute the cross entropy of each example, averaged over its tokens where it has several.

    Args:
        prediction: logits ``[b, k]``, or ``[b, t, k]``.
        labels: int64 ``[b]``, or ``[b, t]``; tokens labelled -100 are left out of the average, and at least
            one token of an example is not.

    Returns:
        ``[b]``, in nats.

    Example:
        >>> import torch
        >>> cross_entropy(torch.zeros(2, 4), torch.tensor([0, 1]))
        tensor([1.3863, 1.3863])
        >>> cross_entropy(torch.zeros(2, 3, 4), torch.tensor([[0, 1, 2], [3, -100, -100]]))
        tensor([1.3863, 1.3863])
    """
    if labels.dim() == 1:
        return F.cross_entropy(prediction, labels, reduction="none")
    tokens = F.cross_entropy(prediction.flatten(0, -2), labels.flatten(), reduction="none")
    return tokens.view(len(labels), -1).sum(1) / (labels != IGNORED).flatten(1).sum(1)


def squared_error(prediction: Tensor, targets: Tensor) -> Tensor:
    """Compute the squared error of each example, averaged over its numbers.

    Args:
        prediction: ``[b, ...]``.
        targets: as many numbers per example, in any shape.

    Returns:
        ``[b]``.

    Example:
        >>> import torch
        >>> squared_error(torch.tensor([[1.0], [3.0]]), torch.tensor([1.0, 1.0]))
        tensor([0., 4.])
    """
    off = prediction - targets.view(prediction.shape)
    return (off * off).flatten(1).mean(1)
