"""Perturbation variance beside minibatch variance: how much of a gradient's noise is the estimator's.

By the law of total variance the noise of an estimate on a batch drawn anew is tr Cov(e) = E tr Cov(e | batch)
+ tr Cov(E[e | batch]). The first term is what draws on one batch say; without bias the second is the
variance of the truth g over batches, which no estimator is rid of. Draws are dear and truths are cheap: a few
batches are drawn on, and the truth is taken on more.

Reference: McCandlish et al., An empirical model of large-batch training, 2018 (the noise scale).
"""

from __future__ import annotations

from dataclasses import dataclass
from math import exp
from typing import TYPE_CHECKING, Any

import numpy as np

from fgbench.stats import blocks, intervals, mean_direction, replicates, variance
from fgbench.stats.intervals import Number

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fgbench.stats.intervals import Floats

TRUTHS = 16  # batches whose truth is taken
NO_BATCH_NOISE = "batches do not differ"


@dataclass(frozen=True)
class Cell:
    """Split of the variance at one (init, moment), all relative to E|g|² over batches.

    Args:
        batch: tr Cov(g), the variance of the truth over batches.
        perturbation: E tr Cov(e | batch).
        mean: |Eg|²; without value where 0 is in its interval.

    Example:
        >>> Cell(Number.exact(1.0, 16), Number.exact(20.0, 4), Number.exact(0.5, 16)).batch.value
        1.0
    """

    batch: Number
    perturbation: Number
    mean: Number


def cell(gram: Floats, within: Sequence[Number], squares: Sequence[float], rounding: float) -> Cell:
    """Split the variance at one (init, moment).

    tr Cov(g) is the sample variance over truths with its log-t interval, jackknifed over batches as over
    draws (:func:`fgbench.stats.variance.relative_variance`); E tr Cov(e | batch) is the mean over
    the batches that
    were drawn on, with log-t over them, or with the interval of the draws where there is one.

    Args:
        gram: inner products of the truths, ``[batches, batches]``.
        within: relative variance of the estimate on each batch that was drawn on.
        squares: |g|² of each of those.
        rounding: relative norm at or below which a difference of two gradients is rounding.

    Returns:
        The split.

    Example:
        >>> g = np.random.default_rng(0).standard_normal((16, 3)) + 1.0  # truths of 16 batches
        >>> found = cell(g @ g.T, [Number.exact(20.0, 64)] * 2, [3.0, 3.0], rounding=1e-12)
        >>> found.batch.n, found.perturbation.n
        (16, 2)
    """
    size = float(np.diag(gram).mean())
    if size <= 0.0:
        none = Number(None, None, None, len(gram), "the truth is zero")
        return Cell(none, none, none)
    which = blocks.blocks(len(gram))
    dealt = np.eye(int(which.max()) + 1)[which]  # [batches, blocks]
    relative: Floats = dealt.T @ (gram / size) @ dealt
    found = mean_direction.Estimates(np.diag(gram) / size, relative, rounding)
    parts = [times(v, g2 / size) for v, g2 in zip(within, squares, strict=True)]
    return Cell(
        variance.relative_variance(found.squares, relative, rounding=rounding),
        _mean(parts),
        mean_direction.resolved(mean_direction.squared_mean(found)),
    )


def _mean(parts: Sequence[Number]) -> Number:
    """Average variances over batches."""
    if len(parts) == 1:
        return parts[0]
    values = [v.value for v in parts if v.value is not None]
    if len(values) < len(parts):
        missing = next(v for v in parts if v.value is None)
        return Number(None, None, None, len(values), missing.reason)
    centre = float(np.mean(values))
    if centre == 0.0:
        return Number.exact(0.0, len(values))
    error = intervals.standard_error(np.array(values)) / centre
    half = intervals.t_quantile(len(values) - 1.0) * error
    return Number(centre, centre * exp(-half), centre * exp(half), len(values))


def numbers(cells: Sequence[Cell], where: Any, directions: int, batch: int) -> dict[str, Any]:
    """Combine the splits of one place: geometric means over them, replicates as for relative variance.

    Args:
        cells: the split at each (init, moment).
        where: init and moment of each.
        directions: of one estimate.
        batch: examples per batch.

    Returns:
        ``batch_variance`` and ``perturbation_variance``, relative to E|g|²; ``perturbation_over_batch``,
        their ratio; ``directions_for_parity``, how many directions make them equal, variance falling as
        one over their number; ``batch_noise_scale``, the examples, and ``perturbation_noise_scale``, the
        directions, at which noise is as large as |Eg|²; ``truths``. A number without value has a reason.

    Example:
        >>> split = Cell(Number.exact(2.0, 16), Number.exact(20.0, 4), Number.exact(0.5, 16))
        >>> found = numbers([split], ([0], [0]), directions=1, batch=128)
        >>> found["perturbation_over_batch"]["value"], found["directions_for_parity"]["value"]
        (10.0, 10.0)
    """
    ratios = [
        Number(None, None, None, c.batch.n, NO_BATCH_NOISE)
        if c.batch.value == 0.0
        else intervals.ratio(c.perturbation, c.batch)
        for c in cells
    ]
    ratio = replicates.variance_over(ratios, *where)
    examples, perturbed = (
        replicates.variance_over([intervals.ratio(noise, c.mean) for noise, c in pairs], *where)
        for pairs in ([(c.batch, c) for c in cells], [(c.perturbation, c) for c in cells])
    )
    found = {
        "batch_variance": replicates.variance_over([c.batch for c in cells], *where),
        "perturbation_variance": replicates.variance_over([c.perturbation for c in cells], *where),
        "perturbation_over_batch": ratio,
        "directions_for_parity": times(ratio, directions),
        "batch_noise_scale": times(examples, batch),
        "perturbation_noise_scale": times(perturbed, directions),
    }
    told = {name: {**number.json(), "reason": number.reason} for name, number in found.items()}
    return {**told, "truths": cells[0].batch.n}


def times(number: Number, factor: float) -> Number:
    """Multiply a number and its ends.

    Args:
        number: the number.
        factor: above 0.

    Returns:
        The product; what is missing stays so.

    Example:
        >>> times(Number(1.0, 0.5, 2.0, 64), 4.0)
        Number(value=4.0, low=2.0, high=8.0, n=64, reason='')
    """
    low, value, high = (
        None if end is None else factor * end for end in (number.low, number.value, number.high)
    )
    return Number(value, low, high, number.n, number.reason)
