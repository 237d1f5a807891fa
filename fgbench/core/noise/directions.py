"""Laws of random directions, and directions drawn block by block on demand.

Every law has E v = 0 and E[v vᵀ] = I, which is all that unbiasedness needs; what differs is the fourth
moment, and with it the variance. A sphere law normalises each direction of each place, per example for
activities, so that its squared norm is exactly its dimension. Directions of low rank, or within a subspace,
have a part that is drawn anew and a part that may live for several steps.
"""

from __future__ import annotations

import copy
from contextlib import nullcontext
from itertools import pairwise
from math import gcd, prod
from numbers import Integral
from typing import TYPE_CHECKING, Any, Protocol

import torch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from torch import Tensor
from fgbench.core.noise.laws import (
    LAWS,
    ROUND,
    Law,
    MatrixLaw,
    PerExample,
    Shape,
    block_size,
    law,
    repeated,
)
from fgbench.core.operation_counter import uncounted
from fgbench.errors import UsageError


class Draw(Protocol):
    """A function that draws a primitive by place, block and shape.

    Example:
        >>> def ones(kind, name, block, shape, out=None):
        ...     return torch.ones(shape) if out is None else out.fill_(1)
        >>> draw: Draw = ones
        >>> Directions({"w": (2,)}, n=1, law=law("gaussian"), draw=draw).rows("w", 0, 1)
        tensor([[1., 1.]])
    """

    def __call__(
        self, kind: str, name: str, block: int, shape: Shape, out: Tensor | None = None, /
    ) -> Tensor:
        """Return the primitive ``kind`` of one block, ``[*shape]``, written into ``out`` where given."""


class Pieces(Protocol):
    """A function that draws a primitive by runs of examples; ``shape`` is that of all examples.

    Example:
        >>> def ones(kind, name, block, shape, runs):
        ...     return (torch.ones(shape)[:, run] for run in runs)
        >>> pieces: Pieces = ones
        >>> runs = [slice(0, 4), slice(4, 5)]
        >>> [tuple(piece.shape) for piece in pieces("normal", "l0", 0, (1, 5, 3), runs)]
        [(1, 4, 3), (1, 1, 3)]
    """

    def __call__(
        self, kind: str, name: str, block: int, shape: Shape, runs: Sequence[slice]
    ) -> Iterator[Tensor]:
        """Return ``[block, run, ...]`` for each run."""


class Directions:
    """``n`` directions along named places, drawn on demand and repeatable.

    Args:
        shapes: place name to the shape of one direction there.
        n: number of directions.
        law: the law they follow, or ``fixed`` when given.
        draw: the noise's primitive.
        per_example: whether the first axis of the places is the example axis.
        budget: bytes of directions kept; what is beyond is redrawn when asked for again.
        masks: factors applied to the drawn directions, 0 where a unit is off.
        repeats: how many times the example axis repeats what is drawn, see :class:`PerExample`.
        pieces: the noise's primitive by runs of examples, where it has one.
        held: draws the part of a direction that lives for several steps, for laws that have one.

    Example:
        >>> from fgbench.core.noise.keyed import Noise
        >>> u = Noise(0).directions({"w": (2, 3)}, n=4, law="rademacher")
        >>> tuple(u.rows("w", 1, 3).shape)
        (2, 2, 3)
    """

    def __init__(
        self,
        shapes: Mapping[str, Shape],
        n: int,
        law: Law,
        draw: Draw,
        per_example: bool = False,
        budget: int = 1 << 28,
        masks: Mapping[str, Tensor] | None = None,
        repeats: int = 1,
        pieces: Pieces | None = None,
        held: Draw | None = None,
    ) -> None:
        self.shapes = dict(shapes)
        self._drawn = PerExample(self.shapes, repeats).drawn if repeats > 1 else self.shapes
        self._repeats = repeats
        self.n = n
        self.law = law
        self._draw = draw
        self._pieces = pieces
        self._held_draw = held
        self._per_example = per_example
        self._budget = budget
        self._masks = dict(masks or {})
        self._kept: dict[tuple[str, int, int], Tensor] = {}
        self._held = 0

    @property
    def names(self) -> tuple[str, ...]:
        """The places these directions run along."""
        return tuple(self.shapes)

    def masked(self, masks: Mapping[str, Tensor]) -> Directions:
        """Return the same directions, zero where a mask is zero.

        Args:
            masks: place name to a factor of the place's shape.

        Returns:
            New directions; places without a mask are unchanged.
        """
        old = self._masks
        masks = {**old, **{n: m * old[n] if n in old else m for n, m in masks.items()}}
        return Directions(
            self.shapes,
            self.n,
            self.law,
            self._draw,
            self._per_example,
            self._budget,
            masks,
            self._repeats,
            self._pieces,
            self._held_draw,
        )

    def forget(self) -> None:
        """Drop the directions kept in memory; they are redrawn when asked for again."""
        self._kept, self._held = {}, 0

    def _block(self, name: str, index: int) -> Tensor:
        """Draw block ``index`` of a place."""
        shape = self._drawn[name]
        size, part = block_size(shape), self.law.held(shape)
        raw = self._draw(self.law.kind, name, index, (size, *self.law.drawn(shape)))
        held = None
        if part is not None:
            assert self._held_draw is not None
            held = self._held_draw(self.law.kind, name, index, (size, *part))
        with (
            nullcontext() if held is None else uncounted()
        ):  # products of factors are no work of a method
            made = self.law.made(raw, held, shape, self._per_example)
        block = repeated(made, self._repeats)
        return block * self._masks[name] if name in self._masks else block

    def _blocks(self, name: str, first: int, last: int) -> Tensor:
        """Return blocks ``first`` to ``last`` of a place in one tensor, kept while the budget lasts."""
        key = (name, first, last)
        if key in self._kept:
            return self._kept[key]
        found = self._block(name, first)
        if last > first:
            size = len(found)
            whole = found.new_empty((last - first + 1) * size, *found.shape[1:])
            whole[:size] = found
            for i in range(first + 1, last + 1):
                whole[(i - first) * size : (i - first + 1) * size] = self._block(name, i)
            found = whole
        held = found.numel() * found.element_size()
        if self._held + held <= self._budget:
            self._kept[key] = found
            self._held += held
        return found

    def rows(self, name: str, start: int, stop: int) -> Tensor:
        """Return directions ``start`` to ``stop`` of one place: ``[stop - start, *place]``."""
        size = block_size(self._drawn[name])
        first = start // size
        blocks = self._blocks(name, first, (stop - 1) // size)
        return blocks[start - first * size : stop - first * size]

    def unkept(self) -> Directions:
        """Return the same directions, of which nothing is kept in memory."""
        same = copy.copy(self)
        same._budget = 0
        same.forget()
        return same

    def cuts(self, name: str, limit: int | None) -> list[slice]:
        """Return the slices of a place's first axis that one direction can be drawn by.

        Args:
            name: the place.
            limit: most numbers of a slice where that is possible; None is all of them.

        Returns:
            One slice where it is drawn as a whole: its block has several directions, or its law looks at all
            of it.
        """
        shape = self.shapes[name]
        apart = self._pieces is not None and self.law.as_drawn and self._repeats == 1
        if limit is None or not apart or block_size(shape) > 1:
            return [slice(None)]
        rest = prod(shape[1:])
        unit = ROUND // gcd(ROUND, rest)
        size = max(unit, limit // rest // unit * unit)
        starts = [*range(0, shape[0], size)]
        if len(starts) > 1 and (shape[0] - starts[-1]) * rest < ROUND:
            starts.pop()
        return [slice(*ends) for ends in pairwise([*starts, shape[0]])]

    def pieces(self, name: str, row: int, limit: int | None = None) -> Iterator[tuple[Any, Tensor]]:
        """Iterate over one direction of a place in pieces: the values of :meth:`rows`, not kept.

        Args:
            name: the place.
            row: index of the direction.
            limit: most numbers of a piece, see :meth:`cuts`.

        Yields:
            The index of the piece in the place, and its values.
        """
        cuts = self.cuts(name, limit)
        if self._pieces is None or len(cuts) == 1:
            yield ..., self.rows(name, row, row + 1)[0]
            return
        raw = self._pieces(self.law.kind, name, row, (1, *self.shapes[name]), cuts)
        for cut, values in zip(cuts, raw, strict=True):
            piece = self.law.shape(values, self._per_example)[0]
            yield cut, piece * self._masks[name][cut] if name in self._masks else piece

    def plain(self, name: str) -> bool:
        """Return whether the directions of a place are full blocks of the primitive, unchanged."""
        changed = self._repeats > 1 or name in self._masks or not self.law.as_drawn
        return not (changed or self.n % block_size(self.shapes[name]))

    def chunk(self, start: int, stop: int) -> dict[str, Tensor]:
        """Return directions ``start`` to ``stop`` of every place."""
        return {name: self.rows(name, start, stop) for name in self.shapes}

    def chunks(self, size: int) -> Iterator[tuple[int, dict[str, Tensor]]]:
        """Iterate over ``(start, directions)`` in runs of at most ``size``."""
        for start in range(0, self.n, size):
            yield start, self.chunk(start, min(start + size, self.n))

    def runs(self, runs: Sequence[slice]) -> Iterator[dict[str, Tensor]]:
        """Iterate over runs of examples, with all directions of each: ``[n, run, ...]`` by place.

        Large places are drawn as the runs come, so that nothing of the size of the batch is there.

        Args:
            runs: slices of the example axis that follow each other and cover it.
        """
        places = [self._by_runs(name, runs) for name in self.shapes]
        for parts in zip(*places, strict=True):
            yield dict(zip(self.shapes, parts, strict=True))

    def _by_runs(self, name: str, runs: Sequence[slice]) -> Iterator[Tensor]:
        """Iterate over the runs of one place."""
        shape = (1, *self._drawn[name])
        if self._pieces is None or not self._streams(shape, runs):
            whole = self.rows(name, 0, self.n)
            yield from (whole[:, run] for run in runs)
            return
        draws = [self._pieces(self.law.kind, name, i, shape, runs) for i in range(self.n)]
        for run, *raw in zip(runs, *draws, strict=True):
            parts = [self.law.shape(one, self._per_example) for one in raw]
            u = torch.cat(parts) if len(parts) > 1 else parts[0]
            yield u * self._masks[name][run] if name in self._masks else u

    def _streams(self, shape: Shape, runs: Sequence[slice]) -> bool:
        """Return whether a place can be drawn by runs: one direction per block, of sizes without rounding."""
        if len(runs) == 1 or self._repeats > 1 or block_size(shape[1:]) > 1:
            return False
        each = [(run.stop - run.start) * prod(shape[2:]) for run in runs]
        return each[-1] >= ROUND and all(size % ROUND == 0 for size in each[:-1])


class FixedDirections(Directions):
    """Directions given as tensors, for designed workloads and tests.

    Args:
        tensors: place name to ``[n, *place]``; E[v vᵀ] = I holds over the n given ones when they are
            √n times an orthonormal basis, which makes quadratic estimates exact.

    Example:
        >>> u = FixedDirections({"w": torch.eye(2) * 2**0.5})
        >>> u.n, u.names
        (2, ('w',))
    """

    def __init__(self, tensors: Mapping[str, Tensor]) -> None:
        first = next(iter(tensors.values()))
        shapes = {name: tuple(t.shape[1:]) for name, t in tensors.items()}
        super().__init__(shapes, len(first), LAWS["gaussian"], _refuse)
        self.tensors = dict(tensors)

    def masked(self, masks: Mapping[str, Tensor]) -> Directions:
        """Return the given directions, zero where a mask is zero."""
        return FixedDirections(
            {name: t * masks[name] if name in masks else t for name, t in self.tensors.items()}
        )

    def rows(self, name: str, start: int, stop: int) -> Tensor:
        """Return the given directions ``start`` to ``stop`` of one place."""
        return self.tensors[name][start:stop]

    def plain(self, name: str) -> bool:
        """Return False: nothing is drawn."""
        return False


class ScaledDirections(Directions):
    """Directions, each times a number of its own.

    Args:
        base: the directions.
        factors: ``[n]``.

    Example:
        >>> base = FixedDirections({"w": torch.ones(2, 3)})
        >>> ScaledDirections(base, torch.tensor([1.0, -2.0])).rows("w", 1, 2)
        tensor([[-2., -2., -2.]])
    """

    def __init__(self, base: Directions, factors: Tensor) -> None:
        super().__init__(base.shapes, base.n, base.law, _refuse)
        self._base, self._factors = base, factors

    def masked(self, masks: Mapping[str, Tensor]) -> ScaledDirections:
        """Return the same directions, zero where a mask is zero."""
        return ScaledDirections(self._base.masked(masks), self._factors)

    def rows(self, name: str, start: int, stop: int) -> Tensor:
        """Return directions ``start`` to ``stop`` of one place, times their factors."""
        u = self._base.rows(name, start, stop)
        return u * self._factors[start:stop].reshape(-1, *[1] * (u.dim() - 1))

    def plain(self, name: str) -> bool:
        """Return False: no row is as it was drawn."""
        return False


class Coordinates(Directions):
    """Unit vectors along single coordinates of one place, made when they are asked for.

    Args:
        name: the place.
        indices: which coordinates of the flattened place, ``[n]``.
        like: a tensor of the place's shape, type and device.

    Example:
        >>> Coordinates("w", torch.tensor([2]), torch.zeros(2, 2)).rows("w", 0, 1)
        tensor([[[0., 0.],
                 [1., 0.]]])
    """

    def __init__(self, name: str, indices: Tensor, like: Tensor) -> None:
        super().__init__({name: tuple(like.shape)}, len(indices), LAWS["gaussian"], _refuse)
        self._indices, self._like = indices, like.detach()

    def rows(self, name: str, start: int, stop: int) -> Tensor:
        """Return unit vectors ``start`` to ``stop``."""
        some = self._indices[start:stop].to(self._like.device).unsqueeze(1)
        flat = self._like.new_zeros(len(some), self._like.numel()).scatter_(1, some, 1.0)
        return flat.reshape(-1, *self._like.shape)

    def masked(self, masks: Mapping[str, Tensor]) -> Directions:
        """Return the same directions, zero where a mask is zero."""
        return FixedDirections({n: self.rows(n, 0, self.n) for n in self.names}).masked(masks)

    def plain(self, name: str) -> bool:
        """Return False: nothing is drawn."""
        return False


def _refuse(kind: str, name: str, block: int, shape: Shape, out: Tensor | None = None, /) -> Tensor:
    """Refuse to draw: fixed directions have no noise behind them."""
    raise RuntimeError(f"fixed directions were asked to draw {kind} for {name!r}")


def along(
    places: Mapping[str, Shape],
    n: int,
    law_name: str,
    draw: Draw,
    pieces: Pieces | None = None,
    held: Callable[[int], Draw] | None = None,
) -> Directions:
    """Return ``n`` directions along places, per example and repeated where the places are.

    Args:
        places: place name to the shape of one direction.
        n: number of directions.
        law_name: name of their law.
        draw: the noise's primitive.
        pieces: the noise's primitive by runs of examples.
        held: from a number of steps to the primitive of noise that lives for so many.

    Returns:
        The directions.

    Raises:
        UsageError: if ``n`` is no whole number from 1 up, or a law of matrices is asked for along sites.

    Example:
        >>> from fgbench.core.noise.keyed import Noise
        >>> along({"w": (3,)}, 2, "gaussian", Noise(0).draw).names
        ('w',)
    """
    if not isinstance(n, Integral) or n < 1:
        raise UsageError(f"expected a number of directions from 1 up, got {n!r}")
    per_example, repeats = isinstance(places, PerExample), getattr(places, "repeats", 1)
    rule, lasting = law(law_name), None
    if isinstance(rule, MatrixLaw):
        if per_example:
            raise UsageError(f"law {law_name}: for directions along weights, not along activities")
        if held is None:  # the same noise would draw the two parts alike
            raise RuntimeError(f"law {law_name} needs noise that lives for several steps")
        lasting = held(rule.every)
    return Directions(
        places, n, rule, draw, per_example, repeats=repeats, pieces=pieces, held=lasting
    )


def fixed(tensors: Mapping[str, Tensor], places: Mapping[str, Shape]) -> FixedDirections:
    """Return given directions along places, repeated where the places are.

    Args:
        tensors: place name to ``[n, *place]``.
        places: place name to the shape of one direction.

    Returns:
        The directions.

    Example:
        >>> fixed({"w": torch.eye(2)}, {"w": (2,)}).n
        2
    """
    repeats = getattr(places, "repeats", 1)
    return FixedDirections({name: repeated(t, repeats) for name, t in tensors.items()})
