"""Inputs that all examples share, such as the mask of an attention, told from those with examples."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves

from fgbench.core.wrapping.buffers import buffers_kept
from fgbench.core.wrapping.start import called, examples_of

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from torch import nn


def shared_inputs(
    module: nn.Module, batch: Any, size: int, output: Callable[[Any], Any]
) -> frozenset[int]:
    """Return which tensors of a batch belong to all examples, by their number among the leaves.

    A tensor of another length than the first one has no examples. One of the same length may be a mask
    ``[t, t]`` where the positions are as many as the examples: for a square one the module tells, which then
    gives the same predictions of fewer examples with the tensor as it is, and not with a part of it.

    Args:
        module: the network.
        batch: its inputs, nested tensors.
        size: number of examples, the length of the first tensor.
        output: from what the module returns to its prediction.

    Returns:
        The numbers. What is no tensor is not listed.

    Cost: three forward passes for each square tensor after the first, otherwise none.

    Example:
        >>> class Mixed(torch.nn.Module):
        ...     def forward(self, x, mask):
        ...         return (x @ mask).sum(1)
        >>> x, mask = torch.ones(3, 3), torch.eye(3)
        >>> shared_inputs(Mixed(), (x, mask), 3, lambda y: y), shared_inputs(Mixed(), (x,), 3, lambda y: y)
        (frozenset({1}), frozenset())
    """
    given = [(i, t) for i, t in enumerate(tree_leaves(batch)) if isinstance(t, Tensor)]
    found = {i for i, t in given if not t.dim() or len(t) != size}
    square = [i for i, t in given[1:] if t.dim() > 1 and t.shape[0] == t.shape[1] == size]
    if size > 1:
        for i in square:
            if _is_shared(module, batch, size, output, found, i):
                found.add(i)
    return frozenset(found)


def _is_shared(
    module: nn.Module,
    batch: Any,
    size: int,
    output: Callable[[Any], Any],
    known: Collection[int],
    i: int,
) -> bool:
    """Return whether a module takes fewer examples with tensor ``i`` as it is, and not with a part of it."""
    fewer = slice(0, size - 1)
    cut = _predicted(module, examples_of(batch, size, fewer, known), output)
    left = _predicted(module, examples_of(batch, size, fewer, {*known, i}), output)
    if left is None or cut is None:
        return left is not None
    whole = _predicted(module, batch, output)
    if whole is None:
        return False
    return _close(left, whole[fewer]) and not _close(cut, whole[fewer])


def _predicted(module: nn.Module, inputs: Any, output: Callable[[Any], Any]) -> Tensor | None:
    """Return the predictions of a module, which stays as it is; None where it raises."""
    with torch.no_grad(), torch.random.fork_rng(devices=[]), buffers_kept(module):
        try:
            found: Tensor = output(called(module, inputs))
        except Exception:  # of code of others, which need not take a part of a mask
            return None
    return found if isinstance(found, Tensor) else None


def _close(one: Tensor, other: Tensor) -> bool:
    """Return whether predictions are equal up to rounding."""
    return one.shape == other.shape and torch.allclose(one, other, 1e-4, 1e-6, equal_nan=True)
