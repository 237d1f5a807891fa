"""Blocks of draws, and the sign-flip test over them."""

from __future__ import annotations

from functools import lru_cache
from math import sqrt
from typing import TYPE_CHECKING

import numpy as np

from fgbench.stats.intervals import (
    ROUNDING,
    Floats,
    constant,
)

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray


BLOCKS = 32


LEAST_BLOCKS = 4  # for an interval


TESTABLE = 6  # M blocks have 2^(M − 1) patterns of signs: with fewer no p reaches .05


FLIPS = 9_999  # random patterns; with the observed one the smallest p is 1e-4


ENUMERATED = 13  # up to 2^12 patterns are cheaper and exact


def blocks(draws: int) -> NDArray[np.int64]:
    """Return the block of each draw: k modulo min(32, draws), so a run can be extended.

    Args:
        draws: how many draws there are.

    Returns:
        Integers, shape [draws]; the number of blocks is the last axis of the Gram matrix.

    Example:
        >>> blocks(34)[[0, 31, 32, 33]].tolist()
        [0, 31, 0, 1]
    """
    return np.arange(draws, dtype=np.int64) % max(1, min(BLOCKS, draws))


def null_error(inner: Floats, sizes: Floats) -> float:
    """Return s0, the standard error of the mean product of two draws that each have mean 0.

    Args:
        inner: <D_i, D_j> of block sums, shape [M, M].
        sizes: draws of each block, shape [M].

    Returns:
        The standard error; 0 where all products are one number.

    Example:
        >>> null_error(np.diag([1.0, 2.0, 3.0, 4.0]), np.ones(4))
        0.0
    """
    count = len(inner)
    # products per pair of draws: sizes may differ by one where blocks do not divide the draws
    pairs = (inner / np.outer(sizes, sizes))[np.triu_indices(count, 1)]
    # 2 var(o) (M/draws)² / (draws² (1 - 1/M)) with o = (draws/M)² pairs
    return 0.0 if constant(pairs) else sqrt(2 * pairs.var(ddof=1) / (count * (count - 1)))


@lru_cache(maxsize=4)
def sign_patterns(count: int) -> Floats:
    """Return patterns of signs, the one without a flip first; a global sign changes nothing.

    Args:
        count: signs of a pattern.

    Returns:
        Shape [n, count], read-only: all patterns up to 13 signs, else 10^4 from a fixed generator.

    Example:
        >>> sign_patterns(2).tolist()
        [[1.0, 1.0], [-1.0, 1.0]]
    """
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
    """Compute the one-sided p-value of the mean off-diagonal inner product, by flipping signs of blocks.

    Without bias a block sum and its negative are equally likely, up to skewness that adding draws
    removes, so all patterns of signs s give Σ s_i s_j <D_i, D_j> the same law. Measured size .050,
    .011, .0009 at 5, 1, .1 %, where a normal approximation gives .064, .022, .009; two draws a
    block are skewed enough at d = 20 for .054, .015, .0025.

    Args:
        gram: <D_i, D_j>, shape [M, M], up to a common factor.

    Returns:
        Share of patterns at least as large as the observed one, itself among them: all patterns
        up to 13 blocks, else 10^4 from a fixed generator, so the same data give the same p.

    Example:
        >>> sign_flip_p(np.ones((6, 6)))  # of 32 patterns only the one without a flip
        0.03125
    """
    inner = np.asarray(gram, dtype=np.float64)
    off = inner - np.diag(np.diag(inner))
    signs = sign_patterns(len(off))
    sums = np.einsum("si,si->s", signs @ off, signs)
    return float((sums >= sums[0] - ROUNDING * np.abs(off).sum()).mean())
