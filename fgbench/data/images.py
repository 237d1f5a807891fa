"""Images with a label each: uint8 pixels, and the constants that normalise them."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING

import torch

from fgbench.data.augment import augment
from fgbench.data.dataset import Batch, DataSet
from fgbench.data.goal import Goal
from fgbench.data.goal import classes as goal_of_classes
from fgbench.errors import DataError

if TYPE_CHECKING:
    from torch import Tensor

    from fgbench.core.noise.keyed import Noise
    from fgbench.data.augment import Policy


@dataclass(frozen=True, eq=False)
class Images(DataSet):
    """Images with a label each; pixels stay uint8 until a batch is normalised.

    Args:
        name: the registered name.
        train_x: training pixels, uint8 ``[N, ch, H, W]``; may lie over a memory map.
        train_y: training labels, int64 ``[N]``.
        test_x: test pixels, as ``train_x``.
        test_y: test labels, as ``train_y``.
        classes: number of classes; labels run from 0 to ``classes - 1``.
        peak: the pixel value that stands for 1.0.
        mean: mean of pixels / peak per channel.
        std: standard deviation of pixels / peak per channel.
        fingerprint: 16 hexadecimal digits that identify the bytes of the data set.
        source: the text of a SOURCE.txt beside the files, which states how they differ from the original.

    Raises:
        DataError: shapes, types, counts or labels contradict each other.

    Example:
        >>> from fgbench.data.synthetic import synthetic
        >>> data = synthetic(size=4, train=20, test=10)
        >>> data.shape, data.train_size, data.normalise(data.train_x[:2]).shape
        ((1, 4, 4), 20, torch.Size([2, 1, 4, 4]))
    """

    classes: int = field(kw_only=True)
    peak: float = field(kw_only=True)
    mean: tuple[float, ...] = field(kw_only=True)
    std: tuple[float, ...] = field(kw_only=True)

    items = "images"

    def __post_init__(self) -> None:
        for what, x, y in self._splits():
            _check_types(f"{self.name}: the {what} split", x, y)
        super().__post_init__()
        for what, _, y in self._splits():
            _check_labels(f"{self.name}: the {what} split", y, self.classes)
        if not len(self.mean) == len(self.std) == self.shape[0]:
            raise DataError(f"{self.name}: mean and std need one number per channel")

    @property
    def goal(self) -> Goal:
        """A label per image."""
        return goal_of_classes(self.classes)

    def normalise(self, x: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
        """Return ``(x / peak - mean) / std`` per channel, on the device of ``x``.

        Args:
            x: uint8 pixels ``[..., ch, H, W]``.
            dtype: floating type of the result.

        Returns:
            A new tensor of the shape of ``x``.
        """
        scale, shift = _affine(self.peak, self.mean, self.std, x.device, dtype)
        return torch.addcmul(shift, x.to(dtype), scale)

    def prepare(
        self, x: Batch, y: Batch, dtype: torch.dtype = torch.float32
    ) -> tuple[Batch, Batch]:
        """Return normalised images and their labels.

        Args:
            x: pixels ``[b, ch, H, W]``.
            y: labels ``[b]``.
            dtype: floating type of the images.
        """
        return self.normalise(x, dtype), y

    def augmented(self, x: Batch, policy: Policy, noise: Noise) -> Batch:
        """Return pixels changed at random, in the floating type of the noise, from 0 to ``peak``.

        Args:
            x: pixels ``[b, ch, H, W]``.
            policy: the changes.
            noise: of this batch.
        """
        return augment(x.to(noise.dtype) / self.peak, policy, noise) * self.peak


@lru_cache(maxsize=64)
def _affine(
    peak: float,
    mean: tuple[float, ...],
    std: tuple[float, ...],
    device: torch.device,
    dtype: torch.dtype,
) -> tuple[Tensor, Tensor]:
    """Return scale and shift ``[ch, 1, 1]``: (x/peak - m)/s = x · 1/(peak·s) - m/s."""
    # Cached, because a tensor made from Python numbers synchronises with the accelerator at every batch.
    both = [[1 / (peak * s) for s in std], [-m / s for m, s in zip(mean, std, strict=True)]]
    scale, shift = torch.tensor(both, device=device, dtype=dtype).view(2, -1, 1, 1)
    return scale, shift


def _check_types(what: str, x: Tensor, y: Tensor) -> None:
    """Raise DataError unless a split has pixels and labels."""
    if x.dtype != torch.uint8 or x.ndim != 4 or y.dtype != torch.int64 or y.ndim != 1:
        raise DataError(
            f"{what} needs uint8 pixels [N, ch, H, W] and int64 labels [N], not "
            f"{x.dtype} {list(x.shape)} and {y.dtype} {list(y.shape)}"
        )


def _check_labels(what: str, y: Tensor, classes: int) -> None:
    """Raise DataError for labels out of range."""
    low, high = int(y.min()), int(y.max())
    if low < 0 or high >= classes:
        raise DataError(f"{what} has labels {low} to {high}, but {classes} classes")
