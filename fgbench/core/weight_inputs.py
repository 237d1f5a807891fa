"""Inputs of weight operations in a pass, as matrices: the vectors that each weight is multiplied with.

A weight enters by a sum ``out = Σ input · weight`` over named indices. Its indices are of three kinds: rows,
which the output has too; columns, which the input has and the output has not; and blocks, which both have,
such as the group of a grouped layer. In each block the operation is the product of a matrix
``[rows, columns]`` with input vectors ``[samples, columns]``, one for each example and each position that
shares the weight. A gradient is Dᵀ H, H the inputs, so its rows lie in the span of the inputs.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING

import torch

from fgbench.core.autodiff.param_uses import ParamUseTracer

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from torch import Tensor

    from fgbench.core.autodiff.param_uses import Entry


@dataclass(frozen=True)
class WeightInput:
    """The inputs of one weight, and how the weight lies as matrices.

    Args:
        values: ``[blocks, samples, columns]``.
        shape: of the weight.
        order: the dimensions of the weight in the order blocks, rows, columns.
        kinds: how many of them are of each kind.

    Example:
        >>> layer = torch.nn.Linear(3, 2)
        >>> found = weight_inputs(layer, torch.ones(5, 3), dict(layer.named_parameters()))
        >>> list(found), tuple(found["weight"].values.shape), found["weight"].matrices(layer.weight).shape
        (['weight'], (1, 5, 3), torch.Size([1, 2, 3]))
    """

    values: Tensor
    shape: tuple[int, ...]
    order: tuple[int, ...]
    kinds: tuple[int, int, int]

    @property
    def sizes(self) -> tuple[int, int, int]:
        """Number of blocks, rows and columns."""
        sizes = [self.shape[d] for d in self.order]
        b, r, _ = self.kinds
        return prod(sizes[:b]), prod(sizes[b : b + r]), prod(sizes[b + r :])

    @property
    def others(self) -> tuple[int, ...]:
        """Sizes of the dimensions of the weight that are no columns: blocks, then rows."""
        b, r, _ = self.kinds
        return tuple(self.shape[d] for d in self.order[: b + r])

    @property
    def trailing(self) -> bool:
        """Whether the last dimension of the weight alone counts columns, and blocks come before rows."""
        return self.order == tuple(range(len(self.order))) and self.kinds[2] == 1

    def matrices(self, weights: Tensor) -> Tensor:
        """Return tensors of the weight's shape ``[..., *shape]`` as ``[..., blocks, rows, columns]``."""
        lead = weights.dim() - len(self.shape)
        moved = weights.permute(*range(lead), *(lead + d for d in self.order))
        return moved.reshape(*weights.shape[:lead], *self.sizes)

    def weights(self, matrices: Tensor) -> Tensor:
        """Return ``[..., blocks, rows, columns]`` in the weight's shape: the inverse of :meth:`matrices`."""
        lead = matrices.dim() - 3
        apart = matrices.reshape(*matrices.shape[:lead], *(self.shape[d] for d in self.order))
        back = sorted(range(len(self.order)), key=self.order.__getitem__)
        return apart.permute(*range(lead), *(lead + d for d in back))


def weight_inputs(
    run: Callable[[Tensor], object], x: Tensor, params: Mapping[str, Tensor]
) -> dict[str, WeightInput]:
    """Run a network and return the inputs of its weights.

    Args:
        run: the network.
        x: its inputs, ``[b, ...]``.
        params: parameters by name.

    Returns:
        Parameter name to its inputs, in their own type. A parameter is left out where it enters more than
        once, transposed, by a call that is not known, or without columns, as biases and gains do.

    Example:
        >>> list(weight_inputs(lambda x: x * torch.nn.Parameter(torch.ones(3)), torch.ones(5, 3), {}))
        []
    """
    tracer = ParamUseTracer(dict(params), len(x))
    with torch.enable_grad(), tracer:
        run(x)
    uses = Counter(entry.name for entry in tracer.entries)
    found = {}
    for entry in tracer.entries:
        if uses[entry.name] == 1 and entry.direct and entry.name not in tracer.others:
            made = _input(entry, tuple(params[entry.name].shape))
            if made is not None:
                found[entry.name] = made
    return found


def _input(entry: Entry, shape: tuple[int, ...]) -> WeightInput | None:
    """Return the inputs of one use of a weight; None where it has no columns."""
    inside = {a: a in entry.letters for a in entry.weight}
    met = {a: a in entry.within for a in entry.weight}
    blocks = [a for a in entry.weight if inside[a] and met[a]]
    rows = [a for a in entry.weight if inside[a] and not met[a]]
    columns = [a for a in entry.weight if not inside[a] and met[a]]
    if not rows or not columns or len(blocks) + len(rows) + len(columns) < len(entry.weight):
        return None
    samples = [a for a in entry.within if a not in entry.weight]
    at = [entry.within.index(a) for a in (*blocks, *samples, *columns)]
    size = dict(zip(entry.within, entry.input.shape, strict=True))
    sizes = [prod(size[a] for a in some) for some in (blocks, samples, columns)]
    order = tuple(entry.weight.index(a) for a in (*blocks, *rows, *columns))
    kinds = (len(blocks), len(rows), len(columns))
    return WeightInput(entry.input.permute(at).reshape(sizes), shape, order, kinds)
