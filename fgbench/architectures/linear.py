"""A linear network: one layer without bias and without a readout of its own."""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING

from torch import nn

from fgbench.core.network import Chain, LocalModule, Readout, Site, Tap, untouched
from fgbench.registry import register

if TYPE_CHECKING:
    from torch import Tensor


class Layer(LocalModule):
    """One layer without bias and nonlinearity, whose output is the prediction.

    Args:
        inputs: fan-in.
        outputs: fan-out.

    Example:
        >>> import torch
        >>> tuple(Layer(4, 2)(torch.ones(5, 2, 2)).shape)
        (5, 2)
    """

    sites = (Site("l0", "b c"),)
    mixes = "c"

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.l0 = nn.Linear(inputs, outputs, bias=False)

    def forward(self, x: Tensor, tap: Tap = untouched) -> Tensor:
        """Compute ``[b, c]`` from ``[b, ...]``."""
        z = tap("op", "l0", self.l0(x.flatten(1)))
        return tap("out", "l0", tap("site", "l0", z))


class Unread(Readout):
    """The output of the body as the prediction.

    Example:
        >>> import torch
        >>> Unread()(torch.ones(1, 2))
        tensor([[1., 1.]])
    """

    def forward(self, f: Tensor, tap: Tap = untouched) -> Tensor:
        """Return the output itself."""
        return f


@register("architectures", "linear")
def linear(*, shape: tuple[int, ...], classes: int) -> Chain:
    """One linear layer without bias (``linear``), all of whose weights are estimated.

    For linear and logistic regression, where theory has closed forms.

    Args:
        shape: shape of one example.
        classes: numbers predicted.

    Returns:
        The chain, of one module.

    Example:
        >>> chain = linear(shape=(6,), classes=1)
        >>> list(chain.body_parameters())
        ['body.0.l0.weight']
    """
    return Chain([Layer(prod(shape), classes)], {"final": Unread()}, shape, classes)
