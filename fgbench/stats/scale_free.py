"""Bias of an estimate whose mean is said to be along the gradient only: what is left with the scale free.

An estimate with mean c g has no bias once it is divided by c. Over the whole body the part of the mean across
g says so without knowing c: d⊥ = e − ⟨e, g⟩/|g|² g has mean 0 for every c. At a place within it the scale is
that of the body, and e/c − g is compared with 0.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from fgbench.stats.blocks import blocks

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    Floats = NDArray[np.float64]


def across(x: ArrayLike, gram: ArrayLike, d2: ArrayLike) -> tuple[Floats, float]:
    """Return the Gram matrix and Σ|d|² of the parts of draws across the truth, relative to c |g|.

    Args:
        x: <e, g> / |g|² per draw, shape [draws].
        gram: <D_i, D_j> / |g|² of the block sums of e - g, blocks as in :func:`fgbench.stats.blocks.blocks`.
        d2: |e - g|² / |g|² per draw.

    Returns:
        What :func:`fgbench.stats.bias.bias` takes, for c = mean x.

    Example:
        >>> gram, total = across([2.0, 2.0], np.ones((2, 2)), [1.0, 1.0])  # twice the gradient
        >>> gram.tolist(), total
        ([[0.0, 0.0], [0.0, 0.0]], 0.0)
    """
    along, inner, squares = (np.asarray(a, dtype=np.float64) for a in (x, gram, d2))
    sums = np.bincount(blocks(len(along)), along - 1.0)
    c = float(along.mean())
    left = inner - np.outer(sums, sums)
    return left / c**2, float(np.maximum(squares - (along - 1.0) ** 2, 0.0).sum()) / c**2


def rescaled(c: float, x: ArrayLike, gram: ArrayLike, d2: ArrayLike) -> tuple[Floats, float]:
    """Return the Gram matrix and Σ|d|² of e/c - g.

    Args:
        c: the scale of the whole body.
        x: as of :func:`across`, at one place.
        gram: as of :func:`across`.
        d2: as of :func:`across`.

    Returns:
        What :func:`fgbench.stats.bias.bias` takes.

    Example:
        >>> gram, total = rescaled(2.0, [2.0, 2.0], np.ones((2, 2)), [1.0, 1.0])
        >>> gram.tolist(), total
        ([[0.0, 0.0], [0.0, 0.0]], 0.0)
    """
    along, inner, squares = (np.asarray(a, dtype=np.float64) for a in (x, gram, d2))
    which = blocks(len(along))
    sums, sizes = np.bincount(which, along), np.bincount(which).astype(np.float64)
    apart = sums - sizes
    own = inner + np.outer(sizes, apart) + np.outer(apart, sizes) + np.outer(sizes, sizes)
    mixed = np.outer(sums, sizes) + np.outer(sizes, sums)
    y = squares + 2.0 * along - 1.0
    total = float((y / c**2 - 2.0 * along / c + 1.0).sum())
    return own / c**2 - mixed / c + np.outer(sizes, sizes), total
