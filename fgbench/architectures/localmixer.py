"""LocalMixer, the architecture of the founding paper.

A grid of S×S patches and D channels in G groups. Norms have neither gain nor bias. Block 0 mixes
channels, then channels within groups. Every later block mixes tokens, then all channels, then channels
within groups, with one residual per block. Activity noise enters after the norm that follows each linear
layer and before the ReLU (of the last site, before the residual is added). Every block has a local head;
one more head on the last block makes the predictions.

References: Ren, Kornblith, Liao, Hinton, Scaling Forward Gradient With Local Losses, ICLR 2023.
"""

from __future__ import annotations

from math import sqrt
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import nn
from torch.nn import functional as F

from fgbench.errors import UsageError
from fgbench.network import Chain, LocalModule, Readout, Site, Tap, untouched
from fgbench.registry import register

if TYPE_CHECKING:
    from torch import Tensor

Init = Literal["kaiming", "lecun", "constant"]


def norm(x: Tensor) -> Tensor:
    """Normalise over the last axis with biased variance, no gain and no bias."""
    return F.layer_norm(x, x.shape[-1:], eps=1e-5)


def _normal(init: Init, *shape: int) -> nn.Parameter:
    """Draw weights ``[..., out, in]`` with deviation min(2/√fan_in, 0.1), min(1/√fan_in, 0.1) or 0.1."""
    scale = {"kaiming": 2.0, "lecun": 1.0}.get(init)
    std = 0.1 if scale is None else min(scale / sqrt(shape[-1]), 0.1)
    return nn.Parameter(torch.randn(shape) * std)


class Channel(nn.Module):
    """Full channel mixing, ``[..., i] -> [..., o]``."""

    def __init__(self, inputs: int, outputs: int, init: Init) -> None:
        super().__init__()
        self.weight = _normal(init, outputs, inputs)
        self.bias = nn.Parameter(torch.zeros(outputs))

    def forward(self, x: Tensor) -> Tensor:
        """Apply the layer."""
        return F.linear(x, self.weight, self.bias)


class Grouped(nn.Module):
    """Channel mixing within each group, ``[b, p, g, i] -> [b, p, g, o]``."""

    def __init__(self, groups: int, inputs: int, outputs: int, init: Init) -> None:
        super().__init__()
        self.weight = _normal(init, groups, outputs, inputs)
        self.bias = nn.Parameter(torch.zeros(groups, outputs))

    def forward(self, x: Tensor) -> Tensor:
        """Apply the layer."""
        return torch.einsum("bpgi,goi->bpgo", x, self.weight) + self.bias


class Token(nn.Module):
    """Token mixing, one map over patches shared by all channels: ``[b, p, c] -> [b, p, c]``."""

    def __init__(self, patches: int, init: Init) -> None:
        super().__init__()
        self.weight = _normal(init, patches, patches)
        self.bias = nn.Parameter(torch.zeros(patches))

    def forward(self, x: Tensor) -> Tensor:
        """Apply the layer; its bias is constant over channels, which the next norm removes exactly."""
        return torch.matmul(self.weight, x) + self.bias.unsqueeze(-1)


class FirstBlock(LocalModule):
    """Cut the image into patches, mix their pixels to D channels, then channels within groups."""

    sites = (
        Site("l0", "b p (g d)", mixed_after="d", op_mixes="g d", shared="p"),
        Site("l1", "b p g d", op_mixes="d", shared="p"),
    )
    out_axes = "b p g d"
    param_axes: ClassVar[dict[str, str]] = {
        "l0.weight": "(g d) i",
        "l0.bias": "(g d)",
        "l1.weight": "g d i",
        "l1.bias": "g d",
    }

    def __init__(self, side: int, pixels: int, channels: int, groups: int, init: Init) -> None:
        super().__init__()
        self.side, self.groups = side, groups
        self.l0 = Channel(pixels, channels, init)
        self.l1 = Grouped(groups, channels // groups, channels // groups, init)

    def forward(self, x: Tensor, tap: Tap = untouched) -> Tensor:
        """Compute ``[b, p, g, d]`` from images ``[b, ch, H, W]``."""
        b, ch, height, width = x.shape
        s, side = height // self.side, self.side
        patches = x.reshape(b, ch, side, s, side, width // side).permute(0, 2, 4, 3, 5, 1)
        u = norm(patches.reshape(b, side * side, -1))
        h = tap("out", "l0", F.relu(tap("site", "l0", norm(tap("op", "l0", self.l0(u))))))
        u = norm(h.unflatten(-1, (self.groups, -1)))
        return tap("out", "l1", F.relu(tap("site", "l1", norm(tap("op", "l1", self.l1(u))))))


class Block(LocalModule):
    """Mix tokens, all channels, then channels within groups; residual before the last ReLU."""

    sites = (
        Site("l0", "b p (g d)", mixed_after="g d", op_mixes="g d", shared="g d"),
        Site("l1", "b p (g d)", mixed_after="d", op_mixes="g d", shared="p"),
        Site("l2", "b p g d", op_mixes="d", shared="p"),
    )
    mixes = "p g d"
    out_axes = "b p g d"
    param_axes: ClassVar[dict[str, str]] = {
        "l1.weight": "(g d) i",
        "l1.bias": "(g d)",
        "l2.weight": "g d i",
        "l2.bias": "g d",
    }

    def __init__(self, patches: int, channels: int, groups: int, init: Init) -> None:
        super().__init__()
        self.groups = groups
        self.l0 = Token(patches, init)
        self.l1 = Channel(channels, channels, init)
        self.l2 = Grouped(groups, channels // groups, channels // groups, init)

    def forward(self, x: Tensor, tap: Tap = untouched) -> Tensor:
        """Compute ``[b, p, g, d]`` from ``[b, p, g, d]``."""
        u = norm(x.flatten(2))
        h = tap("out", "l0", F.relu(tap("site", "l0", norm(tap("op", "l0", self.l0(u))))))
        h = tap("out", "l1", F.relu(tap("site", "l1", norm(tap("op", "l1", self.l1(norm(h)))))))
        u = norm(h.unflatten(-1, (self.groups, -1)))
        return tap("out", "l2", F.relu(tap("site", "l2", norm(tap("op", "l2", self.l2(u)))) + x))


class LocalHead(Readout):
    """A block's own head: norm per group, mean over patches, all groups to a linear layer."""

    def __init__(self, channels: int, classes: int, init: Init) -> None:
        super().__init__()
        self.linear = Channel(channels, classes, init)

    def forward(self, f: Tensor, tap: Tap = untouched) -> Tensor:
        """Compute ``[b, k]`` logits from ``[b, p, g, d]``."""
        return tap("op", "linear", self.linear(norm(f).mean(1).flatten(1)))


class FinalHead(Readout):
    """The head of the predictions: mean over patches, norm over all channels, linear from zero."""

    def __init__(self, channels: int, classes: int) -> None:
        super().__init__()
        self.linear = Channel(channels, classes, "constant")
        nn.init.zeros_(self.linear.weight)

    def forward(self, f: Tensor, tap: Tap = untouched) -> Tensor:
        """Compute ``[b, k]`` logits from ``[b, p, g, d]``."""
        return tap("op", "linear", self.linear(norm(f.mean(1).flatten(1))))


VARIANTS: dict[str, dict[str, Any]] = {
    "s/1/1": {"blocks": 1, "side": 1, "channels": 256, "groups": 1},
    "m/1/16": {"blocks": 1, "side": 1, "channels": 512, "groups": 16},
    "m/8/16": {"blocks": 4, "side": 8, "channels": 512, "groups": 16},
    "l/8/64": {"blocks": 4, "side": 8, "channels": 2048, "groups": 64},
    "l/32/64": {"blocks": 4, "side": 32, "channels": 2048, "groups": 64},
    "xs/1/1": {"blocks": 1, "side": 1, "channels": 64, "groups": 1},
    "xs/2/4": {"blocks": 2, "side": 2, "channels": 64, "groups": 4},
    "xs/4/8": {"blocks": 3, "side": 4, "channels": 64, "groups": 8},
}


@register("architectures", "localmixer", variants=VARIANTS)
def localmixer(
    *,
    shape: tuple[int, ...],
    classes: int,
    blocks: Annotated[int, Field(ge=1)] = 4,
    side: Annotated[int, Field(ge=1)] = 8,
    channels: Annotated[int, Field(ge=2)] = 512,
    groups: Annotated[int, Field(ge=1)] = 16,
    init: Init = "kaiming",
) -> Chain:
    """LocalMixer; ``localmixer-m/8/16`` names a size, a grid of 8×8 patches and 16 groups.

    Args:
        shape: ``(ch, H, W)`` of an image; S must divide H and W.
        classes: number of classes.
        blocks: number of blocks, each one module.
        side: patches per side, S.
        channels: channels per patch, D.
        groups: channel groups; must divide the channels.
        init: deviation of the weights: min(2/√fan_in, 0.1), min(1/√fan_in, 0.1) or 0.1.

    Returns:
        The chain.

    Raises:
        UsageError: if patches do not divide the image or groups the channels.
    """
    ch, height, width = shape
    if height % side or width % side:
        raise UsageError(
            f"localmixer: {side} patches per side do not divide a {height}x{width} image"
        )
    if channels % groups:
        raise UsageError(f"localmixer: {groups} groups do not divide {channels} channels")
    pixels = (height // side) * (width // side) * ch
    body: list[LocalModule] = [FirstBlock(side, pixels, channels, groups, init)]
    body += [Block(side * side, channels, groups, init) for _ in range(blocks - 1)]
    heads: dict[str, Readout] = {
        f"local{k}": LocalHead(channels, classes, init) for k in range(blocks)
    }
    return Chain(body, {**heads, "final": FinalHead(channels, classes)}, shape, classes)
