"""Low-rank adapters beside frozen linear layers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import nn

if TYPE_CHECKING:
    from torch import Tensor


class LowRank(nn.Module):
    """A frozen linear layer plus the product of two thin matrices, which learn: W x + b + U D x.

    D is drawn as the weight of a linear layer and U starts at zero, so that the layer starts as it was.

    Args:
        base: the layer; it no longer asks for gradients.
        rank: rows of D and columns of U.

    Example:
        >>> import torch
        >>> layer, x = nn.Linear(4, 3), torch.ones(2, 4)
        >>> bool((LowRank(layer, 2)(x) == layer(x)).all())
        True
    """

    def __init__(self, base: nn.Linear, rank: int) -> None:
        super().__init__()
        self.base = base.requires_grad_(False)
        self.down = nn.Linear(base.in_features, rank, bias=False)
        self.up = nn.Linear(rank, base.out_features, bias=False)
        nn.init.zeros_(self.up.weight)

    def forward(self, x: Tensor) -> Tensor:
        """Compute the layer's output."""
        sum_: Tensor = self.base(x) + self.up(self.down(x))
        return sum_


def adapt(module: nn.Module, rank: int, layers: str = "blocks", learned: str = "head") -> None:
    """Freeze a network, put adapters beside the linear layers of its blocks, and leave its head to learn.

    Args:
        module: changed in place; the adapters are drawn from the global generator.
        rank: of the adapters; 0 changes nothing.
        layers: name of the submodule whose linear layers get adapters.
        learned: name of the submodule that goes on learning.

    Example:
        >>> net = nn.Module()
        >>> net.blocks, net.head = nn.Sequential(nn.Linear(4, 4)), nn.Linear(4, 2)
        >>> adapt(net, 1)
        >>> [name for name, p in net.named_parameters() if p.requires_grad]
        ['blocks.0.down.weight', 'blocks.0.up.weight', 'head.weight', 'head.bias']
    """
    if not rank:
        return
    module.requires_grad_(False)
    module.get_submodule(learned).requires_grad_(True)
    for parent in list(module.get_submodule(layers).modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, nn.Linear):
                setattr(parent, name, LowRank(child, rank))
