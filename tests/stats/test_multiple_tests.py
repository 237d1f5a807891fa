"""Adjusted p-values on families small enough for paper."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import false_discovery_control

from fgbench.stats.multiple_tests import benjamini_hochberg, holm


def test_holm_steps_down_and_never_falls_back() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.9, 0.9]) == [1.0, 1.0]


def test_benjamini_hochberg_steps_up() -> None:
    # p m / rank is .03, .045, .04: the middle one is lowered to the one above it
    assert benjamini_hochberg([0.01, 0.03, 0.04]) == pytest.approx([0.03, 0.04, 0.04])
    assert benjamini_hochberg([0.04, 0.01, 0.03]) == pytest.approx([0.04, 0.03, 0.04])


@pytest.mark.parametrize("count", [2, 3, 40])
def test_benjamini_hochberg_is_that_of_scipy(count: int) -> None:
    p_values = np.random.default_rng(count).random(count) ** 3
    p_values[:2] = p_values[0]  # a tie
    expected = false_discovery_control(p_values, method="bh")
    assert benjamini_hochberg(p_values.tolist()) == expected.tolist()


@pytest.mark.parametrize("adjust", [holm, benjamini_hochberg])
def test_what_was_not_tested_counts_for_nothing(adjust: object) -> None:
    assert callable(adjust)
    assert adjust([None, 0.02, None]) == [None, 0.02, None]
    assert adjust([None]) == [None]
    assert adjust([]) == []
