"""Tangents of calls that move, select or join numbers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor

from fgbench.core.autodiff.dual import Dual, part, rule
from fgbench.core.autodiff.rule_tools import (
    after,
    alone,
    axis,
    directions,
    everywhere,
    fit,
    lift,
    spread,
)
from fgbench.errors import TangentLost

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    Call = Callable[..., Any]

aten = torch.ops.aten

rule(*everywhere("detach"))(lambda y, input: None)


@rule(*everywhere("view", "reshape", "flatten", "unflatten", "squeeze", "unsqueeze"))
@rule(*everywhere("ravel", "atleast_1d", "atleast_2d", "atleast_3d"))
@rule(*everywhere("view_as", "reshape_as"))
def _reshape(y: Tensor, input: Any, *args: Any, **kwargs: Any) -> Any:
    t = part(input)
    return None if t is None else t.reshape(t.shape[0], *y.shape)


@rule(*everywhere("expand", "expand_as", "broadcast_to", "clone", "contiguous", "positive"))
@rule(*everywhere("to", "type", "type_as", "float", "double", "half", "bfloat16"))
def _same(y: Tensor, input: Any, *args: Any, **kwargs: Any) -> Any:
    t = part(input)
    return None if t is None else fit(t.to(y.device), y)


@rule(*everywhere("transpose", "swapaxes", "swapdims"))
def _transpose(y: Tensor, input: Dual, dim0: int, dim1: int) -> Any:
    return input.tangents.transpose(after(dim0), after(dim1))


@rule(*everywhere("t"))
def _t(y: Tensor, input: Dual) -> Any:
    return input.tangents.mT if y.dim() == 2 else input.tangents


rule(*everywhere("adjoint"))(lambda y, input: input.tangents.mT)


@rule(*everywhere("permute"))
def _permute(y: Tensor, input: Dual, *args: Any, dims: Any = None) -> Any:
    order = dims if dims is not None else args if isinstance(args[0], int) else args[0]
    return input.tangents.permute(0, *(d % y.dim() + 1 for d in order))


@rule(*everywhere("movedim", "moveaxis"))
def _movedim(y: Tensor, input: Dual, source: Any, destination: Any) -> Any:
    return input.tangents.movedim(after(source), after(destination))


@rule(*everywhere("cat", "concat", "concatenate"))
def _cat(y: Tensor, tensors: Sequence[Any], dim: int = 0) -> Any:
    n = directions(*tensors)
    return torch.cat([spread(a, n, y) for a in tensors], after(dim))


@rule(Tensor.__getitem__)
def _getitem(y: Tensor, input: Any, index: Any) -> Any:
    if type(input) is not Dual:
        return NotImplemented
    if isinstance(index, Tensor) and index.dim() > 0:
        return input.tangents[:, index]
    index = index if type(index) is tuple else (index,)
    if not all(map(_simple, index)):
        return NotImplemented
    lists = [k for k, i in enumerate(index) if isinstance(i, Tensor | list)]
    if lists and lists[-1] - lists[0] >= len(lists):
        return NotImplemented  # lists that stand apart put their axis first, before n
    return input.tangents[(slice(None), *index)]


def _simple(index: Any) -> bool:
    """Return whether an index is a number, a slice, None, ..., or a list or tensor of numbers."""
    if isinstance(index, Tensor):
        return index.dim() > 0
    if type(index) is list:
        return all(type(i) in (int, bool) for i in index)
    return index is None or index is ... or type(index) in (int, slice)


def _apart(*names: str, default: int, at: int) -> None:
    """Register calls that take a tensor apart along one dimension.

    Args:
        names: of the calls.
        default: the dimension where none is given.
        at: position of the dimension among the arguments behind the tensor.
    """
    for func in everywhere(*names):

        def take(y: Any, input: Any, *args: Any, func: Call = func, **kwargs: Any) -> Any:
            if not alone(input):
                return NotImplemented
            given = list(args)
            if len(given) > at:
                given[at] = axis(given[at], input.value)
            else:
                kwargs["dim"] = axis(kwargs.get("dim", default), input.value)
            return func(input.tangents, *given, **kwargs)

        rule(func)(take)


_apart("chunk", "split", "tensor_split", "split_with_sizes", default=0, at=1)
_apart("unsafe_chunk", "unsafe_split", "unsafe_split_with_sizes", default=0, at=1)
_apart("unbind", "select", "narrow", "index_select", default=0, at=0)


@rule(Tensor.unfold)
def _unfold(y: Tensor, input: Dual, dimension: int, size: int, step: int) -> Any:
    return input.tangents.unfold(axis(dimension, input.value), size, step)


@rule(*everywhere("gather"))
def _gather(y: Tensor, input: Dual, dim: int, index: Tensor, **kwargs: Any) -> Any:
    if not input.value.dim():
        return NotImplemented
    t = input.tangents
    return t.gather(axis(dim, input.value), index.expand(len(t), *index.shape))


@rule(*everywhere("take_along_dim"))
def _take_along_dim(y: Tensor, input: Dual, indices: Tensor, dim: int | None = None) -> Any:
    if dim is None:
        return input.tangents.flatten(1)[:, indices.flatten()]
    return torch.take_along_dim(input.tangents, indices[None], axis(dim, input.value))


@rule(*everywhere("index_add", "scatter_add"))
def _added_at(y: Tensor, input: Any, dim: int, index: Tensor, source: Any, **kwargs: Any) -> Any:
    if y.dim() < 2 or kwargs.get("alpha", 1) != 1:
        return NotImplemented
    n = directions(input, source)
    t, s, at = spread(input, n, y), spread(source, n, y), axis(dim, y)
    if index.dim() == 1:
        return t.index_add(at, index, s)
    return t.scatter_add(at, index.expand(n, *index.shape), s)


@rule(*everywhere("diag_embed"))
def _diag_embed(y: Tensor, input: Dual, offset: int = 0, dim1: int = -2, dim2: int = -1) -> Any:
    return input.tangents.diag_embed(offset, axis(dim1, y), axis(dim2, y))


@rule(*everywhere("stack"))
def _stack(y: Tensor, tensors: Sequence[Any], dim: int = 0) -> Any:
    n = directions(*tensors)
    return torch.stack([spread(a, n, y) for a in tensors], axis(dim, y))


@rule(*everywhere("masked_fill"))
def _masked_fill(y: Tensor, input: Any, mask: Tensor, value: Any) -> Any:
    if not alone(input, value):
        return NotImplemented
    if input.shape == y.shape:
        return input.tangents.masked_fill(mask, 0.0)
    return fit(lift(input.tangents, y.dim()).masked_fill(mask, 0.0), y)


@rule(*everywhere("where"))
def _where(y: Tensor, condition: Any, input: Any = None, other: Any = None) -> Any:
    if type(condition) is Dual or input is None or other is None:
        return NotImplemented
    zero = y.new_zeros(())
    s, t = (zero if p is None else lift(p, y.dim()) for p in map(part, (input, other)))
    return fit(torch.where(condition, s, t), y)


@rule(Tensor.where)
def _where_method(y: Tensor, input: Any, condition: Any, other: Any = None) -> Any:
    return _where(y, condition, input, other)


@rule(*everywhere("masked_select"))
def _masked_select(y: Tensor, input: Dual, mask: Tensor) -> Any:
    if mask.dim() > input.value.dim():
        return NotImplemented
    return input.tangents[:, mask.expand(input.value.shape)]


for _func in everywhere("tril", "triu"):
    rule(_func)(lambda y, input, diagonal=0, func=_func: func(input.tangents, diagonal))


@rule(*everywhere("diagonal"))
def _diagonal(y: Tensor, input: Dual, offset: int = 0, dim1: int = 0, dim2: int = 1) -> Any:
    x = input.value
    return input.tangents.diagonal(offset, axis(dim1, x), axis(dim2, x))


@rule(*everywhere("roll"))
def _roll(y: Tensor, input: Dual, shifts: Any, dims: Any = None) -> Any:
    if dims is None or dims == () or dims == []:  # all numbers in one row
        return input.tangents.flatten(1).roll(shifts, 1).view(-1, *y.shape)
    dims = (dims,) if isinstance(dims, int) else dims
    return input.tangents.roll(shifts, [axis(d, y) for d in dims])


@rule(*everywhere("flip"))
def _flip(y: Tensor, input: Dual, *args: Any, dims: Any = None) -> Any:
    dims = dims if dims is not None else args if isinstance(args[0], int) else args[0]
    dims = (dims,) if isinstance(dims, int) else dims
    return input.tangents.flip([axis(d, y) for d in dims])


rule(*everywhere("fliplr"))(lambda y, input: input.tangents.flip(2))
rule(*everywhere("flipud"))(lambda y, input: input.tangents.flip(1))


@rule(Tensor.repeat)
@rule(*everywhere("tile"))
def _repeat(y: Tensor, input: Dual, *args: Any, **kwargs: Any) -> Any:
    sizes = next(iter(kwargs.values())) if kwargs else args
    sizes = sizes[0] if sizes and not isinstance(sizes[0], int) else sizes
    sizes = (*(1,) * (y.dim() - len(sizes)), *sizes)  # tile takes fewer than there are axes
    return lift(input.tangents, y.dim()).repeat(1, *sizes)


@rule(*everywhere("repeat_interleave"))
def _repeat_interleave(
    y: Tensor, input: Dual, repeats: Any, dim: int | None = None, **kwargs: Any
) -> Any:
    if dim is None:
        return input.tangents.flatten(1).repeat_interleave(repeats, 1, **kwargs)
    return input.tangents.repeat_interleave(repeats, axis(dim, input.value), **kwargs)


@rule(*everywhere("constant_pad_nd"))
def _constant_pad(y: Tensor, input: Any, pad: Sequence[int], value: Any = 0) -> Any:
    return _pad(y, input, pad, value=value)


@rule(F.pad)
def _pad(
    y: Tensor, input: Dual, pad: Sequence[int], mode: str = "constant", value: Any = None
) -> Any:
    if not alone(input, value):
        return NotImplemented
    t = input.tangents
    if mode == "constant":
        return F.pad(t, pad)
    return F.pad(t.flatten(0, 1), pad, mode).view(len(t), *y.shape)


@rule(F.embedding)
def _embedding(
    y: Tensor,
    input: Tensor,
    weight: Dual,
    padding_idx: int | None = None,
    max_norm: float | None = None,
    norm_type: float = 2.0,
    scale_grad_by_freq: bool = False,
    sparse: bool = False,
) -> Any:
    if max_norm is not None:
        raise TangentLost("no tangent travels through embedding(max_norm=...): it writes in place")
    if scale_grad_by_freq:
        raise TangentLost(
            "embedding(scale_grad_by_freq=True) changes its gradient, so no tangent agrees with it"
        )
    t = weight.tangents.index_select(1, input.reshape(-1)).view(-1, *y.shape)
    if padding_idx is None:
        return t
    # reverse mode gives that row no gradient, although the value depends on it
    padded = input == padding_idx % weight.value.shape[0]
    return t.masked_fill_(padded[..., None], 0.0)


@rule(*everywhere("broadcast_tensors"))
def _broadcast_tensors(y: Any, *tensors: Any) -> Any:
    tensors = tensors[0] if len(tensors) == 1 and type(tensors[0]) in (list, tuple) else tensors
    n = directions(*tensors)
    pairs = zip(y, tensors, strict=True)
    return [fit(spread(a, n, one), one) for one, a in pairs]
