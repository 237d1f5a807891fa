"""The probe of seeds: numbers of a run by seed, divergence at the error of guessing."""

from __future__ import annotations

from typing import Any

import pytest

from tests.makers import trees

seeds = trees.probe("seeds")
TINY = {"arch": "mlp-1x4", "data": "synthetic[size=2,train=64,test=32]"}


def values(verb: str, method: str, number: str, *which: int, **more: Any) -> Any:
    cell = {"verb": verb, "method": method, "number": number, **TINY, **more}
    (found,) = seeds.answer({"cells": [cell], "seeds": list(which)})["cells"]
    return found


def test_a_seed_gives_one_number_and_equal_seeds_the_same() -> None:
    one, two = (values("measure", "fg_a/end", "noise", 0, 1) for _ in range(2))
    assert one == two
    assert one["status"] == "ok"
    assert len(set(one["values"])) == 2
    assert all(value > 0 for value in one["values"])


@pytest.mark.slow
def test_noise_is_relative_variance_and_inefficiency_of_a_biased_estimate_without_noise() -> None:
    for method, number in (("fg_a/end", "relative_variance"), ("dfa/end", "inefficiency")):
        assert (
            values("measure", method, "noise", 3)["values"]
            == values("measure", method, number, 3)["values"]
        )


def test_a_training_has_its_test_error() -> None:
    found = values("train", "bp/end", "test_error", 0, 1, variant="schedule linear")
    assert all(0 <= value <= 1 for value in found["values"])


def test_a_training_that_diverges_has_the_error_of_guessing() -> None:
    found = values(
        "train", "bp/end", "test_error", 0, options={"lr": 1e30, "epochs": 3, "batch": 16}
    )
    assert found["values"] == [pytest.approx(0.9)]


def test_what_does_not_run_says_why() -> None:
    assert values("measure", "no_such/end", "noise", 0)["status"] == "n/a"
    assert values("measure", "bp/noprop_dt", "noise", 0)["status"] == "n/a"
    assert values("measure", "bp/end", "no_such_number", 0)["values"] == [None]


@pytest.mark.slow
def test_every_variant_of_the_exact_trainings_has_a_recipe() -> None:
    for name in (*seeds.trainings.VARIANTS, "recipe", "method", "update sign"):
        found = values("train", "bp/end", "test_error", 0, variant=name)
        assert found["status"] == "ok", (name, found)
