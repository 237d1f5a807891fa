"""Augmented views of images from keyed noise: batched tensor code that never waits for the device.

Images are ``[b, ch, H, W]`` in [0, 1]. Every image has draws of its own. Cropping, mirroring and blurring
are linear along rows and along columns, so each is a pair of small matrices per image; what a draw
switches off is the identity, not a branch.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import Tensor

    from fgbench.core.noise.keyed import Noise

NARROW, WIDE = 3 / 4, 4 / 3  # width / height of a crop
LUMA = (0.299, 0.587, 0.114)
JITTER, GRAY = 0.8, 0.2  # odds of the colour changes that contrastive learning and ImageNet take


@dataclass(frozen=True)
class Policy:
    """What may happen to an image, in this order; strengths are half-widths, the rest probabilities.

    Args:
        area: least part of the image's area that a crop keeps.
        flip: of a horizontal mirror.
        jitter: of the four colour changes, in an order of each image's own.
        brightness: pixels times a factor in 1 ± this.
        contrast: distance from the image's mean luma times a factor in 1 ± this.
        saturation: distance from each pixel's luma times a factor in 1 ± this.
        hue: turned by at most this part of the circle.
        gray: of losing all colour.
        blur: of a gaussian blur of deviation 0.1 to 2 pixels, cut to about a tenth of the side; nothing
            is left of it below 20 pixels.
        solarise: of mirroring pixels above ½ at ½.
    """

    area: float = 1.0
    flip: float = 0.0
    jitter: float = 0.0
    brightness: float = 0.4
    contrast: float = 0.4
    saturation: float = 0.2
    hue: float = 0.1
    gray: float = 0.0
    blur: float = 0.0
    solarise: float = 0.0


def augment(x: Tensor, policy: Policy, noise: Noise) -> Tensor:
    """Return one augmented view of every image.

    Colour changes need three channels; images of another number keep brightness and contrast, their
    luma being the mean over channels.

    Args:
        x: images ``[b, ch, H, W]`` in [0, 1].
        policy: what may happen to them.
        noise: of this view of this batch, in the images' dtype.

    Returns:
        ``[b, ch, H, W]`` in [0, 1].

    References: Chen, Kornblith, Norouzi, Hinton, A Simple Framework for Contrastive Learning of Visual
    Representations, ICML 2020; Grill et al., Bootstrap Your Own Latent, NeurIPS 2020 (the solarising).
    """
    draws = _Draws(noise, len(x))
    if policy.area < 1 or policy.flip:
        x = _along(x, *_cropped(policy, draws, *x.shape[2:]))
    if policy.jitter:
        x = _jittered(x, policy, draws)
    if policy.gray and x.shape[1] == 3:
        x = torch.where(draws.happens("gray", policy.gray), luma(x).expand_as(x), x)
    if policy.blur:
        x = torch.where(draws.happens("blur", policy.blur), _blurred(x, draws), x)
    if policy.solarise:
        x = torch.where(draws.happens("solarise", policy.solarise) & (x >= 0.5), 1 - x, x)
    return x.clamp(0, 1)


class _Draws:
    """Uniform draws by name, one per image, shaped ``[b, 1, 1, 1]``."""

    def __init__(self, noise: Noise, images: int) -> None:
        self._noise, self._images = noise, images

    def between(self, name: str, low: Tensor | float, high: Tensor | float) -> Tensor:
        """Draw uniformly from [low, high)."""
        u = self._noise.draw("uniform", name, 0, (self._images, 1, 1, 1))
        return low + (high - low) * u

    def happens(self, name: str, odds: float) -> Tensor:
        """Draw whether something happens."""
        return self.between(name, 0.0, 1.0) < odds

    def orders(self, name: str, things: int) -> Tensor:
        """Draw one order of things per image, ``[b, things]``."""
        return self._noise.draw("uniform", name, 0, (self._images, things)).argsort(1)


def _along(x: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Apply one matrix along the rows and one along the columns of each image, ``[b, 1, o, i]``."""
    return rows @ x @ columns.mT


def _cropped(policy: Policy, draws: _Draws, height: int, width: int) -> tuple[Tensor, Tensor]:
    """Return the matrices of a random crop, resized to the image's size, and a random mirror.

    The area is uniform, then the logarithm of width / height is uniform among what fits the image. Output
    pixel i looks at start + (i + ½)·size/whole − ½, linearly between the two pixels beside it; outside
    the image its border goes on.
    """
    area = draws.between("area", policy.area, 1.0)
    least, most = area * (width / height), width / (area * height)
    narrow = least.clamp(min=NARROW).minimum(most)
    wide = most.clamp(max=WIDE).maximum(least)
    ratio = narrow * (wide / narrow) ** draws.between("ratio", 0.0, 1.0)
    high, broad = (area * height * width / ratio).sqrt(), (area * height * width * ratio).sqrt()
    top = draws.between("top", 0.0, (height - high).clamp(min=0))
    left = draws.between("left", 0.0, (width - broad).clamp(min=0))
    columns = _resampled(left, broad, width)
    columns = torch.where(draws.happens("flip", policy.flip), columns.flip(-2), columns)
    return _resampled(top, high, height), columns


def _resampled(start: Tensor, size: Tensor, whole: int) -> Tensor:
    """Return ``[b, 1, whole, whole]``: linear interpolation of a piece to the size of the whole."""
    pixels = torch.arange(whole, dtype=start.dtype, device=start.device)
    at = start + (pixels.view(-1, 1) + 0.5) * (size / whole) - 0.5
    return (1 - (at.clamp(0, whole - 1) - pixels).abs()).clamp(min=0)


def luma(x: Tensor) -> Tensor:
    """Return the brightness that is seen, ``[b, 1, H, W]``: .299 R + .587 G + .114 B."""
    if x.shape[1] != 3:
        return x.mean(1, keepdim=True)
    r, g, b = (x[:, c : c + 1] for c in range(3))
    return LUMA[0] * r + LUMA[1] * g + LUMA[2] * b


def _jittered(x: Tensor, policy: Policy, draws: _Draws) -> Tensor:
    """Change brightness, contrast, saturation and hue in an order of each image's own."""
    # Each place in the order runs all four changes, of which an image has one: factor 1 is exact.
    on, order = draws.happens("jitter", policy.jitter), draws.orders("order", 4)
    strengths = (policy.brightness, policy.contrast, policy.saturation)
    names = ("brightness", "contrast", "saturation")
    factors = [draws.between(n, 1 - s, 1 + s) for n, s in zip(names, strengths, strict=True)]
    turn = draws.between("hue", -policy.hue, policy.hue)
    for place in order.unbind(1):
        now = [on & (place.view(-1, 1, 1, 1) == change) for change in range(4)]
        brighter, sharper, richer = (
            torch.where(own, f, 1.0) for own, f in zip(now[:3], factors, strict=True)
        )
        x = (x * brighter).clamp(0, 1)
        middle = luma(x).mean((2, 3), keepdim=True)
        x = (sharper * x + (1 - sharper) * middle).clamp(0, 1)
        if x.shape[1] == 3:
            x = (richer * x + (1 - richer) * luma(x)).clamp(0, 1)
            x = torch.where(now[3], _turned(x, turn), x)
    return x


def _turned(x: Tensor, turn: Tensor) -> Tensor:
    """Turn the hue by a part of the circle, keeping value and chroma."""
    value = x.amax(1, keepdim=True)
    r, g, b = (x[:, c : c + 1] for c in range(3))
    chroma = value - x.amin(1, keepdim=True)
    c = torch.where(chroma > 0, chroma, 1.0)
    sextant = torch.where(
        value == r, (g - b) / c, torch.where(value == g, 2 + (b - r) / c, 4 + (r - g) / c)
    )
    hues = [(n + sextant + 6 * turn) % 6 for n in (5, 3, 1)]
    return torch.cat([value - chroma * k.minimum(4 - k).clamp(0, 1) for k in hues], 1)


def _blurred(x: Tensor, draws: _Draws) -> Tensor:
    """Blur with a gaussian cut to about a tenth of the side, its weights adding up to 1 at borders."""
    deviation = draws.between("sigma", 0.1, 2.0)
    matrices = []
    for side in x.shape[2:]:
        pixels = torch.arange(side, dtype=x.dtype, device=x.device)
        distance = (pixels.view(-1, 1) - pixels).abs()
        weights = (-((distance / deviation) ** 2) / 2).exp() * (distance <= side // 10 // 2)
        matrices.append(weights / weights.sum(-1, keepdim=True))
    return _along(x, *matrices)
