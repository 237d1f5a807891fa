"""Tangents of elementwise calls: arithmetic, activations, functions, comparisons."""

from __future__ import annotations

from math import log, pi, sqrt
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor

from fgbench.core.autodiff.dual import Dual, part, plus, rule, value
from fgbench.core.autodiff.rule_tools import after, everywhere, fit, lift, plain

if TYPE_CHECKING:
    from collections.abc import Callable

    Call = Callable[..., Any]

aten = torch.ops.aten


@rule(*everywhere("add", "__add__", "__radd__"))
def _add(y: Tensor, input: Any, other: Any, *, alpha: float = 1) -> Any:
    a, b = part(input), part(other)
    if a is None or b is None:
        return fit(a if b is None else b if alpha == 1 else b * alpha, y)
    a, b = lift(a, y.dim()), lift(b, y.dim())
    return fit(a + b if alpha == 1 else torch.add(a, b, alpha=alpha), y)


@rule(*everywhere("sub", "subtract", "__sub__"))
def _sub(y: Tensor, input: Any, other: Any, *, alpha: float = 1) -> Any:
    return _add(y, input, other, alpha=-alpha)


@rule(*everywhere("rsub", "__rsub__"))
def _rsub(y: Tensor, input: Any, other: Any, *, alpha: float = 1) -> Any:
    a, b = part(input), part(other)
    a = a if a is None else lift(a, y.dim()) * -alpha
    return fit(plus(a, b if b is None else lift(b, y.dim())), y)


@rule(*everywhere("mul", "multiply", "__mul__", "__rmul__"))
def _mul(y: Tensor, input: Any, other: Any) -> Any:
    a, b = part(input), part(other)
    s = None if a is None else lift(a, y.dim()) * value(other)
    t = None if b is None else lift(b, y.dim()) * value(input)
    return fit(plus(s, t), y)


@rule(*everywhere("div", "divide", "true_divide", "__truediv__"))
def _div(y: Tensor, input: Any, other: Any, *, rounding_mode: str | None = None) -> Any:
    if rounding_mode is not None:
        return NotImplemented
    a, b = part(input), part(other)
    s = None if a is None else lift(a, y.dim()) / value(other)
    t = None if b is None else lift(b, y.dim()) * (-y / value(other))  # -a/b^2 db
    return fit(plus(s, t), y)


@rule(*everywhere("pow", "__pow__"))
def _pow(y: Tensor, input: Any, exponent: Any) -> Any:
    if type(input) is not Dual or not isinstance(exponent, (int, float)) or exponent == 0:
        return NotImplemented
    return input.tangents * (input.value.pow(exponent - 1) * exponent)


@rule(*everywhere("relu"))
def _relu(y: Tensor, input: Dual, inplace: bool = False) -> Any:
    return aten.threshold_backward(input.tangents, y, 0)


@rule(F.gelu)
def _gelu(y: Tensor, input: Dual, *, approximate: str = "none") -> Any:
    x, t = input.value.detach(), input.tangents
    if len(t) == 1 and x.is_contiguous() and t.is_contiguous():
        return aten.gelu_backward(t[0], x, approximate=approximate).unsqueeze(0)
    # the kernel takes one layout of both: it is asked for the derivative, not for its product with tangents
    return input.tangents * aten.gelu_backward(torch.ones_like(x), x, approximate=approximate)


@rule(*everywhere("tanh"))
def _tanh(y: Tensor, input: Dual) -> Any:
    return NotImplemented if y.is_complex() else aten.tanh_backward(input.tangents, y)


@rule(*everywhere("sigmoid"))
def _sigmoid(y: Tensor, input: Dual) -> Any:
    return NotImplemented if y.is_complex() else aten.sigmoid_backward(input.tangents, y)


@rule(*everywhere("rsqrt"))
def _rsqrt(y: Tensor, input: Dual) -> Any:
    return input.tangents * (-0.5 * y.pow(3))


@rule(*everywhere("clamp", "clip"))
def _clamp(y: Tensor, input: Any, min: Any = None, max: Any = None) -> Any:
    if type(input) is not Dual or isinstance(min, Tensor | Dual) or isinstance(max, Tensor | Dual):
        return NotImplemented
    x = input.value
    within = (x >= (-torch.inf if min is None else min)) & (
        x <= (torch.inf if max is None else max)
    )
    return input.tangents * within


@rule(*everywhere("__rtruediv__"))
def _rtruediv(y: Tensor, input: Any, other: Any) -> Any:
    return _div(y, other, input)


rule(*everywhere("neg", "negative", "__neg__"))(lambda y, input: -input.tangents)


def _unary(names: str, derivative: Call) -> None:
    """Register calls of one number by their derivative, given the value and the point."""

    def slope(y: Tensor, input: Dual, **options: Any) -> Any:
        if not plain(*options.values()) or input.value.is_complex() or y.is_complex():
            return NotImplemented
        return fit(input.tangents * derivative(y, input.value), y)

    rule(*everywhere(*names.split()))(slope)


_unary("exp", lambda y, x: y)
_unary("exp2", lambda y, x: y * log(2))
_unary("expm1", lambda y, x: y + 1)
_unary("log", lambda y, x: x.reciprocal())
_unary("log2", lambda y, x: (x * log(2)).reciprocal())
_unary("log10", lambda y, x: (x * log(10)).reciprocal())
_unary("log1p", lambda y, x: (x + 1).reciprocal())
_unary("sqrt", lambda y, x: 0.5 / y)
_unary("reciprocal", lambda y, x: -y * y)
_unary("square", lambda y, x: 2 * x)
_unary("abs absolute", lambda y, x: x.sign())
_unary("sin", lambda y, x: x.cos())
_unary("cos", lambda y, x: -x.sin())
_unary("tan", lambda y, x: 1 + y * y)
_unary("asin arcsin", lambda y, x: (1 - x * x).rsqrt())
_unary("acos arccos", lambda y, x: -(1 - x * x).rsqrt())
_unary("atan arctan", lambda y, x: (1 + x * x).reciprocal())
_unary("sinh", lambda y, x: x.cosh())
_unary("cosh", lambda y, x: x.sinh())
_unary("asinh arcsinh", lambda y, x: (x * x + 1).rsqrt())
_unary("acosh arccosh", lambda y, x: (x * x - 1).rsqrt())
_unary("atanh arctanh", lambda y, x: (1 - x * x).reciprocal())
_unary("erf", lambda y, x: 2 / sqrt(pi) * (-x * x).exp())
_unary("erfc", lambda y, x: -2 / sqrt(pi) * (-x * x).exp())
_unary("erfinv", lambda y, x: sqrt(pi) / 2 * (y * y).exp())
_unary("lgamma", lambda y, x: x.digamma())
_unary("sinc", lambda y, x: torch.where(x == 0, 0.0, ((pi * x).cos() - y) / x))
_unary("logsigmoid", lambda y, x: torch.sigmoid(-x))
_unary("tanhshrink", lambda y, x: x.tanh().square())
_unary("softsign", lambda y, x: (1 - y.abs()).square())
_unary("frac", lambda y, x: torch.ones_like(x))
_unary("deg2rad", lambda y, x: pi / 180)
_unary("rad2deg", lambda y, x: 180 / pi)


def _kernel(names: str, backward: Call) -> None:
    """Register activations by torch's own kernel of ``g f'(x)``, which takes tangents as well."""

    def slope(y: Tensor, input: Dual, *args: Any, inplace: bool = False, **kwargs: Any) -> Any:
        t = input.tangents
        return backward(t, input.value.expand_as(t), *args, **kwargs)

    rule(*everywhere(*names.split()))(slope)


SELU = (1.0507009873554804934193349852946, 1.6732632423543772848170429916717)
"""Scale and alpha of the SELU."""

_kernel("silu", aten.silu_backward)
_kernel("mish", aten.mish_backward)
_kernel("hardswish", aten.hardswish_backward)
_kernel("hardsigmoid", aten.hardsigmoid_backward)
_kernel("relu6", lambda t, x: aten.hardtanh_backward(t, x, 0, 6))
_kernel(
    "hardtanh",
    lambda t, x, min_val=-1.0, max_val=1.0: aten.hardtanh_backward(t, x, min_val, max_val),
)
_kernel(
    "leaky_relu",
    lambda t, x, negative_slope=0.01: aten.leaky_relu_backward(t, x, negative_slope, False),
)
_kernel("elu", lambda t, x, alpha=1.0: aten.elu_backward(t, alpha, 1, 1, False, x))
_kernel("celu", lambda t, x, alpha=1.0: aten.elu_backward(t, alpha, 1, 1 / alpha, False, x))
_kernel("selu", lambda t, x: aten.elu_backward(t, SELU[1], SELU[0], 1, False, x))
_kernel(
    "softplus",
    lambda t, x, beta=1.0, threshold=20.0: aten.softplus_backward(t, x, beta, threshold),
)
_kernel("softshrink", lambda t, x, lambd=0.5: aten.softshrink_backward(t, x, lambd))
_kernel("hardshrink", lambda t, x, lambd=0.5: aten.hardshrink_backward(t, x, lambd))
_kernel("threshold", lambda t, x, threshold, value: aten.threshold_backward(t, x, threshold))
_kernel("logit", lambda t, x, eps=None: aten.logit_backward(t, x, eps))


@rule(*everywhere("prelu"))
def _prelu(y: Tensor, input: Any, weight: Any) -> Any:
    x, w, t, v = value(input), value(weight), part(input), part(weight)
    if w.dim() and w.numel() > 1:  # one slope per channel
        shape = (-1, *(1,) * (x.dim() - 2))
        w, v = w.view(shape), None if v is None else v.view(len(v), *shape)
    s = None if t is None else torch.where(x > 0, t, lift(t, y.dim()) * w)
    return plus(s, None if v is None else fit(lift(v, y.dim()) * x.clamp(max=0), y))


@rule(*everywhere("glu"))
def _glu(y: Tensor, input: Dual, dim: int = -1) -> Any:
    a, b = input.value.chunk(2, dim)
    s, t = input.tangents.chunk(2, after(dim))
    gate = b.sigmoid()
    return s * gate + t * (a * gate * (1 - gate))


@rule(*everywhere("maximum", "minimum"))
def maximum_slope(y: Tensor, input: Any, other: Any) -> Any:
    """Return the tangents of the larger or the smaller of two, which of them is seen from the value."""
    a, b = value(input), value(other)
    share = (a == y).to(y.dtype).masked_fill_(a == b, 0.5)  # equal ones share, as in reverse mode
    s, t = part(input), part(other)
    s = None if s is None else lift(s, y.dim()) * share
    return fit(plus(s, None if t is None else lift(t, y.dim()) * (1 - share)), y)


@rule(*everywhere("addcdiv"))
def _addcdiv(y: Tensor, input: Any, a: Any, b: Any, *, value: float = 1) -> Any:
    quotient = getattr(a, "value", a) / getattr(b, "value", b)
    t = _div(quotient, a, b)
    c = part(input)
    c = None if c is None else lift(c, y.dim())
    t = None if t is None else lift(t, y.dim())
    return fit(plus(c, t if t is None or value == 1 else t * value), y)


@rule(*everywhere("addcmul"))
def _addcmul(y: Tensor, input: Any, a: Any, b: Any, *, value: float = 1) -> Any:
    s, t = part(a), part(b)
    s = None if s is None else lift(s, y.dim()) * getattr(b, "value", b)
    t = None if t is None else lift(t, y.dim()) * getattr(a, "value", a)
    t = plus(s, t)
    c = part(input)
    c = None if c is None else lift(c, y.dim())
    return fit(plus(c, t if t is None or value == 1 else t * value), y)


@rule(*everywhere("lerp"))
def _lerp(y: Tensor, input: Any, end: Any, weight: Any) -> Any:
    a, b, w = value(input), value(end), value(weight)
    s, t, v = (None if p is None else lift(p, y.dim()) for p in map(part, (input, end, weight)))
    total = None if s is None else s * (1 - w)
    total = plus(total, None if t is None else t * w)
    return fit(plus(total, None if v is None else v * (b - a)), y)


@rule(*everywhere("clamp_min", "clamp_max"))
def _one_sided(y: Tensor, input: Any, bound: Any = None, **kwargs: Any) -> Any:
    bound = kwargs.get("min", kwargs.get("max", bound))
    if isinstance(bound, Tensor | Dual):
        return NotImplemented
    return input.tangents * (y == input.value)


_CONSTANT = (
    "sign floor ceil round trunc fix zeros_like ones_like full_like empty_like rand_like randn_like "
    "new_zeros new_ones new_full new_empty new_tensor heaviside sgn floor_divide __floordiv__ __rfloordiv__"
)
"""Calls whose derivative is zero: steps, and those that read no more than a shape and a type."""

rule(*everywhere(*_CONSTANT.split()))(lambda y, *args, **kwargs: None)


@rule(*everywhere("__rmod__"))
def _rmod(y: Tensor, input: Any, other: Any) -> Any:
    return _remainder(y, other, input)


@rule(*everywhere("__rpow__"))
def _rpow(y: Tensor, input: Dual, base: Any) -> Any:
    if not isinstance(base, int | float) or base <= 0:
        return NotImplemented
    return input.tangents * (y * log(base))


@rule(*everywhere("remainder", "fmod", "__mod__"))
def _remainder(y: Tensor, input: Any, other: Any) -> Any:
    # y = a - b q with q constant between steps: torch's reverse mode of a tensor b, too
    a, b = value(input), value(other)
    s, t = part(input), part(other)
    s = None if s is None else lift(s, y.dim())
    if t is not None:
        t = lift(t, y.dim()) * -((a - y) / b).round()
    return fit(plus(s, t), y)
