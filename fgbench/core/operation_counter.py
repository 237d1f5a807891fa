"""The floating point operations of a piece of code."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

if TYPE_CHECKING:
    from collections.abc import Iterator

_pauses: list[None] = []


@contextmanager
def uncounted() -> Iterator[None]:
    """Leave what runs inside the block out of every count: the making of random numbers has no price.

    Example:
        >>> with OperationCounter() as counter, uncounted():
        ...     _ = torch.ones(1, 3) @ torch.ones(3, 2)
        >>> counter.number
        0
    """
    _pauses.append(None)
    try:
        yield
    finally:
        _pauses.pop()


class OperationCounter(TorchDispatchMode):
    """Count the floating point operations of matrix products and convolutions by torch's own formulas.

    The numbers are those of ``torch.utils.flop_counter.FlopCounterMode``. At its first operation that class
    imports torch's compiler, only to be kept out of it, which takes two seconds of every process.

    Attributes:
        number: operations so far; a product and a sum are two.

    Example:
        >>> with OperationCounter() as counter:
        ...     _ = torch.ones(1, 3) @ torch.ones(3, 2)
        >>> counter.number
        12
    """

    supports_higher_order_operators = True  # they run as they are, and count for nothing

    def __init__(self) -> None:
        from torch.utils.flop_counter import flop_registry

        super().__init__()  # type: ignore[no-untyped-call]
        self.number = 0
        self._formulas = flop_registry

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """Answer torch, which asks whether its compiler has to pass this mode by."""
        return False

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run an operation, or the operations that it consists of, and add its multiplications."""
        kwargs = kwargs or {}
        if _pauses:
            return func(*args, **kwargs)
        if isinstance(func, torch._ops.OpOverload):
            with self:
                parts = func.decompose(*args, **kwargs)
            if parts is not NotImplemented:
                return parts
        out = func(*args, **kwargs)
        formula = self._formulas.get(getattr(func, "overloadpacket", None))
        self.number += 0 if formula is None else formula(*args, **kwargs, out_val=out)
        return out
