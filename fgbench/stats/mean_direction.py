"""Mean of estimates beside their noise: error, signal-to-noise ratio, cosine of the mean.

The squared norm of a mean is read off products of different draws: <e_k, e_l> averages to |Ee|² because
draws are independent, while |mean e|² still holds the noise that averaging left. What is small beside that
noise is unresolved, and has no value.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt
from typing import TYPE_CHECKING

import numpy as np

from fgbench.stats import intervals
from fgbench.stats.blocks import LEAST_BLOCKS, blocks, null_error
from fgbench.stats.intervals import ROUNDING, Floats, Number, freedom, jackknife_error, t_quantile
from fgbench.stats.variance import of_estimates

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

UNRESOLVED = "unresolved"
NO_NOISE = "no noise"


@dataclass(frozen=True)
class Estimates:
    """Draws of an estimate, relative to |g|² = 1.

    Args:
        squares: |e|² per draw, shape [draws].
        gram: <E_i, E_j> of the block sums E of e, blocks as in :func:`fgbench.stats.blocks.blocks`.
        rounding: relative norm at or below which a deviation from the mean is rounding.

    Example:
        >>> Estimates(np.ones(4), np.eye(4)).draws
        4
    """

    squares: Floats
    gram: Floats
    rounding: float = ROUNDING

    @classmethod
    def of_errors(
        cls, x: ArrayLike, y: ArrayLike, gram: ArrayLike, rounding: float = ROUNDING
    ) -> Estimates:
        """Build the draws from errors d = e - g: <e_k, e_l> = <d_k, d_l> + <e_k, g> + <e_l, g> - 1.

        Args:
            x: <e, g> / |g|² per draw, shape [draws].
            y: |e|² / |g|² per draw, shape [draws].
            gram: <D_i, D_j> / |g|² of the block sums of d.
            rounding: as in the class.

        Returns:
            The estimates.
        """
        xs, ys = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
        which = blocks(len(xs))
        along, sizes = (np.bincount(which, w).astype(np.float64) for w in (xs, None))
        return cls(ys, of_estimates(np.asarray(gram, dtype=np.float64), along, sizes), rounding)

    @property
    def draws(self) -> int:
        """Number of draws."""
        return len(self.squares)

    @property
    def few(self) -> str:
        """Reason why nothing can be said of their mean, "" if there is none."""
        if self.draws < LEAST_BLOCKS:
            return f"fewer than {LEAST_BLOCKS} draws"
        sound = np.isfinite(self.squares).all() and np.isfinite(self.gram).all()
        return "" if sound else "a draw is not finite"

    def moments(self) -> tuple[Floats, Floats]:
        """Estimate |Ee|² and E|e - Ee|², unbiased: from all draws, then without each block in turn."""
        sizes, sums = (np.bincount(blocks(self.draws), w) for w in (None, self.squares))
        n, squares = (s.sum() - np.append(0.0, s) for s in (sizes, sums))
        norm = self.gram.sum() - np.append(0.0, 2.0 * self.gram.sum(1) - np.diag(self.gram))
        signal: Floats = (norm - squares) / (n * (n - 1.0))
        variance: Floats = (squares - norm / n) / (n - 1.0)
        return signal, variance

    def interval(self, statistic: Floats, unit: float) -> Number:
        """Return the interval of a statistic that is linear in |Ee|², possibly negative.

        The jackknife counts the degenerate part s0² of the variance twice (see
        :func:`fgbench.stats.bias.bias`);
        as there it is taken off for the lower end alone.

        Args:
            statistic: of all draws, then without each block in turn.
            unit: by what |Ee|² was divided.

        Returns:
            The statistic, not cut at what is possible.
        """
        sizes = np.bincount(blocks(self.draws)).astype(np.float64)
        centre = np.eye(len(sizes)) - np.outer(sizes, np.ones(len(sizes))) / self.draws
        null = null_error(centre @ self.gram @ centre.T, sizes) / unit
        jackknife = jackknife_error(statistic[1:])
        quantile = t_quantile(freedom(len(sizes), statistic[1:]))
        below = max(sqrt(max(jackknife**2 - null**2, 0.0)), null)
        value = float(statistic[0])
        high = value + quantile * max(jackknife, null)
        return Number(value, value - quantile * below, high, self.draws)


def normalised_error(
    d2: ArrayLike, control: ArrayLike | None = None, rounding: float = ROUNDING
) -> Number:
    """Estimate the mean squared error over |g|², E|e - g|² / |g|² = relative variance + bias².

    The cross term 2 <e - Ee, Ee - g> has mean 0. Positive and skewed, it gets the log-t interval of
    relative variance, jackknifed over draws. With a control Z of expectation 1 (see
    :func:`fgbench.stats.intervals.efficiency`), |e - g|² - |g|² = |e|² - 2<e, g>, which is quadratic in the
    slopes, is divided by its mean.

    Args:
        d2: |e - g|² / |g|² per draw, shape [draws].
        control: per-draw control. It is left out where without it, or without any draw, nothing remains.
        rounding: relative norm of e - g at or below which it is rounding.

    Returns:
        The error; exactly 0 where it is rounding; exact where all draws have the same; without an interval
        where all draws but one are exact.

    Example:
        >>> normalised_error([0.5, 1.5, 1.0, 1.0]).value
        1.0
        >>> normalised_error([0.0, 2.0])  # an estimate that is exact now and then
        Number(value=1.0, low=None, high=None, n=2, reason='one draw alone has an error')
    """
    squares = np.asarray(d2, dtype=np.float64)
    draws = len(squares)
    if not draws or not np.isfinite(squares).all():
        return Number(None, None, None, draws, "a draw is not finite")
    if squares.mean() <= rounding**2:
        return Number.exact(0.0, draws)
    if draws < 2:
        return Number(float(squares[0]), None, None, draws, "one draw")
    if intervals.constant(squares):
        return Number.exact(float(squares.mean()), draws)
    terms = _without(squares) / _without(np.ones(draws))
    if control is not None:
        zs = _without(np.asarray(control, dtype=np.float64))
        with np.errstate(divide="ignore", invalid="ignore"):  # a control of zeros is left out
            controlled = 1.0 + _without(squares - 1.0) / zs
        if np.isfinite(controlled).all() and controlled.min() > rounding**2:
            terms = controlled
    if terms.min() <= 0:  # the logarithm of the jackknife has no value
        return Number(float(terms[0]), None, None, draws, "one draw alone has an error")
    logs = np.log(terms)
    half = t_quantile(freedom(draws, logs[1:])) * jackknife_error(logs[1:])
    low, value, high = (float(end) for end in np.exp(logs[0] + half * np.array([-1.0, 0.0, 1.0])))
    return Number(value, low, high, draws)


def _without(values: Floats) -> Floats:
    """Return the sum, then the sum without each in turn."""
    found: Floats = values.sum() - np.append(0.0, values)
    return found


def signal_to_noise(e: Estimates) -> Number:
    """Estimate the signal-to-noise ratio of one estimate, |Ee|² / E|e - Ee|².

    No rescaling of e changes it. An unbiased estimate has 1 / relative variance, and its mean of n
    independent ones n times as much. Signal and variance are unbiased each.

    Args:
        e: the draws.

    Returns:
        The ratio, possibly negative, for :func:`resolved` to cut; no value where there is no noise.

    Example:
        >>> e = 2.0 + np.random.default_rng(0).standard_normal((32, 1))
        >>> found = signal_to_noise(Estimates((e**2).sum(1), e @ e.T))
        >>> found.low < 4.0 < found.high
        True
    """
    if e.few:
        return Number(None, None, None, e.draws, e.few)
    signal, variance = e.moments()
    if variance[0] <= max(ROUNDING * float(e.squares.mean()), e.rounding**2):
        return Number(None, None, None, e.draws, NO_NOISE)
    return e.interval(signal / variance, float(variance[0]))


def squared_mean(e: Estimates) -> Number:
    """Estimate |Ee|², possibly negative, relative to |g|² = 1.

    Args:
        e: the draws.

    Returns:
        The squared norm with its interval; no value below 4 draws.

    Example:
        >>> e = np.array([[1.0], [2.0], [1.0], [2.0]])
        >>> squared_mean(Estimates((e**2).sum(1), e @ e.T)).value
        2.1666666666666665
    """
    if e.few:
        return Number(None, None, None, e.draws, e.few)
    return e.interval(e.moments()[0], 1.0)


def resolved(found: Number) -> Number:
    """Cut a ratio at 0, and drop its value where its interval includes 0.

    Args:
        found: the ratio.

    Returns:
        The ratio; without value, and from 0 up, where its interval includes 0.

    Example:
        >>> resolved(Number(0.1, -0.2, 0.4, 64))
        Number(value=None, low=0.0, high=0.4, n=64, reason='unresolved')
    """
    if found.value is None or found.low is None or found.high is None:
        return found
    if found.low <= 0.0:
        return Number(None, 0.0, max(found.high, 0.0), found.n, UNRESOLVED)
    return found


def inverse_cosine(e: Estimates, x: ArrayLike, ratio: float = 1.0) -> Number:
    """Estimate |Ee|² |h|² / <Ee, h>², the inverse square of the cosine between the mean of e and h.

    It is linear in |Ee|², which is unbiased, so it may be averaged over points; the cosine is not.
    Without bias it is 1 for h = g.

    Args:
        e: the draws, relative to |g|².
        x: <e, h> / |h|² per draw, shape [draws].
        ratio: |g|² / |h|².

    Returns:
        The inverse square, possibly below 1, for :func:`cosine_of_mean`; without value where the mean of
        `x` has 0 in its interval.

    Example:
        >>> e = np.ones((6, 1))  # always the gradient itself
        >>> inverse_cosine(Estimates((e**2).sum(1), e @ e.T), e[:, 0]).value
        1.0
    """
    xs = np.asarray(x, dtype=np.float64)
    along = intervals.mean(xs)
    if e.few or along.low is None or along.high is None:
        return Number(None, None, None, e.draws, e.few or "a draw is not finite")
    if along.low <= 0.0 <= along.high:
        return Number(None, None, None, e.draws, UNRESOLVED)
    signal, variance = e.moments()
    if variance[0] <= max(ROUNDING * float(e.squares.mean()), e.rounding**2):
        return Number.exact(ratio * float(e.squares.mean()) / float(xs.mean()) ** 2, e.draws)
    which = blocks(e.draws)
    along_sums, sizes = (np.bincount(which, w).astype(np.float64) for w in (xs, None))
    means = _without(along_sums) / _without(sizes)
    return e.interval(ratio * signal / means**2, float(means[0]) ** 2 / ratio)


def cosine_of_mean(inverse: Number, sign: float) -> Number:
    """Compute the cosine between the mean of the estimates and a gradient from its inverse square.

    The mean cosine of single draws is near 0 in high dimension whatever their mean is; this one is 1
    without bias.

    Args:
        inverse: its inverse square, at a point or averaged over points.
        sign: of the cosine.

    Returns:
        The cosine, within [-1, 1]; without value where the norm of the mean is not resolved.

    Example:
        >>> cosine_of_mean(Number(4.0, 3.0, 5.0, 64), sign=1.0).value
        0.5
    """
    if inverse.value is None or inverse.low is None or inverse.high is None:
        return Number(None, None, None, inverse.n, inverse.reason)
    high, value, low = (1.0 / sqrt(max(q, 1.0)) for q in (inverse.low, inverse.value, inverse.high))
    low, high = (low, high) if sign > 0 else (-high, -low)
    if inverse.low <= 0.0:
        return Number(None, low, high, inverse.n, UNRESOLVED)
    return Number(value if sign > 0 else -value, low, high, inverse.n, inverse.reason)
