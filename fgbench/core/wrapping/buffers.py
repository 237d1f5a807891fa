"""Buffers of a module, which its own forward pass may write: counters, running means."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from torch import nn


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
def held(buffers: Sequence[Buffer]) -> Iterator[list[Tensor | None]]:
    """Let the block write into copies of buffers, which are dropped at its end.

    A graph that is built inside the block goes on with the copies.

    Args:
        buffers: of `buffers_kept`.

    Yields:
        The copies.

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
        yield [buffer.tensor for buffer in buffers]
    finally:
        for buffer, old in before:
            buffer.put(old)


@dataclass(frozen=True)
class Written:
    """What a pass has written into the copies of buffers, or put in their place.

    Args:
        values: of each buffer after the pass, None where it has none.
        places: for each value the number of the buffer whose copy it is, None for a new tensor.

    Example:
        >>> norm = torch.nn.BatchNorm1d(2)
        >>> counter = [Buffer(norm, "num_batches_tracked")]
        >>> with held(counter) as copies:
        ...     _ = norm(torch.ones(3, 2))
        ...     written = Written.of(counter, copies)
        >>> int(norm.num_batches_tracked)
        0
        >>> written.put(counter)
        >>> int(norm.num_batches_tracked)
        1
    """

    values: tuple[Tensor | None, ...]
    places: tuple[int | None, ...]

    @classmethod
    def of(cls, buffers: Sequence[Buffer], copies: Sequence[Tensor | None]) -> Written | None:
        """Return what stands in buffers now; None where that is no plain tensor, such as a Dual.

        Args:
            buffers: inside a block of `held`.
            copies: that it yielded.
        """
        now = [buffer.tensor for buffer in buffers]
        if any(t is not None and not isinstance(t, Tensor) for t in now):
            return None
        first = {id(t): k for k, t in reversed([*enumerate(copies)]) if t is not None}
        return cls(
            tuple(None if t is None else t.detach() for t in now),
            tuple(None if t is None else first.get(id(t)) for t in now),
        )

    def put(self, buffers: Sequence[Buffer]) -> None:
        """Write the values into the buffers: in place where the pass wrote in place.

        Args:
            buffers: those of :meth:`of`, as they were before the pass.
        """
        before = [buffer.tensor for buffer in buffers]
        with torch.no_grad():
            for buffer, value, place in zip(buffers, self.values, self.places, strict=True):
                old = None if place is None else before[place]
                if old is None or value is None or old.shape != value.shape:
                    buffer.put(value)
                else:
                    buffer.put(old.copy_(value))


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
