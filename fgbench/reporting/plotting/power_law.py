"""Power laws fitted to measured points: the exponent with its interval."""

from __future__ import annotations

from dataclasses import dataclass
from math import nan

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

LEAST = 3
"""Points that a fit needs: two lie on any line."""
ROUNDING = 1e-6  # relative: no point is taken to be known better

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Power:
    """A power law y = c xᵃ.

    Args:
        exponent: a; NaN where there are too few points.
        low: lower end of its 95 % interval.
        high: upper end.
        scale: c.
    """

    exponent: float = nan
    low: float = nan
    high: float = nan
    scale: float = nan

    def at(self, x: ArrayLike) -> Array:
        """Return y at some x."""
        found: Array = self.scale * np.asarray(x, dtype=float) ** self.exponent
        return found

    def __str__(self) -> str:
        """Write the exponent with its interval, to the digits that the interval has."""
        ends = self.exponent, self.low, self.high
        value, low, high = (signed(end, self.digits) for end in ends)
        return f"{value} [{low}, {high}]"

    @property
    def digits(self) -> int:
        """Decimals worth writing."""
        return 2 if not self.high - self.low < 0.01 else 4


def signed(value: float, digits: int) -> str:
    """Write a number with a true minus sign."""
    return f"{value:.{digits}f}".replace("-", "−")


def power(x: ArrayLike, y: ArrayLike, low: ArrayLike, high: ArrayLike, n: ArrayLike) -> Power:
    """Fit a power law by least squares on logarithms, each point weighted by its own interval.

    On logarithms the law is a line. A 95 % t interval of n replicates has half-width t(n − 1) s on that
    scale, which gives back the standard error s of each point; weights are 1/s². The exponent Σ cᵢ log yᵢ
    then has variance Σ cᵢ² sᵢ² where points are independent, with Satterthwaite's degrees of freedom. The
    interval is the wider of this one and the one from the scatter of the points about the line, with
    their number less two degrees of freedom: where intervals are narrow, the law's own misfit decides, and
    where points share networks and batches, their common part is not mistaken for precision. Simulated
    for 4 and 6 points of 5 and 10 replicates, equal errors and unequal, apart and shared, it covers 95 %
    and more.

    Args:
        x: where, positive.
        y: measured, positive.
        low: lower ends of their 95 % intervals.
        high: upper ends; NaN in any of both weighs all points alike and leaves the scatter alone.
        n: replicates behind each interval.

    Returns:
        The law; of NaN where there are fewer than `LEAST` different x.
    """
    at, value, bottom, top, counts = (np.asarray(v, dtype=float) for v in (x, y, low, high, n))
    if len(np.unique(at)) < LEAST:
        return Power()
    u, v = np.log(at), np.log(value)
    with np.errstate(invalid="ignore", divide="ignore"):
        error = np.log(top / bottom) / (2 * stats.t.ppf(0.975, counts - 1))
    known = bool(np.isfinite(error).all())
    error = np.maximum(error, ROUNDING) if known else np.ones_like(u)
    weight = error**-2
    centre, middle = np.average(u, weights=weight), np.average(v, weights=weight)
    inertia = float((weight * (u - centre) ** 2).sum())
    c = weight * (u - centre) / inertia
    exponent = float(c @ v)
    rest = v - middle - exponent * (u - centre)
    scatter = float((weight * rest**2).sum()) / (len(u) - 2) / inertia
    half = float(stats.t.ppf(0.975, len(u) - 2)) * scatter**0.5
    if known:
        parts = (c * error) ** 2
        freedom = parts.sum() ** 2 / (parts**2 / (counts - 1)).sum()
        half = max(half, float(stats.t.ppf(0.975, freedom) * parts.sum() ** 0.5))
    scale = float(np.exp(middle - exponent * centre))
    return Power(exponent, exponent - half, exponent + half, scale)
