"""Runs of examples that pass through a window together, so that their activities stay in the cache.

No module lets an example see another, so a pass over the batch is the same as passes over runs of its
examples: values and tangents are put side by side, parameter gradients are added up. What a pass holds
for a moment is then of the size of a run and not of the batch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch.utils._pytree import tree_map

if TYPE_CHECKING:
    from collections.abc import Hashable, Sequence
    from typing import TypeVar

    from torch import Tensor

    Name = TypeVar("Name", bound=Hashable)

TILE = 1 << 22
"""Bytes of one activity of a run, per CPU thread: a handful of them lie in the last level of cache."""


def cut(examples: int, largest: int, device: torch.device) -> tuple[slice, ...]:
    """Cut a batch into runs of examples.

    Args:
        examples: size of the batch.
        largest: bytes of the largest activity of one example.
        device: a GPU takes the batch whole: there a launch costs more than a trip to memory.

    Returns:
        The runs in order; one where the batch is small.

    Example:
        >>> cut(5, largest=TILE * torch.get_num_threads() // 2, device=torch.device("cpu"))
        (slice(0, 2, None), slice(2, 4, None), slice(4, 5, None))
    """
    rows = examples
    if device.type == "cpu":
        rows = max(1, TILE * torch.get_num_threads() // max(largest, 1))
    return tuple(slice(i, min(i + rows, examples)) for i in range(0, examples, max(rows, 1)))


def rows(labels: Any, run: slice) -> Any:
    """Return the labels of a run of examples; nested ones are taken part by part.

    Example:
        >>> rows({"y": torch.arange(3)}, slice(0, 2))
        {'y': tensor([0, 1])}
    """
    if isinstance(labels, torch.Tensor):
        return labels[run]
    return labels if run == slice(None) else tree_map(lambda t: t[run], labels)


def put(whole: dict[Name, Tensor], name: Name, part: Tensor, tile: slice, examples: int) -> None:
    """Write a run's part of a tensor into its place; a part that is the full tensor is taken as it is.

    Args:
        whole: tensors of all examples by name.
        name: which one this is a part of.
        part: ``[run, ...]``.
        tile: the run.
        examples: size of the batch.

    Example:
        >>> whole = {}
        >>> put(whole, "x", torch.ones(1), slice(0, 1), 2)
        >>> put(whole, "x", torch.zeros(1), slice(1, 2), 2)
        >>> whole["x"]
        tensor([1., 0.])
    """
    if len(part) == examples:
        whole[name] = part
        return
    if name not in whole:
        whole[name] = part.new_empty(examples, *part.shape[1:])
    whole[name][tile] = part


def join(parts: Sequence[Tensor], axis: int = 0) -> Tensor:
    """Join parts along their example axis; a single part is returned as it is.

    Args:
        parts: tensors of consecutive examples.
        axis: the example axis.

    Returns:
        All examples.

    Example:
        >>> join([torch.zeros(2), torch.ones(1)])
        tensor([0., 0., 1.])
    """
    return parts[0] if len(parts) == 1 else torch.cat(list(parts), axis)


def even(first: int, stop: int, count: int) -> list[tuple[int, int]]:
    """Cut a range into parts whose sizes differ by at most 1.

    Args:
        first: where it begins.
        stop: where it ends.
        count: number of parts; fewer where the range is shorter.

    Returns:
        Begin and end of each part.

    Example:
        >>> even(0, 5, 2), even(1, 2, 3), even(4, 4, 2)
        ([(0, 2), (2, 5)], [(1, 2)], [(4, 4)])
    """
    length = stop - first
    count = max(1, min(count, length))
    return [(first + length * i // count, first + length * (i + 1) // count) for i in range(count)]
