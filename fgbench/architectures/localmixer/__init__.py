"""LocalMixer, the architecture of the founding paper.

A grid of S×S patches and D channels in G groups. Norms have neither gain nor bias. Block 0 mixes
channels, then channels within groups. Every later block mixes tokens, then all channels, then channels
within groups, with one residual per block. Activity noise enters after the norm that follows each linear
layer and before the ReLU (of the last site, before the residual is added). Every block has a local head;
one more head on the last block makes the predictions.

References: Ren, Kornblith, Liao, Hinton, Scaling Forward Gradient With Local Losses, ICLR 2023.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field

from fgbench.architectures.localmixer.blocks import (
    NORMS,
    Block,
    FinalHead,
    FirstBlock,
    LocalHead,
    PatchScoredBlock,
)
from fgbench.architectures.localmixer.layers import (
    Channel,
    Depthwise,
    Grouped,
    Init,
    Pool,
    PoolKind,
    Token,
)
from fgbench.core.network import Chain
from fgbench.errors import UsageError, unknown
from fgbench.registry import register

if TYPE_CHECKING:
    from fgbench.core.network import LocalModule, Readout

VARIANTS: dict[str, dict[str, Any]] = {
    "s/1/1": {"blocks": 1, "side": 1, "channels": 256, "groups": 1},
    "m/1/16": {"blocks": 1, "side": 1, "channels": 512, "groups": 16},
    "m/8/16": {"blocks": 4, "side": 8, "channels": 512, "groups": 16},
    "l/8/64": {"blocks": 4, "side": 8, "channels": 2048, "groups": 64},
    "l/32/64": {"blocks": 4, "side": 32, "channels": 2048, "groups": 64},
    "xs/1/1": {"blocks": 1, "side": 1, "channels": 64, "groups": 1},
    "xs/2/4": {"blocks": 2, "side": 2, "channels": 64, "groups": 4},
    "xs/4/8": {"blocks": 3, "side": 4, "channels": 64, "groups": 8},
    "xs/8/16": {"blocks": 4, "side": 8, "channels": 128, "groups": 16},
}


@dataclass(frozen=True)
class Sizes:
    """Sizes of one block.

    Args:
        side: patches per side, after pooling.
        stride: stride of the pooling before the block; 1 means no pooling.
        inputs: input channels.
        hidden: outputs of the layer that mixes all channels.
        channels: output channels.
        groups: groups of the output and of the hidden channels.

    Example:
        >>> Sizes(side=2, stride=1, inputs=16, hidden=16, channels=16, groups=4).groups
        4
    """

    side: int
    stride: int
    inputs: int
    hidden: int
    channels: int
    groups: int


@dataclass(frozen=True)
class _Kind:
    """The options that all blocks share; see :func:`localmixer`."""

    token: str
    kernel: int
    token_scores: str
    pool_kind: PoolKind
    norms: frozenset[str]
    init: Init

    def __post_init__(self) -> None:
        """Raise UsageError for options that contradict each other."""
        if self.token == "depthwise" and self.kernel % 2 == 0:
            raise UsageError(f"localmixer: kernel={self.kernel}: expected an odd number")
        if self.token == "depthwise" and self.token_scores == "patch":
            raise UsageError("localmixer: token_scores=patch needs token=full: kernels are shared")

    def first(self, size: Sizes) -> FirstBlock:
        """Build the first block, drawing its layers in order."""
        return FirstBlock(size.side, *self._channels(size), self.norms)

    def later(self, size: Sizes) -> Block:
        """Build a later block, drawing its layers in order."""
        tokens: Token | Depthwise = (
            Token(size.side**2, self.init)
            if self.token == "full"
            else Depthwise(size.side, size.inputs, self.kernel, self.init)
        )
        pool = (
            Pool(size.side * size.stride, size.stride, self.pool_kind) if size.stride > 1 else None
        )
        block = PatchScoredBlock if self.token_scores == "patch" else Block
        copies = size.channels // size.inputs
        return block(tokens, *self._channels(size), self.norms, pool, copies)

    def _channels(self, size: Sizes) -> tuple[Channel, Grouped]:
        """Return the layer over all channels and the layer within groups, with random weights."""
        inside = (size.hidden // size.groups, size.channels // size.groups)
        return (
            Channel(size.inputs, size.hidden, self.init),
            Grouped(size.groups, *inside, self.init),
        )


@register("architectures", "localmixer", variants=VARIANTS)
def localmixer(
    *,
    shape: tuple[int, ...],
    classes: int,
    blocks: Annotated[int, Field(ge=1)] = 4,
    side: Annotated[int, Field(ge=1)] = 8,
    channels: Annotated[int, Field(ge=2)] = 512,
    groups: Annotated[int, Field(ge=1)] = 16,
    hidden: Annotated[int, Field(ge=2)] | None = None,
    token: Literal["full", "depthwise"] = "full",
    kernel: Annotated[int, Field(ge=3)] = 3,
    token_scores: Literal["summed", "patch"] = "summed",
    pool: str | None = None,
    pool_kind: PoolKind = "avg",
    channel_ratio: str | None = None,
    group_ratio: str | None = None,
    norms: str = " ".join(NORMS),
    init: Init = "kaiming",
) -> Chain:
    """LocalMixer, the architecture of the founding paper: patches, channel groups, a local head per block.

    ``localmixer-m/8/16`` names size M with 8×8 patches and 16 groups. Options that apply between blocks
    (``pool``, ``channel_ratio``, ``group_ratio``) are one number for all gaps, or one number per gap:
    ``pool=2 1 2``.

    Not to be confused with: MLP-Mixer, which has no channel groups, no local heads and other layers.

    Args:
        shape: ``(ch, H, W)`` of an image; S must divide H and W.
        classes: number of classes.
        blocks: number of blocks, each one module.
        side: patches per side, S.
        channels: channels per patch, D.
        groups: channel groups; must divide the channels, and the hidden ones.
        hidden: outputs of the layer that mixes all channels, multiplied between blocks like the channels;
            D if None.
        token: ``full``: one linear map over all patches, shared by the channels; ``depthwise``: one
            convolution kernel per channel on the grid of patches.
        kernel: side of that kernel, odd.
        token_scores: how token weights of full mixing are credited where scores stay separate along
            patches. ``summed``: by the sum of the scores, as in the paper's released code; ``patch``: by
            the score of each output patch, unbiased as well and less noisy.
        pool: factor by which the patches per side are divided between blocks.
        pool_kind: ``avg`` or ``max``, of windows of 3×3 patches, or stride×stride where that is more.
        channel_ratio: factor by which the channels are multiplied between blocks.
        group_ratio: factor by which the groups are multiplied between blocks.
        norms: which norms exist: ``begin`` of a block, ``middle`` (before its other layers), ``post``
            (after every layer), ``local`` and ``final`` (of the heads).
        init: standard deviation of the weights: ``kaiming`` min(2/√fan_in, 0.1), ``lecun``
            min(1/√fan_in, 0.1), ``constant`` 0.1.

    Returns:
        The chain.

    Raises:
        UsageError: if the patches do not divide the image, a stride the patches or the groups the
            channels, if a norm would see a single channel, or if options contradict each other.

    Example:
        >>> chain = localmixer(shape=(1, 8, 8), classes=10, blocks=2, side=2, channels=16, groups=4)
        >>> len(chain), sorted(chain.readouts)
        (2, ['final', 'local0', 'local1'])
    """
    ch, height, width = shape
    if height % side or width % side:
        raise UsageError(
            f"localmixer: {side} patches per side do not divide a {height}x{width} image"
        )
    pixels = (height // side) * (width // side) * ch
    between = {"pool": pool, "channel_ratio": channel_ratio, "group_ratio": group_ratio}
    gaps = [_gaps(name, text, blocks) for name, text in between.items()]
    first = Sizes(side, 1, pixels, channels if hidden is None else hidden, channels, groups)
    sizes = _sizes(first, list(zip(*gaps, strict=True)))
    kind = _Kind(token, kernel, token_scores, pool_kind, _norms(norms, sizes), init)
    body: list[LocalModule] = [kind.first(first), *(kind.later(size) for size in sizes[1:])]
    heads: dict[str, Readout] = {
        f"local{k}": LocalHead(size.channels, classes, init, kind.norms)
        for k, size in enumerate(sizes)
    }
    heads["final"] = FinalHead(sizes[-1].channels, classes, kind.norms)
    return Chain(body, heads, shape, classes)


def _gaps(name: str, text: str | None, blocks: int) -> list[int]:
    """Return one number per gap between blocks; without a text every number is 1."""
    words = ("1" if text is None else text).split()
    words = words * (blocks - 1) if len(words) == 1 else words
    whole = all(word.isdecimal() and int(word) > 0 for word in words)
    if len(words) != blocks - 1 or not whole or (text is not None and blocks == 1):
        raise UsageError(
            f"localmixer: {name}={text!r}: expected a whole number from 1 up, or one for each of the "
            f"{blocks - 1} gaps between blocks"
        )
    return [int(word) for word in words]


def _sizes(first: Sizes, gaps: list[tuple[int, int, int]]) -> list[Sizes]:
    """Return the sizes of every block.

    Args:
        first: the sizes of the first block.
        gaps: stride, channel ratio and group ratio before every later block.

    Returns:
        One for each block.

    Raises:
        UsageError: if a stride does not divide the patches per side, or groups the channels.
    """
    blocks = [first]
    for k, (stride, wider, more) in enumerate(gaps, start=1):
        last = blocks[-1]
        if last.side % stride:
            raise UsageError(
                f"localmixer: pool={stride} does not divide the {last.side} patches per side before "
                f"block {k}"
            )
        blocks.append(
            Sizes(
                last.side // stride, stride, last.channels,
                last.hidden * wider, last.channels * wider, last.groups * more,
            )
        )  # fmt: skip
    for k, size in enumerate(blocks):
        for what, count in (("channels", size.channels), ("hidden channels", size.hidden)):
            if count % size.groups:
                where = f" in block {k}" if k else ""
                raise UsageError(
                    f"localmixer: {size.groups} groups do not divide {count} {what}{where}"
                )
    return blocks


def _norms(text: str, sizes: list[Sizes]) -> frozenset[str]:
    """Return the names of the norms; refuse a norm over a group of one channel, which would return 0."""
    kinds = frozenset(text.split())
    for name in kinds:
        if name not in NORMS:
            raise unknown("norm of localmixer", name, NORMS)
    for size in sizes:
        alone = size.channels == size.groups and kinds & {"post", "local"}
        if alone or (size.hidden == size.groups and "middle" in kinds):
            raise UsageError(
                f"localmixer: {size.groups} groups have one channel each, which a norm turns into 0"
            )
    return kinds
