"""Relative variance of an estimate from the scalars of its draws, and how many of them it needs."""

from __future__ import annotations

from math import sqrt
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from fgbench.stats.blocks import LEAST_BLOCKS, blocks, null_error
from fgbench.stats.intervals import (
    ROUNDING,
    Floats,
    Number,
    freedom,
    jackknife_error,
    t_quantile,
)

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

ALONE = 0.1  # a standard error below this share of another adds less than .5 % to it


def relative_variance(
    d2: ArrayLike,
    gram: ArrayLike,
    x: ArrayLike | None = None,
    control: ArrayLike | None = None,
    rounding: float = ROUNDING,
) -> Number:
    """Estimate the variance of an estimate about its own mean over |g|², E|e - Ee|² / |g|².

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

    Example:
        >>> d = np.random.default_rng(0).standard_normal((32, 5))  # 5 elements of variance 1
        >>> found = relative_variance((d**2).sum(1), d @ d.T)
        >>> found.low < 5.0 < found.high
        True
    """
    found = _on_log_scale(d2, gram, x, control, rounding)
    if isinstance(found, Number):
        return found
    half = t_quantile(found.freedom) * found.error
    ends = np.exp(found.log + half * np.array([-1.0, 0.0, 1.0]))
    low, value, high = (float(end) for end in ends)
    return Number(value, low, high, len(np.asarray(d2)))


def draws_needed(
    precision: float,
    d2: ArrayLike,
    gram: ArrayLike,
    x: ArrayLike | None = None,
    control: ArrayLike | None = None,
) -> float:
    """Compute at how many draws the logarithm of the relative variance has a standard error.

    The error m of an average falls with the root of the draws, the error s of a mean over products of
    different draws, which is all that a control leaves where |v|² is fixed, with the draws themselves. So
    K of them leave n with m² K/n + s² (K/n)² = precision².

    Args:
        precision: standard error that is wanted.
        d2: of a pilot, as of :func:`relative_variance`, like all others.
        gram: inner products of block sums.
        x: <e, g> / |g|² per draw.
        control: per-draw control.

    Returns:
        The number, not rounded; 0 where there is no interval or no sampling error.

    Example:
        >>> d = np.random.default_rng(0).standard_normal((32, 5))
        >>> few, many = (draws_needed(p, (d**2).sum(1), d @ d.T) for p in (0.2, 0.1))
        >>> round(many / few, 6)
        4.0
    """
    found = _on_log_scale(d2, gram, x, control, ROUNDING)
    if isinstance(found, Number) or found.error == 0.0:
        return 0.0
    products, wanted = found.products**2, precision**2
    average = found.error**2 - products
    share = 2.0 * wanted / (average + sqrt(average**2 + 4.0 * products * wanted))
    return len(np.asarray(d2)) / share


class _Log(NamedTuple):
    """Positive number by its logarithm, with the standard error of that and its degrees of freedom.

    Args:
        log: logarithm.
        error: standard error of it.
        freedom: degrees of freedom of the error.
        products: part of the error that is of a mean over products of different draws.
    """

    log: float
    error: float
    freedom: float
    products: float = 0.0


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
        return _Log(float(logs[0]), error, df, null / float(variances[0]))
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

    Example:
        >>> of_estimates(np.zeros((2, 2)), np.ones(2), np.ones(2)).tolist()  # no error: e = g in every block
        [[1.0, 1.0], [1.0, 1.0]]
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


def norm_errors(inner: Floats, draws: int) -> tuple[float, float, float]:
    """Return the standard error s0 of U without bias, and those of the two ends of its interval.

    Args:
        inner: <D_i, D_j> / |g|² of block sums, shape [M, M].
        draws: how many draws there were.

    Returns:
        s0, the error of the lower end and that of the upper end; see :func:`fgbench.stats.bias.bias`.

    Example:
        >>> norm_errors(np.diag([1.0, 2.0, 3.0, 4.0]), draws=4)
        (0.0, 0.0, 0.0)
    """
    sizes = np.bincount(blocks(draws)).astype(np.float64)
    null = null_error(inner, sizes)
    if null == 0.0:
        return 0.0, 0.0, 0.0
    off = inner - np.diag(np.diag(inner))
    left = off.sum() - 2.0 * off.sum(1)
    weight = (draws - sizes) ** 2 - ((sizes**2).sum() - sizes**2)
    jackknife = jackknife_error(left / weight)
    return null, max(sqrt(max(jackknife**2 - null**2, 0.0)), null), max(jackknife, null)
