"""Several draws of one estimator in one call: their directions one after the other.

An estimator is handed the directions of many draws as if they were those of one; whatever it does to each
direction alone it then does to all draws at once. Whether that is all it does is for who calls it to
compare with draws made one by one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fgbench.directions import Directions

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch import Tensor

    from fgbench.directions import Shape
    from fgbench.noise import Noise


class Unstacked(Exception):
    """Noise other than directions was asked for, which many draws cannot share."""


class StackedDirections(Directions):
    """The directions of several draws: those of the first, then those of the next.

    Args:
        draws: directions of each draw, along the same places and of the same number.
    """

    def __init__(self, draws: Sequence[Directions]) -> None:
        first = draws[0]
        super().__init__(first.shapes, first.n * len(draws), first.law, _none)
        self.draws = list(draws)
        self._whole: dict[str, Tensor] = {}

    def masked(self, masks: Mapping[str, Tensor]) -> StackedDirections:
        """Return the same directions, zero where a mask is zero."""
        return StackedDirections([draw.masked(masks) for draw in self.draws])

    def rows(self, name: str, start: int, stop: int) -> Tensor:
        """Return directions ``start`` to ``stop`` of one place, of whichever draws they are."""
        if name not in self._whole:
            n, whole = self.draws[0].n, None
            for i, draw in enumerate(self.draws):
                rows = draw.rows(name, 0, n)
                if whole is None:
                    whole = rows.new_empty(self.n, *rows.shape[1:])
                whole[i * n : (i + 1) * n] = rows
                draw.forget()
            assert whole is not None
            self._whole[name] = whole
        return self._whole[name][start:stop]


def _none(kind: str, name: str, block: int, shape: Shape) -> Tensor:
    """Refuse to draw: the draws have directions of their own."""
    raise RuntimeError(f"stacked directions were asked to draw {kind} for {name!r}")


class StackedNoise:
    """The noise of several draws, which has directions and nothing else.

    Args:
        draws: the noise of each draw.
    """

    def __init__(self, draws: Sequence[Noise]) -> None:
        self._draws = draws

    def directions(
        self, places: Mapping[str, Shape], n: int = 1, law: str = "gaussian"
    ) -> StackedDirections:
        """Return the directions of all draws, see :meth:`fgbench.noise.Noise.directions`."""
        return StackedDirections([noise.directions(places, n, law) for noise in self._draws])

    def __getattr__(self, name: str) -> Any:
        """Refuse everything else."""
        raise Unstacked(f"noise.{name}")
