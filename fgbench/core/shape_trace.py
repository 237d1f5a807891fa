"""Shapes, operations and ReLUs of one example: what a network shows when it runs once on zeros."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

if TYPE_CHECKING:
    from collections.abc import Sequence

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
        operations: floating point operations of all modules together.
        rectified: sites that nothing but a ReLU reads, see :class:`Readers`.

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
    operations: int = 0
    rectified: frozenset[str] = frozenset()


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
    readers = Readers()

    def note(kind: str, name: str, z: Tensor, /) -> Tensor:
        if kind == "op":
            ops[name] = z
        if kind == "site":
            shapes[name] = tuple(z.shape[1:])
            raw.update({name} if z is ops.get(name) else ())
        readers.met(kind, name, z)
        return z

    counts, outputs = [], []
    with torch.no_grad(), readers:
        for k in range(modules):
            with _Multiplications() as counter:
                x = run(k, x, note)
            counts.append(counter.number)
            outputs.append(tuple(x.shape[1:]))
    total = sum(counts)
    shares = tuple(c / total for c in counts) if total else (1 / len(counts),) * len(counts)
    op_shapes = {name: tuple(z.shape[1:]) for name, z in ops.items()}
    return ShapeTrace(
        shapes, op_shapes, frozenset(raw), tuple(outputs), shares, total, readers.rectified()
    )


def operations(run: Any) -> int:
    """Count the floating point operations of matrix products and convolutions, without gradients.

    Args:
        run: called once, without arguments.

    Returns:
        The number, by torch's own formulas.

    Example:
        >>> operations(lambda: torch.ones(1, 3) @ torch.ones(3, 2))
        12
    """
    with torch.no_grad(), _Multiplications() as counter:
        run()
    return counter.number


SUMS = frozenset({"add", "sub", "__add__", "__radd__", "__sub__", "__rsub__", "subtract", "rsub"})
"""Calls by which a site may reach its ReLU: the derivative of the sum is zero wherever the ReLU's is."""


class Readers(TorchFunctionMode):
    """Notes which calls read the value of each site, to find those that reach the loss by a ReLU alone.

    Where a ReLU is the sole reader of a site, or of its sum with something of its shape (a residual), and
    its output is what the ``out`` of the site shows, the derivative with respect to the site is zero
    wherever that output is zero. Nothing of the kind holds elsewhere: the output of a branch that starts at
    zero is zero, and its derivative is not.

    Example:
        >>> readers, x = Readers(), torch.ones(2, 3)
        >>> with readers:
        ...     for name, act in (("l0", torch.relu), ("l1", torch.tanh)):
        ...         readers.met("site", name, x := 2 * x)
        ...         readers.met("out", name, x := act(x))
        >>> sorted(readers.rectified())
        ['l0']
    """

    def __init__(self) -> None:
        super().__init__()
        self._sites: dict[str, Tensor] = {}
        self._outs: dict[str, Tensor] = {}
        self._reads: dict[int, list[tuple[Any, Any]]] = {}
        self._kept: list[Any] = []  # values stay alive, so that no id is used twice

    def met(self, kind: str, name: str, z: Tensor) -> None:
        """Note the value at a tap."""
        if kind == "site":
            self._sites[name] = z
            self._kept.append(z)
            self._reads.setdefault(id(z), [])
        elif kind == "out":
            self._outs[name] = z

    def __torch_function__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Any = None
    ) -> Any:
        """Run the call, and note it where it reads a value that is followed."""
        out = func(*args, **(kwargs or {}))
        given = [a for a in tree_leaves((args, kwargs)) if isinstance(a, Tensor)]
        if not any(isinstance(part, Tensor) for part in tree_leaves(out)):  # a shape, a device
            return out
        for key in {id(a) for a in given} & self._reads.keys():
            self._reads[key].append((func, out))
            if getattr(func, "__name__", "") in SUMS and isinstance(out, Tensor):
                self._kept.append(out)
                self._reads.setdefault(id(out), [])
        return out

    def rectified(self) -> frozenset[str]:
        """Return the sites that nothing but a ReLU reads."""
        return frozenset(name for name, z in self._sites.items() if self._by_relu(z, name))

    def _by_relu(self, z: Tensor, name: str) -> bool:
        """Return whether a ReLU, perhaps of a sum, is the sole reader of a site."""
        value: Any = z
        while len(reads := self._reads.get(id(value), [])) == 1:
            func, out = reads[0]
            kind = getattr(func, "__name__", "")
            if not isinstance(out, Tensor) or out is value or out.shape != z.shape:
                return False
            if kind == "relu":
                return out is self._outs.get(name)
            if kind not in SUMS:
                return False
            value = out
        return False


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
