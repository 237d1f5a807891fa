"""Tangents of sums, extremes, cumulative sums and the softmax family."""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from fgbench.core.autodiff.dual import Dual, part, plus, rule, value
from fgbench.core.autodiff.rule_tools import after, alone, axis, everywhere, fit, lift
from fgbench.core.autodiff.rules_pointwise import maximum_slope

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    Call = Callable[..., Any]

aten = torch.ops.aten


def _reduction(func: Call) -> Call:
    """Make the rule of a linear reduction."""

    def reduce(y: Tensor, input: Dual, dim: Any = None, keepdim: bool = False, **kw: Any) -> Any:
        t = input.tangents
        if dim is None or dim == () or dim == []:  # all axes, but never n
            return func(t.reshape(t.shape[0], -1), 1, **kw).view(t.shape[0], *y.shape)
        return func(t, after(dim), keepdim, **kw)

    return reduce


rule(*everywhere("sum"))(_reduction(torch.sum))
rule(*everywhere("mean"))(_reduction(torch.mean))


@rule(*everywhere("softmax"))
def _softmax(
    y: Tensor, input: Dual, dim: int | None = None, *args: Any, dtype: Any = None, **kwargs: Any
) -> Any:
    if dim is None:
        return NotImplemented
    t, at = input.tangents.to(y.dtype), axis(dim, y)
    if len(t) == 1 and y.dim():  # J is symmetric: the kernel of reverse mode serves
        return aten._softmax_backward_data(t[0], y, at - 1, y.dtype).unsqueeze(0)
    t = t * y
    return t - y * t.sum(at, keepdim=True) if y.dim() else t * 0


@rule(*everywhere("log_softmax"))
def _log_softmax(
    y: Tensor, input: Dual, dim: int | None = None, *args: Any, dtype: Any = None, **kwargs: Any
) -> Any:
    if dim is None or not y.dim():
        return NotImplemented
    t = input.tangents.to(y.dtype)
    return t - (t * y.exp()).sum(axis(dim, y), keepdim=True)


@rule(*everywhere("softmin"))
def _softmin(
    y: Tensor, input: Dual, dim: int | None = None, *args: Any, dtype: Any = None, **kwargs: Any
) -> Any:
    t = _softmax(y, input, dim, *args, dtype=dtype, **kwargs)
    return t if t is NotImplemented else -t


@rule(*everywhere("logsumexp"))
def _logsumexp(y: Tensor, input: Dual, dim: Any, keepdim: bool = False) -> Any:
    x = input.value
    if not x.dim():
        return NotImplemented
    dims = [d % x.dim() for d in ((dim,) if isinstance(dim, int) else dim)]
    top = y if keepdim else _restored(y, dims, x.dim())
    return (input.tangents * (x - top).exp()).sum([d + 1 for d in dims], keepdim)


def _restored(y: Tensor, dims: Sequence[int], size: int) -> Tensor:
    """Put the axes that a reduction took away back, with size 1."""
    for d in sorted(dims or range(size)):
        y = y.unsqueeze(d)
    return y


def _moments(
    input: Dual, dim: Any, unbiased: bool | None, keepdim: bool, correction: Any
) -> tuple[Tensor, float, list[int]]:
    """Return the deviations from the mean, their divisor and the axes."""
    x = input.value
    dims = [dim] if isinstance(dim, int) else list(dim or range(x.dim()))
    dims = [d % x.dim() for d in dims]
    count = 1
    for d in dims:
        count *= x.shape[d]
    if correction is None:
        correction = 1 if unbiased is None or unbiased else 0
    return x - x.mean(dims, keepdim=True), max(count - correction, 0), dims


def _var_slope(
    input: Dual, dim: Any, unbiased: bool | None, keepdim: bool, correction: Any
) -> Tensor:
    """Return the tangents of a variance: ``2 / (N - c) sum (x - mean) dx``."""
    off, divisor, dims = _moments(input, dim, unbiased, keepdim, correction)
    t = (input.tangents * off).sum([d + 1 for d in dims], keepdim)
    return t * (2 / divisor) if divisor else t / 0


def _spread_options(
    dim: Any, unbiased: Any, keepdim: bool, correction: Any
) -> tuple[Any, bool | None, bool, Any]:
    if isinstance(dim, bool):  # var(x, unbiased)
        return None, dim, keepdim, correction
    return dim, unbiased, keepdim, correction


@rule(*everywhere("var"))
def _var(
    y: Tensor, input: Any, dim: Any = None, unbiased: bool | None = None, keepdim: bool = False,
    *, correction: Any = None,
) -> Any:  # fmt: skip
    if not alone(input) or not input.value.dim() or y.dtype != input.dtype:
        return NotImplemented
    return _var_slope(input, *_spread_options(dim, unbiased, keepdim, correction))


@rule(*everywhere("std"))
def _std(
    y: Tensor, input: Any, dim: Any = None, unbiased: bool | None = None, keepdim: bool = False,
    *, correction: Any = None,
) -> Any:  # fmt: skip
    t = _var(y, input, dim, unbiased, keepdim, correction=correction)
    return t if t is NotImplemented else (t / (2 * y)).masked_fill(y == 0, 0.0)


def _with_mean(slope: Call) -> Call:
    """Make the rule of a call that returns the mean as well."""

    def both(
        y: Any, input: Any, dim: Any = None, unbiased: bool | None = None, keepdim: bool = False,
        *, correction: Any = None,
    ) -> Any:  # fmt: skip
        t = slope(y[0], input, dim, unbiased, keepdim, correction=correction)
        if t is NotImplemented:
            return t
        dim, _, keepdim, _ = _spread_options(dim, unbiased, keepdim, correction)
        dims = [dim] if isinstance(dim, int) else list(dim or range(input.value.dim()))
        return t, input.tangents.mean([axis(d, input.value) for d in dims], keepdim)

    return both


rule(*everywhere("var_mean"))(_with_mean(_var))
rule(*everywhere("std_mean"))(_with_mean(_std))


@rule(torch.linalg.vector_norm)
def _vector_norm(
    y: Tensor,
    input: Dual,
    ord: Any = 2,
    dim: Any = None,
    keepdim: bool = False,
    *,
    dtype: Any = None,
) -> Any:
    x = input.value
    if ord != 2 or dtype not in (None, x.dtype) or x.is_complex() or not x.dim():
        return NotImplemented
    dims = [dim] if isinstance(dim, int) else list(range(x.dim()) if dim is None else dim)
    dims = [d % x.dim() for d in dims] or list(range(x.dim()))
    whole = y if keepdim else _restored(y, dims, x.dim())
    # at 0 reverse mode gives the subgradient 0
    unit = (x / whole).masked_fill(whole == 0, 0.0)
    return (input.tangents * unit).sum([d + 1 for d in dims], keepdim)


@rule(*everywhere("norm"))
def _norm(
    y: Tensor, input: Dual, p: Any = "fro", dim: Any = None, keepdim: bool = False, **kwargs: Any
) -> Any:
    if p not in ("fro", 2, None) or any(v is not None for v in kwargs.values()):
        return NotImplemented
    return _vector_norm(y, input, 2, dim, keepdim)


@rule(*everywhere("amax", "amin"))
def _extreme(y: Tensor, input: Dual, dim: Any = (), keepdim: bool = False) -> Any:
    x = input.value
    if not x.dim():
        return input.tangents
    dims = [dim] if isinstance(dim, int) else list(dim or range(x.dim()))
    dims = [d % x.dim() for d in dims]
    top = (y if keepdim else _restored(y, dims, x.dim())) == x
    top = top.to(x.dtype)
    share = top / top.sum(dims, keepdim=True)  # equal ones share
    return (input.tangents * share).sum([d + 1 for d in dims], keepdim)


def _picked(input: Dual, indices: Tensor, dim: int, keepdim: bool = True) -> Tensor:
    """Return the tangents at indices along an axis, as every call does that picks numbers."""
    t, at = input.tangents, axis(dim, input.value)
    if not input.value.dim():
        return t
    if not keepdim:
        indices = indices.unsqueeze(at - 1)
    t = t.gather(at, indices.expand(len(t), *indices.shape))
    return t if keepdim else t.squeeze(at)


@rule(*everywhere("max", "min"))
def _first_extreme(y: Any, input: Any, *args: Any, **kwargs: Any) -> Any:
    if not isinstance(y, Tensor):
        return _median(y, input, *args, **kwargs)
    other = args[0] if args else kwargs.get("other")
    if other is None:
        return _extreme(y, input)
    return maximum_slope(y, input, other)


@rule(*everywhere("median", "nanmedian", "mode"))
def _median(y: Any, input: Dual, dim: int = -1, keepdim: bool = False) -> Any:
    if isinstance(y, Tensor):  # of all numbers: equal ones share
        return _extreme(y, input)
    return _picked(input, y[1], dim, keepdim), None


@rule(*everywhere("kthvalue"))
def _kthvalue(y: Any, input: Dual, k: int, dim: int = -1, keepdim: bool = False) -> Any:
    return _picked(input, y[1], dim, keepdim), None


@rule(*everywhere("topk"))
def _topk(y: Any, input: Dual, k: int, dim: int = -1, *args: Any, **kwargs: Any) -> Any:
    return _picked(input, y[1], dim), None


@rule(*everywhere("sort"))
def _sort(y: Any, input: Dual, *args: Any, dim: int = -1, **kwargs: Any) -> Any:
    dim = args[0] if args else dim
    return _picked(input, y[1], dim), None


@rule(*everywhere("cummax", "cummin"))
def _running_extreme(y: Any, input: Dual, dim: int) -> Any:
    return _picked(input, y[1], dim), None


@rule(*everywhere("cumsum"))
def _cumsum(y: Tensor, input: Dual, dim: int, **kwargs: Any) -> Any:
    return fit(input.tangents.cumsum(axis(dim, input.value), **kwargs), y)


def _distances(gap: Tensor, t: Tensor, y: Tensor, p: float) -> Tensor:
    """Return the tangents of p-norms over the last axis, ``sum sign(d) |d|^(p-1) dd / y^(p-1)``.

    Args:
        gap: differences d, ``[..., k]``.
        t: their tangents, ``[n, ..., k]``.
        y: the norms, ``[...]``; at 0 the tangent is 0, as in reverse mode.
        p: the order.
    """
    whole = y.unsqueeze(-1)
    if p == 0:
        slope = torch.zeros_like(gap)
    elif p == 1:
        slope = gap.sign()
    elif p == inf:
        slope = gap.sign() * (gap.abs() == whole)
    elif p == 2:
        slope = gap / whole
    else:
        slope = gap.sign() * gap.abs().pow(p - 1) / whole.pow(p - 1)
    return (t * slope.masked_fill(whole == 0, 0.0)).sum(-1)


@rule(torch.cdist)
def _cdist(y: Tensor, x1: Any, x2: Any, p: float = 2.0, compute_mode: Any = None) -> Any:
    gap = value(x1).unsqueeze(-2) - value(x2).unsqueeze(-3)
    s, t = part(x1), part(x2)
    s = None if s is None else lift(s, value(x1).dim()).unsqueeze(-2)
    t = None if t is None else -lift(t, value(x2).dim()).unsqueeze(-3)
    total = plus(s if s is None else lift(s, gap.dim()), t if t is None else lift(t, gap.dim()))
    return None if total is None else fit(_distances(gap, total, y, p), y)


@rule(*everywhere("pdist"))
def _pdist(y: Tensor, input: Dual, p: float = 2.0) -> Any:
    i, j = torch.triu_indices(len(input), len(input), 1, device=y.device)
    x, t = input.value, input.tangents
    return _distances(x[i] - x[j], t[:, i] - t[:, j], y, p)
