"""The rates that are tried: even on the logarithmic axis, and as many for every method."""

from __future__ import annotations

from math import inf, log10

import pytest

from fgbench.runs.compare import rates


@pytest.mark.parametrize("count", [4, 8, 24])
def test_the_first_round_has_one_rate_in_each_part_of_four_decades(count: int) -> None:
    low, high = rates.range_of("sgd")
    assert log10(high / low) == pytest.approx(4)
    found = rates.first(count, low, high)
    parts = [int((log10(rate / low) - 1e-3) / (4 / count)) for rate in found]
    assert parts == list(range(count))
    assert found == rates.first(count, low, high)
    assert found != rates.first(count, low, high, seed=1)


def test_a_best_rate_within_the_range_is_refined_between_its_neighbours() -> None:
    tried = [0.001, 0.01, 0.1, 1.0]
    found = rates.second(tried, [(0.5,), (0.1,), (0.2,), (inf,)], 4)
    assert found.widened == ""
    assert len(found.rates) == 4
    assert all(0.001 < rate < 0.1 for rate in found.rates)


@pytest.mark.parametrize(
    ("scores", "widened", "inside"),
    [
        ([0.1, 0.2, 0.3], "lower", (1e-5, 1e-3)),
        ([0.3, 0.2, 0.1], "upper", (0.1, 10.0)),
        ([inf, inf, inf], "lower", (1e-5, 1e-3)),
    ],
)
def test_a_best_rate_at_the_edge_widens_the_range_once(
    scores: list[float], widened: str, inside: tuple[float, float]
) -> None:
    found = rates.second([0.001, 0.01, 0.1], [(score,) for score in scores], 3)
    assert found.widened == widened
    assert len(found.rates) == 3
    assert all(inside[0] <= rate <= inside[1] for rate in found.rates)


def test_the_second_round_is_drawn_again_until_all_rates_differ() -> None:
    for seed in range(200):
        tried = rates.first(24, *rates.range_of("sgd"), seed)
        scores = [(abs(k - 12.0),) for k in range(24)]
        found = rates.second(tried, scores, 12, seed)
        assert len({*tried, *found.rates}) == 36


def test_high_rates_that_diverge_are_no_edge() -> None:
    assert rates.second([0.001, 0.01, 0.1], [(0.3,), (0.1,), (inf,)], 3).widened == ""
    assert rates.edge([0.001, 0.01, 0.1], 0.01) == ""
