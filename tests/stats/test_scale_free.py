"""Bias with the scale free: of a multiple of the truth none is left."""

from __future__ import annotations

import numpy as np
import pytest

from fgbench.stats.bias import bias
from fgbench.stats.blocks import blocks
from fgbench.stats.scale_free import across, rescaled


def moments(e: np.ndarray, g: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """⟨e, g⟩/|g|² and |e − g|²/|g|² per draw, and the Gram matrix of block sums of e − g."""
    d, square = e - g, float(g @ g)
    which = blocks(len(e))
    sums = np.stack([d[which == k].sum(0) for k in range(which.max() + 1)])
    return e @ g / square, sums @ sums.T / square, (d**2).sum(1) / square


def test_the_parts_across_are_those_of_the_projected_draws() -> None:
    rng = np.random.default_rng(0)
    g, e = rng.standard_normal(7), 2.0 + rng.standard_normal((70, 7))
    x, gram, d2 = moments(e, g)
    c, square = x.mean(), float(g @ g)
    projected = (e - np.outer(x, g)) / c
    which = blocks(70)
    sums = np.stack([projected[which == k].sum(0) for k in range(32)])
    found, total = across(x, gram, d2)
    assert found == pytest.approx(sums @ sums.T / square)
    assert total == pytest.approx((projected**2).sum() / square)
    free = e / c - g
    sums = np.stack([free[which == k].sum(0) for k in range(32)])
    found, total = rescaled(c, x, gram, d2)
    assert found == pytest.approx(sums @ sums.T / square)
    assert total == pytest.approx((free**2).sum() / square)


@pytest.mark.parametrize("planted", [0.0, 1.0])
def test_a_multiple_of_the_truth_has_no_bias_and_another_direction_has(planted: float) -> None:
    """64 draws in 40 dimensions, p of one test: a false alarm has probability .001."""
    rng = np.random.default_rng(1)
    g, other = np.zeros(40), np.zeros(40)
    g[0], other[1] = 1.0, 1.0
    e = 5.0 * (g + planted * other) + 0.5 * rng.standard_normal((64, 40))
    p = bias(*across(*moments(e, g)), draws=64).p_value
    assert p is not None
    assert (p < 0.001) == bool(planted)
    assert (
        bias(moments(e, g)[1], float(moments(e, g)[2].sum()), draws=64).p_value == 1e-4
    )  # the scale
