"""Blocks and heads of LocalMixer, and what they declare: sites, mixed axes, axes of parameters."""

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
    """What the blocks share: a layer with the norms around it.

    Args:
        grouped: the last layer, which has the groups.
        norms: which of ``begin``, ``middle`` and ``post`` there are.
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
    """Cut the image into patches, mix their pixels to channels, then channels within groups.

    Args:
        side: patches per side.
        channel: from the pixels of a patch to all channels.
        grouped: channels within groups.
        norms: which of ``begin``, ``middle`` and ``post`` there are.
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
    """Mix tokens, all channels, then channels within groups; residual before the last ReLU.

    Where the block has r times the channels of its input, the residual is r copies of the input.

    Args:
        token: over patches.
        channel: from the input's channels to all.
        grouped: channels within groups.
        norms: which of ``begin``, ``middle`` and ``post`` there are.
        pool: applied to the input, residual included; None for none.
        copies: r.
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

    Row p of the weight moves patch p alone, and nothing after it in the block mixes patches.
    """

    param_axes: ClassVar[dict[str, str]] = {
        **Block.param_axes,
        "l0.weight": "p i",
        "l0.bias": "p",
    }


class LocalHead(Readout):
    """A block's own head: norm per group, mean over patches, all groups to a linear layer."""

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
    """The head of the predictions: mean over patches, norm over all channels, linear from zero."""

    def __init__(self, channels: int, classes: int, norms: Collection[str] = NORMS) -> None:
        super().__init__()
        self.norm = norm if "final" in norms else same
        self.linear = Channel(channels, classes, "constant")
        nn.init.zeros_(self.linear.weight)

    def forward(self, f: Tensor, tap: Tap = untouched) -> Tensor:
        """Compute ``[b, k]`` logits from ``[b, p, g, d]``."""
        return tap("op", "linear", self.linear(self.norm(f.mean(1).flatten(1))))
