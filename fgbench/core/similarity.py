"""Rows scaled to norm 1, and how similar they are to each other."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch.nn import functional as F

if TYPE_CHECKING:
    from torch import Tensor

FLOOR = 1e-12  # of a squared norm


def unit(z: Tensor) -> Tensor:
    """Return rows scaled to norm 1; squared norms below 1e-12 count as 1e-12.

    Args:
        z: ``[b, k]``.

    Returns:
        ``[b, k]``.

    Example:
        >>> import torch
        >>> [round(v, 4) for v in unit(torch.tensor([[3.0, 4.0]])).tolist()[0]]
        [0.6, 0.8]
    """
    return z * (z * z).sum(1, keepdim=True).clamp(min=FLOOR).rsqrt()


def correlations(a: Tensor) -> Tensor:
    """Return the cosine of every two rows after each row's mean is taken off: ``[b, b]``.

    It does not change when a row is scaled by a positive number or shifted. Of one-hot labels in C classes it
    is 1 for rows of one class and −1/(C − 1) for others.

    Args:
        a: ``[b, k]``.

    Returns:
        ``[b, b]``, from −1 to 1.

    Example:
        >>> import torch
        >>> [[round(v, 3) for v in row] for row in correlations(torch.eye(3)[[0, 1, 1]]).tolist()]
        [[1.0, -0.5, -0.5], [-0.5, 1.0, 1.0], [-0.5, 1.0, 1.0]]
    """
    rows = unit(a - a.mean(1, keepdim=True))
    found: Tensor = F.linear(rows, rows)
    return found
