"""The smooth perceptron of physics-informed networks."""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING, Annotated

import torch
from pydantic import Field
from torch import nn

from fgbench.core.wrapping import Network
from fgbench.registry import register

if TYPE_CHECKING:
    from torch import Tensor


class Layer(nn.Module):
    """A fully connected layer and tanh.

    Args:
        inputs: fan-in.
        width: units.

    Example:
        >>> Layer(2, 3)(torch.ones(4, 2)).shape
        torch.Size([4, 3])
    """

    def __init__(self, inputs: int, width: int) -> None:
        super().__init__()
        self.linear = nn.Linear(inputs, width)
        nn.init.xavier_uniform_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Compute ``[b, c]``."""
        return torch.tanh(self.linear(x))


class SmoothPerceptron(nn.Module):
    """Layers with tanh and a linear head: as often differentiable by its inputs as an equation asks.

    Args:
        inputs: coordinates per point.
        outputs: numbers predicted at a point.
        depth: number of hidden layers.
        width: units per hidden layer.

    Example:
        >>> SmoothPerceptron(1, 1, depth=2, width=4)(torch.ones(3, 1)).shape
        torch.Size([3, 1])
    """

    def __init__(self, inputs: int, outputs: int, *, depth: int, width: int) -> None:
        super().__init__()
        sizes = [inputs] + [width] * (depth - 1)
        self.layers = nn.ModuleList(Layer(n, width) for n in sizes)
        self.head = nn.Linear(width, outputs)

    def forward(self, x: Tensor) -> Tensor:
        """Compute ``[b, k]`` from points ``[b, ...]``."""
        x = x.flatten(1)
        for layer in self.layers:
            x = layer(x)
        values: Tensor = self.head(x)
        return values


@register("architectures", "mlp-pinn", pattern=r"(?P<depth>\d+)x(?P<width>\d+)")
def mlp_pinn(
    *,
    shape: tuple[int, ...],
    classes: int,
    depth: Annotated[int, Field(ge=1)] = 3,
    width: Annotated[int, Field(ge=1)] = 32,
) -> Network:
    """A perceptron with tanh for physics-informed networks (``mlp-pinn-3x32``), one module per layer.

    Weights are drawn by Glorot's rule, as is usual for such networks.

    Also known as: PINN.

    Args:
        shape: shape of one point.
        classes: numbers predicted at a point.
        depth: number of hidden layers.
        width: units per hidden layer.

    Returns:
        The network.

    References: Raissi, Perdikaris, Karniadakis, Physics-informed neural networks, 2019.

    Example:
        >>> network = mlp_pinn(shape=(1,), classes=1, depth=2, width=4)
        >>> sum(p.numel() for p in network.module.parameters())
        33
    """
    module = SmoothPerceptron(prod(shape), classes, depth=depth, width=width)
    return Network(module, cut="layers", out_axes="b c", head="head")
