"""The plan of a comparison: equal budgets, and mistakes in one line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from fgbench.errors import UsageError
from fgbench.runs.compare.plan import SIZES, Question, lines, plan_of
from fgbench.runs.sweep.runner import Settings

NET = ("mlp-1x4", "synthetic[train=64,test=32]")
SETTINGS = Settings(Path("records"), jobs=2, device="cpu")


def planned(*methods: str, **more: Any) -> Any:
    return plan_of(Question.of(methods, *NET, **more), SETTINGS, tell=lambda line: None)


def test_every_method_gets_the_same_forward_equivalents() -> None:
    plan = planned("FG-A", "DFA", "wp", forwards=60, options={"batch": 16})
    assert [one.method for one in plan.contestants] == ["BP", "FG-A", "DFA", "wp"]
    for one in plan.running:
        spent = plan.steps(one) * one.cost * 16 / 64
        assert 60 - one.cost * 16 / 64 < spent <= 60
        tried = plan.trial_steps(one) * one.cost * 16 / (64 - plan.held_out)
        assert 30 - one.cost * 16 / 51 < tried <= 30
    assert plan.trials == 4 * SIZES["small"].configurations


def test_without_a_budget_a_result_is_as_long_as_the_recipe_of_the_reference() -> None:
    plan = planned("FG-A", options={"batch": 16})
    assert plan.epochs(plan.steps(plan.reference)) == 20
    assert plan.forwards == 60


def test_the_same_method_in_two_texts_runs_once() -> None:
    assert Question.of(["fg_a/end", "FG-A", "bp"], *NET).methods == ("BP", "fg_a/end")


def test_the_plan_says_how_many_seeds_the_question_needs() -> None:
    text = " ".join(
        lines(planned("FG-A", "DFA", seeds=5, forwards=6, options={"batch": 16}), jobs=2)
    )
    assert "With 5 seeds no sign-flip test of 2 comparisons can reject" in text
    assert "Use at least 7." in text
    assert "3 methods x 12 rates" in text


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ({"budget": "smal"}, "unknown budget 'smal'; did you mean 'small'"),
        ({"reference": "BPP"}, "BPP"),
        ({"forwards": 3.0, "seconds": 3.0}, "give one"),
        ({"forwards": -1.0}, "forwards: expected a number above 0"),
        ({"seeds": 1}, "seeds: paired tests need 2 to 1000, got 1"),
        ({"options": {"lr": 0.1}}, "compare chooses lr itself"),
        ({"margin": 0.0}, "margin: expected a number above 0"),
    ],
)
def test_a_mistake_is_one_line(more: dict[str, Any], says: str) -> None:
    with pytest.raises(UsageError, match=says):
        Question.of(["FG-A"], *NET, **more)


def test_objects_and_a_lone_reference_are_refused() -> None:
    with pytest.raises(UsageError, match="compare takes names for methods"):
        Question.of([object()], *NET)  # type: ignore[list-item]
    with pytest.raises(UsageError, match="nothing to compare BP with"):
        Question.of(["BP"], *NET)


def test_a_margin_in_points_is_refused() -> None:
    with pytest.raises(UsageError, match=r"so 3 points are 0\.03; got 3"):
        planned("FG-A", margin=3.0, options={"batch": 16})
