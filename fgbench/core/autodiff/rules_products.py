"""Tangents of products: matrices, einsum, convolutions."""

from __future__ import annotations

from string import ascii_letters
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor

from fgbench.core.autodiff.dual import Dual, part, plus, rule, value
from fgbench.core.autodiff.rule_tools import each, everywhere, fit, lift, rows_times, shift

if TYPE_CHECKING:
    from collections.abc import Callable

    Call = Callable[..., Any]

aten = torch.ops.aten


@rule(F.linear)
def _linear(y: Tensor, input: Any, weight: Any, bias: Any = None) -> Any:
    t, v = part(input), part(weight)
    if t is not None:
        t = F.linear(t, value(weight))
    if v is not None and v.dim() == 2:  # a weight that is a vector
        t = plus(t, F.linear(value(input), v).movedim(-1, 0))
    elif v is not None:
        t = rows_times(value(input), v.mT, t, y)
    return shift(t, part(bias), y)


@rule(*everywhere("__rmatmul__"))
def _rmatmul(y: Tensor, input: Any, other: Any) -> Any:
    return _matmul(y, other, input)


@rule(*everywhere("matmul", "mm", "bmm", "__matmul__"))
def _matmul(y: Tensor, input: Any, other: Any) -> Any:
    a, b, s, t = value(input), value(other), part(input), part(other)
    if min(a.dim(), b.dim()) < 2:
        return NotImplemented
    if s is not None:
        s = (s[0] @ b).unsqueeze(0) if s.shape[0] == 1 else lift(s, y.dim()) @ b
    if t is None:
        return s
    if b.dim() == 2:
        return rows_times(a, t, s, y)
    t = (a @ t[0]).unsqueeze(0) if t.shape[0] == 1 else a @ lift(t, y.dim())
    return t if s is None else s.add_(t)


def _with_directions(equation: str, i: int) -> str:
    """Return the einsum equation with one more letter on its i-th operand and on its output."""
    inputs, output = equation.replace(" ", "").split("->")
    letter = next(a for a in ascii_letters if a not in equation)
    terms = [letter + term if j == i else term for j, term in enumerate(inputs.split(","))]
    return f"{','.join(terms)}->{letter}{output}"


@rule(torch.einsum)
def _einsum(y: Tensor, equation: Any, *operands: Any) -> Any:
    if len(operands) == 1 and isinstance(operands[0], (list, tuple)):
        operands = tuple(operands[0])
    if type(equation) is not str or "->" not in equation:
        return NotImplemented
    plain, total = [value(o) for o in operands], None
    for i, t in enumerate(map(part, operands)):
        if t is None:
            continue
        if t.shape[0] == 1:
            t = torch.einsum(equation, *plain[:i], t[0], *plain[i + 1 :]).unsqueeze(0)
        else:
            t = torch.einsum(_with_directions(equation, i), *plain[:i], t, *plain[i + 1 :])
        total = t if total is None else total.add_(t)  # two terms: both are products, so new
    return total


@rule(F.conv2d)
def _conv2d(y: Tensor, input: Any, weight: Any, bias: Any = None, *args: Any, **kwargs: Any) -> Any:
    x, w = value(input), value(weight)
    t, v, c = part(input), part(weight), part(bias)
    if t is not None:
        images = t.reshape(-1, *x.shape[-3:])
        t = F.conv2d(images, w, None, *args, **kwargs).view(t.shape[0], *y.shape)
    if v is not None:
        v = each(v, lambda one: F.conv2d(x, one, None, *args, **kwargs))
        t = v if t is None else t.add_(v)
    return shift(t, None if c is None else c[..., None, None], y)


def _convolution(func: Call, space: int) -> Call:
    """Make the rule of a convolution: the directions join the batch."""

    def convolve(
        y: Tensor, input: Any, weight: Any, bias: Any = None, *args: Any, **kwargs: Any
    ) -> Any:
        x, w = value(input), value(weight)
        t, v, c = part(input), part(weight), part(bias)
        if t is not None:
            images = t.reshape(-1, *x.shape[-space - 1 :])
            t = func(images, w, None, *args, **kwargs).view(t.shape[0], *y.shape)
        if v is not None:
            t = plus(t, each(v, lambda one: func(x, one, None, *args, **kwargs)))
        return shift(t, None if c is None else c[(..., *(None,) * space)], y)

    return convolve


for _func, _space in (
    (F.conv1d, 1), (F.conv3d, 3),
    (F.conv_transpose1d, 1), (F.conv_transpose2d, 2), (F.conv_transpose3d, 3),
):  # fmt: skip
    rule(_func)(_convolution(_func, _space))


@rule(*everywhere("addmm", "baddbmm"))
def _added_product(
    y: Tensor, input: Any, a: Any, b: Any, *, beta: float = 1, alpha: float = 1
) -> Any:
    c, t = part(input), None
    if type(a) is Dual or type(b) is Dual:
        t = _matmul(y, a, b)
        t = t if alpha == 1 else t * alpha
    if c is not None:
        c = lift(c if beta == 1 else c * beta, y.dim())
        t = c if t is None else t + c
    return fit(t, y)


@rule(*everywhere("mv"))
def _mv(y: Tensor, input: Any, vec: Any) -> Any:
    s, t = part(input), part(vec)
    s = None if s is None else s @ value(vec)
    return plus(s, None if t is None else t @ value(input).mT)


@rule(*everywhere("dot", "inner"))
def _dot(y: Tensor, input: Any, other: Any) -> Any:
    if y.dim() or not value(input).dim() == value(other).dim() == 1:
        return NotImplemented
    s, t = part(input), part(other)
    s = None if s is None else s @ value(other)
    return plus(s, None if t is None else t @ value(input))


@rule(*everywhere("outer"))
def _outer(y: Tensor, input: Any, vec2: Any) -> Any:
    s, t = part(input), part(vec2)
    s = None if s is None else s[..., None] * value(vec2)
    return plus(s, None if t is None else value(input)[:, None] * t[:, None])
