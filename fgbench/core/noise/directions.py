"""Laws of random directions, and directions drawn block by block on demand.

Every law has E v = 0 and E[v vᵀ] = I, which is all that unbiasedness needs; what differs is the fourth
moment, and with it the variance. A sphere law normalises each direction of each place, per example for
activities, so that its squared norm is exactly its dimension.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod, sqrt
from typing import TYPE_CHECKING, Protocol

import torch

from fgbench.errors import unknown

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from torch import Tensor

Shape = tuple[int, ...]
ROUND = 64
"""Numbers made at a time, 16 normals or 64 signs: the last of a draw differ where it is no multiple."""


class PerExample(dict[str, Shape]):
    """Place name to shape, for places whose first axis is the example axis.

    Args:
        places: name to shape ``[b, ...]``.
        repeats: how many times the batch repeats its examples, ``(v b)`` with v of this size; directions
            are drawn for one run of them and are the same in all.
    """

    def __init__(
        self, places: Mapping[str, Shape] | Iterable[tuple[str, Shape]] = (), repeats: int = 1
    ) -> None:
        super().__init__(places)
        self.repeats = repeats

    @property
    def drawn(self) -> PerExample:
        """The places of one run: what is drawn before it is repeated."""
        return PerExample({n: (s[0] // self.repeats, *s[1:]) for n, s in self.items()})


def repeated(tensors: Tensor, repeats: int) -> Tensor:
    """Return directions ``[n, b, ...]`` as ``[n, (v b), ...]``, the same for every v."""
    return torch.cat([tensors] * repeats, 1) if repeats > 1 else tensors


@dataclass(frozen=True)
class Law:
    """A law of directions.

    Args:
        name: what the user types.
        kind: the primitive drawn: ``normal``, ``sign`` or ``uniform`` on [0, 1).
        kurtosis: E vᵢ⁴; for the sphere the value that gives its total variance, 1.
        shape: from primitive values ``[m, *place]`` to directions; ``per_example`` says whether the
            first axis of the place is the example axis.
        normalised: whether each direction of each place is scaled to norm √d.
    """

    name: str
    kind: str
    kurtosis: float
    shape: Callable[[Tensor, bool], Tensor]
    normalised: bool = False

    @property
    def as_drawn(self) -> bool:
        """Whether directions are the primitive itself."""
        return self.shape is _as_drawn

    def moments(self, d: int) -> tuple[float, float]:
        """Return E vᵢ² vⱼ² for i ≠ j and E vᵢ⁴ of the d coordinates of one direction.

        Independent coordinates have 1 and κ; of a fixed norm √d on a sphere, d/(d + 2) and three times it.
        """
        if self.normalised:
            return d / (d + 2), 3 * d / (d + 2)
        return 1.0, self.kurtosis


def _as_drawn(raw: Tensor, per_example: bool) -> Tensor:
    """Return the primitive itself."""
    return raw


def _on_sphere(raw: Tensor, per_example: bool) -> Tensor:
    """Scale to norm √d, one norm per direction and, for activities, per example."""
    keep = 2 if per_example else 1
    flat = raw.reshape(*raw.shape[:keep], -1)
    norm: Tensor = flat.norm(dim=-1, keepdim=True)
    return (flat * (sqrt(flat.shape[-1]) / norm)).reshape(raw.shape)


def _centred(raw: Tensor, per_example: bool) -> Tensor:
    """Map [0, 1) to [-√3, √3), which has unit variance."""
    return raw.sub_(0.5).mul_(2 * sqrt(3.0))


LAWS = {
    law.name: law
    for law in (
        Law("gaussian", "normal", 3.0, _as_drawn),
        Law("rademacher", "sign", 1.0, _as_drawn),
        Law("sphere", "normal", 1.0, _on_sphere, normalised=True),
        Law("uniform", "uniform", 9 / 5, _centred),
    )
}


def law(name: str) -> Law:
    """Return the law of that name.

    Args:
        name: one of ``gaussian``, ``rademacher``, ``sphere``, ``uniform``.

    Returns:
        The law.

    Raises:
        UsageError: for an unknown name, with the nearest valid one.
    """
    if name not in LAWS:
        raise unknown("law of directions", name, LAWS)
    return LAWS[name]


def block_size(shape: Shape) -> int:
    """Return how many directions one draw of this shape makes: 1 from 4,096 elements up, 16 below.

    Small draws are grouped because seeding costs as much as 500 normals; the size depends on the shape
    alone, so that a direction never depends on how many were asked for.
    """
    return 1 if prod(shape) >= 4096 else 16


class Draw(Protocol):
    """What directions need from the noise: a primitive by place, block and shape."""

    def __call__(
        self, kind: str, name: str, block: int, shape: Shape, out: Tensor | None = None, /
    ) -> Tensor:
        """Return the primitive ``kind`` of one block, ``[*shape]``, written into ``out`` where given."""


class Pieces(Protocol):
    """The same by runs of examples, ``shape`` being that of all together."""

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
    ) -> None:
        self.shapes = dict(shapes)
        self._drawn = PerExample(self.shapes, repeats).drawn if repeats > 1 else self.shapes
        self._repeats = repeats
        self.n = n
        self.law = law
        self._draw = draw
        self._pieces = pieces
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
        )

    def forget(self) -> None:
        """Keep nothing: what is asked for again is redrawn."""
        self._kept, self._held = {}, 0

    def _block(self, name: str, index: int) -> Tensor:
        """Draw block ``index`` of a place."""
        shape = self._drawn[name]
        raw = self._draw(self.law.kind, name, index, (block_size(shape), *shape))
        block = repeated(self.law.shape(raw, self._per_example), self._repeats)
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

    def plain(self, name: str) -> bool:
        """Whether all directions of a place are whole blocks of the primitive as it is drawn."""
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
        """Whether a place may be drawn by runs: a block of its own, and what a generator does not round."""
        if len(runs) == 1 or self._repeats > 1 or block_size(shape[1:]) > 1:
            return False
        each = [(run.stop - run.start) * prod(shape[2:]) for run in runs]
        return each[-1] >= ROUND and all(size % ROUND == 0 for size in each[:-1])


class FixedDirections(Directions):
    """Directions given as tensors, for designed experiments and tests.

    Args:
        tensors: place name to ``[n, *place]``; E[v vᵀ] = I holds over the n given ones when they are
            √n times an orthonormal basis, which makes quadratic estimates exact.
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
        """Tell that nothing is drawn."""
        return False


def _refuse(kind: str, name: str, block: int, shape: Shape, out: Tensor | None = None, /) -> Tensor:
    """Refuse to draw: fixed directions have no noise behind them."""
    raise RuntimeError(f"fixed directions were asked to draw {kind} for {name!r}")


def along(
    places: Mapping[str, Shape], n: int, law_name: str, draw: Draw, pieces: Pieces | None = None
) -> Directions:
    """Return ``n`` directions along places, per example and repeated where the places say so."""
    per_example, repeats = isinstance(places, PerExample), getattr(places, "repeats", 1)
    return Directions(places, n, law(law_name), draw, per_example, repeats=repeats, pieces=pieces)


def fixed(tensors: Mapping[str, Tensor], places: Mapping[str, Shape]) -> FixedDirections:
    """Return given directions along places, repeated where the places say so."""
    repeats = getattr(places, "repeats", 1)
    return FixedDirections({name: repeated(t, repeats) for name, t in tensors.items()})
