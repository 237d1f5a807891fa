"""Efficiency, scale and cosine of a gradient estimate from per-draw scalars, with their intervals.

Every function reads the same two numbers per draw, X = <e, g> / |g|² and Y = |e|² / |g|² for an
estimate e of the truth g. Replicates here are draws within one point; `points` goes from points
to a headline and `bias` holds what needs inner products between draws.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import cbrt, exp, hypot, isfinite, lgamma, log, sqrt, tanh
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike

Floats = NDArray[np.float64]

ROUNDING = 1e-12  # relative size below which two float64 results are the same number
NOT_FINITE = "not finite"  # why a number is null that has no other reason
FLAT = 1e-6  # of a skewness: below it the transform is t to rounding
NEAREST_ONE = 1.0 - 2.0**-53  # the largest |r| whose atanh is finite


@dataclass(frozen=True)
class Number:
    """A measured number with its 95 % interval.

    An exact number has ``low == value == high``; an unresolved one has no value but keeps the end
    that was established.

    Args:
        value: the estimate, None where the data do not determine one.
        low: lower end of the interval, None where there is none.
        high: upper end of the interval, None where there is none.
        n: how many replicates the interval rests on: draws within a point, else batches or inits.
        reason: why a value or an end is missing or how far the interval reaches, "" if neither.

    Example:
        >>> Number(0.5, 0.4, 0.6, n=64).json()
        {'value': 0.5, 'low': 0.4, 'high': 0.6, 'n': 64}
    """

    value: float | None
    low: float | None
    high: float | None
    n: int
    reason: str = ""

    @classmethod
    def exact(cls, value: float, n: int) -> Number:
        """Build a number without sampling error, such as one of a deterministic estimate."""
        return cls(value, value, value, n)

    def json(self) -> dict[str, Any]:
        """Return the names other programs read; what is not finite is None, with the reason beside it."""
        ends = {"value": self.value, "low": self.low, "high": self.high}
        found = {name: finite(end) for name, end in ends.items()} | {"n": self.n}
        return found | ({"reason": self.reason or NOT_FINITE} if None in found.values() else {})


class TTest(NamedTuple):
    """A t statistic with its two-sided p-value, beside the tested mean.

    Example:
        >>> TTest(1.02, 0.8, 0.43).p_value
        0.43
    """

    value: float
    t: float
    p_value: float


def finite(value: float | None) -> float | None:
    """Return the value as a plain float, or None if it is none or not finite.

    Args:
        value: a number or None.

    Returns:
        A float, or None.

    Example:
        >>> finite(float("nan")) is None, finite(0.5)
        (True, 0.5)
    """
    return float(value) if value is not None and isfinite(value) else None


def t_quantile(df: float) -> float:
    """Return the two-sided 95 % quantile of Student's t with `df` degrees of freedom.

    Args:
        df: degrees of freedom, not necessarily whole.

    Returns:
        The quantile at .975.

    Example:
        >>> round(t_quantile(10), 3)
        2.228
    """
    from scipy.special import stdtrit

    return float(stdtrit(df, 0.975))


def t_test(mean: float, error: float, df: float) -> tuple[float, float]:
    """Return t and its two-sided p-value for a mean expected to be 0 with this standard error.

    Args:
        mean: the mean.
        error: its standard error; 0 decides without chance.
        df: degrees of freedom of the error.

    Returns:
        t and p.

    Example:
        >>> t, p_value = t_test(1.0, error=0.5, df=10)
        >>> t, round(p_value, 3)
        (2.0, 0.073)
    """
    from scipy.special import stdtr

    if error == 0.0:
        return (0.0, 1.0) if mean == 0.0 else (float(np.copysign(np.inf, mean)), 0.0)
    t = mean / error
    return t, float(2.0 * stdtr(df, -abs(t)))


def constant(values: Floats) -> bool:
    """Return whether all values are one number up to float64 rounding.

    Args:
        values: shape [values], at least one.

    Returns:
        Whether they differ by rounding only.

    Example:
        >>> constant(np.array([1.0, 1.0 + 1e-15])), constant(np.array([1.0, 1.1]))
        (True, False)
    """
    return float(np.ptp(values)) <= ROUNDING * float(np.abs(values).max())


def standard_error(values: Floats) -> float:
    """Return the standard error of the mean, exactly 0 where the values differ by rounding only.

    Args:
        values: shape [replicates], at least 2.

    Returns:
        The standard deviation over the root of their number.

    Example:
        >>> standard_error(np.array([1.0, 2.0, 3.0, 4.0, 5.0])) == (2.5 / 5) ** 0.5
        True
    """
    return 0.0 if constant(values) else float(values.std(ddof=1)) / sqrt(len(values))


@dataclass(frozen=True)
class MeanError:
    """Error of a mean of skewed draws: its interval and its test agree, one is the other turned round.

    A mean of squared slopes is skewed, and its standard error is small where the mean is: t misses
    almost only above (5.7 of 6.3 % for a squared normal and 64 draws). Hall's transform of t removes the
    skewness, g(t) = t + a t²/3 + a² t³/27 + a/6 = ((1 + a t/3)³ - 1)/a + a/6, which rises everywhere and
    so has an inverse.

    Args:
        error: standard error of the mean; 0 where all draws are one number.
        skewness: a, the skewness of the mean: that of a draw over the root of the number of draws.
        df: degrees of freedom of the error (`freedom`).

    Reference: Hall, On the removal of skewness by transformation, 1992.

    Example:
        >>> MeanError(0.5, skewness=0.0, df=10).p_value(1.0) == t_test(1.0, 0.5, 10)[1]
        True
    """

    error: float
    skewness: float
    df: float

    @classmethod
    def of(cls, values: Floats) -> MeanError:
        """Build the error of the mean of independent draws.

        Args:
            values: shape [draws], at least 2.

        Returns:
            The error.
        """
        draws, error = len(values), standard_error(values)
        if error == 0.0:
            return cls(0.0, 0.0, draws - 1.0)
        off = values - values.mean()
        skewness = float((off**3).mean()) / float((off**2).mean()) ** 1.5
        # the mean without a draw is linear in that draw, so their tails are the same
        return cls(error, skewness / sqrt(draws), freedom(draws, values))

    @classmethod
    def together(cls, parts: Sequence[MeanError]) -> MeanError:
        """Build the error of the average of several independent means.

        Cumulants add up: the third of a mean is a error³. Degrees of freedom are Satterthwaite's.

        Args:
            parts: of each mean, at least one.

        Returns:
            The error.
        """
        squares = [part.error**2 for part in parts]
        total, third = sum(squares), sum(part.skewness * part.error**3 for part in parts)
        if total == 0.0:
            return cls(0.0, 0.0, sum(part.df for part in parts))
        below = sum(e2**2 / part.df for e2, part in zip(squares, parts, strict=True))
        return cls(sqrt(total) / len(parts), third / total**1.5, total**2 / below)

    def ends(self, centre: float) -> tuple[float, float]:
        """Return the two ends of the 95 % interval.

        Args:
            centre: the mean.
        """
        quantile = t_quantile(self.df)
        high, low = (centre - self.error * self._t(side * quantile) for side in (-1.0, 1.0))
        return low, high

    def p_value(self, deviation: float) -> float:
        """Return the two-sided p-value of a deviation of the mean from what is expected.

        Args:
            deviation: mean less expectation.
        """
        if self.error == 0.0:
            return 1.0 if deviation == 0.0 else 0.0
        t, a = deviation / self.error, self.skewness
        return t_test(t if abs(a) < FLAT else ((1 + a * t / 3) ** 3 - 1) / a + a / 6, 1.0, self.df)[
            1
        ]

    def _t(self, transformed: float) -> float:
        """Return the t whose transform this is."""
        a = self.skewness
        if abs(a) < FLAT:
            return transformed
        return 3.0 * (cbrt(1.0 + a * (transformed - a / 6.0)) - 1.0) / a


def mean(values: ArrayLike) -> Number:
    """Compute the mean over draws with its interval.

    The draws are independent repetitions, so the mean is unbiased; the interval is t's for symmetric
    draws, with the degrees of freedom that their tails leave (`freedom`) and their skewness removed
    (`MeanError`): products of normals have both.

    Args:
        values: one number per draw, shape [draws].

    Returns:
        The mean; no ends from a single draw; exact where the draws are all the same.

    Example:
        >>> found = mean([1.0, 2.0, 3.0])
        >>> found.value, found.n
        (2.0, 3)
    """
    series = np.asarray(values, dtype=np.float64)
    if not len(series) or not np.isfinite(series).all():
        return Number(None, None, None, len(series), "a draw is not finite")
    centre = float(series.mean())
    if len(series) < 2:
        return Number(centre, None, None, 1, "one draw")
    low, high = MeanError.of(series).ends(centre)
    return Number(centre, min(low, centre), max(high, centre), len(series))


def scale(x: ArrayLike) -> Number:
    """Estimate the scale along the truth, E<e, g> / |g|²; it is 1 for an unbiased estimate.

    Efficiency is blind to a factor on the estimate; this is the number that sees it.

    Args:
        x: <e, g> / |g|² per draw, shape [draws].

    Returns:
        Mean with its interval.

    Example:
        >>> scale([0.5, 1.5, 1.0, 1.0]).value
        1.0
    """
    return mean(x)


def scale_test(x: ArrayLike, expected: float = 1.0) -> TTest:
    """Test the scale against what is expected.

    Args:
        x: <e, g> / |g|² per draw, shape [draws], at least 2.
        expected: the scale under the hypothesis: 1, or 0 for a difference of two estimates.

    Returns:
        The mean, t and two-sided p. A mean within rounding of `expected` is not a deviation.

    Example:
        >>> scale_test([1.9, 2.0, 2.1, 2.0]).p_value < 0.001
        True
    """
    series = np.asarray(x, dtype=np.float64)
    centre = float(series.mean())
    if abs(centre - expected) <= ROUNDING:
        return TTest(centre, 0.0, 1.0)
    return TTest(centre, *t_test(centre - expected, standard_error(series), len(series) - 1))


def cosine(cosines: ArrayLike) -> Number:
    """Compute the mean cosine between one estimate and the truth.

    Args:
        cosines: <e, g> / (|e| |g|) per draw, shape [draws].

    Returns:
        Mean with its t interval, ends kept within [-1, 1].

    Example:
        >>> cosine([0.1, 0.3]).value
        0.2
    """
    plain = mean(cosines)
    if plain.low is None or plain.high is None:
        return plain
    return Number(plain.value, max(plain.low, -1.0), min(plain.high, 1.0), plain.n)


def expected_cosine(d: int, directions: int = 1, combine: str = "mean") -> float | None:
    """Compute the expected cosine of a forward gradient along isotropic directions with the truth.

    One direction v gives e = <g, v> v, whose cosine with g is |<g, v>| / (|g| |v|). Projecting on
    the span of n directions gives |P g| / |g|, whose square is Beta(n/2, (d - n)/2) because the
    span is uniform; n = 1 is the same number. The mean of a Beta's root is a ratio of Gammas:
    Gamma((n + 1)/2) Gamma(d/2) / (Gamma(n/2) Gamma((d + 1)/2)), about sqrt(n / d).

    Args:
        d: number of elements of the truth.
        directions: how many directions one estimate uses.
        combine: "mean" or "project".

    Returns:
        The expectation over an isotropic law (normal or sphere; a sign law depends on the truth);
        None for the mean of several directions, which has no such form.

    Example:
        >>> round(expected_cosine(d=100), 4)  # near sqrt(2 / (pi d))
        0.08
        >>> expected_cosine(d=4, directions=4, combine="project")
        1.0
    """
    if directions > 1 and combine != "project":
        return None
    n = directions
    if n >= d:
        return 1.0
    return exp(lgamma((n + 1) / 2) + lgamma(d / 2) - lgamma(n / 2) - lgamma((d + 1) / 2))


def signed_roots(x: Floats, y: Floats, z: Floats) -> Floats:
    """Return sum x / sqrt(sum y sum z): first of all draws, then without each draw in turn.

    Args:
        x: one term per draw, shape [draws].
        y: as `x`, not negative.
        z: as `x`, not negative.

    Returns:
        Shape [1 + draws]; 0 where the root is of nothing positive.

    Example:
        >>> signed_roots(np.array([1.0, 3.0]), np.array([4.0, 4.0]), np.ones(2)).tolist()
        [1.0, 1.5, 0.5]
    """
    sums = [np.concatenate([[series.sum()], series.sum() - series]) for series in (x, y, z)]
    product = np.maximum(sums[1], 0.0) * sums[2]
    possible = product > 0.0
    return np.where(possible, sums[0] / np.sqrt(np.where(possible, product, 1.0)), 0.0)


def efficiency(x: ArrayLike, y: ArrayLike, control: ArrayLike | None = None) -> Number:
    """Estimate the efficiency E<e, g>² / (|g|² E|e|²) of one estimate, in [0, 1].

    No rescaling of e changes it; an unbiased e has 1 / (1 + relative variance). Its signed root
    r = mean X / sqrt(mean Y) behaves like a correlation, so atanh r is nearly normal: the interval
    is atanh r ± t s with the jackknife's s over draws and its degrees of freedom (`freedom`), its ends
    squared. The centre keeps its small bias, because removing it costs coverage at few draws. Where
    the law of the directions is known, a control Z with expectation 1 divides once more,
    r = mean X / sqrt(mean Y mean Z): the fluctuation of the squared slopes is common to X², Y and Z
    and cancels.

    Args:
        x: <e, g> / |g|² per draw, shape [draws]; the stated coverage needs at least 64 draws.
        y: |e|² / |g|² per draw, shape [draws].
        control: sum of slope² over its expectation, per draw (one direction in weight space:
            <g, v>² / |g|²), only where `control_valid` accepts the law. It is left out where it
            would carry r to 1, with or without any one draw, because atanh ends there.

    Returns:
        The efficiency; exact for draws that are all the same; without value, and with low = 0,
        where the interval of r includes 0; without ends from a single draw.

    Example:
        >>> v = np.random.default_rng(0).standard_normal((4096, 8))  # <g, v> v of g = (1, 0, ...)
        >>> found = efficiency(v[:, 0] ** 2, v[:, 0] ** 2 * (v**2).sum(1))
        >>> found.low < 1 / 10 < found.high  # 1 / (d + 2)
        True
    """
    xs, ys = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
    zs = np.ones_like(xs) if control is None else np.asarray(control, dtype=np.float64)
    draws = len(xs)
    if not draws or not np.isfinite([xs, ys, zs]).all():
        return Number(None, None, None, draws, "a draw is not finite")
    if not ys.any():
        return Number(None, None, None, draws, "the estimate is zero")
    if constant(xs) and constant(ys):
        value = min(float(signed_roots(xs, ys, np.ones_like(xs))[0]) ** 2, 1.0)
        return Number.exact(value, draws) if draws > 1 else Number(value, None, None, 1, "one draw")
    roots = signed_roots(xs, ys, zs)
    if control is not None and np.abs(roots).max() >= NEAREST_ONE:
        return efficiency(xs, ys)
    value = min(float(roots[0]) ** 2, 1.0)
    angles = np.arctanh(np.clip(roots, -NEAREST_ONE, NEAREST_ONE))
    half = t_quantile(freedom(draws, angles[1:])) * jackknife_error(angles[1:])
    low, high = (max(0.0, tanh(abs(float(angles[0])) + side * half)) ** 2 for side in (-1, 1))
    if low == 0.0 < high:
        return Number(None, low, high, draws, "unresolved")
    return Number(value, min(low, value), max(high, value), draws)


def freedom(replicates: int, without: Floats) -> float:
    """Compute the degrees of freedom of a jackknife variance, by Satterthwaite's rule from the draws' tails.

    A variance s² of n replicates has Var s² / σ⁴ = 2/(n - 1) + κ/K, with κ the excess kurtosis of what
    the K draws contribute; a chi-squared with f degrees of freedom has 2/f. Slopes to the fourth power
    have κ of 20 and more, so that 64 draws say as little of their variance as 5 normal ones: with
    n - 1 instead the interval of efficiency covers .92 at d = 20 with a control, with these .935.

    Args:
        replicates: n, how many the variance is of: draws, or blocks of them.
        without: the statistic without each draw in turn, shape [draws].

    Returns:
        2 / (2/(n - 1) + max(κ, 0)/K), at most n - 1.

    Example:
        >>> freedom(3, np.array([1.0, 2.0, 3.0]))
        2.0
    """
    if constant(without):
        return replicates - 1.0
    squares = (without - without.mean()) ** 2
    excess = float((squares**2).mean()) / float(squares.mean()) ** 2 - 3.0
    return 2.0 / (2.0 / (replicates - 1.0) + max(excess, 0.0) / len(without))


def jackknife_error(without: Floats) -> float:
    """Return the jackknife's standard error from the values without each replicate in turn.

    Args:
        without: the statistic without each replicate in turn, shape [replicates].

    Returns:
        The standard error of the statistic of all of them.

    Example:
        >>> round(jackknife_error(np.array([1.0, 2.0, 3.0])), 3)
        1.155
    """
    count = len(without)
    return float(np.sqrt((count - 1) * without.var()))


def efficiency_debiased(x: ArrayLike, y: ArrayLike) -> float | None:
    """Estimate the efficiency with the sampling noise of its numerator taken out.

    (mean X)² is on average E[X]² + var X / draws, so s²/draws is subtracted before dividing by
    mean Y, which leaves no bias in the numerator however few the draws are.

    Args:
        x: <e, g> / |g|² per draw, shape [draws].
        y: |e|² / |g|² per draw, shape [draws].

    Returns:
        (mean(X)² - s²/draws) / mean(Y), possibly negative; None below 2 draws or where e is 0.

    Example:
        >>> round(efficiency_debiased([1.0, 3.0], [4.0, 8.0]), 3)
        0.5
    """
    xs, ys = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
    if len(xs) < 2 or not ys.any():
        return None
    return finite((float(xs.mean()) ** 2 - standard_error(xs) ** 2) / float(ys.mean()))


def control_valid(norm_ratio: ArrayLike) -> bool:
    """Return whether directions have the squared norm their law promises, so that a control may be used.

    A control believes the law: with v silently replaced by 1.1 v it reports scale 1 and an
    efficiency that is 17 % too low. E|v|² = d is the first thing such a fault breaks.

    Args:
        norm_ratio: |v|² / d per draw, shape [draws].

    Returns:
        False if the mean is more than 4 standard errors from 1 or rests on fewer than 2 draws.
        A deviation below 1e-6 (norms in float32 of a law with a fixed norm) is none.

    Example:
        >>> control_valid([0.9, 1.1, 1.0, 1.0]), control_valid([1.2, 1.3, 1.2, 1.3])
        (True, False)
    """
    ratios = np.asarray(norm_ratio, dtype=np.float64)
    if len(ratios) < 2 or not np.isfinite(ratios).all():
        return False
    deviation = abs(float(ratios.mean()) - 1.0)
    return deviation <= max(4.0 * standard_error(ratios), 1e-6)


def heavy_tail(y: ArrayLike) -> bool:
    """Return whether one draw dominates Σ|e|², in which case no interval here can be trusted.

    Args:
        y: |e|² / |g|² per draw, shape [draws].

    Returns:
        Whether the largest draw holds more than 0.05 + 20/draws of the sum.

    Example:
        >>> heavy_tail(np.ones(64)), heavy_tail([1.0] * 63 + [1000.0])
        (False, True)
    """
    ys = np.asarray(y, dtype=np.float64)
    return bool(len(ys)) and bool(ys.max() > (0.05 + 20.0 / len(ys)) * ys.sum())


def ratio(a: Number, b: Number) -> Number:
    """Compute the ratio of two positive numbers whose errors are independent, with its interval.

    On the log scale the interval of a difference is recovered from those of its parts: each end lies at
    the root of the sum of squares of the two distances that move the difference that way. Parts that rise
    and fall together make it too wide, never too narrow.

    Args:
        a: numerator, above 0 or exactly 0.
        b: denominator, above 0.

    Returns:
        The ratio; exactly 0 for a numerator that is; without ends where a part has none or reaches 0,
        without value where a part has none.

    Reference: Zou and Donner, Construction of confidence limits about effect measures, 2008.

    Example:
        >>> ratio(Number(4.0, 2.0, 8.0, 64), Number.exact(2.0, 64))
        Number(value=2.0, low=1.0, high=4.0, n=64, reason='')
    """
    n = min(a.n, b.n)
    for part in (a, b):
        if part.value is None:
            return Number(None, None, None, n, part.reason)
    if not b.value:
        return Number(None, None, None, n, "divided by 0")
    if not a.value:
        return Number.exact(0.0, n)
    value = a.value / b.value
    if not (a.low and a.high and b.low and b.high):
        return Number(value, None, None, n, a.reason or b.reason)
    down = hypot(log(a.value / a.low), log(b.high / b.value))
    up = hypot(log(a.high / a.value), log(b.value / b.low))
    return Number(value, value * exp(-down), value * exp(up), n)
