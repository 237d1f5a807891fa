"""Transformer blocks with the norm before each branch, as GPT-2 and ViT have them."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from torch import nn
from torch.nn import functional as F

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

GELU: dict[bool, Callable[[Tensor], Tensor]] = {
    True: partial(F.gelu, approximate="tanh"),
    False: F.gelu,
}


class Attention(nn.Module):
    """Self-attention with several heads.

    Args:
        width: numbers per token.
        heads: number of heads, a divisor of the width.
        causal: whether a token sees only itself and what comes before it.
        dropout: probability of dropping an attention weight.

    Example:
        >>> import torch
        >>> attention = Attention(4, 2, causal=True)
        >>> x = torch.randn(1, 3, 4)
        >>> bool((attention(x)[:, :2] == attention(x[:, :2])).all())
        True
    """

    def __init__(self, width: int, heads: int, *, causal: bool, dropout: float = 0.0) -> None:
        super().__init__()
        self.heads, self.causal, self.dropout = heads, causal, dropout
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        """Compute ``[b, t, c]``."""
        b, t, c = x.shape
        qkv = self.qkv(x).view(b, t, 3, self.heads, c // self.heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)
        dropout = self.dropout if self.training else 0.0
        y = F.scaled_dot_product_attention(q, k, v, dropout_p=dropout, is_causal=self.causal)
        mixed: Tensor = self.proj(y.transpose(1, 2).reshape(b, t, c))
        return mixed


class Block(nn.Module):
    """Attention and a two-layer perceptron, each behind a layer norm and added to its input.

    Args:
        width: numbers per token.
        heads: number of heads.
        causal: whether a token sees only itself and what comes before it; the activation of causal blocks
            is GELU by tanh, as in GPT-2, that of others exact GELU, as in ViT.
        dropout: probability of dropping an attention weight or a number that is added to the input.
        eps: added to the variance by the norms.

    Example:
        >>> import torch
        >>> Block(4, 2, causal=True)(torch.ones(2, 3, 4)).shape
        torch.Size([2, 3, 4])
    """

    def __init__(
        self, width: int, heads: int, *, causal: bool, dropout: float = 0.0, eps: float = 1e-5
    ) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width, eps)
        self.attn = Attention(width, heads, causal=causal, dropout=dropout)
        self.norm2 = nn.LayerNorm(width, eps)
        self.fc1 = nn.Linear(width, 4 * width)
        self.fc2 = nn.Linear(4 * width, width)
        self.activation = GELU[causal]
        self.drop = nn.Dropout(dropout) if dropout else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """Compute ``[b, t, c]``."""
        x = x + self.drop(self.attn(self.norm1(x)))
        out: Tensor = x + self.drop(self.fc2(self.activation(self.fc1(self.norm2(x)))))
        return out


def drawn(module: nn.Module, width: int, residual: float = 1.0) -> None:
    """Draw weights normal with deviation 0.02 · √(768 / width), biases zero.

    At width 768 that is the deviation of GPT-2 and ViT, 0.02; narrow networks need larger weights for
    activations of the same size.

    Args:
        module: changed in place, from the global generator.
        width: numbers per token.
        residual: factor for the last layer of each branch; GPT-2 takes 1 / √(2 · layers).

    Example:
        >>> block = Block(192, 2, causal=True)
        >>> drawn(block, 192, residual=0.5)
        >>> 0.019 < float(block.fc2.weight.std().detach()) < 0.021
        True
    """
    deviation = 0.02 * (768 / width) ** 0.5
    for name, part in module.named_modules():
        if isinstance(part, nn.Linear | nn.Embedding):
            last = name.rpartition(".")[2] in ("proj", "fc2")
            nn.init.normal_(part.weight, std=deviation * (residual if last else 1.0))
        if isinstance(part, nn.Linear) and part.bias is not None:
            nn.init.zeros_(part.bias)
