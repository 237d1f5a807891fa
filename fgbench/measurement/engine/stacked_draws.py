"""Several draws of one estimator in one call: their directions one after the other.

An estimator is handed the directions of many draws as if they were those of one. What it does to each
direction separately it then does to all draws at once. The caller compares the result with draws made one
by one, because an estimator may also combine directions.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

from fgbench.core.noise.directions import Directions
from fgbench.core.noise.keyed import Noise
from fgbench.core.noise.laws import block_size

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch import Tensor

    from fgbench.core.noise.laws import Shape


class Unstacked(Exception):
    """Raised where an estimator asks for noise other than directions, which many draws cannot share.

    Example:
        >>> StackedNoise([Noise(0)]).permutation("order", 3)
        Traceback (most recent call last):
            ...
        fgbench.measurement.engine.stacked_draws.Unstacked: noise.permutation
    """


class Fill(Protocol):
    """A function that draws a primitive of several draws at once.

    Example:
        >>> import torch
        >>> def ones(kind, name, block, shape, out):
        ...     out.fill_(1)
        >>> fill: Fill = ones
        >>> draws = [Noise(0).redrawn(k).directions({"w": (2,)}, n=256) for k in range(3)]
        >>> bool((StackedDirections(draws, fill).rows("w", 0, 768) == 1).all())
        True
    """

    def __call__(self, kind: str, name: str, block: int, shape: Shape, out: Tensor, /) -> None:
        """Write the primitive ``kind`` of one block of each draw: ``[draws, *shape]``."""


class StackedDirections(Directions):
    """The directions of several draws: those of the first, then those of the next.

    Args:
        draws: directions of each draw, along the same places and of the same number.
        fill: draws a primitive of all of them at once, see :meth:`fgbench.core.noise.keyed.Noise.fill`.
        buffers: memory by place for all of them, reused by the next stack.

    Example:
        >>> noise = [Noise(0).redrawn(k) for k in range(3)]
        >>> draws = [one.directions({"w": (2,)}, n=4) for one in noise]
        >>> stacked = StackedDirections(draws, partial(Noise.fill, noise))
        >>> bool((stacked.rows("w", 4, 8) == draws[1].rows("w", 0, 4)).all())
        True
    """

    def __init__(
        self,
        draws: Sequence[Directions],
        fill: Fill,
        buffers: dict[str, Tensor] | None = None,
    ) -> None:
        first = draws[0]
        super().__init__(first.shapes, first.n * len(draws), first.law, _none)
        self.draws = list(draws)
        self._fill = fill
        self._buffers = {} if buffers is None else buffers
        self._whole: dict[str, Tensor] = {}

    def masked(self, masks: Mapping[str, Tensor]) -> StackedDirections:
        """Return the same directions, zero where a mask is zero."""
        return StackedDirections([draw.masked(masks) for draw in self.draws], self._fill)

    def rows(self, name: str, start: int, stop: int) -> Tensor:
        """Return directions ``start`` to ``stop`` of one place, counted over all draws."""
        if name not in self._whole:
            shape = (self.n, *self.shapes[name])
            whole = self._buffers.get(name)
            if whole is None or whole.shape != shape:
                whole = self._buffers[name] = self._like(name).new_empty(shape)
            self._write(name, whole.view(len(self.draws), -1, *self.shapes[name]))
            self._whole[name] = whole
        return self._whole[name][start:stop]

    def _write(self, name: str, out: Tensor) -> None:
        """Write the directions of one place into ``[draws, n, *place]``, and keep none in the draws."""
        first, size = self.draws[0], block_size(self.shapes[name])
        if first.plain(name):
            for block in range(first.n // size):
                own = out[:, block * size : (block + 1) * size]
                self._fill(first.law.kind, name, block, (size, *self.shapes[name]), own)
            return
        for draw, own in zip(self.draws, out, strict=True):
            own.copy_(draw.rows(name, 0, draw.n))
            draw.forget()

    def _like(self, name: str) -> Tensor:
        """Return a direction of a place, for its type and device."""
        return self.draws[0].rows(name, 0, 1)


def _none(kind: str, name: str, block: int, shape: Shape, out: Tensor | None = None, /) -> Tensor:
    """Refuse to draw: the draws have directions of their own."""
    raise RuntimeError(f"stacked directions were asked to draw {kind} for {name!r}")


class StackedNoise:
    """The noise of several draws, of which only directions can be drawn.

    Args:
        draws: the noise of each draw.
        buffers: memory of the directions, by number of the request and by place, reused by the next noise.

    Example:
        >>> noise = StackedNoise([Noise(0).redrawn(k) for k in range(3)])
        >>> u = noise.directions({"w": (2,)}, n=4)
        >>> tuple(u.rows("w", 0, u.n).shape)
        (12, 2)
    """

    def __init__(
        self, draws: Sequence[Noise], buffers: list[dict[str, Tensor]] | None = None
    ) -> None:
        self._draws = draws
        self._buffers = [] if buffers is None else buffers
        self._asked = 0

    @property
    def step(self) -> int:
        """The step that is drawn again, the same for all draws."""
        return self._draws[0].step

    def directions(
        self, places: Mapping[str, Shape], n: int = 1, law: str = "gaussian"
    ) -> StackedDirections:
        """Return the directions of all draws, see :meth:`fgbench.core.noise.keyed.Noise.directions`."""
        if self._asked == len(self._buffers):
            self._buffers.append({})
        own, self._asked = self._buffers[self._asked], self._asked + 1
        draws = [noise.directions(places, n, law) for noise in self._draws]
        return StackedDirections(draws, partial(Noise.fill, self._draws), own)

    def __getattr__(self, name: str) -> Any:
        """Refuse everything else."""
        raise Unstacked(f"noise.{name}")
