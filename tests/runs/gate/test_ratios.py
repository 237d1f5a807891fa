"""The rule for times, on simulated pairs of processes: its rate of false alarms, and what it finds."""

from __future__ import annotations

import numpy as np
import pytest

from fgbench.runs.gate.ratios import ALARM, FIRST_PAIRS, FRESH_PAIRS, Ratio, suspected, verdict

PROCESS_SD = 0.04
"""Standard deviation of the logarithm of a process's number: 2.9 to 4.9 % were measured."""


def judged(ratio: float, sd: float, gates: int, seed: int) -> list[str]:
    """Verdicts on one number of many gates; each process has a level of its own."""
    generator = np.random.default_rng(seed)
    found = []
    for _ in range(gates):
        own = generator.normal(0.0, sd, (FIRST_PAIRS + FRESH_PAIRS, 2))
        pairs = ratio * np.exp(own[:, 1] - own[:, 0])
        first, fresh = pairs[:FIRST_PAIRS].tolist(), pairs[FIRST_PAIRS:].tolist()
        found.append(verdict(fresh) if suspected(first) else "same")
    return found


def test_equal_code_never_alarms() -> None:
    # by normal theory fewer than one in 10^6 numbers
    assert set(judged(1.0, PROCESS_SD, gates=4000, seed=1)) == {"same"}


def test_equal_code_hardly_alarms_where_processes_scatter_twice_as_much() -> None:
    # stated rate: less than one in 500 numbers; 5000 numbers give at most 10, and 20 with p < .003
    found = judged(1.0, 2 * PROCESS_SD, gates=5000, seed=2)
    assert sum(one != "same" for one in found) <= 20


@pytest.mark.parametrize(("ratio", "power"), [(1.2, 0.75), (1.3, 0.99), (2.0, 1.0)])
def test_a_slower_step_is_found(ratio: float, power: float) -> None:
    found = judged(ratio, PROCESS_SD, gates=1000, seed=3)
    assert found.count("worse") >= power * 1000
    assert "better" not in found
    faster = judged(1 / ratio, PROCESS_SD, gates=1000, seed=4)
    assert faster.count("better") >= power * 1000
    assert "worse" not in faster


def test_a_change_within_what_is_let_pass_is_none() -> None:
    assert judged(1.05, PROCESS_SD, gates=1000, seed=5).count("worse") <= 5


def test_what_the_first_pairs_showed_does_not_count() -> None:
    assert suspected([1.5, 1.5])
    assert verdict([1.0, 1.02, 0.99, 1.01, 1.0]) == "same"


def test_one_slow_pair_of_five_is_no_finding() -> None:
    assert verdict([1.01, 0.99, 3.0, 1.02, 1.0]) == "same"


def test_exact_numbers_have_an_interval_of_one_point() -> None:
    found = Ratio.of([2.0] * FRESH_PAIRS)
    assert (found.value, found.low, found.high) == (2.0, 2.0, 2.0)
    assert verdict([ALARM] * FRESH_PAIRS) == "same"
    assert verdict([ALARM + 0.01] * FRESH_PAIRS) == "worse"


def test_the_interval_is_that_of_the_logarithms() -> None:
    found = Ratio.of([1.0, 4.0])
    assert found.value == pytest.approx(2.0)
    assert found.low is not None
    assert found.high is not None
    assert found.low * found.high == pytest.approx(4.0)
    assert Ratio.of([1.3]).low is None
