"""The design of a measurement: which points are measured, and with how many draws."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf

from fgbench.errors import UsageError, unknown

LAST = 1e6  # epochs that a trajectory can reach in the lifetime of its user
ENGINES = ("auto", "dual", "cotangent")
TRAJECTORIES = {
    "backprop": "backprop of the end loss, shared by all methods",
    "own": "the method's own training by its recipe",
}


@dataclass(frozen=True)
class Design:
    """The design of a measurement.

    A *point* is a network (an init at a moment of its training) with a batch; a *draw* is one independent
    repetition of the whole estimate at a point.

    Args:
        draws: draws per point.
        inits: networks drawn. With ``inits=1`` the numbers hold for this one network only.
        batches: batches per init and moment, all different.
        batch: examples per batch.
        moments: epochs of the trajectory at which networks are measured. None: the start, or after one
            epoch where the final readout starts at zero (every end-to-end gradient is then zero at the
            start).
        along: the trajectory. ``backprop`` trains on the end loss, with at most 200 steps an epoch, and
            all methods are measured at the same points; ``own`` is each method's own training by its
            recipe.
        precision: relative standard error wanted for the relative variance of a point. A pilot of 64
            draws at the first point fixes the number of draws of all points, at least 64 and at most
            65,536.
        cost: forward equivalents that one estimate may cost: every method gets the most directions that
            fit. None leaves each its own number.
        seed: of everything random.
        engine: how slopes are computed. ``dual``: batched forward mode. ``cotangent``: inner products
            with cotangents that are computed once, for methods of exact slopes only. ``auto``: the
            second where it is exact and faster, otherwise the first.

    Raises:
        UsageError: for a number that is out of range, or an unknown trajectory or engine.

    Example:
        >>> Design(draws=32, moments=(0.0, 1.0)).batches
        4
        >>> Design(draws=1)
        Traceback (most recent call last):
        fgbench.errors.UsageError: measure needs draws of at least 2, got 1
    """

    draws: int = 64
    inits: int = 1
    batches: int = 4
    batch: int = 128
    moments: tuple[float, ...] | None = None
    along: str = "backprop"
    precision: float | None = None
    cost: float | None = None
    seed: int = 0
    engine: str = "auto"

    def __post_init__(self) -> None:
        """Check every field."""
        for name, least in (("draws", 2), ("inits", 1), ("batches", 1), ("batch", 1)):
            if getattr(self, name) < least:
                raise UsageError(
                    f"measure needs {name} of at least {least}, got {getattr(self, name)}"
                )
        when = self.moments
        if when is not None and (
            not when or len(set(when)) < len(when) or not all(0 <= m <= LAST for m in when)
        ):
            raise UsageError(
                f"moments are different numbers of epochs from 0 to {LAST:g}, such as 0,1; got {when}"
            )
        if self.precision is not None and not 0 < self.precision < 1:
            raise UsageError(f"precision must lie between 0 and 1, got {self.precision}")
        if self.cost is not None and not 0 < self.cost < inf:
            raise UsageError(f"cost is a number of forward equivalents above 0, got {self.cost}")
        if self.along not in TRAJECTORIES:
            raise unknown("trajectory", self.along, TRAJECTORIES)
        if self.engine not in ENGINES:
            raise unknown("engine", self.engine, ENGINES)
