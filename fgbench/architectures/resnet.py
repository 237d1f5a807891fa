"""Residual networks of two 3×3 convolutions per block, with group norm."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from pydantic import Field
from torch import nn
from torch.nn import functional as F

from fgbench.core.wrapping import Network
from fgbench.errors import UsageError
from fgbench.registry import register

if TYPE_CHECKING:
    from torch import Tensor

IMAGENET = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3)}
"""Blocks per stage of the networks that were published for ImageNet."""
LARGE = 64  # pixels of a side from which on the stem of the ImageNet networks is used


class Padded(nn.Module):
    """The shortcut without parameters: every second pixel, and new channels that are zero.

    Args:
        stride: 2 where the block halves height and width.
        more: channels that are added, half before and half after.

    Example:
        >>> import torch
        >>> Padded(2, 4)(torch.ones(1, 4, 6, 6)).shape
        torch.Size([1, 8, 3, 3])
    """

    def __init__(self, stride: int, more: int) -> None:
        super().__init__()
        self.stride, self.more = stride, more

    def forward(self, x: Tensor) -> Tensor:
        """Compute ``[b, c, h, w]``."""
        before = self.more // 2
        thin = x[:, :, :: self.stride, :: self.stride]
        return F.pad(thin, (0, 0, 0, 0, before, self.more - before))


class Block(nn.Module):
    """Two 3×3 convolutions with group norm, added to their input.

    Args:
        inputs: input channels.
        outputs: output channels.
        stride: stride of the first convolution.
        groups: groups of the norms.
        projected: whether a shortcut between different shapes is a 1×1 convolution with group norm; else
            it has no parameters.

    Example:
        >>> import torch
        >>> Block(4, 8, 2, 2, projected=True)(torch.ones(1, 4, 6, 6)).shape
        torch.Size([1, 8, 3, 3])
    """

    def __init__(
        self, inputs: int, outputs: int, stride: int, groups: int, *, projected: bool
    ) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.norm1 = nn.GroupNorm(groups, outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.norm2 = nn.GroupNorm(groups, outputs)
        self.shortcut: nn.Module = nn.Identity()
        if stride > 1 or inputs != outputs:
            self.shortcut = Padded(stride, outputs - inputs)
            if projected:
                convolution = nn.Conv2d(inputs, outputs, 1, stride, bias=False)
                self.shortcut = nn.Sequential(convolution, nn.GroupNorm(groups, outputs))

    def forward(self, x: Tensor) -> Tensor:
        """Compute ``[b, c, h, w]``."""
        y = F.relu(self.norm1(self.conv1(x)))
        return F.relu(self.norm2(self.conv2(y)) + self.shortcut(x))


class ResNet(nn.Module):
    """A residual network.

    Args:
        channels: input channels.
        classes: number of classes.
        stages: blocks per stage; each stage but the first halves height and width.
        width: channels of the first stage, doubled from stage to stage.
        groups: groups of the norms.
        large: whether the stem is a 7×7 convolution of stride 2 and a pooling of stride 2, as for
            ImageNet, and not a 3×3 convolution.
        projected: see :class:`Block`.

    Example:
        >>> import torch
        >>> net = ResNet(1, 10, (1, 1), 4, 2, large=False, projected=False)
        >>> net(torch.ones(2, 1, 8, 8)).shape
        torch.Size([2, 10])
    """

    def __init__(
        self,
        channels: int,
        classes: int,
        stages: tuple[int, ...],
        width: int,
        groups: int,
        *,
        large: bool,
        projected: bool,
    ) -> None:
        super().__init__()
        stem = (7, 2, 3) if large else (3, 1, 1)
        self.conv = nn.Conv2d(channels, width, *stem, bias=False)
        self.norm = nn.GroupNorm(groups, width)
        self.pool = nn.MaxPool2d(3, 2, 1) if large else nn.Identity()
        self.blocks = nn.ModuleList()
        before = width
        for stage, count in enumerate(stages):
            after = width * 2**stage
            for i in range(count):
                stride = 2 if stage and i == 0 else 1
                self.blocks.append(Block(before, after, stride, groups, projected=projected))
                before = after
        self.head = nn.Linear(before, classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        """Compute ``[b, k]`` logits from ``[b, ch, H, W]``."""
        x = self.pool(F.relu(self.norm(self.conv(x))))
        for block in self.blocks:
            x = block(x)
        logits: Tensor = self.head(x.mean((2, 3)))
        return logits


@register(
    "architectures",
    "resnet",
    variants={"20": {"depth": 20}, "18": {"depth": 18}},
    pattern=r"(?P<depth>\d+)",
)
def resnet(
    *,
    shape: tuple[int, ...],
    classes: int,
    depth: int = 20,
    width: Annotated[int, Field(ge=1)] | None = None,
    groups: Annotated[int, Field(ge=1)] = 8,
) -> Network:
    """A residual network with group norm (``resnet-20``, ``resnet-18``), one module per block.

    Depths 8, 14, 20, 26, 32, ... (6 n + 2) are the networks for CIFAR: three stages of n blocks with 16, 32
    and 64 channels, and shortcuts without parameters. Depths 18 and 34 are those for ImageNet: four stages
    with 64 to 512 channels and projected shortcuts. Their 7×7 stem stands where images have 64 pixels a
    side or more; smaller images get a 3×3 stem. The norm is group norm, because batch norm couples the
    examples of a batch.

    Also known as: ResNet.

    Args:
        shape: ``(ch, H, W)``.
        classes: number of classes.
        depth: layers with weights, counted as in the paper.
        width: channels of the first stage; the published ones where None.
        groups: groups of the norms.

    Returns:
        The network.

    Raises:
        UsageError: for inputs that are no images, a depth that no network of this kind has, or a width that
            the groups do not divide.

    References: He, Zhang, Ren, Sun, Deep Residual Learning for Image Recognition, CVPR 2016; Wu, He, Group
    Normalization, ECCV 2018.

    Example:
        >>> network = resnet(shape=(3, 32, 32), classes=10)
        >>> sum(p.numel() for p in network.module.parameters())
        269722
    """
    if len(shape) != 3:
        raise UsageError(
            f"resnet reads images of shape (ch, H, W), and an example has shape {shape}"
        )
    large = depth in IMAGENET
    if not large and (depth < 8 or (depth - 2) % 6):
        raise UsageError(
            f"resnet: a depth is 18 or 34 (for ImageNet) or 6 n + 2 (8, 14, 20, ... for CIFAR), got {depth}"
        )
    width = width or (64 if large else 16)
    if width % groups:
        raise UsageError(f"resnet: width {width} is no multiple of its {groups} groups")
    stages = IMAGENET[depth] if large else ((depth - 2) // 6,) * 3
    stem = large and min(shape[1:]) >= LARGE
    module = ResNet(shape[0], classes, stages, width, groups, large=stem, projected=large)
    return Network(module, cut="blocks", sites="min", out_axes="b c h w", head="head")
