"""A stack of blocks that each take noise off a label, given the image."""

from __future__ import annotations

from itertools import pairwise
from math import cos, pi, prod, sqrt
from typing import Annotated, NamedTuple

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from fgbench.core.network import Chain, LocalModule, Readout, Site, Tap, untouched
from fgbench.registry import register


class Step(NamedTuple):
    """How a block goes from z_{t−1} to z_t: ``z_t = a û + b z_{t−1} + √c ε``.

    With ᾱ_t the part of the label in z_t, ``z_t ~ N(√ᾱ_t u, 1 − ᾱ_t)``, and α = ᾱ_{t−1}/ᾱ_t, these are
    ``a = √ᾱ_t (1 − α)/(1 − ᾱ_{t−1})``, ``b = √α (1 − ᾱ_t)/(1 − ᾱ_{t−1})`` and
    ``c = (1 − ᾱ_t)(1 − α)/(1 − ᾱ_{t−1})``. With û = u they lead from the law of z_{t−1} to that of z_t.

    Attributes:
        before: ᾱ_{t−1}.
        after: ᾱ_t.

    Example:
        >>> step = Step(before=0.2, after=0.5)
        >>> round(step.a + step.b * 0.2**0.5, 6), round(0.5**0.5, 6), round(step.b**2 * 0.8 + step.c, 6)
        (0.707107, 0.707107, 0.5)
    """

    before: float
    after: float

    @property
    def a(self) -> float:
        """Factor of the label that the block predicts."""
        return sqrt(self.after) * (1 - self.before / self.after) / (1 - self.before)

    @property
    def b(self) -> float:
        """Factor of what came in."""
        return sqrt(self.before / self.after) * (1 - self.after) / (1 - self.before)

    @property
    def c(self) -> float:
        """Variance of the noise that is added."""
        return (1 - self.after) * (1 - self.before / self.after) / (1 - self.before)

    @property
    def gain(self) -> float:
        """How much the signal-to-noise ratio ᾱ/(1 − ᾱ) grows."""
        return self.after / (1 - self.after) - self.before / (1 - self.before)


def schedule(blocks: int) -> list[Step]:
    """Return the steps of a cosine schedule: ᾱ_t = cos²(π/2 (1 − (t + ½)/(T + 1))) for t = 0 to T.

    Args:
        blocks: T.

    Returns:
        One step per block.

    Example:
        >>> [round(step.after, 3) for step in schedule(4)]
        [0.206, 0.5, 0.794, 0.976]
    """
    parts = [cos(pi / 2 * (1 - (t + 0.5) / (blocks + 1))) ** 2 for t in range(blocks + 1)]
    return [Step(before, after) for before, after in pairwise(parts)]


class Denoiser(LocalModule):
    """Predict the label from the image and from a noisy label, and take a step towards it.

    The input is the image, or ``[û, z, image]`` of the block before; at the first block z is 0, its mean. The
    output is ``[û, a û + b z, image]``, with û the probabilities of the classes.

    Args:
        pixels: numbers of an image.
        classes: length of a label.
        width: hidden units.
        step: how z moves.

    Example:
        >>> block = Denoiser(pixels=4, classes=3, width=5, step=Step(0.2, 0.5))
        >>> block(torch.ones(2, 1, 2, 2)).shape, block(torch.ones(2, 10)).shape
        (torch.Size([2, 10]), torch.Size([2, 10]))
    """

    sites = (Site("l0", "b c", mixed_after="c"), Site("l1", "b c", mixed_after="c"))
    mixes = "c"

    def __init__(self, pixels: int, classes: int, width: int, step: Step) -> None:
        super().__init__()
        self.pixels, self.classes, self.step = pixels, classes, step
        self.l0 = nn.Linear(classes + pixels, width)
        self.l1 = nn.Linear(width, classes)

    def forward(self, x: Tensor, tap: Tap = untouched) -> Tensor:
        """Compute ``[b, 2 classes + pixels]``."""
        x, n = x.flatten(1), self.classes
        if x.shape[1] == self.pixels:
            image = x
            z = torch.zeros(len(x), n, dtype=x.dtype, device=x.device)
        else:
            z, image = x[:, n : 2 * n], x[:, 2 * n :]
        h = tap("op", "l0", self.l0(torch.cat([z, image], 1)))
        h = tap("out", "l0", F.relu(tap("site", "l0", h)))
        logits = tap("site", "l1", tap("op", "l1", self.l1(h)))
        label = tap("out", "l1", F.softmax(logits, 1))
        return torch.cat([label, self.step.a * label + self.step.b * z, image], 1)


class LabelReadout(Readout):
    """A linear layer on the denoised label z.

    Args:
        classes: length of a label, and number of classes.

    Example:
        >>> LabelReadout(3)(torch.ones(2, 10)).shape
        torch.Size([2, 3])
    """

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.classes = classes
        self.linear = nn.Linear(classes, classes)

    def forward(self, f: Tensor, tap: Tap = untouched) -> Tensor:
        """Compute ``[b, classes]`` from ``[û, z, image]``."""
        return tap("op", "linear", self.linear(f[:, self.classes : 2 * self.classes]))


@register("architectures", "noprop", pattern=r"(?P<blocks>\d+)x(?P<width>\d+)")
def noprop(
    *,
    shape: tuple[int, ...],
    classes: int,
    blocks: Annotated[int, Field(ge=1)] = 4,
    width: Annotated[int, Field(ge=1)] = 64,
) -> Chain:
    """A stack of label denoisers (``noprop-4x64``: 4 blocks of 64 hidden units), each one module.

    Block t sees the image and a noisy label z_{t−1}, predicts the label by a hidden layer and a softmax,
    and moves z towards it; a linear readout takes the class from the last z. The locality ``noprop_dt``
    teaches every block alone; under ``end`` the same network is trained by backprop from z_0 = 0. The
    paper's blocks have a convolutional encoder of the image in place of its pixels.

    Also known as: the network of NoProp-DT.

    Args:
        shape: shape of one example.
        classes: number of classes.
        blocks: number of blocks T.
        width: hidden units of a block.

    Returns:
        The chain.

    References: Li, Teh, Pascanu, NoProp: Training Neural Networks without Back-propagation or
    Forward-propagation, 2025.

    Example:
        >>> chain = noprop(shape=(1, 8, 8), classes=10, blocks=3, width=16)
        >>> len(chain), tuple(chain(torch.zeros(2, 1, 8, 8)).shape)
        (3, (2, 10))
    """
    pixels = prod(shape)
    body: list[LocalModule] = [Denoiser(pixels, classes, width, step) for step in schedule(blocks)]
    return Chain(body, {"final": LabelReadout(classes)}, shape, classes)
