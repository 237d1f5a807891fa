"""The clock of a training: how far it has come when an estimate is asked for."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Clock:
    """A moment of a training; the number of a draw is no part of it.

    A method may change with it: a greedy scheme teaches one module after another, a subspace lives for
    several steps. Measuring sets the clock to the moment of the trajectory where it measures.

    Args:
        step: steps taken before this one.
        steps: steps of the training in all; 0 where nobody knows, as in a loop of the user's own.
        epoch: epochs completed.
        epochs: epochs of the training in all; 0 where nobody knows.

    Example:
        >>> Clock(step=30, steps=40, epoch=3, epochs=4).share
        0.75
        >>> Clock().share
        0.0
    """

    step: int = 0
    steps: int = 0
    epoch: int = 0
    epochs: int = 0

    @property
    def share(self) -> float:
        """Share of the training that is over, from 0 to 1; 0 where its length is unknown."""
        return min(self.step / self.steps, 1.0) if self.steps else 0.0


START = Clock()
"""The clock before a training, of which nothing more is known."""
