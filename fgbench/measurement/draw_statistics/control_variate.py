"""Control variate of the law of the directions, for an interval that is narrower than that of the draws."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from fgbench.measurement.draw_statistics.from_gradients import square
from fgbench.stats import intervals

if TYPE_CHECKING:
    from torch import Tensor

    from fgbench.core.noise.directions import Directions
    from fgbench.core.oracles import Oracles
    from fgbench.measurement.draw_statistics.from_gradients import Array


class Control:
    """Squared slopes of every draw, whose mean over the law of the directions is known.

    For a slope ⟨g, v⟩ along a direction with identity covariance, E slope² = |g|². An estimate that is slope
    times direction varies mostly with its slope, so slope²/|g|² − 1 is a control variate of its squared norm.

    Args:
        draws: number of draws there will be.
        usable: whether the estimator claims to be slope times direction.

    Attributes:
        usable: whether the control still holds; it does not where there are several scores per direction.

    Example:
        >>> Control(4, usable=False).over(1.0) is None
        True
    """

    def __init__(self, draws: int, usable: bool) -> None:
        self.usable = usable
        self._squares = np.zeros(draws)
        self._norms: list[list[float]] = [[] for _ in range(draws)]
        self._k = 0

    def begin(self, k: int) -> None:
        """Start draw ``k``, discarding earlier slopes of it.

        Args:
            k: number of the draw.
        """
        self._k, self._squares[k], self._norms[k] = k, 0.0, []

    def __call__(self, view: Oracles, directions: Directions, slopes: Tensor) -> None:
        """Add slope² and |v|²/d of one call of the slope oracle.

        Args:
            view: the objective on its batch. A control needs one score per weight direction.
            directions: directions along weights.
            slopes: of each of them.
        """
        if view.kept != "b" or any(n in view.chain.index for n in directions.names):
            self.usable = False
        if not self.usable:
            return
        summed = slopes.double().reshape(len(slopes), -1).sum(1)
        self._squares[self._k] += float((summed**2).mean())
        norm2 = sum(square(directions.rows(n, 0, directions.n)) for n in directions.names)
        elements = sum(int(torch.Size(s).numel()) for s in directions.shapes.values())
        self._norms[self._k].append(norm2 / (elements * directions.n))

    def over(self, g2: float) -> Array | None:
        """Return slope²/|g|² per draw.

        Args:
            g2: |g|² of the truth.

        Returns:
            ``[draws]``; None where the control does not hold.
        """
        if not self.usable or not all(self._norms) or g2 <= 0:
            return None
        norms = np.array([np.mean(n) for n in self._norms])
        return self._squares / g2 if intervals.control_valid(norms) else None
