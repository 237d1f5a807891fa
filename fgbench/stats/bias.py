"""Relative variance and bias of an estimate, from inner products between blocks of draws.

Bias is a norm: it cannot be read off per-draw scalars, and the norm of a mean is mostly noise. The
draws are dealt into at most 32 blocks; the Gram matrix of the block sums of d = e - g is all that
is kept of the vectors, and every number here is a function of it.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import isfinite, sqrt
from typing import TYPE_CHECKING, Any

import numpy as np

from fgbench.stats.blocks import TESTABLE, sign_flip_p
from fgbench.stats.intervals import (
    ROUNDING,
    Number,
    TTest,
    finite,
    mean,
    scale_test,
    t_quantile,
)
from fgbench.stats.multiple_tests import LEVEL
from fgbench.stats.variance import norm_errors

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

JUDGED = 32  # draws of a test: with fewer, a few elements (d = 5) are rejected in more than 7 %


@dataclass(frozen=True)
class Bias:
    """Norm of the bias over the norm of the truth, its interval and its test.

    Args:
        value: √max(U, 0); None where a bias as large as the truth could hide and none is seen.
        low: lower end, U's interval cut at 0 and rooted.
        high: upper end, given even where the value is not. A squared norm is not negative, so a U below 0
            counts as 0 here: the end never falls below 0.8 times `detectable`, however low U came out.
        p_value: one-sided, against no bias; None below 32 draws of an estimate that is noisy.
        detectable: the relative bias found with power .7 to .9 at the 5 % level; None without a test.
        squared: U, unbiased for the squared relative bias and possibly negative; what is averaged.
        n: draws behind it, or points' replicates.
        reason: why a value or an end is missing, or how far the interval reaches.
        draws_low: lower end of the interval over draws, which is what the test is over; `low` and `high`
            are that too unless replicates of points are there to take them from.
        draws_high: upper end of it.

    Example:
        >>> Bias.exact(0.0, n=6).p_value
        1.0
    """

    value: float | None
    low: float | None
    high: float | None
    p_value: float | None
    detectable: float | None
    squared: float | None
    n: int
    reason: str = ""
    draws_low: float | None = None
    draws_high: float | None = None

    @classmethod
    def exact(cls, value: float, n: int) -> Bias:
        """Build the bias of an estimate without sampling error; p is 1 for none and 0 for some."""
        p_value = 1.0 if value == 0.0 else 0.0
        return cls(value, value, value, p_value, 0.0, value**2, n, "", value, value)

    def json(self) -> dict[str, Any]:
        """Return the names other programs read, U as `squared`; what is not finite is None."""
        tested = ("p_value", "detectable", "squared", "draws_low", "draws_high")
        names = ("value", "low", "high", *tested)
        numbers = {name: finite(getattr(self, name)) for name in names}
        return {**numbers, "n": self.n, "reason": self.reason}


def bias(gram: ArrayLike, sum_d2: float, draws: int, rounding: float = ROUNDING) -> Bias:
    """Estimate the relative bias |Ee - g| / |g| from the block sums of d = e - g.

    U = (|Σd|² - Σ|d|²) / (draws (draws - 1)) averages <d_k, d_l> over pairs of different draws,
    whose expectation is |Ed|² because different draws are independent. Without bias the blocks may
    change sign, which leaves the law of the Gram matrix alone: p is the rank of the sum of its
    off-diagonal among sign flips. U is a degenerate sum of products then, with
    s0² = 2 var(o) (M/draws)² / (1 - 1/M) / draws² for M blocks and off-diagonal entries o, and the
    jackknife counts that part twice: s² = max(jackknife² - s0², s0²) for the lower end. Where U comes
    out low so does s, which alone leaves the upper end too low (5 to 6 % of misses at d = 20, 10 to 15
    for a bias along the truth): the upper end keeps the jackknife's s, at least s0.

    Args:
        gram: <D_i, D_j> / |g|², shape [M, M], blocks as in `blocks`; a mean over points is fine.
        sum_d2: Σ|d|² / |g|² over all draws.
        draws: how many draws there were.
        rounding: relative norm of d at or below which d is rounding and the bias exactly 0;
            the default is for float64.

    Returns:
        The bias; all None below 6 draws, where no sign-flip p reaches .05, and without p below 32, where
        draws of few elements are too skew for it: along normal directions of 5 elements it rejects in 8 %
        with 16 draws and in 11 with 8, of 20 elements in 7 and 9; of 5 with 32 in 7, of 20 in 5 to 6. U
        noise-free (a deterministic estimate) is exact.

    Cost: 10^4 products with the Gram matrix, about 1 ms on one thread.

    Example:
        >>> d = np.random.default_rng(0).standard_normal((32, 5)) + 1.0  # a bias of norm sqrt(5)
        >>> found = bias(d @ d.T, float((d**2).sum()), draws=32)
        >>> round(found.value, 1), found.p_value
        (2.3, 0.0001)
    """
    inner = np.asarray(gram, dtype=np.float64)
    if draws and sum_d2 <= draws * rounding**2:
        return Bias.exact(0.0, draws)
    count = len(inner)
    if count < TESTABLE or not (np.isfinite(inner).all() and isfinite(sum_d2)):
        reason = f"fewer than {TESTABLE} draws" if count < TESTABLE else "a draw is not finite"
        return Bias(None, None, None, None, None, None, draws, reason)
    squared = float(inner.sum() - sum_d2) / (draws * (draws - 1.0))
    null, below, above = norm_errors(inner, draws)
    quantile = t_quantile(count - 1)
    low, high = sqrt(max(squared - quantile * below, 0.0)), upper_end(squared, quantile * above)
    p_value = sign_flip_p(inner) if draws >= JUDGED or null == 0.0 else None
    detectable, seen = sqrt(3.0 * null), p_value is not None and p_value < LEVEL
    resolved = detectable < 1.0 or seen
    value = sqrt(max(squared, 0.0)) if resolved else None
    if p_value is None:
        reason = f"fewer than {JUDGED} draws: no test"
        return Bias(value, low, high, None, None, squared, draws, reason, low, high)
    reason = "" if resolved else "unresolved"
    return Bias(value, low, high, p_value, detectable, squared, draws, reason, low, high)


def upper_end(squared: float, half: float) -> float:
    """Return the upper end of a bias from U and the half-width of its interval.

    A U that came out below 0 by chance would bring the end down to 0, below biases that the test is as
    good as blind to; the squared norm is not negative, so U counts as 0 there (as a power-constrained
    limit does: Cowan, Cranmer, Gross, Vitells 2011).

    Args:
        squared: U.
        half: half-width of its interval.

    Returns:
        √(max(U, 0) + half).

    Example:
        >>> upper_end(-3.0, 4.0), upper_end(5.0, 4.0)
        (2.0, 3.0)
    """
    return sqrt(max(squared, 0.0) + half)


@dataclass(frozen=True)
class Coupled:
    """Comparison of an estimate with a known unbiased one on the same noise.

    Args:
        exact: whether e and its coupled truth agree to rounding in every draw.
        scale: 1 + E<Δ, g> / |g|², the scale with the noise of the truth removed.
        test: t test of E<Δ, g> / |g|² against 0.
        bias: bias, from the Gram matrix of Δ.

    Example:
        >>> Coupled(True, Number.exact(1.0, 8), TTest(0.0, 0.0, 1.0), Bias.exact(0.0, 8)).scale.value
        1.0
    """

    exact: bool
    scale: Number
    test: TTest
    bias: Bias


def coupled(x: ArrayLike, gram: ArrayLike, sum_d2: float, rounding: float = ROUNDING) -> Coupled:
    """Estimate bias and scale from Δ = e - <g, v> v, the estimate less an unbiased one on the same noise.

    E[<g, v> v] = g exactly, so EΔ is the bias, and what the two estimates share drops out: a scale
    of 1.02 shows at 256 draws where e alone needs about 39,000. A site that is always zero changes
    Δ by the noise it leaves out and needs the plain scale of that site as well.

    Args:
        x: <Δ, g> / |g|² per draw, shape [draws], at least 2; over one site for the site's scale.
        gram: <D_i, D_j> / |g|² for the block sums D of Δ, blocks as in `blocks`.
        sum_d2: Σ|Δ|² / |g|² over all draws.
        rounding: relative norm of Δ at or below which Δ is rounding.

    Returns:
        Scale, its test and the bias. Δ within rounding is exact: scale 1, bias 0, both p 1.

    Example:
        >>> coupled(np.zeros(8), np.zeros((8, 8)), 0.0).exact
        True
    """
    series = np.asarray(x, dtype=np.float64)
    draws = len(series)
    if sum_d2 <= draws * rounding**2:
        return Coupled(True, Number.exact(1.0, draws), TTest(0.0, 0.0, 1.0), Bias.exact(0.0, draws))
    return Coupled(
        False, mean(1.0 + series), scale_test(series, 0.0), bias(gram, sum_d2, draws, rounding)
    )
