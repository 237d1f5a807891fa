"""Which scales are not 1: adjusted among those shown together, and never against an exact check."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy import stats

from fgbench.stats.multiple_tests import LEVEL
from fgbench.stats.scale_verdict import (
    Sign,
    checked_exactly,
    looked_at,
    off_scale,
    scale_p,
    sign_p,
    signs,
)

OWN = {"claimed": {"bias": "none"}, "about": {"module": "fgbench.estimators.fg_a", "file": ""}}


def scale(value: float, half: float, n: int = 5, **more: Any) -> dict[str, Any]:
    return {"scale": {"value": value, "low": value - half, "high": value + half, "n": n, **more}}


def test_the_recorded_test_is_taken_and_of_older_records_that_of_their_interval() -> None:
    assert scale_p(scale(0.8, 0.1, p_value=0.3), {}) == 0.3
    assert scale_p(scale(0.8, 0.1, p_value=None), {}) is None
    for value in (0.8, 1.2):
        t = stats.t.ppf(0.975, 4) * 0.2 / 0.1
        assert scale_p(scale(value, 0.1), {}) == pytest.approx(2 * stats.t.sf(t, 4), rel=1e-9)
    assert scale_p(scale(1.1, 0.1, 30), {}) == pytest.approx(0.05, rel=1e-9)
    for none in ({}, {"scale": None}, {"scale": {"value": None}}, scale(0.5, 0.1, 1)):
        assert scale_p(none, {}) is None
    assert scale_p({"scale": {"value": 0.5, "low": "a", "high": [], "n": {}}}, {}) is None


def test_without_noise_a_scale_is_off_for_certain_or_nothing_is_tested() -> None:
    exact = {"bias": {"detectable": 0.0, "p_value": 0.0}}
    assert scale_p({**scale(0.1, 0.05), **exact}, {}) == 0.0
    assert scale_p({**scale(1.0, 0.0), **exact}, {}) is None
    assert scale_p(scale(0.1, 0.0), {}) == 0.0
    assert off_scale([0.1, 1.0], [0.0, None]) == [True, False]


def test_what_is_checked_exactly_is_never_crossed_out() -> None:
    assert checked_exactly(OWN)
    assert scale_p(scale(0.5, 0.01, p_value=1e-9), OWN) is None
    others = [
        {**OWN, "claimed": {"bias": "some"}},
        {**OWN, "claimed": None},
        {**OWN, "about": {"module": "my_file", "file": "my_file.py"}},
        {
            **OWN,
            "about": {"module": "fgbench.estimators.fg_a", "file": "fgbench/estimators/fg_a.py"},
        },
        {**OWN, "file": "./my_file.py"},
        {"claimed": {"bias": "none"}},
        {**OWN, "about": "fgbench.estimators.fg_a"},
    ]
    for other in others:
        assert not checked_exactly(other)
        assert scale_p(scale(0.5, 0.01, p_value=1e-9), other) == 1e-9


def test_p_values_are_adjusted_for_all_that_are_shown_and_small_differences_are_none() -> None:
    assert off_scale([0.8], [0.04]) == [True]
    assert off_scale([0.8, 1.0], [0.04, 0.9]) == [False, False]
    assert off_scale([0.8, 1.0], [0.04, None]) == [True, False]
    assert off_scale([0.96, 0.94], [1e-9, 1e-9]) == [False, True]
    assert off_scale([float("nan"), None], [float("nan"), 0.0]) == [False, False]


def test_of_twenty_figures_of_a_hundred_points_about_one_has_a_false_cross() -> None:
    """2,000 figures; planted: the old rule, 1 twice as far off as the interval over 5 reaches.

    A share above .08 is seen with probability below 1e-6 where the truth is .05.
    """
    random = np.random.default_rng(0)
    t = random.standard_t(4, (2000, 100))
    p = 2 * stats.t.sf(np.abs(t), 4)
    crossed = [any(off_scale(list(1 + 0.2 * a), list(b))) for a, b in zip(t, p, strict=True)]
    assert 0.02 < np.mean(crossed) < 0.08
    assert np.mean((np.abs(t) > 2 * stats.t.ppf(0.975, 4)).any(1)) > 5 * LEVEL


def test_every_scale_that_is_shown_counts_as_a_look() -> None:
    outside = scale(1.2, 0.2, p_value=0.04)
    assert off_scale([1.2], [looked_at(outside, {})]) == [True]
    shown = [(outside, {}), (scale(1.1, 0.2, p_value=0.3), OWN)]
    p_values = [looked_at(numbers, record) for numbers, record in shown]
    assert p_values == [0.04, 1.0]
    assert off_scale([1.2, 1.1], p_values) == [False, False]
    exact = {**scale(1.0, 0.0), "bias": {"detectable": 0.0}}
    assert looked_at(exact, OWN) is None  # nothing that chance could move


def verdicts(*found: dict[str, Any], record: dict[str, Any] | None = None) -> list[Sign]:
    return signs([(numbers, record or {}) for numbers in found])


def test_only_a_whole_interval_below_zero_points_uphill() -> None:
    assert verdicts(scale(-0.2, 0.19)) == [Sign.UPHILL]
    assert verdicts(scale(-0.2, 0.21)) == [Sign.UNRESOLVED]
    assert verdicts(scale(0.2, 0.21)) == [Sign.UNRESOLVED]
    assert verdicts(scale(0.2, 0.19)) == [Sign.KNOWN]
    assert verdicts(scale(0.0, 0.1)) == [Sign.UNRESOLVED]
    # An end may be further off than the other: that towards 0 counts.
    assert verdicts({"scale": {"value": -0.2, "low": -0.9, "high": -0.1, "n": 5}}) == [Sign.UPHILL]
    wide = {"scale": {"value": -0.2, "low": -0.21, "high": 0.3, "n": 5}}
    assert verdicts(wide) == [Sign.UNRESOLVED]


def test_the_sign_is_tested_by_t_at_the_recorded_interval() -> None:
    half = stats.t.ppf(0.975, 9) * 0.02
    for value in (-0.05, 0.05):
        expected = 2 * stats.t.sf(0.05 / 0.02, 9)
        assert sign_p(scale(value, half, 10), {}) == pytest.approx(expected, rel=1e-9)


def test_a_sign_without_error_is_known_and_one_without_interval_open() -> None:
    assert verdicts(scale(-1e-6, 0.0), scale(1e-6, 0.0)) == [Sign.UPHILL, Sign.KNOWN]
    single = {"scale": {"value": -0.3, "low": None, "high": None, "n": 1}}
    assert verdicts(single) == [Sign.UNRESOLVED]
    for none in ({}, {"scale": None}, {"scale": {"value": None, "low": None}}):
        assert verdicts(none) == [Sign.KNOWN]


def test_signs_are_adjusted_for_all_that_are_shown() -> None:
    below, open_ = scale(-0.2, 0.19), scale(0.05, 0.2)
    assert verdicts(below) == [Sign.UPHILL]
    assert verdicts(below, open_) == [Sign.UNRESOLVED, Sign.UNRESOLVED]
    sure = scale(1.0, 0.01)  # leads the order of Holm and takes nothing from the others
    assert verdicts(below, sure) == [Sign.UPHILL, Sign.KNOWN]
    both = [(below, {}), (open_, OWN)]  # its scale is known to be 1: no look at a sign
    assert signs(both) == [Sign.UPHILL, Sign.KNOWN]


def test_of_twenty_tables_of_scales_about_zero_one_says_uphill() -> None:
    """2,000 tables of ten networks' mean; planted: the sign alone, which says so of nearly all."""
    random = np.random.default_rng(1)
    draws = random.standard_normal((2000, 8, 10))
    means, half = draws.mean(-1), stats.t.ppf(0.975, 9) * draws.std(-1, ddof=1) / 10**0.5
    said = [
        any(
            s is not Sign.UNRESOLVED
            for s in verdicts(*(scale(*v, 10) for v in zip(a, b, strict=True)))
        )
        for a, b in zip(means.tolist(), half.tolist(), strict=True)
    ]
    assert 0.02 < np.mean(said) < 0.08
    assert (means < 0).any(1).mean() > 0.9


def test_a_sign_stands_beside_an_efficiency_that_it_concerns() -> None:
    assert Sign.UNRESOLVED.beside(0.1) == "sign not resolved"
    assert Sign.UNRESOLVED.beside(None) == Sign.UNRESOLVED.beside(float("nan")) == ""
    assert Sign.UPHILL.beside(float("nan")) == "points uphill"
    assert Sign.KNOWN.beside(0.1) == ""
