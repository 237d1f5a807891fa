"""Blocks and heads of LocalMixer with their declarations: sites, mixed axes, axes of parameters."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import nn
from torch.nn import functional as F

from fgbench.architectures.localmixer.layers import Channel, Depthwise, Grouped, norm, same
from fgbench.core.network import LocalModule, Readout, Site, Tap, untouched

if TYPE_CHECKING:
    from collections.abc import Collection

    from torch import Tensor

    from fgbench.architectures.localmixer.layers import Init

NORMS = ("begin", "middle", "post", "local", "final")


class _Mixer(LocalModule):
    """Base of the blocks: how a layer is applied with its norms and taps.

    Args:
        grouped: the last layer, which knows the number of groups.
        norms: which of ``begin``, ``middle`` and ``post`` exist.
    """

    out_axes = "b p g d"

    def __init__(self, grouped: Grouped, norms: Collection[str]) -> None:
        super().__init__()
        self.groups = grouped.groups
        self.begin, self.middle, self.post = (
            norm if which in norms else same for which in ("begin", "middle", "post")
        )
        if "post" not in norms:  # then the site is the raw output of its layer
            self.sites = tuple(replace(site, op_mixes="") for site in self.sites)

    def layer(self, name: str, u: Tensor, tap: Tap, residual: Tensor | None = None) -> Tensor:
        """Apply one layer, the norm after it and the ReLU, with the taps between."""
        z = tap("site", name, self.post(tap("op", name, getattr(self, name)(u))))
        return tap("out", name, F.relu(z if residual is None else z + residual))

    def by_group(self, h: Tensor) -> Tensor:
        """Split channels into groups and normalise each: ``[b, p, (g d)] -> [b, p, g, d]``."""
        return self.middle(h.unflatten(-1, (self.groups, -1)))


class FirstBlock(_Mixer):
    """The first block: cut the image into patches, map their pixels to channels, then mix within groups.

    Args:
        side: patches per side.
        channel: the layer from the pixels of a patch to all channels.
        grouped: the layer within groups.
        norms: which of ``begin``, ``middle`` and ``post`` exist.

    Example:
        >>> block = FirstBlock(2, Channel(16, 8, "kaiming"), Grouped(4, 2, 2, "kaiming"))
        >>> block(torch.ones(3, 1, 8, 8)).shape
        torch.Size([3, 4, 4, 2])
    """

    sites = (
        Site("l0", "b p (g d)", mixed_after="d", op_mixes="g d", shared="p"),
        Site("l1", "b p g d", op_mixes="d", shared="p"),
    )
    param_axes: ClassVar[dict[str, str]] = {
        "l0.weight": "(g d) i",
        "l0.bias": "(g d)",
        "l1.weight": "g d i",
        "l1.bias": "g d",
    }

    def __init__(
        self, side: int, channel: Channel, grouped: Grouped, norms: Collection[str] = NORMS
    ) -> None:
        super().__init__(grouped, norms)
        self.side = side
        self.l0, self.l1 = channel, grouped

    def forward(self, x: Tensor, tap: Tap = untouched) -> Tensor:
        """Compute ``[b, p, g, d]`` from images ``[b, ch, H, W]``."""
        b, ch, height, width = x.shape
        s, side = height // self.side, self.side
        patches = x.reshape(b, ch, side, s, side, width // side).permute(0, 2, 4, 3, 5, 1)
        u = self.begin(patches.reshape(b, side * side, -1))
        return self.layer("l1", self.by_group(self.layer("l0", u, tap)), tap)


class Block(_Mixer):
    """A later block: mix tokens, all channels, then channels within groups; residual before the last ReLU.

    Where the block has r times the channels of its input, the residual is r copies of the input.

    Args:
        token: the layer over patches.
        channel: the layer over all channels.
        grouped: the layer within groups.
        norms: which of ``begin``, ``middle`` and ``post`` exist.
        pool: applied to the input, residual included; None for no pooling.
        copies: r.

    Example:
        >>> from fgbench.architectures.localmixer.layers import Token
        >>> layers = Token(4, "kaiming"), Channel(8, 8, "kaiming"), Grouped(4, 2, 2, "kaiming")
        >>> Block(*layers)(torch.ones(3, 4, 4, 2)).shape
        torch.Size([3, 4, 4, 2])
    """

    sites = (
        Site("l0", "b p (g d)", mixed_after="g d", op_mixes="g d", shared="g d"),
        Site("l1", "b p (g d)", mixed_after="d", op_mixes="g d", shared="p"),
        Site("l2", "b p g d", op_mixes="d", shared="p"),
    )
    mixes = "p g d"
    param_axes: ClassVar[dict[str, str]] = {
        "l1.weight": "(g d) i",
        "l1.bias": "(g d)",
        "l2.weight": "g d i",
        "l2.bias": "g d",
    }

    def __init__(
        self,
        token: nn.Module,
        channel: Channel,
        grouped: Grouped,
        norms: Collection[str] = NORMS,
        pool: nn.Module | None = None,
        copies: int = 1,
    ) -> None:
        super().__init__(grouped, norms)
        if isinstance(token, Depthwise):
            self.sites = (replace(self.sites[0], shared="p"), *self.sites[1:])
        self.copies = copies
        self.l0, self.l1, self.l2 = token, channel, grouped
        self.pool = pool or nn.Identity()

    def forward(self, x: Tensor, tap: Tap = untouched) -> Tensor:
        """Compute ``[b, p, g, d]`` from the output ``[b, p, g, d]`` of another grid and other groups."""
        x = self.pool(x.flatten(2))
        h = self.layer("l0", self.begin(x), tap)
        h = self.layer("l1", self.middle(h), tap)
        x = torch.cat([x] * self.copies, 2) if self.copies > 1 else x
        return self.layer("l2", self.by_group(h), tap, x.unflatten(2, (self.groups, -1)))


class PatchScoredBlock(Block):
    """A block with full token mixing whose token weights are credited per output patch.

    Row p of the weight affects output patch p only, and nothing after it in the block mixes patches.

    Example:
        >>> PatchScoredBlock.param_axes["l0.weight"]
        'p i'
    """

    param_axes: ClassVar[dict[str, str]] = {
        **Block.param_axes,
        "l0.weight": "p i",
        "l0.bias": "p",
    }


class LocalHead(Readout):
    """The local head of a block: norm per group, mean over patches, linear layer over all groups.

    Args:
        channels: channels of the block's output.
        classes: number of classes.
        init: standard deviation of the weights, see :func:`localmixer`.
        norms: which norms exist; ``local`` is this head's.

    Example:
        >>> LocalHead(8, 3, "kaiming")(torch.ones(2, 4, 4, 2)).shape
        torch.Size([2, 3])
    """

    def __init__(
        self, channels: int, classes: int, init: Init, norms: Collection[str] = NORMS
    ) -> None:
        super().__init__()
        self.norm = norm if "local" in norms else same
        self.linear = Channel(channels, classes, init)

    def forward(self, f: Tensor, tap: Tap = untouched) -> Tensor:
        """Compute ``[b, k]`` logits from ``[b, p, g, d]``."""
        return tap("op", "linear", self.linear(self.norm(f).mean(1).flatten(1)))


class FinalHead(Readout):
    """The head of the predictions: mean over patches, norm over all channels, linear layer starting at 0.

    Args:
        channels: channels of the last block's output.
        classes: number of classes.
        norms: which norms exist; ``final`` is this head's.

    Example:
        >>> FinalHead(8, 3)(torch.ones(2, 4, 4, 2)).tolist()
        [[0.0, 0.0, 0.0], [0.0, 0.0, 0.0]]
    """

    def __init__(self, channels: int, classes: int, norms: Collection[str] = NORMS) -> None:
        super().__init__()
        self.norm = norm if "final" in norms else same
        self.linear = Channel(channels, classes, "constant")
        nn.init.zeros_(self.linear.weight)

    def forward(self, f: Tensor, tap: Tap = untouched) -> Tensor:
        """Compute ``[b, k]`` logits from ``[b, p, g, d]``."""
        return tap("op", "linear", self.linear(self.norm(f.mean(1).flatten(1))))
