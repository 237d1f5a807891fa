"""Augmented views of images from keyed noise: batched tensor code without device synchronisation.

Images are ``[b, ch, H, W]`` in [0, 1]. Every image has its own draws. Cropping, mirroring and blurring
are linear along rows and along columns, so each is a pair of small matrices per image. A change that a
draw switches off is computed as the identity, without a branch.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import Tensor

    from fgbench.core.noise.keyed import Noise

NARROW, WIDE = 3 / 4, 4 / 3  # width / height of a crop lies between
LUMA = (0.299, 0.587, 0.114)
JITTER, GRAY = 0.8, 0.2  # probabilities used by contrastive learning and for ImageNet


@dataclass(frozen=True)
class Policy:
    """Probabilities and strengths of the changes to an image, in the order in which they are applied.

    Args:
        area: smallest share of the image's area that a crop keeps.
        flip: probability of a horizontal mirror.
        jitter: probability of the four colour changes, in a random order per image.
        brightness: pixels are multiplied by a factor in 1 ± this.
        contrast: the distance from the image's mean luma is multiplied by a factor in 1 ± this.
        saturation: the distance from each pixel's luma is multiplied by a factor in 1 ± this.
        hue: hues are turned by at most this part of the circle.
        gray: probability of losing all colour.
        blur: probability of a gaussian blur with standard deviation 0.1 to 2 pixels, cut to about a tenth
            of the side; below 20 pixels per side it has no effect.
        solarise: probability of replacing pixels x of at least ½ by 1 − x.

    Example:
        >>> Policy(area=0.5, flip=0.5).jitter
        0.0
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
        policy: probabilities and strengths of the changes.
        noise: the keyed noise of this view of this batch, in the images' dtype.

    Returns:
        ``[b, ch, H, W]`` in [0, 1].

    Example:
        >>> from fgbench.core.noise.keyed import Noise
        >>> x = torch.rand(2, 3, 8, 8)
        >>> augment(x, Policy(area=0.5, flip=0.5), Noise(seed=0)).shape
        torch.Size([2, 3, 8, 8])
        >>> bool((augment(x, Policy(), Noise(seed=0)) == x).all())
        True

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
        """Draw, per image, whether a change of this probability happens."""
        return self.between(name, 0.0, 1.0) < odds

    def orders(self, name: str, things: int) -> Tensor:
        """Draw one random permutation of ``things`` items per image, ``[b, things]``."""
        return self._noise.draw("uniform", name, 0, (self._images, things)).argsort(1)


def _along(x: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Apply one matrix along the rows and one along the columns of each image, ``[b, 1, o, i]``."""
    return rows @ x @ columns.mT


def _cropped(policy: Policy, draws: _Draws, height: int, width: int) -> tuple[Tensor, Tensor]:
    """Return the matrices of a random crop, resized to the image's size, and a random mirror.

    The area is uniform, then the logarithm of width / height is uniform among the values that fit the
    image. Output pixel i is read at start + (i + ½)·size/whole − ½ by linear interpolation; outside the
    image its border is repeated.
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
    """Return the matrices ``[b, 1, whole, whole]`` that resize a piece linearly to the whole size."""
    pixels = torch.arange(whole, dtype=start.dtype, device=start.device)
    at = start + (pixels.view(-1, 1) + 0.5) * (size / whole) - 0.5
    return (1 - (at.clamp(0, whole - 1) - pixels).abs()).clamp(min=0)


def luma(x: Tensor) -> Tensor:
    """Return the luma .299 R + .587 G + .114 B, the perceived brightness.

    Args:
        x: ``[b, ch, H, W]``; with other than three channels their mean is taken.

    Returns:
        ``[b, 1, H, W]``.

    Example:
        >>> round(luma(torch.ones(1, 3, 1, 1)).item(), 6)
        1.0
    """
    if x.shape[1] != 3:
        return x.mean(1, keepdim=True)
    r, g, b = (x[:, c : c + 1] for c in range(3))
    return LUMA[0] * r + LUMA[1] * g + LUMA[2] * b


def _jittered(x: Tensor, policy: Policy, draws: _Draws) -> Tensor:
    """Return images with brightness, contrast, saturation and hue changed in a random order per image."""
    # Each place in the order computes all four changes; an image gets one of them, the others have factor 1.
    on, order = draws.happens("jitter", policy.jitter), draws.orders("order", 4)
    strengths = (policy.brightness, policy.contrast, policy.saturation)
    names = ("brightness", "contrast", "saturation")
    factors = [draws.between(n, 1 - s, 1 + s) for n, s in zip(names, strengths, strict=True)]
    turn = draws.between("hue", -policy.hue, policy.hue)
    for place in order.unbind(1):
        now = [on & (place.view(-1, 1, 1, 1) == change) for change in range(4)]
        brighter, sharper, richer = (
            torch.where(chosen, f, 1.0) for chosen, f in zip(now[:3], factors, strict=True)
        )
        x = (x * brighter).clamp(0, 1)
        middle = luma(x).mean((2, 3), keepdim=True)
        x = (sharper * x + (1 - sharper) * middle).clamp(0, 1)
        if x.shape[1] == 3:
            x = (richer * x + (1 - richer) * luma(x)).clamp(0, 1)
            x = torch.where(now[3], _turned(x, turn), x)
    return x


def _turned(x: Tensor, turn: Tensor) -> Tensor:
    """Return images with the hue turned by a part of the circle; value and chroma stay."""
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
    """Return images blurred by a gaussian cut to about a tenth of the side; weights sum to 1 at borders."""
    deviation = draws.between("sigma", 0.1, 2.0)
    matrices = []
    for side in x.shape[2:]:
        pixels = torch.arange(side, dtype=x.dtype, device=x.device)
        distance = (pixels.view(-1, 1) - pixels).abs()
        weights = (-((distance / deviation) ** 2) / 2).exp() * (distance <= side // 10 // 2)
        matrices.append(weights / weights.sum(-1, keepdim=True))
    return _along(x, *matrices)
