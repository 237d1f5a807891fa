"""Auxiliary networks: readouts with layers of their own, which local losses are read through."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

from torch import nn
from torch.nn import functional as F

from fgbench.core.network import Readout, Tap, untouched

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from fgbench.core.network import Chain, Pooling


class Perceptron(Readout):
    """Fully connected layers with ReLU on the features of a module's output, and a linear layer.

    Args:
        pooling: takes the features.
        widths: units of the hidden layers, none for a linear head.
        outputs: numbers that are predicted, per example or per position.

    Example:
        >>> import torch
        >>> from fgbench.core.network import Pooling
        >>> net = Perceptron(Pooling(over=(1,), size=4), widths=(5, 5), outputs=3)
        >>> tuple(net(torch.ones(2, 7, 4)).shape)
        (2, 3)
    """

    def __init__(self, pooling: Pooling, widths: Sequence[int], outputs: int) -> None:
        super().__init__()
        self.pooling = pooling
        sizes = [pooling.size, *widths]
        self.hidden = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(sizes))
        self.linear = nn.Linear(sizes[-1], outputs)

    def forward(self, f: Tensor, tap: Tap = untouched) -> Tensor:
        """Compute ``[b, outputs]``, or ``[b, ..., outputs]`` where positions stay apart."""
        return self.layers(self.pooling(f), tap)

    def layers(self, h: Tensor, tap: Tap = untouched) -> Tensor:
        """Compute the outputs from the features."""
        for i, layer in enumerate(self.hidden):
            h = F.relu(tap("op", f"hidden.{i}", layer(h)))
        out: Tensor = tap("op", "linear", self.linear(h))
        return out


def names(chain: Chain) -> list[str]:
    """Return the readout of every module: ``aux0``, ``aux1``, ..., and ``final`` for the last.

    Example:
        >>> names([None] * 3)  # a chain of three modules
        ['aux0', 'aux1', 'final']
    """
    return [*(f"aux{k}" for k in range(len(chain) - 1)), "final"]
