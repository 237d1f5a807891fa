"""Gradients by name: added up, and completed with zeros."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Hashable, Mapping
    from typing import TypeVar

    from torch import Tensor

    Name = TypeVar("Name", bound=Hashable)

Grads = dict[str, "Tensor"]


def add(total: dict[Name, Tensor], more: Mapping[Name, Tensor | None]) -> None:
    """Add gradients to a sum by name.

    Args:
        total: the sum; changed, its tensors are not written into.
        more: gradients by name; None is zero, and leaves the name out of a sum that has it not yet.

    Example:
        >>> total = {}
        >>> add(total, {"w": torch.ones(2), "b": None})
        >>> add(total, {"w": torch.ones(2)})
        >>> total
        {'w': tensor([2., 2.])}
    """
    for name, grad in more.items():
        if grad is not None:
            total[name] = total[name] + grad if name in total else grad


def complete(params: Mapping[str, Tensor], grads: Mapping[str, Tensor | None]) -> dict[str, Tensor]:
    """Return a gradient for every parameter, zero where there is none.

    Args:
        params: parameters by name.
        grads: gradients by name; a name that is missing or None is zero.

    Returns:
        Gradient by name, in the order of ``params``.

    Example:
        >>> complete({"w": torch.ones(2), "b": torch.ones(1)}, {"w": torch.ones(2)})
        {'w': tensor([1., 1.]), 'b': tensor([0.])}
    """
    found = {name: grads.get(name) for name in params}
    return {name: torch.zeros_like(params[name]) if g is None else g for name, g in found.items()}
