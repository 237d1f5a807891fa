"""Tools of the rules: which functions a name stands for, and tangents ``[n, *s]`` beside values ``[*s]``.

In the rules, ``t``, ``s``, ``v`` and ``c`` are tangents, and arguments bear torch's names.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor

from fgbench.core.autodiff.dual import Dual

if TYPE_CHECKING:
    from collections.abc import Callable

    Call = Callable[..., Any]

aten = torch.ops.aten

FEW = 1 << 17
"""Numbers in all tangents of a norm, up to which one kernel call takes the tangents of all directions."""


def everywhere(*names: str) -> list[Any]:
    """Return the functions of torch and the methods of tensors that have these names."""
    found = [getattr(space, name, None) for name in names for space in (torch, F, Tensor)]
    return [func for func in found if callable(func)]


def after(dim: Any) -> Any:
    """Shift axes of a value to where its tangents have them."""
    if isinstance(dim, int):
        return dim + 1 if dim >= 0 else dim
    return [after(d) for d in dim]


def autocast(x: Any) -> bool:
    """Return whether autocast is on: kernels called by their own names would ignore it."""
    return torch.is_autocast_enabled(x.device.type)


def lift(t: Tensor, dim: int) -> Tensor:
    """Insert axes of size 1 behind n, so that n broadcasts against no axis of a value of ``dim`` axes."""
    missing = dim + 1 - t.dim()
    return t[(slice(None), *(None,) * missing)] if missing > 0 else t


def fit(t: Tensor | None, y: Tensor) -> Tensor | None:
    """Return tangents in the shape and dtype of the value that they belong to."""
    if t is None:
        return None
    t = t if t.dtype == y.dtype else t.to(y.dtype)
    return t if t.shape[1:] == y.shape else lift(t, y.dim()).expand(t.shape[0], *y.shape)


def each(t: Tensor, linear: Callable[[Tensor], Tensor]) -> Tensor:
    """Apply a linear map to one direction after another, where a kernel takes one at a time."""
    first = linear(t[0])
    if t.shape[0] == 1:
        return first.unsqueeze(0)
    out = first.new_empty((t.shape[0], *first.shape))
    out[0] = first
    for i in range(1, t.shape[0]):
        out[i] = linear(t[i])  # copied from a warm temporary: a third of the time of torch.stack
    return out


def rows_times(x: Tensor, v: Tensor, onto: Tensor | None, y: Tensor) -> Tensor:
    """Return x ``[*, i]`` times v ``[n, i, o]``, added into the rule's own ``onto`` if given."""
    rows = x.reshape(-1, x.shape[-1]).expand(v.shape[0], -1, -1)
    if onto is None:
        return torch.bmm(rows, v).view(v.shape[0], *y.shape)
    onto = onto.contiguous()
    onto.view(v.shape[0], -1, v.shape[2]).baddbmm_(rows, v)
    return onto


def shift(t: Tensor | None, c: Tensor | None, y: Tensor) -> Tensor | None:
    """Add the tangents of an additive term into the rule's own ``t``."""
    if t is None or c is None:
        return fit(c, y) if t is None else t
    return t.add_(lift(c, y.dim()))


def axis(dim: int, y: Tensor) -> int:
    """Return where the tangents of a value have its axis; a value of no axes counts as one of one axis."""
    return dim % max(y.dim(), 1) + 1


def alone(input: Any, *others: Any) -> bool:
    """Return whether the first argument, and no other, is a `Dual`."""
    return type(input) is Dual and all(type(a) is not Dual for a in others)


def spread(x: Any, n: int, y: Tensor) -> Tensor:
    """Return the tangents of an argument, or zeros that take no memory, ``[n, *x.shape]``."""
    return x.tangents if type(x) is Dual else y.new_zeros(()).expand(n, *x.shape)


def directions(*xs: Any) -> int:
    """Return the number of directions of the first `Dual` among arguments."""
    return next(len(x.tangents) for x in xs if type(x) is Dual)


def plain(*values: Any) -> bool:
    """Return whether options are left at what changes nothing: None, False, 0."""
    return not any(bool(v) for v in values)
