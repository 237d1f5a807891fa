"""Vision transformers."""

from __future__ import annotations

from math import ceil, log2
from typing import TYPE_CHECKING, Annotated

import torch
from pydantic import Field
from torch import nn

from fgbench.architectures.transformer.block import Block, drawn
from fgbench.architectures.transformer.lora import adapt
from fgbench.core.wrapping import Network
from fgbench.errors import UsageError
from fgbench.registry import register

if TYPE_CHECKING:
    from torch import Tensor


class ViT(nn.Module):
    """Embedded patches and a class token, blocks, a norm and a linear head on the class token.

    Args:
        shape: ``(ch, H, W)``.
        classes: number of classes.
        patch: height and width of a patch.
        layers: number of blocks.
        width: numbers per token.
        heads: heads of attention.
        dropout: see :class:`~fgbench.architectures.transformer.block.Block`; also after the embeddings.

    Example:
        >>> net = ViT((1, 4, 4), 10, patch=2, layers=1, width=4, heads=2)
        >>> net(torch.ones(2, 1, 4, 4)).shape
        torch.Size([2, 10])
    """

    def __init__(
        self,
        shape: tuple[int, ...],
        classes: int,
        *,
        patch: int,
        layers: int,
        width: int,
        heads: int,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        channels, height, wide = shape
        patches = (height // patch) * (wide // patch)
        self.embed = nn.Conv2d(channels, width, patch, patch)
        self.token = nn.Parameter(0.02 * torch.randn(1, 1, width))
        self.position = nn.Parameter(0.02 * torch.randn(patches + 1, width))
        self.drop = nn.Dropout(dropout) if dropout else nn.Identity()
        blocks = (
            Block(width, heads, causal=False, dropout=dropout, eps=1e-6) for _ in range(layers)
        )
        self.blocks = nn.ModuleList(blocks)
        self.norm = nn.LayerNorm(width, 1e-6)
        self.head = nn.Linear(width, classes)
        drawn(self, width)

    def forward(self, x: Tensor) -> Tensor:
        """Compute ``[b, k]`` logits from ``[b, ch, H, W]``."""
        patches = self.embed(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(len(x), -1, -1), patches], 1)
        x = self.drop(x + self.position)
        for block in self.blocks:
            x = block(x)
        logits: Tensor = self.head(self.norm(x[:, 0]))
        return logits


def usual_patch(side: int) -> int:
    """Return the power of two nearest to the square root of a side, made smaller until it divides the side.

    Args:
        side: pixels.

    Returns:
        16 at 224 pixels and 4 at 32, as is usual, and 4 at 28 and 2 at 8.

    Example:
        >>> [usual_patch(side) for side in (224, 64, 32, 28, 8)]
        [16, 8, 4, 4, 2]
    """
    patch = int(2 ** ceil(log2(side) / 2 - 0.5))
    while side % patch:
        patch //= 2
    return patch


@register(
    "architectures",
    "vit",
    variants={
        "tiny": {"layers": 12, "width": 192, "heads": 3},
        "small": {"layers": 12, "width": 384, "heads": 6},
    },
    pattern=r"(?P<layers>\d+)x(?P<width>\d+)",
)
def vit(
    *,
    shape: tuple[int, ...],
    classes: int,
    layers: Annotated[int, Field(ge=1)] = 4,
    width: Annotated[int, Field(ge=1)] = 64,
    heads: Annotated[int, Field(ge=1)] = 4,
    patch: Annotated[int, Field(ge=1)] | None = None,
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0,
    lora: Annotated[int, Field(ge=0)] = 0,
) -> Network:
    """A vision transformer with a class token (``vit-4x64``: 4 blocks of width 64), one module per block.

    ``vit-tiny`` has 12 blocks of width 192 and 3 heads, ``vit-small`` 12 of 384 and 6.

    Also known as: ViT, DeiT without distillation.

    Args:
        shape: ``(ch, H, W)``.
        classes: number of classes.
        layers: number of blocks.
        width: numbers per token.
        heads: heads of attention, a divisor of the width.
        patch: height and width of a patch; where None, see :func:`usual_patch`: 16 at 224 pixels, 4 at 32.
        dropout: probability of dropping an attention weight, an embedding or an added number.
        lora: rank of adapters beside the linear layers of the blocks; these and the head learn, and all
            else is frozen as it was drawn. 0 for none.

    Returns:
        The network.

    Raises:
        UsageError: for a patch that does not divide the image, or a width that the heads do not divide.

    References: Dosovitskiy et al., An Image is Worth 16x16 Words, ICLR 2021; Touvron et al., Training
    data-efficient image transformers, ICML 2021 (the sizes).

    Example:
        >>> network = vit(shape=(1, 8, 8), classes=10, layers=1, width=4, heads=2)
        >>> network.module(torch.ones(2, 1, 8, 8)).shape
        torch.Size([2, 10])
    """
    if len(shape) != 3:
        raise UsageError(f"vit reads images of shape (ch, H, W), and an example has shape {shape}")
    patch = patch or min(usual_patch(side) for side in shape[1:])
    if shape[1] % patch or shape[2] % patch:
        raise UsageError(
            f"vit: images of {shape[1]} × {shape[2]} are not cut by patches of {patch}"
        )
    if width % heads:
        raise UsageError(f"vit: width {width} is no multiple of its {heads} heads")
    module = ViT(
        shape, classes, patch=patch, layers=layers, width=width, heads=heads, dropout=dropout
    )
    adapt(module, lora)
    return Network(module, cut="blocks", out_axes="b t c", head="head")
