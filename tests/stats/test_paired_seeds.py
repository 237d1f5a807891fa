"""Verdicts between methods: each formula written out, each row of the table reached."""

from __future__ import annotations

from itertools import product
from math import sqrt

import numpy as np
import pytest
from scipy import stats

from fgbench.errors import UsageError
from fgbench.stats.paired_seeds import (
    Difference,
    difference,
    equivalence,
    seed_mean,
    sign_flip,
    smallest_margin,
    verdicts,
)


def normal(*shape: int, seed: int = 0) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    return np.random.default_rng(seed).standard_normal(shape)


@pytest.mark.parametrize(("seeds", "shift"), [(1, 0.0), (2, 0.5), (9, 0.0), (9, 0.6), (12, 0.4)])
def test_sign_flips_are_all_patterns(seeds: int, shift: float) -> None:
    d = normal(seeds) + shift
    sums = [abs(np.dot(signs, d)) for signs in product((-1, 1), repeat=seeds)]
    assert sign_flip(d) == np.mean([s >= abs(d.sum()) - 1e-12 for s in sums])


def test_the_smallest_p_of_ten_seeds_is_two_patterns_of_1024() -> None:
    assert sign_flip(np.arange(1.0, 11.0)) == 2 / 1024
    assert sign_flip(np.zeros(5)) == 1.0
    assert sign_flip([0.3, 0.3, 0.3]) == 0.25  # ties of rounding count as ties


def test_more_seeds_than_can_be_enumerated_agree_with_a_sample_of_patterns() -> None:
    d = normal(20, seed=4) + 0.35
    sampled = np.concatenate([d, np.zeros(11)])  # a zero changes no sum
    exact = sign_flip(d)
    assert 0.01 < exact < 0.5
    assert sign_flip(sampled) == pytest.approx(exact, abs=4 * sqrt(exact / 10_000))


def test_seeds_alone_are_the_paired_t_interval() -> None:
    a, b = normal(8, seed=1), normal(8, seed=2)
    found = difference(a, b)
    twin = stats.ttest_rel(a, b)
    low, high = twin.confidence_interval(0.95)
    number = found.number
    assert [number.value, number.low, number.high] == pytest.approx([(a - b).mean(), low, high])
    assert found.p_value == pytest.approx(max(sign_flip(a - b), twin.pvalue))
    assert (found.seeds, found.examples) == (8, 0)


def layout(
    seeds: float, examples: float, left: float
) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    """Six seeds and forty examples with these standard deviations."""
    rows, columns = normal(6, 1, seed=5), normal(1, 40, seed=6)
    return np.asarray(seeds * rows + examples * columns + left * normal(6, 40, seed=7))


def test_examples_add_their_variance_with_satterthwaite() -> None:
    cells = layout(0.5, 1.0, 0.7)
    found = difference(cells, np.zeros_like(cells))
    n, many = cells.shape
    rows, columns = cells.mean(1).var(ddof=1), cells.mean(0).var(ddof=1)
    rest = cells - cells.mean(1, keepdims=True) - cells.mean(0) + cells.mean()
    left = (rest**2).sum() / ((n - 1) * (many - 1))
    terms = np.array([rows / n, columns / many, left / (n * many)])
    total = terms[0] + terms[1] - terms[2]
    assert found.error**2 == pytest.approx(total)
    degrees = (terms**2 / [n - 1, many - 1, (n - 1) * (many - 1)]).sum()
    assert found.df == pytest.approx(total**2 / degrees)
    assert found.p_value >= sign_flip(cells.mean(1))
    assert found.examples == 40


@pytest.mark.parametrize(("axis", "df"), [(1, 5), (0, 39)])
def test_the_variance_is_never_below_what_seeds_or_examples_say(axis: int, df: int) -> None:
    """A layout whose other term is less than its share of what is left."""
    cells = layout(1.0, 0.0, 1.0) if axis == 1 else layout(0.0, 1.0, 1.0)
    cells -= cells.mean(1 - axis, keepdims=True)  # nothing between the others
    found = difference(cells, np.zeros_like(cells))
    means = cells.mean(axis)
    assert found.error == pytest.approx(means.std(ddof=1) / sqrt(len(means)))
    assert found.df == df


def test_one_example_is_seeds_alone_and_no_difference_at_all_is_certain() -> None:
    a = normal(5, 1)
    one, flat = difference(a, 0 * a), difference(a[:, 0], 0 * a[:, 0])
    assert (one.error, one.df, one.p_value) == (flat.error, flat.df, flat.p_value)
    same = difference(a, a)
    assert (same.value, same.error, same.p_value) == (0.0, 0.0, 1.0)
    assert equivalence(same, 0.1) == 0.0


def test_equivalence_is_the_larger_of_two_one_sided_tests() -> None:
    d = 0.2 * normal(12) + 0.1
    found = difference(d, 0 * d)
    twin = [
        stats.ttest_1samp(d, side * 0.3, alternative=way).pvalue
        for side, way in ((1, "less"), (-1, "greater"))
    ]
    assert equivalence(found, 0.3) == pytest.approx(max(twin))
    assert equivalence(found, smallest_margin(found)) == pytest.approx(0.05)
    assert equivalence(found, smallest_margin(found, 4)) == pytest.approx(0.0125)


def found_at(value: float, error: float, p_value: float) -> Difference:
    return Difference(value, error, 9.0, p_value, 10, 0)


def test_every_verdict_is_reached_and_families_are_adjusted() -> None:
    cases = {
        "better": found_at(-2.0, 0.3, 0.002),
        "worse, within the margin": found_at(0.4, 0.05, 0.002),
        "worse": found_at(2.0, 0.3, 0.002),
        "equivalent within the margin": found_at(0.0, 0.1, 0.9),
        "undecided": found_at(0.5, 0.6, 0.3),
    }
    found = verdicts(cases, margin=1.0)
    assert {name: verdict.words for name, verdict in found.items()} == {
        name: name for name in cases
    }
    assert found["better"].holm_p == pytest.approx(0.01)
    assert found["undecided"].smallest_margin == pytest.approx(
        0.5 + stats.t.ppf(1 - 0.05 / 5, 9) * 0.6
    )
    # the same p alone would reject, five times it does not
    crowd = {str(i): found_at(-1.0, 0.4, 0.03) for i in range(5)}
    assert {v.words for v in verdicts(crowd, 0.1).values()} == {"undecided"}
    assert verdicts({"one": crowd["0"]}, 0.1)["one"].words == "better"


@pytest.mark.parametrize(
    ("a", "b", "said"),
    [
        (np.zeros(3), np.zeros(4), "both methods alike, got (3,) and (4,)"),
        (np.zeros((2, 2, 2)), np.zeros((2, 2, 2)), "[seeds, examples]"),
        (np.zeros(1), np.zeros(1), "at least 2 seeds, got 1"),
    ],
)
def test_what_is_not_paired_is_refused(a: object, b: object, said: str) -> None:
    with pytest.raises(UsageError) as error:
        difference(a, b)  # type: ignore[arg-type]
    assert said in str(error.value)


@pytest.mark.parametrize("margin", [0.0, -1.0, float("inf"), float("nan")])
def test_a_margin_is_a_positive_number(margin: float) -> None:
    with pytest.raises(UsageError, match="positive number"):
        verdicts({}, margin)


@pytest.mark.parametrize(
    ("values", "cut"), [([0.001, 0.002, 0.4], True), ([-0.5, 0.2, 0.4], False)]
)
def test_a_mean_of_what_is_never_negative_has_an_interval_that_is_not(
    values: list[float], cut: bool
) -> None:
    found = seed_mean(values)
    half = stats.t.ppf(0.975, 2) * np.std(values, ddof=1) / sqrt(3)
    assert found.high == pytest.approx(np.mean(values) + half)
    assert found.low == (0.0 if cut else pytest.approx(np.mean(values) - half))
