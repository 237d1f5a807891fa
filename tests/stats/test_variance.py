"""How many draws a precision needs: the error of an average and that of products of draws."""

from __future__ import annotations

from math import sqrt

import numpy as np
import pytest

from fgbench.stats.intervals import Floats
from fgbench.stats.variance import draws_needed, relative_variance

D = 400


def pilot(draws: int, seed: int) -> tuple[Floats, Floats, Floats, Floats]:
    """A forward gradient along signs, whose |v|² never varies: with the control U alone does."""
    v = np.random.default_rng(seed).choice([-1.0, 1.0], (draws, D))
    g = np.random.default_rng(0).standard_normal(D)
    g /= sqrt(g @ g)
    slopes = v @ g
    d = slopes[:, None] * v - g
    sums = d.reshape(-1, 32, D).sum(0)
    return (d**2).sum(1), sums @ sums.T, slopes**2, slopes**2


def test_an_error_of_products_falls_with_the_draws_and_not_with_their_root() -> None:
    """Its relative size is √(2/d)/K: 64 draws have .11 %, and .05 % takes 141 of them, not 313."""
    needed = [draws_needed(0.01 / sqrt(D), *pilot(64, seed)) for seed in range(20)]
    assert np.mean(needed) == pytest.approx(sqrt(2) / 0.01, rel=0.1)
    spread = [relative_variance(*pilot(128, seed)).value for seed in range(60)]
    assert np.std([float(v or 0.0) / (D - 1) for v in spread]) == pytest.approx(
        sqrt(2 / D) / 128, rel=0.3
    )


def test_the_two_errors_add_up_at_the_number_that_is_needed() -> None:
    d2, gram, _, _ = pilot(64, seed=3)
    few, more = (draws_needed(p, d2, gram) for p in (0.1, 0.05))
    assert more == pytest.approx(4 * few, rel=1e-9)
    assert draws_needed(0.1, np.zeros(64), np.zeros((32, 32))) == 0.0
