"""Multilayer perceptrons: one hidden layer per module."""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING, Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from fgbench.core.network import Chain, LinearReadout, LocalModule, Site, Tap, untouched
from fgbench.registry import register

if TYPE_CHECKING:
    from collections.abc import Callable

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": F.relu,
    "tanh": torch.tanh,
    "gelu": F.gelu,
    "sigmoid": torch.sigmoid,
}


class Layer(LocalModule):
    """A fully connected layer and its activation; the raw output and the site are the same pre-activation.

    Args:
        inputs: fan-in.
        outputs: width.
        activation: ``relu``, ``tanh``, ``gelu`` or ``sigmoid``.

    Example:
        >>> Layer(4, 3, "relu")(torch.ones(2, 4)).shape
        torch.Size([2, 3])
    """

    sites = (Site("l0", "b c"),)
    mixes = "c"

    def __init__(self, inputs: int, outputs: int, activation: str) -> None:
        super().__init__()
        self.l0 = nn.Linear(inputs, outputs)
        self.activation = ACTIVATIONS[activation]

    def forward(self, x: Tensor, tap: Tap = untouched) -> Tensor:
        """Compute ``[b, c]`` from ``[b, ...]``."""
        z = tap("op", "l0", self.l0(x.flatten(1)))
        return tap("out", "l0", self.activation(tap("site", "l0", z)))


@register("architectures", "mlp", pattern=r"(?P<depth>\d+)x(?P<width>\d+)")
def mlp(
    *,
    shape: tuple[int, ...],
    classes: int,
    depth: Annotated[int, Field(ge=1)] = 3,
    width: Annotated[int, Field(ge=1)] = 256,
    activation: Literal["relu", "tanh", "gelu", "sigmoid"] = "relu",
) -> Chain:
    """A multilayer perceptron with a linear readout (``mlp-3x256``: 3 hidden layers of 256 units).

    Also known as: fully connected network, MLP.

    Args:
        shape: shape of one example.
        classes: number of classes.
        depth: number of hidden layers, each one module.
        width: units per hidden layer.
        activation: nonlinearity after every hidden layer.

    Returns:
        The chain.

    Example:
        >>> chain = mlp(shape=(1, 8, 8), classes=10, depth=2, width=16)
        >>> len(chain), sum(p.numel() for p in chain.parameters())
        (2, 1482)
    """
    fan_in = [prod(shape)] + [width] * (depth - 1)
    body: list[LocalModule] = [Layer(n, width, activation) for n in fan_in]
    return Chain(body, {"final": LinearReadout("b c", width, classes)}, shape, classes)
