"""A small convolutional network with group norm."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from pydantic import Field
from torch import nn
from torch.nn import functional as F

from fgbench.core.network import Chain, LinearReadout, LocalModule, Site, Tap, untouched
from fgbench.registry import register

if TYPE_CHECKING:
    from torch import Tensor


class ConvLayer(LocalModule):
    """A 3×3 convolution, group norm with gain and bias, and ReLU; the site is after the norm.

    Args:
        inputs: input channels.
        outputs: output channels.
        stride: stride of the convolution.
        groups: groups of the norm.

    Example:
        >>> import torch
        >>> ConvLayer(1, 8, stride=2, groups=4)(torch.zeros(2, 1, 6, 6)).shape
        torch.Size([2, 8, 3, 3])
    """

    sites = (Site("l0", "b c h w", op_mixes="c h w", shared="h w"),)
    mixes = "c h w"
    out_axes = "b c h w"

    def __init__(self, inputs: int, outputs: int, stride: int, groups: int) -> None:
        super().__init__()
        self.l0 = nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1)
        self.norm = nn.GroupNorm(groups, outputs)

    def forward(self, x: Tensor, tap: Tap = untouched) -> Tensor:
        """Compute ``[b, c, h, w]``."""
        z = self.norm(tap("op", "l0", self.l0(x)))
        return tap("out", "l0", F.relu(tap("site", "l0", z)))


@register("architectures", "cnn", variants={"small": {"width": 32}, "tiny": {"width": 8}})
def cnn(
    *,
    shape: tuple[int, ...],
    classes: int,
    width: Annotated[int, Field(ge=4, multiple_of=4)] = 32,
) -> Chain:
    """A convolutional network: three 3×3 convolutions with group norm, mean over pixels, linear readout.

    The convolutions have width, 2 width and 4 width channels and strides 1, 2 and 2; each is one module.
    ``cnn-small`` has width 32, ``cnn-tiny`` width 8.

    Args:
        shape: ``(ch, H, W)``.
        classes: number of classes.
        width: channels of the first layer.

    Returns:
        The chain.

    Example:
        >>> chain = cnn(shape=(1, 8, 8), classes=10, width=8)
        >>> len(chain), [site for site in chain.index]
        (3, ['body.0.l0', 'body.1.l0', 'body.2.l0'])
    """
    channels = [shape[0], width, 2 * width, 4 * width]
    body: list[LocalModule] = [
        ConvLayer(channels[i], channels[i + 1], 1 if i == 0 else 2, 4) for i in range(3)
    ]
    return Chain(body, {"final": LinearReadout("b c h w", 4 * width, classes)}, shape, classes)
