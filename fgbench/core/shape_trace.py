"""Shapes and operations of one example: what a network's modules show when it runs once on zeros."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

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
            with _Multiplications() as counter:
                x = run(k, x, note)
            counts.append(counter.number)
            outputs.append(tuple(x.shape[1:]))
    total = sum(counts)
    shares = tuple(c / total for c in counts) if total else (1 / len(counts),) * len(counts)
    op_shapes = {name: tuple(z.shape[1:]) for name, z in ops.items()}
    return ShapeTrace(shapes, op_shapes, frozenset(raw), tuple(outputs), shares)


class _Multiplications(TorchDispatchMode):
    """Count operations by torch's own formulas, as ``FlopCounterMode`` does.

    Not that class itself: torch imports its compiler to keep it out of such a mode, which takes two seconds
    of every process. What nothing compiles needs not be kept out of a compiler.
    """

    supports_higher_order_operators = True  # they run as they are, and count for nothing

    def __init__(self) -> None:
        from torch.utils.flop_counter import flop_registry

        super().__init__()
        self.number = 0
        self._formulas = flop_registry

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """Answer torch, which asks whether its compiler has to pass this mode by."""
        return False

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run an operation, or the operations that it consists of, and add its multiplications."""
        kwargs = kwargs or {}
        if isinstance(func, torch._ops.OpOverload):
            with self:
                parts = func.decompose(*args, **kwargs)
            if parts is not NotImplemented:
                return parts
        out = func(*args, **kwargs)
        formula = self._formulas.get(getattr(func, "overloadpacket", None))
        self.number += 0 if formula is None else formula(*args, **kwargs, out_val=out)
        return out
