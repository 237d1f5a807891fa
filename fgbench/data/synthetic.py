"""Synthetic images: one random prototype per class plus noise, for tests and smoke runs."""

from __future__ import annotations

import math
from hashlib import shake_256
from typing import TYPE_CHECKING

import numpy as np
import torch

from fgbench.data.dataset import fingerprint
from fgbench.data.images import Images
from fgbench.errors import UsageError
from fgbench.registry import register

if TYPE_CHECKING:
    from numpy.typing import NDArray

_BLOCK = 256
MOST = 1 << 31  # pixels in all, one byte each
AT_ONCE = 1 << 26  # pixels that are made at once, 20 bytes each
_MEAN, _STD = 128.0, 40.0


@register("datasets", "synthetic")
def synthetic(
    *,
    classes: int = 10,
    size: int = 8,
    channels: int = 1,
    train: int = 512,
    test: int = 256,
    noise: float = 1.0,
    seed: int = 0,
    data_dir: str | None = None,
) -> Images:
    """Make images from one random prototype per class plus noise; needs no file and no network.

    A pixel is 128 + 40 (prototype + noise · deviate) / √(1 + noise²), rounded and clipped.

    Prototypes and deviates have mean 0 and variance 1, so every pixel has mean 128 and standard
    deviation 40 for any ``noise``. Both come from a SHAKE-256 stream in integer arithmetic: the bytes are
    the same on every machine and version, and a longer split begins with the shorter one. Labels cycle
    through the classes.

    Args:
        classes: number of classes, 2 or more.
        size: height and width in pixels.
        channels: channels per image.
        train: training images.
        test: test images.
        noise: ratio of the standard deviation of the noise to that of the prototypes.
        seed: another seed gives other prototypes and images.
        data_dir: not used; all data sets have this argument.

    Returns:
        The data set.

    Raises:
        UsageError: a number is out of its range.

    Example:
        >>> data = synthetic(classes=3, size=2, train=4, test=3)
        >>> data.train_y.tolist(), data.train_x.dtype
        ([0, 1, 2, 0], torch.uint8)
    """
    least = {"classes": 2, "size": 1, "channels": 1, "train": 1, "test": 1}
    given = {"classes": classes, "size": size, "channels": channels, "train": train, "test": test}
    for option, low in least.items():
        if given[option] < low:
            raise UsageError(f"synthetic: {option} must be {low} or more, got {given[option]}")
    if not 0 <= noise < float("inf"):
        raise UsageError(f"synthetic: noise must be 0 or more, got {noise}")
    once = max(classes, min(max(train, test), _BLOCK)) * channels * size**2
    whole = (train + test) * channels * size**2
    if once > AT_ONCE or whole > MOST:
        raise UsageError(
            f"synthetic: at most {MOST} pixels, and {AT_ONCE} of the prototypes or of {_BLOCK} images; "
            f"got {whole} and {once}"
        )
    shape = (channels, size, size)
    prototypes = _deviates(f"{seed} prototypes", classes, shape)
    tensors = (
        *_split(f"{seed} train", train, prototypes, noise),
        *_split(f"{seed} test", test, prototypes, noise),
    )
    return Images(
        "synthetic",
        *tensors,
        classes=classes,
        peak=255.0,
        mean=(_MEAN / 255,) * channels,
        std=(_STD / 255,) * channels,
        fingerprint=fingerprint("synthetic", *tensors),
    )


def _split(
    key: str, count: int, prototypes: NDArray[np.float64], noise: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the images and labels of one split, made block by block."""
    labels = np.arange(count) % len(prototypes)
    pixels = np.empty((count, *prototypes.shape[1:]), np.uint8)
    for start in range(0, count, _BLOCK):
        here = labels[start : start + _BLOCK]
        mixed = prototypes[here] + noise * _deviates(f"{key} {start}", len(here), pixels.shape[1:])
        values = np.rint(_MEAN + _STD * mixed / math.sqrt(1 + noise**2))
        pixels[start : start + _BLOCK] = np.clip(values, 0, 255)
    return torch.from_numpy(pixels), torch.from_numpy(labels.astype(np.int64))


def _deviates(key: str, count: int, shape: tuple[int, ...]) -> NDArray[np.float64]:
    """Return float64 ``[count, *shape]`` with mean 0 and variance 1, a pure function of the key.

    Each is a sum of four uniform bytes: mean 4 · 127.5, variance 4 (256² - 1) / 12.
    """
    total = count * math.prod(shape)
    stream = np.frombuffer(shake_256(key.encode()).digest(4 * total), np.uint8)
    sums = stream.reshape(count, *shape, 4).sum(-1, dtype=np.int64)
    deviates: NDArray[np.float64] = (sums - 510) / math.sqrt(21845)
    return deviates
