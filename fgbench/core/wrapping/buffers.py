"""Buffers of a module, which its own forward pass may write: counters, running means."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple

import torch

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from torch import Tensor, nn


class Buffer(NamedTuple):
    """The place of a buffer: the submodule that holds it, and its name there.

    Example:
        >>> norm = torch.nn.BatchNorm1d(2)
        >>> Buffer(norm, "running_mean").tensor
        tensor([0., 0.])
    """

    holder: nn.Module
    name: str

    @property
    def tensor(self) -> Tensor | None:
        """The tensor that is there now."""
        return self.holder._buffers.get(self.name)

    def put(self, tensor: Tensor | None) -> None:
        """Put another tensor there."""
        self.holder._buffers[self.name] = tensor


@contextmanager
def buffers_kept(module: nn.Module) -> Iterator[list[Buffer]]:
    """Give a module's buffers their values back at the end of the block: counters, running means.

    Args:
        module: the module.

    Yields:
        A list that holds the buffers that were written, from the end of the block on.

    Example:
        >>> norm = torch.nn.BatchNorm1d(2)
        >>> with buffers_kept(norm) as written:
        ...     _ = norm(torch.ones(3, 2))
        >>> int(norm.num_batches_tracked), [buffer.name for buffer in written]
        (0, ['running_mean', 'running_var', 'num_batches_tracked'])
    """
    places = [Buffer(m, name) for m in module.modules() for name in m._buffers]
    before = [(place, place.tensor) for place in places]
    values = [None if t is None else t.detach().clone() for _, t in before]
    versions = [_version(t) for _, t in before]
    written: list[Buffer] = []
    try:
        yield written
    finally:
        with torch.no_grad():
            for (place, old), value, version in zip(before, values, versions, strict=True):
                now = place.tensor
                if now is not old or _version(now) != version or not _same(now, value):
                    written.append(place)
                    place.put(old)
                    if old is not None and value is not None:
                        old.copy_(value)


@contextmanager
def held(buffers: Sequence[Buffer]) -> Iterator[None]:
    """Let the block write into copies of buffers, which are dropped at its end.

    A graph that is built inside the block goes on with the copies.

    Args:
        buffers: of `buffers_kept`.

    Example:
        >>> norm = torch.nn.BatchNorm1d(2)
        >>> with held([Buffer(norm, "num_batches_tracked")]):
        ...     _ = norm(torch.ones(3, 2))
        >>> int(norm.num_batches_tracked)
        0
    """
    before = [(buffer, buffer.tensor) for buffer in buffers]
    copies: dict[int, Tensor] = {}  # a tensor in two places stays one tensor
    try:
        for buffer, old in before:
            if old is not None:
                buffer.put(copies.setdefault(id(old), old.detach().clone()))
        yield
    finally:
        for buffer, old in before:
            buffer.put(old)


def _version(tensor: Tensor | None) -> int:
    """Return how often a tensor was written in place, as far as torch counts it."""
    return -1 if tensor is None or tensor.is_inference() else tensor._version


def _same(now: Tensor | None, before: Tensor | None) -> bool:
    """Check whether a buffer has the values it had, NaN being equal to itself."""
    if now is None or before is None:
        return now is before
    return bool(
        now.shape == before.shape and ((now == before) | ((now != now) & (before != before))).all()
    )
