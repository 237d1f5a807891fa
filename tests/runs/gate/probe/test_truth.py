"""The probe of exact means, laws and intervals: this tree is true, planted faults show by their number."""

from __future__ import annotations

from typing import Any

import pytest

from fgbench.core import axes
from fgbench.core.axes import Cells
from fgbench.core.noise import laws
from fgbench.estimators.fg_w import WeightForwardGradient
from fgbench.stats import intervals
from tests.makers import trees
from tests.makers.cases import slow_if

truth = trees.probe("truth")


def cell(method: str, net: str = "mlp", **options: Any) -> dict[str, Any]:
    (found,) = truth.answer({"cells": [{"method": method, "net": net, **options}]})["cells"]
    return dict(found)


METHODS = [
    (f"{name}/{where}", net)
    for where in ("module-pg", "interlocking-pg", "overlap-p", "local-pg", "end")
    for name in ("fg_a", "fg_w", "np", "bp")
    for net in ("mixer", "convolutions", "mlp")
]
FAST = ("fg_a/module-pg", "fg_a/end")


@pytest.mark.parametrize(("method", "net"), slow_if(METHODS, lambda case: case[0] not in FAST))
def test_this_tree_is_true(method: str, net: str) -> None:
    found = cell(method, net)
    assert found["status"] == "ok", found["reason"]
    # a forward difference at the finer step is off by the step times a curvature, which is 15 on the mixer
    error = 40 * truth.STEPS[1] if method.startswith("np") else 0.0
    assert found["held"]
    assert found["bias"] == pytest.approx(0.0, abs=error)
    assert found["scale"] == pytest.approx(1.0, abs=error, rel=0.0)


def test_a_multiple_of_the_gradient_has_its_scale() -> None:
    found = cell("fg_perp/end")
    assert found["status"] == "ok", found
    assert found["held"]


def test_a_documented_mean_is_what_counts() -> None:
    found = cell("fg_w[mask=small[keep=0.5]]/end")
    assert (found["expects"], found["held"], found["bias"]) == ("documented", True, 0.0)
    assert found["claimed"] == "some"


def test_a_rule_without_a_mean_of_its_own_is_not_judged() -> None:
    found = cell("fa/end")
    assert (found["status"], found["held"], found["expects"]) == ("ok", None, "")
    assert 0 < found["bias"] < 3
    assert cell("feedsign/end")["status"] == "n/a"


@pytest.mark.slow
def test_noise_is_exact_where_few_numbers_are_drawn() -> None:
    one = cell("fg_a/end", "few", noise=True)
    assert one["noise"] > 1
    signs = cell("fg_a[law=rademacher]/end", "few", noise=True)
    assert signs["noise"] < one["noise"]


def test_names_that_a_tree_does_not_have_are_na_with_a_reason() -> None:
    assert cell("no_such/end")["status"] == "n/a"
    assert "no network 'torus'" in cell("fg_a/end", "torus")["reason"]
    assert cell("bp/noprop_dt")["status"] == "n/a"


# faults, planted in this process


@pytest.mark.parametrize(
    ("axis", "locality"),
    [("p", "module-pg"), ("p", "overlap-p"), ("g", "local-pg"), ("g", "interlocking-pg")],
)
def test_an_axis_that_is_not_summed_is_a_bias(
    axis: str, locality: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    sound = Cells.cell_axis
    monkeypatch.setattr(
        Cells,
        "cell_axis",
        lambda self, kept: (
            kept if kept == axis and axis in axes.names(self.place) else sound(self, kept)
        ),
    )
    found = cell(f"fg_a/{locality}", "mixer")
    assert found["status"] == "ok", found
    assert not found["held"]
    assert found["bias"] > 0.05
    assert found["place"]


def test_a_scale_of_two_percent_is_a_number(monkeypatch: pytest.MonkeyPatch) -> None:
    sound = WeightForwardGradient.__call__

    def scaled(self: Any, *given: Any) -> Any:
        from dataclasses import replace

        found = sound(self, *given)
        return replace(found, grads={n: 0.98 * g for n, g in found.grads.items()})

    monkeypatch.setattr(WeightForwardGradient, "__call__", scaled)
    found = cell("fg_w/end")
    assert not found["held"]
    assert found["scale"] == pytest.approx(0.98, abs=1e-9)
    assert found["bias"] == pytest.approx(0.02, abs=1e-9)


@pytest.mark.slow
def test_laws_are_white_and_a_longer_one_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(truth, "DIRECTIONS", 1600)
    found = truth.answer({"laws": True})["laws"]
    assert [one["name"] for one in found if one["status"] != "ok" or not one["held"]] == []
    assert len(found) >= 12
    sound = laws.Law.made
    monkeypatch.setattr(laws.Law, "made", lambda self, *given: 1.1 * sound(self, *given))
    found = truth.answer({"laws": True})["laws"]
    assert {one["name"]: one["held"] for one in found}["gaussian"] is False
    assert {one["name"]: one["square"] for one in found}["rademacher"] == pytest.approx(1.1**2)


def intervals_of(runs: int) -> dict[str, bool]:
    found = truth.answer({"intervals": True, "runs": runs})["intervals"]
    assert [one for one in found if one["status"] != "ok"] == []
    assert all(one["width"] > 0 for one in found)
    return {one["name"]: one["held"] for one in found}


@pytest.mark.slow
def test_intervals_hold_the_truth_and_narrow_ones_do_not(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 25 runs an interval of .95 holds 20 at least; one of .3 of the width holds 11."""
    assert all(intervals_of(25).values())
    monkeypatch.setattr(intervals, "t_quantile", lambda df: 0.3 * 1.99)
    for study in ("_of_replicates", "_of_seeds"):
        monkeypatch.setattr(truth, study, lambda random: {})
    narrow = intervals_of(25)
    assert not any(narrow[name] for name in ("mean", "scale", "cosine"))


@pytest.mark.slow
def test_all_intervals_hold_the_truth_over_all_runs() -> None:
    found = truth.answer({"intervals": True})["intervals"]
    assert [one["name"] for one in found if one["status"] != "ok" or not one["held"]] == []
