"""Tangents of pooling and resampling."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor

from fgbench.core.autodiff.dual import Dual, part, plus, rule, together, value
from fgbench.core.autodiff.rule_tools import alone, each

if TYPE_CHECKING:
    from collections.abc import Callable

    Call = Callable[..., Any]

aten = torch.ops.aten


def _joined(func: Call, space: int, *spellings: Any) -> None:
    """Register a linear map of images: the directions join the batch.

    Args:
        func: the call.
        space: axes of one image behind the batch, channels among them; 0 where the batch must be given.
        spellings: other calls that do the same.
    """

    def apply(y: Tensor, input: Any, *args: Any, **kwargs: Any) -> Any:
        if not alone(input, *args, *kwargs.values()):
            return NotImplemented
        t = input.tangents
        images = t.reshape(-1, *t.shape[-space:]) if space else t.flatten(0, 1)
        return func(images, *args, **kwargs).view(t.shape[0], *y.shape)

    rule(func, *spellings)(apply)


_joined(F.avg_pool1d, 2)
_joined(F.avg_pool2d, 3)
_joined(F.avg_pool3d, 4)
_joined(F.adaptive_avg_pool1d, 2, torch.adaptive_avg_pool1d)
_joined(F.adaptive_avg_pool2d, 3)
_joined(F.adaptive_avg_pool3d, 4)
_joined(F.interpolate, 0)
_joined(F.pixel_shuffle, 3, torch.pixel_shuffle)
_joined(F.pixel_unshuffle, 3, torch.pixel_unshuffle)
_joined(F.channel_shuffle, 0, torch.channel_shuffle)
_joined(F.unfold, 3)
_joined(F.fold, 2)


def _max_pooling(func: Call, space: int, indexed: bool = False) -> Call:
    """Make the answer of max pooling: tangents are those at the indices.

    Args:
        func: the call.
        space: axes of an image without channels.
        indexed: whether the call returns the indices without being asked.

    Returns:
        The answer, see `together`.
    """

    def pool(input: Any, *args: Any, return_indices: bool = False, **kwargs: Any) -> Any:
        y, at = func(input.value, *args, return_indices=True, **kwargs)
        t = input.tangents.flatten(-space)
        flat = at.flatten(-space).expand(*t.shape[:-1], -1)
        z = Dual(y, t.gather(-1, flat).view(-1, *y.shape))
        return (z, at) if return_indices or indexed else z

    return pool


for _space, _name in enumerate(("max_pool1d", "max_pool2d", "max_pool3d"), 1):
    for _kind in (_name, f"adaptive_{_name}"):
        _func = getattr(F, _kind)
        together(_func)(_max_pooling(_func, _space))
        _with = getattr(F, f"{_kind}_with_indices")
        together(_with)(_max_pooling(_func, _space, indexed=True))
        if not _kind.startswith("adaptive"):
            together(getattr(torch, _name))(_max_pooling(_func, _space))


SAMPLING, PADDING = ("bilinear", "nearest", "bicubic"), ("zeros", "border", "reflection")
"""Names of the modes of grid sampling, in the order of torch's numbers for them."""


@rule(F.grid_sample)
def _grid_sample(
    y: Tensor, input: Any, grid: Any, mode: str = "bilinear", padding_mode: str = "zeros",
    align_corners: bool | None = None,
) -> Any:  # fmt: skip
    x, at, s, t = value(input), value(grid), part(input), part(grid)
    corners = bool(align_corners)
    if s is not None:
        s = each(s, lambda one: F.grid_sample(one, at, mode, padding_mode, corners))
    if t is None:
        return s
    # the kernel of reverse mode sums over channels: as images of one channel each keeps its own derivative
    b, c = x.shape[:2]
    images = x.reshape(b * c, 1, *x.shape[2:])
    points = at.repeat_interleave(c, 0)
    one, flat = torch.ones_like(y).view(b * c, 1, *y.shape[2:]), x.dim() == 4
    backward = aten.grid_sampler_2d_backward if flat else aten.grid_sampler_3d_backward
    how = (SAMPLING.index(mode), PADDING.index(padding_mode), corners)
    slope = backward(one, images, points, *how, [False, True])[1].view(b, c, *at.shape[1:])
    return plus(s, (slope * t.unsqueeze(2)).sum(-1))
