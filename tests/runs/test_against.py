"""Trainings beside a reference: the verdicts that planted differences must have."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from fgbench.errors import UsageError
from fgbench.runs.against import judged, trained_against
from fgbench.stats.paired_seeds import difference
from fgbench.stats.reporting import undecided
from tests.makers.compared import errors_of, trained, worse


def runs(method: str, wrong: list[Any]) -> list[dict[str, Any]]:
    return [trained(method, seed, one) for seed, one in enumerate(wrong)]


def test_backprop_under_another_name_is_equivalent() -> None:
    wrong = errors_of(10)
    found = judged({"BP": runs("BP", wrong), "mine": runs("mine", wrong)}, "BP")["mine"]
    assert found["verdict"] == "equivalent within the margin"
    assert (found["value"], found["low"], found["high"]) == (0.0, 0.0, 0.0)
    assert (found["p_value"], found["equivalence_p"], found["examples"]) == (1.0, 0.0, 360)


@pytest.mark.parametrize("methods", [1, 5])
def test_three_planted_points_are_worse_and_their_mirror_is_better(methods: int) -> None:
    wrong = errors_of(10)
    bad = [worse(one, 3.0, seed) for seed, one in enumerate(wrong)]
    listed = {"BP": runs("BP", wrong)} | {f"m{k}": runs("m", bad) for k in range(methods)}
    found = judged(listed, "BP")["m0"]
    assert found["value"] == pytest.approx(0.03, abs=0.002)
    assert found["verdict"] == "worse"
    assert found["comparisons"] == methods
    assert (
        judged({"BP": runs("BP", bad), "mine": runs("m", wrong)}, "BP")["mine"]["verdict"]
        == "better"
    )


def test_examples_count_as_sampled() -> None:
    """The same numbers as those of the two-way layout on what each run got wrong."""
    wrong = errors_of(6)
    bad = [worse(one, 2.0, seed) for seed, one in enumerate(wrong)]
    found = judged({"BP": runs("BP", wrong), "mine": runs("m", bad)}, "BP")["mine"]
    expected = difference(np.array(bad, float), np.array(wrong, float))
    assert found["value"] == expected.value
    assert found["p_value"] == expected.p_value


def test_five_seeds_are_undecided_and_the_verdict_says_why() -> None:
    wrong = errors_of(5)
    far = [worse(one, 50.0, seed) for seed, one in enumerate(wrong)]
    found = judged({"BP": runs("BP", wrong), "mine": runs("m", far)}, "BP")["mine"]
    assert found["verdict"] == "undecided"
    assert undecided(found).startswith("with 5 seeds no sign-flip test can reject")
    assert "at least 6 are needed" in undecided(found)


def test_words_of_what_is_undecided_follow_what_would_decide_it() -> None:
    about = {
        "verdict": "undecided",
        "n": 8,
        "comparisons": 1,
        "smallest_p": 0.008,
        "least_seeds": 6,
    }
    for wanted, examples, words in (
        (20, 0, "about 20 here"),
        (20, 360, "about 20 here"),
        (0, 0, "more than 200 here"),
        (0, 360, "no number of seeds decides it on 360 test examples"),
    ):
        found = undecided(about | {"seeds_to_decide": wanted, "examples": examples})
        assert words.removesuffix(" here") in found, (wanted, examples)


def test_a_run_that_diverged_counts_as_chance() -> None:
    wrong = errors_of(8)
    mine = runs("m", wrong)
    for run in mine[:4]:
        run |= {
            "status": "diverged",
            "reason": "loss not finite",
            "correct": None,
            "test_error": None,
        }
    found = judged({"BP": runs("BP", wrong), "mine": mine}, "BP")["mine"]
    chance = np.mean([0.9 - one.mean() for one in wrong[:4]]) / 2
    assert found["value"] == pytest.approx(chance)
    assert (found["diverged"], found["examples"]) == (4, 0)


def test_only_shared_seeds_are_paired_and_one_is_too_few() -> None:
    wrong = errors_of(6)
    mine = runs("m", wrong)
    mine[0] |= {"status": "failed", "reason": "ValueError"}
    assert judged({"BP": runs("BP", wrong), "mine": mine}, "BP")["mine"]["n"] == 5
    found = judged({"BP": runs("BP", wrong[:1]), "mine": mine}, "BP")["mine"]
    assert found["verdict"] == ""
    assert found["reason"].startswith("paired tests need 2 shared seeds")


def test_more_is_better_where_the_metric_says_so() -> None:
    metrics = {"r2": {"unit": "", "best": "high", "chance": None}}
    listed = {
        name: [
            {
                "seed": seed,
                "status": "ok",
                "metrics": metrics,
                "data": "diabetes",
                "test_r2": r2 + seed / 1000,
            }
            for seed in range(8)
        ]
        for name, r2 in (("BP", 0.5), ("mine", 0.4))
    }
    with pytest.raises(UsageError, match="diabetes has no margin of equivalence"):
        judged(listed, "BP")
    assert judged(listed, "BP", margin=0.01)["mine"]["verdict"] == "worse"


def test_records_of_train_carry_the_comparison_of_their_method() -> None:
    wrong = errors_of(7)
    both = [*runs("BP", wrong), *runs("mine", wrong)]
    found = trained_against(both, "BP")
    assert [record["against"]["own"] for record in found] == [True] * 7 + [False] * 7
    assert {record["against"].get("verdict") for record in found[7:]} == {
        "equivalent within the margin"
    }
