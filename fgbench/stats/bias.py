"""Relative variance and bias of an estimate, from inner products between blocks of draws.

Bias is a norm: it cannot be read off per-draw scalars, and the norm of a mean is mostly noise. The
draws are dealt into at most 32 blocks; the Gram matrix of the block sums of d = e - g is all that
is kept of the vectors, and every number here is a function of it.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from math import isfinite, sqrt
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from fgbench.stats.intervals import (
    ROUNDING,
    Floats,
    Number,
    TTest,
    constant,
    finite,
    freedom,
    jackknife_error,
    mean,
    scale_test,
    t_quantile,
)

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

BLOCKS = 32
LEAST_BLOCKS = 4  # for an interval
TESTABLE = 6  # M blocks have 2^(M − 1) patterns of signs: with fewer no p reaches .05
JUDGED = 32  # draws of a test: with fewer, a few elements (d = 5) are rejected in more than 7 %
ALONE = 0.1  # a standard error below this share of another adds less than .5 % to it
FLIPS = 9_999  # random patterns; with the observed one the smallest p is 1e-4
ENUMERATED = 13  # up to 2^12 patterns are cheaper and exact


def blocks(draws: int) -> NDArray[np.int64]:
    """Return the block of each draw: k modulo min(32, draws), so a run can be extended.

    Args:
        draws: how many draws there are.

    Returns:
        Integers, shape [draws]; the number of blocks is the last axis of the Gram matrix.
    """
    return np.arange(draws, dtype=np.int64) % max(1, min(BLOCKS, draws))


def relative_variance(
    d2: ArrayLike,
    gram: ArrayLike,
    x: ArrayLike | None = None,
    control: ArrayLike | None = None,
    rounding: float = ROUNDING,
) -> Number:
    """Variance of the estimate about its own mean over |g|², E|e - Ee|² / |g|².

    |d|² averages to variance plus squared bias, and the squared bias has the unbiased estimate
    U = (|Σd|² - Σ|d|²) / (draws (draws - 1)). Their difference is the sample variance
    Σ|d - mean d|² / (draws - 1), unbiased whatever the bias is. It is positive and skewed, so its
    logarithm gets the t interval, with the jackknife's error over blocks and at most one degree of
    freedom per block (`freedom`), never one per coordinate. Coordinates of one draw share their slope:
    a chi-squared interval with draws * d degrees of freedom covers 30 % at d = 20 where it claims 95 %.

    With a control (see `efficiency`) E|e|² = mean|e|² / mean Z, and |Ee|², quadratic in the slopes'
    common fluctuation, is divided twice; the logarithm of the difference is jackknifed alike. Where
    |v|² is fixed by the law this leaves mean|e|² without noise and U alone varies, a degenerate sum
    whose variance the jackknife doubles (see `bias`): then its own standard error is taken.

    Args:
        d2: |e - g|² / |g|² per draw, shape [draws].
        gram: <D_i, D_j> / |g|² for the block sums D of d, blocks as in `blocks`.
        x: <e, g> / |g|² per draw; needed with a control only.
        control: per-draw control with expectation 1. It is left out where with it, or without any
            one block, no variance would remain.
        rounding: relative norm of d at or below which d is rounding, as in `bias`.

    Returns:
        The relative variance; exactly 0 where it is rounding of the mean of |d|² or of 1; without
        ends from fewer than 4 draws, or without value from fewer than 2.
    """
    found = _on_log_scale(d2, gram, x, control, rounding)
    if isinstance(found, Number):
        return found
    half = t_quantile(found.freedom) * found.error
    ends = np.exp(found.log + half * np.array([-1.0, 0.0, 1.0]))
    low, value, high = (float(end) for end in ends)
    return Number(value, low, high, len(np.asarray(d2)))


def relative_error(
    d2: ArrayLike, gram: ArrayLike, x: ArrayLike | None = None, control: ArrayLike | None = None
) -> float:
    """Relative standard error of the relative variance: its interval's half-width on the log scale over t.

    Args:
        d2: as of :func:`relative_variance`, like all others.
        gram: inner products of block sums.
        x: <e, g> / |g|² per draw.
        control: per-draw control.

    Returns:
        The standard error of the logarithm; 0 where there is no interval or no sampling error.
    """
    found = _on_log_scale(d2, gram, x, control, ROUNDING)
    return 0.0 if isinstance(found, Number) else found.error


class _Log(NamedTuple):
    """A positive number by its logarithm, with the standard error of that and its degrees of freedom."""

    log: float
    error: float
    freedom: float


def _on_log_scale(
    d2: ArrayLike,
    gram: ArrayLike,
    x: ArrayLike | None,
    control: ArrayLike | None,
    rounding: float,
) -> _Log | Number:
    """Return the relative variance on the log scale, or as it is where it has no interval there."""
    squares, inner = np.asarray(d2, dtype=np.float64), np.asarray(gram, dtype=np.float64)
    draws = len(squares)
    if draws < 2 or not (np.isfinite(squares).all() and np.isfinite(inner).all()):
        return Number(None, None, None, draws, "one draw" if draws == 1 else "a draw is not finite")
    which = blocks(draws)
    sizes = np.bincount(which).astype(np.float64)
    sums = np.bincount(which, squares).astype(np.float64)
    floor = max(ROUNDING * float(squares.mean()), rounding**2)
    plain = (float(squares.sum()) - float(inner.sum()) / draws) / (draws - 1)
    if plain <= floor:
        return Number.exact(0.0, draws)
    if draws < LEAST_BLOCKS:
        return Number(plain, None, None, draws, "fewer than 4 draws")
    variances = _variances(inner, sums, sizes, sizes)
    terms, weights, null = squares, np.ones(draws), 0.0
    if x is not None and control is not None:
        xs, zs = np.asarray(x, dtype=np.float64), np.asarray(control, dtype=np.float64)
        along = np.bincount(which, xs).astype(np.float64)
        cross = of_estimates(inner, along, sizes)
        slopes = np.bincount(which, zs).astype(np.float64)
        with np.errstate(divide="ignore", invalid="ignore"):  # a control of zeros is left out
            controlled = _variances(cross, sums + 2.0 * along - sizes, sizes, slopes)
        if controlled.min() > floor:
            variances, terms, weights = controlled, squares + 2.0 * xs - 1.0, zs
            # along g the control cancels; across it U over the mean of Z twice is left
            null = (
                null_error(inner - np.outer(along - sizes, along - sizes), sizes) / zs.mean() ** 2
            )
    # without one block nothing may be left, which is a wide interval and not an error
    logs = np.log(np.maximum(variances, floor))
    without = (terms.sum() - terms) / (weights.sum() - weights)
    df, main = freedom(len(sizes), without), jackknife_error(without)
    error = jackknife_error(logs[1:])
    if main < ALONE * null:
        df = len(sizes) * (len(sizes) - 1.0) / 2.0  # as many products, uncorrelated without bias
        error = sqrt(main**2 + null**2) / float(variances[0])
    return _Log(float(logs[0]), error, df)


def of_estimates(inner: Floats, along: Floats, sizes: Floats) -> Floats:
    """Return products of block sums of e from those of d = e - g, |g| = 1.

    e = g + d: |e|² = |d|² + 2 <e, g> - |g|², and likewise products of sums.

    Args:
        inner: <D_i, D_j>, shape [M, M].
        along: <e, g> summed over each block.
        sizes: draws of each block.

    Returns:
        <E_i, E_j>, shape [M, M].
    """
    found: Floats = inner + np.outer(along, sizes) + np.outer(sizes, along) - np.outer(sizes, sizes)
    return found


def _variances(inner: Floats, sums: Floats, sizes: Floats, slopes: Floats) -> Floats:
    """Return the controlled variance from all blocks, then without each in turn."""
    n, squares, control = (s.sum() - np.append(0.0, s) for s in (sizes, sums, slopes))
    norm = inner.sum() - np.append(0.0, 2.0 * inner.sum(1) - np.diag(inner))
    means = control / n
    variances: Floats = squares / n / means - (norm - squares) / (n * (n - 1.0)) / means**2
    return variances


@dataclass(frozen=True)
class Bias:
    """Norm of the bias over the norm of the truth, its interval and its test.

    Args:
        value: √max(U, 0); None where a bias as large as the truth could hide and none is seen.
        low: lower end, U's interval cut at 0 and rooted.
        high: upper end, given even where the value is not.
        p_value: one-sided, against no bias; None below 32 draws of an estimate that is noisy.
        detectable: the relative bias found with power .7 to .9 at the 5 % level; None without a test.
        squared: U, unbiased for the squared relative bias and possibly negative; what is averaged.
        n: draws behind it, or points' replicates.
        reason: why a value or an end is missing, or how far the interval reaches.
        draws_low: lower end of the interval over draws, which is what the test is over; `low` and `high`
            are that too unless replicates of points are there to take them from.
        draws_high: upper end of it.
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

    def json(self) -> dict[str, float | int | None]:
        """Return the names other programs read, U as `squared`; what is not finite is None."""
        tested = ("p_value", "detectable", "squared", "draws_low", "draws_high")
        names = ("value", "low", "high", *tested)
        return {name: finite(getattr(self, name)) for name in names} | {"n": self.n}


def bias(gram: ArrayLike, sum_d2: float, draws: int, rounding: float = ROUNDING) -> Bias:
    """Relative bias |Ee - g| / |g| from the block sums of d = e - g.

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
    """
    inner = np.asarray(gram, dtype=np.float64)
    if draws and sum_d2 <= draws * rounding**2:
        return Bias.exact(0.0, draws)
    count = len(inner)
    if count < TESTABLE or not (np.isfinite(inner).all() and isfinite(sum_d2)):
        reason = f"fewer than {TESTABLE} draws" if count < TESTABLE else "a draw is not finite"
        return Bias(None, None, None, None, None, None, draws, reason)
    squared = float(inner.sum() - sum_d2) / (draws * (draws - 1.0))
    null, below, above = _errors(inner, draws)
    quantile = t_quantile(count - 1)
    ends = (squared - quantile * below, squared + quantile * above)
    low, high = (sqrt(max(end, 0.0)) for end in ends)
    p_value = sign_flip_p(inner) if draws >= JUDGED or null == 0.0 else None
    detectable, seen = sqrt(3.0 * null), p_value is not None and p_value < 0.05
    resolved = detectable < 1.0 or seen
    value = sqrt(max(squared, 0.0)) if resolved else None
    if p_value is None:
        reason = f"fewer than {JUDGED} draws: no test"
        return Bias(value, low, high, None, None, squared, draws, reason, low, high)
    reason = "" if resolved else "unresolved"
    return Bias(value, low, high, p_value, detectable, squared, draws, reason, low, high)


def null_error(inner: Floats, sizes: Floats) -> float:
    """Return s0, the standard error of the mean product of two draws that each have mean 0."""
    count = len(inner)
    # products per pair of draws: sizes may differ by one where blocks do not divide the draws
    pairs = (inner / np.outer(sizes, sizes))[np.triu_indices(count, 1)]
    # 2 var(o) (M/draws)² / (draws² (1 - 1/M)) with o = (draws/M)² pairs
    return 0.0 if constant(pairs) else sqrt(2 * pairs.var(ddof=1) / (count * (count - 1)))


def _errors(inner: Floats, draws: int) -> tuple[float, float, float]:
    """Return s0, U's standard error without bias, and those of the two ends of its interval."""
    sizes = np.bincount(blocks(draws)).astype(np.float64)
    null = null_error(inner, sizes)
    if null == 0.0:
        return 0.0, 0.0, 0.0
    off = inner - np.diag(np.diag(inner))
    left = off.sum() - 2.0 * off.sum(1)
    weight = (draws - sizes) ** 2 - ((sizes**2).sum() - sizes**2)
    jackknife = jackknife_error(left / weight)
    return null, max(sqrt(max(jackknife**2 - null**2, 0.0)), null), max(jackknife, null)


@lru_cache(maxsize=4)
def sign_patterns(count: int) -> Floats:
    """Return sign patterns [n, count], the observed one first; a global sign changes nothing."""
    signs: Floats
    if count <= ENUMERATED:
        codes = np.arange(2 ** (count - 1))[:, None] >> np.arange(count)[None, :]
        signs = np.where(codes & 1, -1.0, 1.0)
    else:
        signs = np.random.default_rng(20_260_701).choice([-1.0, 1.0], (FLIPS + 1, count))
        signs[0] = 1.0
    signs.flags.writeable = False
    return signs


def sign_flip_p(gram: ArrayLike) -> float:
    """One-sided p-value of the mean off-diagonal inner product, by flipping signs of blocks.

    Without bias a block sum and its negative are equally likely, up to skewness that adding draws
    removes, so all patterns of signs s give Σ s_i s_j <D_i, D_j> the same law. Measured size .050,
    .011, .0009 at 5, 1, .1 %, where a normal approximation gives .064, .022, .009; two draws a
    block are skewed enough at d = 20 for .054, .015, .0025.

    Args:
        gram: <D_i, D_j>, shape [M, M], up to a common factor.

    Returns:
        Share of patterns at least as large as the observed one, itself among them: all patterns
        up to 13 blocks, else 10^4 from a fixed generator, so the same data give the same p.
    """
    inner = np.asarray(gram, dtype=np.float64)
    off = inner - np.diag(np.diag(inner))
    signs = sign_patterns(len(off))
    sums = np.einsum("si,si->s", signs @ off, signs)
    return float((sums >= sums[0] - ROUNDING * np.abs(off).sum()).mean())


@dataclass(frozen=True)
class Coupled:
    """What the coupled truth says about an estimate.

    Args:
        exact: whether e and its coupled truth agree to rounding in every draw.
        scale: 1 + E<Δ, g> / |g|², the scale with the noise of the truth removed.
        test: t test of E<Δ, g> / |g|² against 0.
        bias: bias, from the Gram matrix of Δ.
    """

    exact: bool
    scale: Number
    test: TTest
    bias: Bias


def coupled(x: ArrayLike, gram: ArrayLike, sum_d2: float, rounding: float = ROUNDING) -> Coupled:
    """Bias and scale from Δ = e - <g, v> v, the estimate less a known unbiased one on equal noise.

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
    """
    series = np.asarray(x, dtype=np.float64)
    draws = len(series)
    if sum_d2 <= draws * rounding**2:
        return Coupled(True, Number.exact(1.0, draws), TTest(0.0, 0.0, 1.0), Bias.exact(0.0, draws))
    return Coupled(
        False, mean(1.0 + series), scale_test(series, 0.0), bias(gram, sum_d2, draws, rounding)
    )
