"""The rule for times, on simulated pairs of processes: its rate of false alarms, and what it finds."""

from __future__ import annotations

import numpy as np
import pytest

from fgbench.runs.gate.ratios import ALARM, FRESH_PAIRS, LOOKS, Ratio, suspected, verdict

PROCESS_SD = 0.04
"""Standard deviation of the logarithm of a process's number: 2.9 to 4.9 % were measured."""


def judged(ratio: float, sd: float, gates: int, seed: int) -> list[str]:
    """Verdicts on one number of many gates; each process has a level of its own."""
    generator = np.random.default_rng(seed)
    ends = np.cumsum([*LOOKS, FRESH_PAIRS])
    found = []
    for _ in range(gates):
        own = generator.normal(0.0, sd, (ends[-1], 2))
        *looks, fresh = np.split(ratio * np.exp(own[:, 1] - own[:, 0]), ends[:-1])
        doubted = all(suspected(look.tolist()) for look in looks)
        found.append(verdict(fresh.tolist()) if doubted else "same")
    return found


def test_equal_code_never_alarms() -> None:
    # by normal theory fewer than one in 10^9 numbers
    assert set(judged(1.0, PROCESS_SD, gates=3000, seed=1)) == {"same"}


@pytest.mark.slow
def test_equal_code_hardly_alarms_where_processes_scatter_twice_as_much() -> None:
    # stated rate: less than one in 10^4 numbers; two in 3000 have p < .04
    found = judged(1.0, 2 * PROCESS_SD, gates=3000, seed=2)
    assert sum(one != "same" for one in found) <= 1


@pytest.mark.slow
@pytest.mark.parametrize(("ratio", "power"), [(1.2, 0.6), (1.3, 0.99), (2.0, 1.0)])
def test_a_slower_step_is_found(ratio: float, power: float) -> None:
    found = judged(ratio, PROCESS_SD, gates=1000, seed=3)
    assert found.count("worse") >= power * 1000
    assert "better" not in found
    faster = judged(1 / ratio, PROCESS_SD, gates=1000, seed=4)
    assert faster.count("better") >= power * 1000
    assert "worse" not in faster


def test_a_change_within_what_is_let_pass_is_none() -> None:
    assert judged(1.05, PROCESS_SD, gates=1000, seed=5).count("worse") <= 5


def test_the_more_pairs_scatter_the_more_it_takes() -> None:
    assert verdict([1.2, 1.21, 1.19, 1.2, 1.22, 1.18, 1.2]) == "worse"
    assert verdict([1.2, 0.9, 1.6, 1.0, 1.5, 1.1, 1.2]) == "same"


def test_what_the_looks_showed_does_not_count() -> None:
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
