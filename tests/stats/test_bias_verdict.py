"""The verdict on a bias, once for terminal, site and figures, and the level of all tests."""

from __future__ import annotations

import ast
from math import nan
from typing import Any

import pytest

from fgbench.stats import bias, multiple_tests
from fgbench.stats.bias_verdict import BiasVerdict, Claim, Outcome, judge
from fgbench.stats.reporting import bias as cell
from tests.makers.paths import ROOT


@pytest.mark.parametrize(
    ("detectable", "p", "outcome"),
    [
        (0.1, None, Outcome.UNTESTED),
        (0.1, nan, Outcome.UNTESTED),
        (0.0, 1.0, Outcome.EXACTLY_NONE),
        (0.0, 0.0, Outcome.EXACTLY_SOME),
        (0.1, 0.0499, Outcome.REJECTED),
        (0.1, 0.05, Outcome.NOT_REJECTED),
        (1.0, 0.4, Outcome.UNRESOLVED),
        (1.0, 0.01, Outcome.REJECTED),
        (None, 0.4, Outcome.UNRESOLVED),
        (nan, 0.4, Outcome.UNRESOLVED),
    ],
)
def test_an_outcome_follows_from_p_value_and_detectable_bias(
    detectable: float | None, p: float | None, outcome: Outcome
) -> None:
    verdict = judge({"detectable": detectable}, p)
    assert verdict.outcome == outcome
    assert verdict.biased == (outcome in (Outcome.REJECTED, Outcome.EXACTLY_SOME))
    assert verdict.exact == (detectable == 0.0)


@pytest.mark.parametrize(
    ("outcome", "of_none", "of_vanishing"),
    [
        (Outcome.UNTESTED, Claim.UNTESTED, Claim.UNTESTED),
        (Outcome.UNRESOLVED, Claim.UNTESTED, Claim.UNTESTED),
        (Outcome.EXACTLY_NONE, Claim.HELD, Claim.HELD),
        (Outcome.EXACTLY_SOME, Claim.REJECTED, Claim.UNTESTED),
        (Outcome.REJECTED, Claim.REJECTED, Claim.UNTESTED),
        (Outcome.NOT_REJECTED, Claim.NOT_REJECTED, Claim.NOT_REJECTED),
    ],
)
def test_what_an_outcome_says_about_a_claim(
    outcome: Outcome, of_none: Claim, of_vanishing: Claim
) -> None:
    assert BiasVerdict(outcome, "none").claim == of_none
    assert BiasVerdict(outcome, "vanishing").claim == of_vanishing
    assert BiasVerdict(outcome, "some").claim == Claim.NOTHING
    assert BiasVerdict(outcome).claim == Claim.UNTESTED


@pytest.mark.parametrize("p", [0.0499, 0.05, 0.2])
def test_a_cell_states_a_bias_where_the_verdict_does(p: float) -> None:
    found: dict[str, Any] = {"value": 0.3, "p_value": p, "detectable": 0.1, "draws_high": 0.4}
    assert cell(found, p).startswith("not rejected") != judge(found, p).biased


def test_the_level_is_stated_once() -> None:
    assert multiple_tests.LEVEL == bias.LEVEL == 0.05
    stated = [
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / "fgbench").rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if (
            isinstance(node, ast.Assign)
            and "LEVEL" in {ast.unparse(target) for target in node.targets}
        )
        or (
            isinstance(node, ast.Compare)
            and "0.05" in {ast.unparse(part) for part in (node.left, *node.comparators)}
        )
    ]
    assert stated == ["fgbench/stats/multiple_tests.py"]
