"""The type of every data set: inputs and targets of two splits, and what is predicted from them."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from hashlib import sha256
from typing import TYPE_CHECKING, Any

import torch
from torch.utils._pytree import tree_leaves, tree_map

from fgbench.errors import DataError, UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Self

    from torch import Tensor

    from fgbench.core.losses import Loss
    from fgbench.core.noise.keyed import Noise
    from fgbench.data.augment import Policy
    from fgbench.data.goal import Goal, Metric

Batch = Any
"""A tensor, or a tuple or dictionary of tensors, whose first axis is that of the examples."""


@dataclass(frozen=True, eq=False)
class DataSet:
    """A training and a test split, and the goal of a network on them.

    The two kinds are :class:`fgbench.data.images.Images`, whose pixels are normalised batch by batch, and
    :class:`fgbench.data.arrays.Arrays`, whose inputs go to the network as they are.

    Args:
        name: the registered name.
        train_x: training inputs, ``[N, ...]``; may lie over a memory map.
        train_y: training targets, ``[N, ...]``.
        test_x: test inputs, as ``train_x``.
        test_y: test targets, as ``train_y``.
        fingerprint: 16 hexadecimal digits that identify the bytes of the data set.
        source: where the data come from, and how they differ from the original.

    Attributes:
        goal: what is predicted, the loss and the metrics.
        classes: size of the last axis of a prediction.

    Raises:
        DataError: the two splits, or inputs and targets, do not fit each other.

    Example:
        >>> from fgbench.data.synthetic import synthetic
        >>> data = synthetic(size=4, train=20, test=10)
        >>> data.shape, data.outputs, data.train_size, data.main
        ((1, 4, 4), (10,), 20, 'error')
        >>> x, y = data.sample(2)
        >>> x.dtype, y
        (torch.float32, tensor([0, 1]))
    """

    name: str
    train_x: Batch = field(repr=False)
    train_y: Batch = field(repr=False)
    test_x: Batch = field(repr=False)
    test_y: Batch = field(repr=False)
    fingerprint: str = field(kw_only=True)
    source: str = field(default="", kw_only=True)

    items = "examples"
    """The word for examples in messages."""

    if (
        TYPE_CHECKING
    ):  # fields of one kind and properties of the other, in whose way nothing may stand

        @property
        def goal(self) -> Goal:
            """The prediction's shape, the loss and the metrics."""

        @property
        def classes(self) -> int:
            """Size of the last axis of a prediction."""

    def __post_init__(self) -> None:
        for what, x, y in self._splits():
            counts = [len(t) for t in tree_leaves((x, y))]
            if len(set(counts)) > 1 or not counts[0]:
                targets = len(tree_leaves(y)[0])
                raise DataError(
                    f"{self.name}: the {what} split has {counts[0]} {self.items} and {targets} "
                    f"{'labels' if self._labelled else 'targets'}"
                )
        for what, train, test in (
            (self.items, self.train_x, self.test_x),
            ("targets", self.train_y, self.test_y),
        ):
            ours, theirs = ([tuple(t.shape[1:]) for t in tree_leaves(s)] for s in (train, test))
            if ours != theirs:
                one, two = (", ".join(map(str, shapes)) for shapes in (ours, theirs))
                raise DataError(f"{self.name}: training {what} are {one}, test {what} {two}")

    # what is predicted

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one example's input; of the first tensor where there are several."""
        return tuple(tree_leaves(self.train_x)[0].shape[1:])

    @property
    def outputs(self) -> tuple[int, ...]:
        """Shape of one example's prediction."""
        return self.goal.outputs

    @property
    def loss(self) -> Loss:
        """The loss per example, from predictions and targets."""
        return self.goal.loss

    @property
    def metrics(self) -> Mapping[str, Metric]:
        """The metrics of a split by name, beside the loss."""
        return self.goal.metrics

    @property
    def main(self) -> str:
        """Name of the metric that is shown first."""
        return self.goal.main

    # how many, and where

    @property
    def train_size(self) -> int:
        """Number of training examples."""
        return len(tree_leaves(self.train_y)[0])

    @property
    def test_size(self) -> int:
        """Number of test examples."""
        return len(tree_leaves(self.test_y)[0])

    @property
    def device(self) -> torch.device:
        """Where targets lie, and the batches of :meth:`rows`."""
        where: torch.device = tree_leaves(self.train_y)[0].device
        return where

    @property
    def stored(self) -> torch.device:
        """Where inputs lie: on the device, or on the host where they do not fit."""
        where: torch.device = tree_leaves(self.train_x)[0].device
        return where

    def to(self, device: torch.device | str) -> Self:
        """Return the data set with its tensors on a device.

        Inputs that would take more than a quarter of the device's free memory stay where they are, and
        :meth:`rows` copies the rows that are asked for.

        Args:
            device: the destination. A memory-mapped set that fits is read completely.

        Returns:
            The same data; tensors that are already there are shared.
        """
        where = torch.device(device)
        size = sum(t.nbytes for t in tree_leaves((self.train_x, self.test_x)))
        there = where if size <= _room(where) else self.stored
        return replace(
            self,
            train_x=_to(self.train_x, there),
            train_y=_to(self.train_y, where),
            test_x=_to(self.test_x, there),
            test_y=_to(self.test_y, where),
        )

    # batches

    def rows(self, picked: Tensor) -> tuple[Batch, Batch]:
        """Return some training examples as they are stored, on the targets' device.

        Args:
            picked: indices of examples, int64 ``[b]``, on any device; on the inputs' device without
                synchronisation.

        Returns:
            Inputs ``[b, ...]`` and targets ``[b, ...]``.
        """
        stored, where = picked.to(self.stored), picked.to(self.device)
        x = tree_map(lambda t: t.index_select(0, stored).to(self.device), self.train_x)
        return x, tree_map(lambda t: t.index_select(0, where), self.train_y)

    def here(self, x: Batch, y: Batch, rows: slice) -> tuple[Batch, Batch]:
        """Return some examples of a split, as stored, on the targets' device.

        Args:
            x: the split's inputs.
            y: the split's targets.
            rows: which of them.
        """
        return _to(_cut(x, rows), self.device), _cut(y, rows)

    def prepare(
        self, x: Batch, y: Batch, dtype: torch.dtype = torch.float32
    ) -> tuple[Batch, Batch]:
        """Return a batch as the network and the loss take it: here, real numbers in one floating type.

        Args:
            x: inputs as stored, ``[b, ...]``.
            y: targets as stored, ``[b, ...]``.
            dtype: floating type of the network.

        Returns:
            Inputs and targets; integers stay integers.
        """
        return _floats(x, dtype), _floats(y, dtype)

    def batch(self, picked: Tensor, dtype: torch.dtype = torch.float32) -> tuple[Batch, Batch]:
        """Return some training examples, prepared.

        Args:
            picked: indices of examples, int64 ``[b]``.
            dtype: floating type of the network.
        """
        return self.prepare(*self.rows(picked), dtype)

    def sample(
        self,
        n: int,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str | None = None,
    ) -> tuple[Batch, Batch]:
        """Return the first training examples as the network sees them.

        Args:
            n: how many; all where there are fewer.
            dtype: floating type of the network.
            device: where they go; the data set's own where None.
        """
        x, y = self.batch(torch.arange(min(n, self.train_size)), dtype)
        return (x, y) if device is None else (_to(x, device), _to(y, device))

    def augmented(self, x: Batch, policy: Policy, noise: Noise) -> Batch:
        """Return training inputs changed at random, as stored; only images can be.

        Args:
            x: inputs as stored.
            policy: the changes.
            noise: of this batch.

        Raises:
            UsageError: for data that are no images.
        """
        raise UsageError(
            f"{self.name} has no images: flip, crop, colours, blur and solarise change images only"
        )

    def applied(self, network: Any) -> Any:
        """Return a network as it is trained on these data; unchanged, unless they are an equation.

        Args:
            network: what an architecture made.
        """
        return network

    # parts

    def subset(self, train: int | None, test: int | None = None) -> Self:
        """Return the first examples of each split, as views of the same memory.

        Args:
            train: how many training examples; None keeps all.
            test: how many test examples; None keeps all.

        Returns:
            The smaller set, whose fingerprint follows from this one's and the two numbers; this
            set itself where nothing is left out.

        Raises:
            UsageError: a number is below 1 or above the size of its split.

        Example:
            >>> from fgbench.data.synthetic import synthetic
            >>> synthetic(train=20).subset(8).train_size
            8
        """
        n_train = self._count("training", train, self.train_size)
        n_test = self._count("test", test, self.test_size)
        if (n_train, n_test) == (self.train_size, self.test_size):
            return self
        return replace(
            self,
            train_x=_cut(self.train_x, slice(n_train)),
            train_y=_cut(self.train_y, slice(n_train)),
            test_x=_cut(self.test_x, slice(n_test)),
            test_y=_cut(self.test_y, slice(n_test)),
            fingerprint=short_hash(f"{self.fingerprint} first {n_train} {n_test}".encode()),
        )

    def held_out(self, count: int) -> Self:
        """Return a set whose test split is the last training examples, removed from the training split.

        Options chosen on it, such as the learning rate, have not seen the test examples.

        Args:
            count: how many training examples are held out; 0 changes nothing.

        Returns:
            The set for choosing options, whose fingerprint follows from this one's and the number.

        Raises:
            UsageError: the number is negative or leaves nothing to train on.

        Example:
            >>> from fgbench.data.synthetic import synthetic
            >>> data = synthetic(train=20).held_out(5)
            >>> data.train_size, data.test_size
            (15, 5)
        """
        if count == 0:
            return self
        have = self.train_size
        if not 0 < count < have:
            raise UsageError(
                f"{self.name} has {have} training {self.items}: from 0 to {have - 1} can be held out, "
                f"got {count}"
            )
        return replace(
            self,
            train_x=_cut(self.train_x, slice(-count)),
            train_y=_cut(self.train_y, slice(-count)),
            test_x=_cut(self.train_x, slice(-count, None)),
            test_y=_cut(self.train_y, slice(-count, None)),
            fingerprint=short_hash(f"{self.fingerprint} held out {count}".encode()),
        )

    def _splits(self) -> tuple[tuple[str, Batch, Batch], ...]:
        """Return the splits with the words that messages have for them."""
        return (
            ("training", self.train_x, self.train_y),
            ("test", self.test_x, self.test_y),
        )

    @property
    def _labelled(self) -> bool:
        """Whether the targets are labels."""
        return not tree_leaves(self.train_y)[0].is_floating_point()

    def _count(self, split: str, wanted: int | None, there: int) -> int:
        """Return how many examples of a split are kept; refuse a number out of range."""
        if wanted is None:
            return there
        if not 1 <= wanted <= there:
            raise UsageError(
                f"{self.name} has {there} {split} {self.items}: a subset has 1 to {there}, got {wanted}"
            )
        return wanted


def _to(batch: Batch, device: torch.device | str) -> Batch:
    """Return a batch on a device."""
    return tree_map(lambda t: t.to(device), batch)


def _cut(batch: Batch, rows: slice) -> Batch:
    """Return some rows of a batch, as views."""
    return tree_map(lambda t: t[rows], batch)


def _floats(batch: Batch, dtype: torch.dtype) -> Batch:
    """Return a batch with its real numbers in a floating type."""
    return tree_map(lambda t: t.to(dtype) if t.is_floating_point() else t, batch)


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
