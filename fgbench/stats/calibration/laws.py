"""Forward gradients along known laws: what measuring keeps of their draws, without a network.

A network enters fg_w only by its gradient g: the slope along v is <g, v> and the estimate <g, v> v. So a
fixed unit vector g in R^d and directions v of the law give draws of the estimator itself.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from fgbench.stats.blocks import blocks
from fgbench.stats.intervals import Floats

Singles = NDArray[np.float32]

LAWS = ("gaussian", "sphere", "rademacher")


@dataclass(frozen=True)
class Facts:
    """Numbers that measuring keeps of the draws at one point, relative to |g|² = 1.

    Args:
        x: <e, g> per draw, shape [draws].
        y: |e|² per draw.
        d2: |d|² per draw, d the error.
        gram: <D_i, D_j> of the block sums of d.
        control: slope² per draw, with expectation 1.

    Example:
        >>> one, zero = np.ones(2), np.zeros(2)
        >>> Facts(x=one, y=one, d2=zero, gram=np.zeros((2, 2)), control=one).d2.mean() == 0  # exact draws
        np.True_
    """

    x: Floats
    y: Floats
    d2: Floats
    gram: Floats
    control: Floats


def directions(law: str, d: int, draws: int, random: np.random.Generator) -> Singles:
    """Draw directions with E v vᵀ = 1.

    Args:
        law: one of `LAWS`.
        d: elements of a direction.
        draws: how many.
        random: where they come from.

    Returns:
        Shape [draws, d], in single precision: their rounding is a ten-thousandth of any interval.

    Raises:
        ValueError: no such law.

    Example:
        >>> directions("rademacher", d=3, draws=2, random=np.random.default_rng(0)).shape
        (2, 3)
    """
    if law == "rademacher":
        bits = np.unpackbits(np.frombuffer(random.bytes(-(-draws * d // 8)), np.uint8))
        return bits[: draws * d].reshape(draws, d).astype(np.float32) * 2 - 1
    v = random.standard_normal((draws, d), dtype=np.float32)
    if law == "sphere":
        v *= np.sqrt(d / np.einsum("nd,nd->n", v, v, dtype=np.float64))[:, None]
    elif law != "gaussian":
        raise ValueError(f"no law {law!r}: one of {', '.join(LAWS)}")
    return v


@lru_cache(maxsize=8)
def frame(d: int) -> tuple[Floats, Floats]:
    """Return a gradient g and the direction u of a bias: orthogonal unit vectors, fixed for each d.

    Args:
        d: elements, at least 2.

    Returns:
        g and u, of no special orientation: along an axis a sign law would have no slope to vary.

    Example:
        >>> g, u = frame(5)
        >>> bool(abs(g @ u) < 1e-12)
        True
    """
    g, u = np.random.default_rng(d).standard_normal((2, d))
    g /= np.linalg.norm(g)
    u -= (u @ g) * g
    return g, u / np.linalg.norm(u)


@dataclass(frozen=True)
class Estimates:
    """Draws e = w v, kept as sums.

    Args:
        weight: w per draw.
        slope: <g, v> per draw.
        across: <u, v> per draw.
        norms: |v|² per draw.
        sums: block sums of e, shape [blocks, d].

    Example:
        >>> draws = estimates(directions("rademacher", d=3, draws=50, random=np.random.default_rng(0)))
        >>> facts = draws.facts()
        >>> bool(np.allclose(facts.y, 3 * facts.x))  # |e|² = <g, v>² |v|² and <e, g> = <g, v>²
        True
    """

    weight: Floats
    slope: Floats
    across: Floats
    norms: Floats
    sums: Floats

    def facts(self, shift: float = 0.0, truth: float = 1.0) -> Facts:
        """Compute the numbers that measuring keeps of e + shift u, without forming the errors of all draws.

        Args:
            shift: norm of a bias orthogonal to g.
            truth: how many times g is taken off for the error: 0 where e is a coupled difference.

        Returns:
            The facts.
        """
        g, u = frame(self.sums.shape[1])
        sizes = np.bincount(blocks(len(self.weight)))
        sums = self.sums + sizes[:, None] * (shift * u - truth * g)
        x = self.weight * self.slope
        y = self.weight**2 * self.norms + 2.0 * shift * self.weight * self.across + shift**2
        return Facts(x, y, y - 2.0 * truth * x + truth**2, sums @ sums.T, self.slope**2)


def estimates(v: Singles, factor: float = 1.0, noise: Floats | None = None) -> Estimates:
    """Form e = (factor <g, v> + noise) v.

    Args:
        v: directions, shape [draws, d].
        factor: scale of the estimate; 1 is unbiased.
        noise: error of each slope, shape [draws].

    Returns:
        The draws.

    Example:
        >>> v = directions("gaussian", d=5, draws=8, random=np.random.default_rng(0))
        >>> estimates(v).sums.shape
        (8, 5)
    """
    draws, d = v.shape
    slope, across = (v @ np.stack(frame(d), 1).astype(np.float32)).astype(np.float64).T
    weight = factor * slope + (0.0 if noise is None else noise)
    norms = np.einsum("nd,nd->n", v, v, dtype=np.float64)
    which = blocks(draws)
    dealt = np.zeros((which.max() + 1, draws), np.float32)
    dealt[which, np.arange(draws)] = weight
    return Estimates(weight, slope, across, norms, (dealt @ v).astype(np.float64))


def relative_variance(law: str, d: int) -> float:
    """Return the relative variance of a forward gradient along one direction of a law.

    E|e|²/|g|² - 1 = E v_i² (v_i² + Σ_j≠i v_j²) - 1, exact where |v|² = d: d - 1; the normal law's fourth
    moment of 3 makes d + 1.

    Args:
        law: one of `LAWS`.
        d: elements of the gradient.

    Returns:
        The relative variance; efficiency is 1 / (1 + relative variance).

    Example:
        >>> relative_variance("gaussian", 5), relative_variance("sphere", 5)
        (6.0, 4.0)
    """
    return d + 1.0 if law == "gaussian" else d - 1.0
