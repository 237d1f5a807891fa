"""How many seeds a question needs, against enumeration and simulation."""

from __future__ import annotations

import numpy as np
import pytest

from fgbench.stats import seeds_needed
from fgbench.stats.paired_seeds import difference, sign_flip, verdicts


@pytest.mark.parametrize("n", [2, 5, 6, 9])
def test_the_smallest_p_is_that_of_differences_of_one_sign(n: int) -> None:
    assert sign_flip(np.linspace(1.0, 2.0, n)) == seeds_needed.smallest_p(n)


def test_five_seeds_reject_nothing_however_large_the_difference() -> None:
    found = difference([0.127, 0.13, 0.12, 0.125, 0.13], [0.69, 0.7, 0.66, 0.71, 0.69])
    assert verdicts({"mine": found}, margin=0.03)["mine"].words == "undecided"
    assert seeds_needed.smallest_p(5) > 0.05
    assert seeds_needed.least_seeds() == 6
    assert seeds_needed.power(5, effect=100.0) == 0.0


def test_the_least_seeds_suffice_and_one_less_does_not() -> None:
    for comparisons in (1, 2, 5, 9, 25):
        n = seeds_needed.least_seeds(comparisons)
        assert seeds_needed.smallest_p(n, comparisons) <= 0.05
        assert seeds_needed.smallest_p(n - 1, comparisons) > 0.05
    assert seeds_needed.least_seeds(25) == 10  # what ten seeds are feasible for


def test_power_is_that_of_simulated_t_tests() -> None:
    """20,000 families: a standard error of .0035 at most, and 4 of them."""
    from scipy.stats import t

    rng = np.random.default_rng(3)
    for n, comparisons in ((10, 1), (20, 9)):
        draws = rng.normal(1.0, 1.0, (20_000, n))
        statistic = draws.mean(1) / (draws.std(1, ddof=1) / np.sqrt(n))
        seen = np.mean(np.abs(statistic) > t.isf(0.025 / comparisons, n - 1))
        assert seeds_needed.power(n, comparisons) == pytest.approx(seen, abs=0.014)


def test_more_seeds_decide_what_few_leave_open() -> None:
    rng = np.random.default_rng(0)
    noise = rng.normal(0, 0.02, 10)
    noise -= noise.mean()
    found = difference(0.11 + noise, np.full(10, 0.1))
    wanted = seeds_needed.seeds_to_decide(found, margin=0.015)
    assert wanted is not None
    assert 10 < wanted < 100
    spread = noise.std(ddof=1) / np.sqrt(wanted)
    again = difference(
        0.11 + np.resize([1, -1], wanted) * spread * np.sqrt(wanted - 1), np.full(wanted, 0.1)
    )
    assert verdicts({"mine": again}, margin=0.015)["mine"].words != "undecided"


def test_no_number_of_seeds_makes_up_for_few_test_examples() -> None:
    """Two examples differ, in every run: what is left is the sampling of the examples."""
    one, other = np.zeros((10, 50)), np.zeros((10, 50))
    one[:, :2] = 1.0
    found = difference(one, other)
    assert found.fixed == pytest.approx(found.error**2)
    assert seeds_needed.seeds_to_decide(found, margin=0.03) is None
    assert seeds_needed.seeds_to_decide(found, margin=0.2) == 3
