"""Tangents of norms of activities, given together with their values."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor

from fgbench.core.autodiff.dual import Dual, pair, part, together, value
from fgbench.core.autodiff.overrides import without_overrides
from fgbench.core.autodiff.rule_tools import FEW, autocast, each, lift, shift
from fgbench.errors import TangentLost

if TYPE_CHECKING:
    from collections.abc import Callable

    Call = Callable[..., Any]

aten = torch.ops.aten

COUPLED = (
    "batch statistics couple the examples and are updated by every call; "
    "put the norm in eval() mode, or use a layer or group norm"
)


def _normed(white: Call, t: Tensor | None, weight: Any, bias: Any, y: Tensor) -> Any:
    """Return the `Dual` of ``white * weight + bias``, given the tangents ``t`` of white."""
    if t is not None and weight is not None:
        t = t.mul_(value(weight))
    v = part(weight)
    if v is not None:
        v = lift(v, y.dim()) * white()
        t = v if t is None else t.add_(v)
    return pair(y, shift(t, part(bias), y))


def _whiten(t: Tensor, x: Tensor, mean: Tensor, rstd: Tensor, axes: Any) -> Tensor:
    """Apply the Jacobian of ``(x - mean) rstd``: it is symmetric, so the backward kernel serves."""
    kernel, wanted = aten.native_layer_norm_backward, [True, False, False]
    at_once = min(t.shape[0], max(1, FEW // max(1, x.numel())))
    if at_once <= 1:
        return each(t, lambda one: kernel(one, x, axes, mean, rstd, None, None, wanted)[0])
    # a copy of x per direction costs less than a call
    x, mean, rstd = (z.expand(at_once, *z.shape).contiguous() for z in (x, mean, rstd))
    whitened = []
    for some in t.contiguous().split(at_once):
        n = len(some)
        whitened += [kernel(some, x[:n], axes, mean[:n], rstd[:n], None, None, wanted)[0]]
    return whitened[0] if len(whitened) == 1 else torch.cat(whitened)


@together(F.layer_norm, torch.layer_norm)
def _layer_norm(
    input: Any, axes: Any, weight: Any = None, bias: Any = None, eps: float = 1e-5, *_: Any
) -> Any:
    if autocast(input):
        return NotImplemented
    x = value(input).contiguous()  # once, for both kernels
    y, mean, rstd = torch.native_layer_norm(x, axes, value(weight), value(bias), eps)
    with torch.no_grad():
        t = part(input)
        t = None if t is None else _whiten(t, x, mean, rstd, axes)
        return _normed(lambda: (x - mean) * rstd, t, weight, bias, y)


@together(F.group_norm, torch.group_norm)
def _group_norm(
    input: Any, num_groups: int, weight: Any = None, bias: Any = None, eps: float = 1e-5, *_: Any
) -> Any:
    if autocast(input):
        return NotImplemented
    x, w, b = value(input).contiguous(), value(weight), value(bias)
    size, channels, *space = x.shape
    area = x[:1, :1].numel()
    y, mean, rstd = torch.native_group_norm(x, w, b, size, channels, area, num_groups, eps)
    weight, bias = (p if p is None else p.view(-1, *[1] * len(space)) for p in (weight, bias))
    with torch.no_grad():  # it is a layer norm over the channels of a group and their area
        cells, mean, rstd = x.view(size, num_groups, -1), mean[..., None], rstd[..., None]
        t = part(input)
        if t is not None:
            t = _whiten(t.reshape(-1, *cells.shape), cells, mean, rstd, cells.shape[2:])
            t = t.view(-1, *x.shape)
        return _normed(lambda: ((cells - mean) * rstd).view_as(x), t, weight, bias, y)


@together(F.batch_norm, torch.batch_norm)
def _batch_norm(
    input: Any,
    running_mean: Any,
    running_var: Any,
    weight: Any = None,
    bias: Any = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
    *_: Any,
) -> Any:
    if training:
        raise TangentLost(COUPLED)
    if autocast(input) or type(running_mean) is Dual or type(running_var) is Dual:
        return NotImplemented
    x = value(input)
    y = F.batch_norm(x, running_mean, running_var, value(weight), value(bias), False, momentum, eps)
    with torch.no_grad():  # it is an affine map per channel
        shape = (-1, *(1,) * (x.dim() - 2))
        scale = torch.rsqrt(running_var + eps).view(shape)
        weight, bias = (None if p is None else p.view(shape) for p in (weight, bias))
        t = part(input)
        t = None if t is None else t * scale
        return _normed(lambda: (x - running_mean.view(shape)) * scale, t, weight, bias, y)


@together(F.instance_norm, torch.instance_norm)
def _instance_norm(
    input: Any, running_mean: Any = None, running_var: Any = None, weight: Any = None, bias: Any = None,
    use_input_stats: bool = True, momentum: float = 0.1, eps: float = 1e-5, *_: Any,
) -> Any:  # fmt: skip
    if not use_input_stats:
        return _batch_norm(input, running_mean, running_var, weight, bias, False, momentum, eps)
    if running_mean is not None:
        raise TangentLost(COUPLED)
    return _group_norm(input, input.shape[1], weight, bias, eps)


for _call in (F.normalize, F.local_response_norm):
    together(_call)(without_overrides(_call))
