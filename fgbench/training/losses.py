"""Losses per example by name, for networks of one's own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fgbench.core.losses import cross_entropy, squared_error
from fgbench.errors import UsageError, unknown

if TYPE_CHECKING:
    from fgbench.core.losses import Loss

LOSSES: dict[str, Loss] = {"cross_entropy": cross_entropy, "mse": squared_error}
"""Name of a loss to its function."""


def loss_of(given: Any) -> Loss:
    """Return a loss per example.

    Args:
        given: one of :data:`LOSSES`, or a function from predictions and targets to one loss per example.

    Returns:
        The function.

    Raises:
        UsageError: for another name, or what cannot be called.

    Example:
        >>> loss_of("mean_squared")
        Traceback (most recent call last):
        fgbench.errors.UsageError: unknown loss 'mean_squared'; valid: cross_entropy, mse
    """
    if isinstance(given, str):
        if given not in LOSSES:
            raise unknown("loss", given, LOSSES)
        return LOSSES[given]
    if not callable(given):
        names = ", ".join(LOSSES)
        raise UsageError(
            f"loss: expected {names}, or a function from predictions and targets to one loss per example, "
            f"got {type(given).__name__}"
        )
    loss: Loss = given
    return loss
