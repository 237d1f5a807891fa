"""Layers of LocalMixer: linear maps over channels, groups and patches, norms without gain, pooling."""

from __future__ import annotations

from math import sqrt
from typing import TYPE_CHECKING, Literal

import torch
from torch import nn
from torch.nn import functional as F

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

Init = Literal["kaiming", "lecun", "constant"]
PoolKind = Literal["avg", "max"]


def norm(x: Tensor) -> Tensor:
    """Normalise over the last axis with biased variance, no gain and no bias.

    Args:
        x: ``[..., c]``.

    Returns:
        ``[..., c]``.

    Example:
        >>> [round(v, 3) for v in norm(torch.tensor([1.0, 3.0])).tolist()]
        [-1.0, 1.0]
    """
    return F.layer_norm(x, x.shape[-1:], eps=1e-5)


def same(x: Tensor) -> Tensor:
    """Return ``x`` unchanged; takes the place of a norm that is left out.

    Args:
        x: anything.

    Returns:
        The argument.

    Example:
        >>> same(torch.tensor(2.0)).item()
        2.0
    """
    return x


def _normal(init: Init, fan_in: int, *shape: int) -> nn.Parameter:
    """Return gaussian weights of standard deviation min(2/√fan_in, 0.1), min(1/√fan_in, 0.1) or 0.1."""
    scale = {"kaiming": 2.0, "lecun": 1.0}.get(init)
    std = 0.1 if scale is None else min(scale / sqrt(fan_in), 0.1)
    return nn.Parameter(torch.randn(shape) * std)


class Channel(nn.Module):
    """Linear map over all channels, ``[..., i] -> [..., o]``.

    Args:
        inputs: input channels.
        outputs: output channels.
        init: standard deviation of the weights, see :func:`localmixer`.

    Example:
        >>> Channel(4, 3, "kaiming")(torch.ones(2, 5, 4)).shape
        torch.Size([2, 5, 3])
    """

    def __init__(self, inputs: int, outputs: int, init: Init) -> None:
        super().__init__()
        self.weight = _normal(init, inputs, outputs, inputs)
        self.bias = nn.Parameter(torch.zeros(outputs))

    def forward(self, x: Tensor) -> Tensor:
        """Apply the layer."""
        return F.linear(x, self.weight, self.bias)


class Grouped(nn.Module):
    """Linear map over the channels within each group, ``[b, p, g, i] -> [b, p, g, o]``.

    Args:
        groups: number of groups.
        inputs: input channels per group.
        outputs: output channels per group.
        init: standard deviation of the weights, see :func:`localmixer`.

    Example:
        >>> Grouped(2, 4, 3, "kaiming")(torch.ones(1, 5, 2, 4)).shape
        torch.Size([1, 5, 2, 3])
    """

    def __init__(self, groups: int, inputs: int, outputs: int, init: Init) -> None:
        super().__init__()
        self.groups = groups
        self.weight = _normal(init, inputs, groups, outputs, inputs)
        self.bias = nn.Parameter(torch.zeros(groups, outputs))

    def forward(self, x: Tensor) -> Tensor:
        """Apply the layer."""
        return torch.einsum("bpgi,goi->bpgo", x, self.weight) + self.bias


class Token(nn.Module):
    """Linear map over patches, shared by all channels: ``[b, p, c] -> [b, p, c]``.

    Args:
        patches: number of patches.
        init: standard deviation of the weights, see :func:`localmixer`.

    Example:
        >>> Token(4, "kaiming")(torch.ones(2, 4, 3)).shape
        torch.Size([2, 4, 3])
    """

    def __init__(self, patches: int, init: Init) -> None:
        super().__init__()
        self.weight = _normal(init, patches, patches, patches)
        self.bias = nn.Parameter(torch.zeros(patches))

    def forward(self, x: Tensor) -> Tensor:
        """Apply the layer; its bias is constant over channels, which the next norm removes exactly."""
        return torch.matmul(self.weight, x) + self.bias.unsqueeze(-1)


class Depthwise(nn.Module):
    """Depthwise convolution on the grid of patches, one k×k kernel per channel: ``[b, p, c] -> [b, p, c]``.

    The grid is padded with zeros so that it keeps its size.

    Args:
        side: patches per side.
        channels: number of channels.
        kernel: k, odd.
        init: standard deviation of the weights, see :func:`localmixer`.

    Example:
        >>> Depthwise(2, 3, 3, "kaiming")(torch.ones(1, 4, 3)).shape
        torch.Size([1, 4, 3])
    """

    def __init__(self, side: int, channels: int, kernel: int, init: Init) -> None:
        super().__init__()
        self.side, self.channels, self.padding = side, channels, kernel // 2
        self.weight = _normal(init, kernel**2, channels, 1, kernel, kernel)
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        """Apply the layer."""

        def convolve(grid: Tensor) -> Tensor:
            return F.conv2d(
                grid, self.weight, self.bias, padding=self.padding, groups=self.channels
            )

        return _on_grid(x, self.side, convolve)


class Pool(nn.Module):
    """Pooling on the grid of patches, ``[b, p, c] -> [b, p / stride², c]``.

    Windows of 3×3 patches, of stride×stride where that is more, begin at every ``stride``-th patch. Past
    the end of the grid there are zeros, which an average counts and a maximum does not. (The paper's
    released code slides its 3×3 window over patches and groups, not over the grid.)

    Args:
        side: patches per side.
        stride: factor by which the patches per side are divided.
        kind: ``avg`` or ``max``.

    Example:
        >>> Pool(4, 2, "max")(torch.ones(1, 16, 3)).shape
        torch.Size([1, 4, 3])
    """

    def __init__(self, side: int, stride: int, kind: PoolKind) -> None:
        super().__init__()
        self.side, self.stride, self.kind = side, stride, kind

    def forward(self, x: Tensor) -> Tensor:
        """Pool the patches."""
        window = max(3, self.stride)

        def pool(grid: Tensor) -> Tensor:
            if self.kind == "max":
                return F.max_pool2d(grid, window, self.stride, ceil_mode=True)
            return F.avg_pool2d(
                grid, window, self.stride, ceil_mode=True, divisor_override=window**2
            )

        return _on_grid(x, self.side, pool)


def _on_grid(x: Tensor, side: int, apply: Callable[[Tensor], Tensor]) -> Tensor:
    """Apply a map of images ``[b, c, S, S]`` to patches ``[b, p, c]``."""
    return apply(x.mT.unflatten(2, (side, side))).flatten(2).mT
