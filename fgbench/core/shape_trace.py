"""Shapes and operations of one example: what a network's modules show when it runs once on zeros."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from fgbench.core.operation_counter import OperationCounter

if TYPE_CHECKING:
    from torch import Tensor

Shape = tuple[int, ...]
Run = Callable[[int, "Tensor", Any], "Tensor"]


@dataclass(frozen=True)
class ShapeTrace:
    """Shapes of one example, the example axis left out, and the operations of every module.

    Args:
        sites: site name to shape.
        ops: name of a weight operation to the shape of its raw output.
        raw: sites that are the raw output of their weight operation, with nothing in between.
        outputs: shape of every module's output.
        shares: each module's part of the multiplications of all, adding up to 1.

    Example:
        >>> found = trace(lambda k, x, tap: tap("site", f"l{k}", x * 2), 2, torch.ones(1, 3))
        >>> found.sites, found.shares
        ({'l0': (3,), 'l1': (3,)}, (0.5, 0.5))
    """

    sites: dict[str, Shape]
    ops: dict[str, Shape]
    raw: frozenset[str]
    outputs: tuple[Shape, ...]
    shares: tuple[float, ...]


def trace(run: Run, modules: int, x: Tensor) -> ShapeTrace:
    """Run one example through modules and note shapes and operations, without gradients.

    Args:
        run: runs module k on its input under a tap: ``run(k, x, tap)``.
        modules: number of modules.
        x: one example, ``[1, ...]``.

    Returns:
        The shapes and the share of operations; equal shares where no module multiplies.

    Example:
        >>> found = trace(lambda k, x, tap: tap("op", "l", x @ torch.ones(3, 2 + k)), 1, torch.ones(1, 3))
        >>> found.ops, found.outputs, found.shares
        ({'l': (2,)}, ((2,),), (1.0,))
    """
    shapes: dict[str, Shape] = {}
    ops: dict[str, Tensor] = {}
    raw = set[str]()

    def note(kind: str, name: str, z: Tensor, /) -> Tensor:
        if kind == "op":
            ops[name] = z
        if kind == "site":
            shapes[name] = tuple(z.shape[1:])
            raw.update({name} if z is ops.get(name) else ())
        return z

    counts, outputs = [], []
    with torch.no_grad():
        for k in range(modules):
            with OperationCounter() as counter:
                x = run(k, x, note)
            counts.append(counter.number)
            outputs.append(tuple(x.shape[1:]))
    total = sum(counts)
    shares = tuple(c / total for c in counts) if total else (1 / len(counts),) * len(counts)
    op_shapes = {name: tuple(z.shape[1:]) for name, z in ops.items()}
    return ShapeTrace(shapes, op_shapes, frozenset(raw), tuple(outputs), shares)
