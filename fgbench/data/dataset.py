"""The type of every data set: uint8 pixels, labels, and the constants that normalise them."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import lru_cache
from hashlib import sha256
from typing import TYPE_CHECKING

import torch

from fgbench.errors import DataError, UsageError

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, eq=False)
class DataSet:
    """A training and a test split; pixels stay uint8 until a batch is normalised.

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
        >>> data.shape, len(data.train_y), data.normalise(data.train_x[:2]).shape
        ((1, 4, 4), 20, torch.Size([2, 1, 4, 4]))
    """

    name: str
    train_x: Tensor = field(repr=False)
    train_y: Tensor = field(repr=False)
    test_x: Tensor = field(repr=False)
    test_y: Tensor = field(repr=False)
    classes: int
    peak: float
    mean: tuple[float, ...]
    std: tuple[float, ...]
    fingerprint: str
    source: str = ""

    def __post_init__(self) -> None:
        for split, x, y in (
            ("training", self.train_x, self.train_y),
            ("test", self.test_x, self.test_y),
        ):
            _check_split(f"{self.name}: the {split} split", x, y, self.classes)
        if self.train_x.shape[1:] != self.test_x.shape[1:]:
            raise DataError(
                f"{self.name}: training images are {tuple(self.train_x.shape[1:])}, "
                f"test images {tuple(self.test_x.shape[1:])}"
            )
        if not len(self.mean) == len(self.std) == self.shape[0]:
            raise DataError(f"{self.name}: mean and std need one number per channel")

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height and width of one image."""
        channels, height, width = self.train_x.shape[1:]
        return channels, height, width

    def to(self, device: torch.device | str) -> DataSet:
        """Return the data set with its tensors on a device; pixels stay uint8 there.

        Pixels that would take more than a quarter of the device's free memory stay where they are, and
        :meth:`rows` copies the rows that are asked for.

        Args:
            device: the destination. A memory-mapped set that fits is read completely.

        Returns:
            The same data; tensors that are already there are shared.
        """
        where = torch.device(device)
        fits = self.train_x.nbytes + self.test_x.nbytes <= _room(where)
        there = where if fits else self.train_x.device
        return replace(
            self,
            train_x=self.train_x.to(there),
            train_y=self.train_y.to(where),
            test_x=self.test_x.to(there),
            test_y=self.test_y.to(where),
        )

    def rows(self, picked: Tensor) -> tuple[Tensor, Tensor]:
        """Return some training images and their labels, both on the labels' device.

        Args:
            picked: indices of images, int64 ``[b]``, on any device; on the pixels' device without
                synchronisation.

        Returns:
            uint8 ``[b, ch, H, W]`` and int64 ``[b]``.
        """
        where = self.train_y.device
        x = self.train_x.index_select(0, picked.to(self.train_x.device))
        return x.to(where), self.train_y.index_select(0, picked.to(where))

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

    def subset(self, train: int | None, test: int | None = None) -> DataSet:
        """Return the first images of each split, as views of the same memory.

        Args:
            train: how many training images; None keeps all.
            test: how many test images; None keeps all.

        Returns:
            The smaller set, whose fingerprint follows from this one's and the two numbers; this
            set itself where nothing is left out.

        Raises:
            UsageError: a number is below 1 or above the size of its split.

        Example:
            >>> from fgbench.data.synthetic import synthetic
            >>> len(synthetic(train=20).subset(8).train_y)
            8
        """
        n_train = _count(self.name, "training", train, len(self.train_y))
        n_test = _count(self.name, "test", test, len(self.test_y))
        if (n_train, n_test) == (len(self.train_y), len(self.test_y)):
            return self
        return replace(
            self,
            train_x=self.train_x[:n_train],
            train_y=self.train_y[:n_train],
            test_x=self.test_x[:n_test],
            test_y=self.test_y[:n_test],
            fingerprint=short_hash(f"{self.fingerprint} first {n_train} {n_test}".encode()),
        )

    def held_out(self, count: int) -> DataSet:
        """Return a set whose test split is the last training images, removed from the training split.

        Options chosen on it, such as the learning rate, have not seen the test images.

        Args:
            count: how many training images are held out; 0 changes nothing.

        Returns:
            The set for choosing options, whose fingerprint follows from this one's and the number.

        Raises:
            UsageError: the number is negative or leaves nothing to train on.

        Example:
            >>> from fgbench.data.synthetic import synthetic
            >>> data = synthetic(train=20).held_out(5)
            >>> len(data.train_y), len(data.test_y)
            (15, 5)
        """
        if count == 0:
            return self
        have = len(self.train_y)
        if not 0 < count < have:
            raise UsageError(
                f"{self.name} has {have} training images: from 0 to {have - 1} can be held out, got {count}"
            )
        return replace(
            self,
            train_x=self.train_x[:-count],
            train_y=self.train_y[:-count],
            test_x=self.train_x[-count:],
            test_y=self.train_y[-count:],
            fingerprint=short_hash(f"{self.fingerprint} held out {count}".encode()),
        )


def _room(device: torch.device) -> float:
    """Return how many bytes of pixels are put on a device at most."""
    if device.type != "cuda":
        return torch.inf
    return torch.cuda.mem_get_info(device)[0] / 4


def short_hash(content: bytes) -> str:
    """Return the first 16 hexadecimal digits of the SHA-256 of some bytes.

    Args:
        content: the bytes.

    Returns:
        16 hexadecimal digits.

    Example:
        >>> short_hash(b"")
        'e3b0c44298fc1c14'
    """
    return sha256(content).hexdigest()[:16]


def fingerprint(name: str, *tensors: Tensor) -> str:
    """Return the fingerprint of a data set in memory, a hash of its name and all its bytes.

    Args:
        name: the registered name.
        tensors: contiguous CPU tensors, in the order train_x, train_y, test_x, test_y.

    Returns:
        16 hexadecimal digits. Cost: one pass over the bytes, about 0.1 s for CIFAR-10.

    Example:
        >>> len(fingerprint("mine", torch.zeros(2, dtype=torch.uint8)))
        16
    """
    digest = sha256(f"{name}\n".encode())
    for tensor in tensors:
        digest.update(f"{tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.reshape(-1).numpy().data)
    return digest.hexdigest()[:16]


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


def _check_split(what: str, x: Tensor, y: Tensor, classes: int) -> None:
    """Raise DataError for a split whose pixels and labels contradict each other."""
    if x.dtype != torch.uint8 or x.ndim != 4 or y.dtype != torch.int64 or y.ndim != 1:
        raise DataError(
            f"{what} needs uint8 pixels [N, ch, H, W] and int64 labels [N], not "
            f"{x.dtype} {list(x.shape)} and {y.dtype} {list(y.shape)}"
        )
    if len(x) != len(y) or not len(y):
        raise DataError(f"{what} has {len(x)} images and {len(y)} labels")
    low, high = int(y.min()), int(y.max())
    if low < 0 or high >= classes:
        raise DataError(f"{what} has labels {low} to {high}, but {classes} classes")


def _count(name: str, split: str, wanted: int | None, there: int) -> int:
    """Return how many images of a split are kept; refuse a number out of range."""
    if wanted is None:
        return there
    if not 1 <= wanted <= there:
        raise UsageError(
            f"{name} has {there} {split} images: a subset has 1 to {there}, got {wanted}"
        )
    return wanted
