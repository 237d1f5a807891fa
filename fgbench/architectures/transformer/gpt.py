"""Causal transformers over tokens, as GPT-2."""

from __future__ import annotations

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


class GPT(nn.Module):
    """Token and position embeddings, causal blocks, a norm and a linear head on every token.

    Args:
        tokens: length of a text.
        vocabulary: number of different tokens.
        classes: numbers predicted at a token.
        layers: number of blocks.
        width: numbers per token.
        heads: heads of attention.
        dropout: see :class:`~fgbench.architectures.transformer.block.Block`; also after the embeddings.
        last: predict at the last token alone, ``[b, k]``.

    Example:
        >>> net = GPT(8, 11, 11, layers=1, width=4, heads=2)
        >>> net(torch.zeros(2, 8, dtype=torch.int64)).shape
        torch.Size([2, 8, 11])
    """

    def __init__(
        self,
        tokens: int,
        vocabulary: int,
        classes: int,
        *,
        layers: int,
        width: int,
        heads: int,
        dropout: float = 0.0,
        last: bool = False,
    ) -> None:
        super().__init__()
        self.last = last
        self.token = nn.Embedding(vocabulary, width)
        self.position = nn.Parameter(0.02 * torch.randn(tokens, width))
        self.drop = nn.Dropout(dropout) if dropout else nn.Identity()
        blocks = (Block(width, heads, causal=True, dropout=dropout) for _ in range(layers))
        self.blocks = nn.ModuleList(blocks)
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, classes, bias=False)
        drawn(self, width, residual=(2 * layers) ** -0.5)

    def forward(self, x: Tensor) -> Tensor:
        """Compute ``[b, t, k]`` logits from tokens ``[b, t]``; ``[b, k]`` where only the last counts."""
        x = self.drop(self.token(x) + self.position[: x.shape[1]])
        for block in self.blocks:
            x = block(x)
        x = self.norm(x[:, -1] if self.last else x)
        logits: Tensor = self.head(x)
        return logits


@register("architectures", "gpt", pattern=r"(?P<layers>\d+)x(?P<width>\d+)")
def gpt(
    *,
    shape: tuple[int, ...],
    classes: int,
    outputs: tuple[int, ...] | None = None,
    vocabulary: int | None = None,
    layers: Annotated[int, Field(ge=1)] = 2,
    width: Annotated[int, Field(ge=1)] = 64,
    heads: Annotated[int, Field(ge=1)] = 4,
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0,
    lora: Annotated[int, Field(ge=0)] = 0,
) -> Network:
    """A causal transformer over tokens (``gpt-2x64``: 2 blocks of width 64), one module per block.

    Blocks as in GPT-2, with learned positions; the head has weights of its own. Where a data set has one
    label per text, it is predicted at the last token.

    Also known as: GPT, decoder-only transformer.

    Args:
        shape: ``(t,)``, the length of a text.
        classes: numbers predicted at a token.
        outputs: shape of one prediction: ``(t, k)``, also where None, or ``(k,)``.
        vocabulary: number of different tokens; as many as classes where None.
        layers: number of blocks.
        width: numbers per token.
        heads: heads of attention, a divisor of the width.
        dropout: probability of dropping an attention weight, an embedding or an added number.
        lora: rank of adapters beside the linear layers of the blocks; these and the head learn, and all
            else is frozen as it was drawn. 0 for none.

    Returns:
        The network.

    Raises:
        UsageError: for inputs that are no tokens, or a width that the heads do not divide.

    References: Radford, Wu, Child, Luan, Amodei, Sutskever, Language Models are Unsupervised Multitask
    Learners, 2019; Hu et al., LoRA: Low-Rank Adaptation of Large Language Models, ICLR 2022.

    Example:
        >>> network = gpt(shape=(8,), classes=11, layers=1, width=4, heads=2)
        >>> network.module(torch.zeros(2, 8, dtype=torch.int64)).shape
        torch.Size([2, 8, 11])
    """
    if len(shape) != 1:
        raise UsageError(f"gpt reads tokens of shape (t,), and an example has shape {shape}")
    if width % heads:
        raise UsageError(f"gpt: width {width} is no multiple of its {heads} heads")
    module = GPT(
        shape[0],
        vocabulary or classes,
        classes,
        layers=layers,
        width=width,
        heads=heads,
        dropout=dropout,
        last=outputs is not None and len(outputs) == 1,
    )
    adapt(module, lora)
    return Network(module, cut="blocks", out_axes="b t c", head="head")
