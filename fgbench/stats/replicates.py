"""From points to a headline: a point is one (init, moment, batch), a replicate is an init.

Everything here takes flat sequences, one entry per point, with the init and the moment of each. The
moments are a fixed factor: their mean is taken, their spread is never noise. Batches must be drawn
afresh for every init and moment; batches reused across inits bring coverage down to .81.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import exp, inf, log, sqrt
from typing import TYPE_CHECKING, Any

import numpy as np

from fgbench.stats.bias import Bias, bias, upper_end
from fgbench.stats.intervals import (
    ROUNDING,
    MeanError,
    Number,
    constant,
    scale,
    standard_error,
    t_quantile,
    t_test,
)
from fgbench.stats.mean_direction import resolved

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import ArrayLike

ONE_INIT = "this init"
THESE_POINTS = "these points"


@dataclass(frozen=True)
class Spread:
    """Mean over points with the standard error its replicates give.

    Args:
        mean: mean over batches, then moments, then inits.
        error: standard error, None where nothing is replicated.
        df: degrees of freedom of `error`.
        n: how many replicates.
        reason: "" where inits are the replicates, else how far the interval reaches.

    Example:
        >>> Spread(1.0, None, 0, 1, THESE_POINTS).half is None
        True
    """

    mean: float
    error: float | None
    df: float
    n: int
    reason: str

    @property
    def half(self) -> float | None:
        """Half-width of the 95 % interval."""
        return None if self.error is None else t_quantile(self.df) * self.error


def spread(values: ArrayLike, inits: Sequence[int], moments: Sequence[int] | None = None) -> Spread:
    """Average points and estimate the error of the average.

    With two inits or more, each init gives one independent number (its mean over moments and
    batches) and t over inits holds whatever the variances below are. With one init the batches are
    the replicates: the variance of the mean over moments is the sum of the moments' own, with
    Satterthwaite's degrees of freedom, and the interval is about this init only.

    Args:
        values: one per point, on the scale on which they are averaged, shape [points].
        inits: init of each point.
        moments: moment of each point; one moment where None.

    Returns:
        The spread; without error where there is one init and a moment with a single batch.

    Example:
        >>> spread([1.0, 2.0, 3.0], inits=[0, 1, 2]).mean
        2.0
    """
    series = np.asarray(values, dtype=np.float64)
    which = np.asarray(inits)
    when = np.zeros_like(which) if moments is None else np.asarray(moments)
    if not len(series) == len(which) == len(when):
        raise ValueError(f"{len(series)} values, {len(which)} inits and {len(when)} moments")
    cells = [
        [series[(which == init) & (when == moment)] for moment in np.unique(when[which == init])]
        for init in np.unique(which)
    ]
    means = np.array([np.mean([batch.mean() for batch in cell]) for cell in cells])
    if len(cells) > 1:
        return Spread(float(means.mean()), standard_error(means), len(cells) - 1, len(cells), "")
    shares = [standard_error(batch) ** 2 for batch in cells[0] if len(batch) > 1]
    if len(shares) < len(cells[0]):
        return Spread(float(means[0]), None, 0, len(series), THESE_POINTS)
    total = sum(shares)
    below = sum(v**2 / (len(batch) - 1) for v, batch in zip(shares, cells[0], strict=True))
    df = total**2 / below if below else float(len(series) - len(cells[0]))
    return Spread(float(means[0]), sqrt(total) / len(shares), df, len(series), ONE_INIT)


def _over(
    points: Sequence[Number],
    inits: Sequence[int],
    moments: Sequence[int] | None,
    to: Callable[[float], float],
    back: Callable[[float], float],
) -> Number:
    """Average numbers on the scale `to`, which may be decreasing, and come `back`."""
    values = [point.value for point in points if point.value is not None]
    if not points or len(values) < len(points):
        reasons = sorted({point.reason for point in points if point.value is None})
        told = f"{len(points) - len(values)} of {len(points)} points: {', '.join(reasons)}"
        return Number(None, None, None, len(values), told if points else "no points")
    if len(points) == 1:
        return points[0]
    found = spread([to(value) for value in values], inits, moments)
    exact = all(point.low is not None and point.low == point.high for point in points)
    if exact and constant(np.array(values)):
        return Number(values[0], values[0], values[0], found.n, found.reason)
    value = back(found.mean)
    if found.half is not None:
        low, high = sorted((back(found.mean - found.half), back(found.mean + found.half)))
        return Number(value, low, high, found.n, found.reason)
    lows = [point.low for point in points if point.low is not None]
    highs = [point.high for point in points if point.high is not None]
    if len(lows) < len(points) or len(highs) < len(points):
        return Number(value, None, None, found.n, found.reason)
    # nothing is replicated: the points' own ends, averaged, which holds however draws are shared
    low, high = (back(spread([to(e) for e in end], inits, moments).mean) for end in (lows, highs))
    return Number(value, low, high, found.n, found.reason)


def efficiency_over(
    points: Sequence[Number], inits: Sequence[int], moments: Sequence[int] | None = None
) -> Number:
    """Average efficiency over points: the inefficiency 1/efficiency - 1 has its geometric mean taken.

    Inefficiency of an unbiased estimate is its relative variance; on digits its logarithm has a
    standard deviation of .16 to .33 over inits, .06 to .20 over batches, and is near normal.
    Inefficiencies are kept between 1e-12 and 1e12, so that one point at float64 rounding neither
    decides the mean nor makes it infinite.

    Args:
        points: efficiency of each point.
        inits: init of each point.
        moments: moment of each point; one moment where None.

    Returns:
        The efficiency of the mean inefficiency: t over inits; with one init t over batches, marked
        "this init"; with nothing replicated the points' own ends averaged, marked "these points".
        One point is returned as it is. No value where any point is unresolved, and the count.

    Example:
        >>> points = [Number.exact(0.5, 64), Number.exact(0.2, 64)]
        >>> round(efficiency_over(points, inits=[0, 1]).value, 4)  # 1/e - 1 is 1 and 4, on average 2
        0.3333
    """

    def to(value: float) -> float:
        return log(min(max(1.0 - value, ROUNDING) / max(value, ROUNDING), 1.0 / ROUNDING))

    return _over(points, inits, moments, to, lambda mean: 1.0 / (1.0 + exp(mean)))


def efficiency_pooled(
    roots: Sequence[float], inits: Sequence[int], moments: Sequence[int] | None = None
) -> Number:
    """Estimate the efficiency from the mean signed root over points, where single points are unresolved.

    The signed root r = ⟨e, g⟩/(|g||e|) of the means is nearly unbiased at a point however few the
    draws, and its square is the efficiency; averaging roots before squaring resolves what no single
    point does. It differs from the geometric mean by the spread of r over points, 2 to 5 % on digits.

    Args:
        roots: mean X over the root of mean Y, one per point.
        inits: init of each point.
        moments: moment of each point; one moment where None.

    Returns:
        The square of the mean root with its t interval, its reason saying that it was pooled; without
        value, low = 0, where the interval of the mean root includes 0.

    Example:
        >>> round(efficiency_pooled([0.5, 0.6, 0.4], inits=[0, 1, 2]).value, 4)
        0.25
    """
    found = spread(roots, inits, moments)
    if found.half is None or len(roots) < 2:
        return Number(None, None, None, found.n, "unresolved")
    low, high = found.mean - found.half, found.mean + found.half
    if low <= 0.0:
        return Number(None, 0.0, max(high, -low) ** 2, found.n, "unresolved")
    return Number(found.mean**2, low**2, min(high, 1.0) ** 2, found.n, "pooled over points")


def variance_over(
    points: Sequence[Number], inits: Sequence[int], moments: Sequence[int] | None = None
) -> Number:
    """Compute the geometric mean of relative variance over points; replicates as in `efficiency_over`.

    Args:
        points: relative variance of each point; below 1e-24, rounding squared, it counts as that.
        inits: init of each point.
        moments: moment of each point; one moment where None.

    Returns:
        The geometric mean; exactly 0 where every point is.

    Example:
        >>> points = [Number.exact(2.0, 64), Number.exact(8.0, 64)]
        >>> round(variance_over(points, inits=[0, 1]).value, 4)
        4.0
    """
    return _over(points, inits, moments, lambda value: log(max(value, ROUNDING**2)), exp)


def ratio_over(
    points: Sequence[Number], inits: Sequence[int], moments: Sequence[int] | None = None
) -> Number:
    """Compute the geometric mean over points of a ratio whose estimates may be negative.

    Where 0 is in the interval of any point there is no logarithm to average, and the estimates, which
    are nearly unbiased, are averaged as they are.

    Args:
        points: the ratio of each point, not cut at 0.
        inits: init of each point.
        moments: moment of each point; one moment where None.

    Returns:
        The mean, its reason saying where it is the arithmetic one; without value where its interval
        includes 0 all the same.

    Example:
        >>> ratio_over([Number(0.1, -0.1, 0.3, 64)], inits=[0]).reason
        'unresolved'
    """
    cut = [resolved(point) for point in points]
    if all(point.value is not None for point in cut):
        return variance_over(cut, inits, moments)
    found = resolved(mean_over(points, inits, moments))
    pooled = found.value is not None and len(points) > 1
    return replace(found, reason="pooled over points") if pooled else found


def mean_over(
    points: Sequence[Number], inits: Sequence[int], moments: Sequence[int] | None = None
) -> Number:
    """Compute the mean over points, for scale and cosine; replicates as in `efficiency_over`.

    Args:
        points: the number of each point.
        inits: init of each point.
        moments: moment of each point; one moment where None.

    Returns:
        The mean.

    Example:
        >>> mean_over([Number.exact(1.0, 64), Number.exact(3.0, 64)], inits=[0, 1]).value
        2.0
    """
    return _over(points, inits, moments, float, float)


def bias_over(
    grams: ArrayLike,
    sum_d2: ArrayLike,
    draws: int,
    inits: Sequence[int],
    moments: Sequence[int] | None = None,
    rounding: float = ROUNDING,
) -> Bias:
    """Estimate the bias over points: the squared norms U are averaged and the average is rooted.

    U may be negative and is unbiased; rooting each point first would pile up noise. One test serves
    all points: the Gram matrices are averaged block by block, because a joint flip of block i in
    every point leaves their law alone without bias, also where points share noise, and the
    statistic is then the averaged U itself. Combining p-values would need independent points and
    weigh a point by its luck, not by its U.

    Args:
        grams: <D_i, D_j> / |g|² of each point, shape [points, M, M].
        sum_d2: Σ|d|² / |g|² of each point, shape [points].
        draws: draws per point, the same for all.
        inits: init of each point.
        moments: moment of each point; one moment where None.
        rounding: as in `bias`.

    Returns:
        The bias; `p_value`, `detectable` and the interval over draws are those of the averaged Gram
        matrix. The other interval is t of U over inits or batches where they are replicated, its upper end
        no lower than that over draws (four U may agree by chance); else that of the draws.

    Example:
        >>> d = np.random.default_rng(0).standard_normal((2, 32, 5)) + 1.0  # two points, a bias at each
        >>> found = bias_over(d @ d.transpose(0, 2, 1), (d**2).sum((1, 2)), draws=32, inits=[0, 1])
        >>> found.p_value, found.n
        (0.0001, 2)
    """
    inner, sums = np.asarray(grams, dtype=np.float64), np.asarray(sum_d2, dtype=np.float64)
    pooled = bias(inner.mean(0), float(sums.mean()), draws, rounding)
    if pooled.squared is None or len(inner) == 1 or pooled.high == 0.0:
        return pooled
    squared = (inner.sum((1, 2)) - sums) / (draws * (draws - 1.0))
    found = spread(squared, inits, moments)
    if found.half is None:
        return replace(pooled, reason=pooled.reason or found.reason)
    low, high = sqrt(max(found.mean - found.half, 0.0)), upper_end(found.mean, found.half)
    reason = pooled.reason or found.reason
    return replace(pooled, low=low, high=max(high, pooled.high or 0.0), n=found.n, reason=reason)


@dataclass(frozen=True)
class Scale:
    """Mean scale over points with the test of a scale of 1, which is over draws as that of a bias is.

    Args:
        number: the scale, its interval over replicates.
        p_value: two-sided, against a scale of 1 at every point; None where there are too few draws.

    Example:
        >>> Scale(Number(1.0, 0.9, 1.1, 4), 0.97).json()["p_value"]
        0.97
    """

    number: Number
    p_value: float | None

    def json(self) -> dict[str, Any]:
        """Return the names other programs read."""
        return {**self.number.json(), "p_value": self.p_value}


def scale_over(
    series: Sequence[ArrayLike],
    inits: Sequence[int],
    moments: Sequence[int] | None = None,
    rounding: float = ROUNDING,
) -> Scale:
    """Average the scale over points and test it against 1.

    The interval speaks of networks like these, with as many degrees of freedom as there are inits less
    one. The test asks for less: whether every point's scale is 1, so that all draws of all points are
    replicates, and a few inits that agree by chance reject nothing.

    Args:
        series: <e, g> / |g|² per draw, of each point.
        inits: init of each point.
        moments: moment of each point; one moment where None.
        rounding: deviation from 1 at or below which there is none.

    Returns:
        The scale.

    Example:
        >>> found = scale_over([[0.9, 1.1, 1.0, 1.2], [1.0, 0.8, 1.1, 0.9]], inits=[0, 1])
        >>> found.number.value, found.p_value
        (1.0, 1.0)
    """
    points = [np.asarray(x, dtype=np.float64) for x in series]
    number = mean_over([scale(x) for x in points], inits, moments)
    if number.value is None or min(map(len, points)) < 2:
        return Scale(number, None)
    deviation = number.value - 1.0
    if abs(deviation) <= rounding:
        return Scale(number, 1.0)
    return Scale(number, MeanError.together([MeanError.of(x) for x in points]).p_value(deviation))


@dataclass(frozen=True)
class Ratio:
    """Ratio of two estimators on the same points.

    Args:
        ratio: geometric mean of a / b with its interval.
        t: t of the mean log ratio against 0, None where it has no replicates.
        p_value: two-sided.

    Example:
        >>> Ratio(Number.exact(1.0, 4), None, None).ratio.value
        1.0
    """

    ratio: Number
    t: float | None
    p_value: float | None


def paired_log_ratio(
    a: Sequence[float | None],
    b: Sequence[float | None],
    inits: Sequence[int],
    moments: Sequence[int] | None = None,
) -> Ratio:
    """Compare two estimators by the mean log ratio of a positive number over the same points.

    What a point does to both cancels: the log ratio has a standard deviation of .02 to .04 over
    inits where either alone has .16 to .33. With 10 inits, 3 moments and 256 draws a 10 % change is
    seen with power .94; unpaired, 25 % is not.

    Args:
        a: inefficiency or relative variance of one estimator, one per point.
        b: the same of the other, on the same points.
        inits: init of each point.
        moments: moment of each point; one moment where None.

    Returns:
        The ratio a / b; without value where a number is missing or not positive.

    Example:
        >>> round(paired_log_ratio([2.0, 4.0], [1.0, 2.0], inits=[0, 1]).ratio.value, 4)
        2.0
    """
    kept = [
        log(one / other)
        for one, other in zip(a, b, strict=True)
        if one is not None and other is not None and 0.0 < one < inf and 0.0 < other < inf
    ]
    if not kept or len(kept) < len(a):
        told = f"{len(a) - len(kept)} of {len(a)} points have no positive number in both"
        return Ratio(Number(None, None, None, len(kept), told), None, None)
    found = spread(kept, inits, moments)
    if found.half is None or found.error is None:
        return Ratio(Number(exp(found.mean), None, None, found.n, found.reason), None, None)
    low, high = exp(found.mean - found.half), exp(found.mean + found.half)
    t, p_value = t_test(found.mean, found.error, found.df)
    return Ratio(Number(exp(found.mean), low, high, found.n, found.reason), t, p_value)
