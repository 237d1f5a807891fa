"""Adjusted p-values on families small enough for paper."""

from __future__ import annotations

import pytest

from fgbench.stats.multiple_tests import benjamini_hochberg, holm


def test_holm_steps_down_and_never_falls_back() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.9, 0.9]) == [1.0, 1.0]


def test_benjamini_hochberg_steps_up() -> None:
    # p m / rank is .03, .045, .04: the middle one is lowered to the one above it
    assert benjamini_hochberg([0.01, 0.03, 0.04]) == pytest.approx([0.03, 0.04, 0.04])
    assert benjamini_hochberg([0.04, 0.01, 0.03]) == pytest.approx([0.04, 0.03, 0.04])


@pytest.mark.parametrize("adjust", [holm, benjamini_hochberg])
def test_what_was_not_tested_counts_for_nothing(adjust: object) -> None:
    assert callable(adjust)
    assert adjust([None, 0.02, None]) == [None, 0.02, None]
    assert adjust([None]) == [None]
    assert adjust([]) == []
