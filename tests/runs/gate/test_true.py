"""True or not: judgements on planted answers, then planted trees."""

from __future__ import annotations

from collections.abc import Mapping
from math import nan
from pathlib import Path
from typing import Any

import pytest

from fgbench.runs.gate import true
from fgbench.runs.gate.answers import Store
from fgbench.runs.gate.finding import (
    BETTER,
    CHANGED,
    FAILED,
    NOT_JUDGED,
    SAME,
    WORSE,
    Cell,
    Finding,
)
from fgbench.runs.gate.true import judge
from fgbench.runs.suites.tracked import probe
from tests.makers import trees

SOUND = {
    **{"status": "ok", "reason": "", "claimed": "none", "expects": "gradient", "held": True},
    **{"bias": 0.0, "scale": 1.0, "place": "", "place_scale": 1.0},
}
SCALED = {
    **SOUND,
    "held": False,
    "bias": 0.02,
    "scale": 0.98,
    "place": "body.0.l0",
    "place_scale": 0.98,
}
BIASED = {
    **SOUND,
    "held": False,
    "bias": 0.468,
    "scale": 0.9,
    "place": "body.0.l0",
    "place_scale": 0.71,
}
VANISHING = {**SOUND, "claimed": "vanishing", "error": 1e-4}
SILENT = {"status": "n/a", "reason": "it documents no mean and claims bias='some'"}
RAISED = {"status": "failed", "reason": "ZeroDivisionError: division by zero"}


@pytest.mark.parametrize(
    ("before", "after", "kind", "verdict", "what"),
    [
        (SOUND, SCALED, "scale", WORSE, "scale .9800 of the gradient"),
        (None, SCALED, "scale", WORSE, "scale .9800 of the gradient"),
        (SOUND, BIASED, "bias", WORSE, "bias .468 of the gradient; scale .7100 on body.0.l0"),
        (SCALED, SCALED, "scale", SAME, "an old fault: scale .9800 of the gradient"),
        (SCALED, BIASED, "bias", WORSE, "bias .468"),
        (BIASED, SCALED, "scale", CHANGED, "scale .9800"),
        (SCALED, SOUND, "scale", BETTER, "now true: scale .9800"),
        (
            SOUND,
            {**SOUND, "claimed": "some", "expects": "documented"},
            "bias",
            CHANGED,
            "claims bias='some' in place",
        ),
        (SOUND, SILENT, "n/a", CHANGED, "it documents no mean"),
        (SILENT, SILENT, "n/a", NOT_JUDGED, "it documents no mean"),
        (SOUND, RAISED, "failed", FAILED, "ZeroDivisionError"),
        (RAISED, RAISED, "failed", NOT_JUDGED, "ZeroDivisionError"),
        (
            VANISHING,
            {**VANISHING, "error": 4e-4},
            "bias",
            WORSE,
            "bias at its own step 4 times as large",
        ),
        (
            VANISHING,
            {**VANISHING, "error": 2.5e-5},
            "bias",
            BETTER,
            "bias at its own step 0.25 times",
        ),
        (
            SOUND,
            {**SCALED, "bias": nan, "scale": nan, "what": "an estimate is not finite"},
            "bias",
            WORSE,
            "not finite",
        ),
    ],
)
def test_a_judgement_names_kind_number_and_verdict(
    before: Any, after: Any, kind: str, verdict: str, what: str
) -> None:
    found = judge(before, after)
    assert found is not None
    assert (found.kind, found.verdict) == (kind, verdict)
    assert what in found.what


@pytest.mark.parametrize("after", [SOUND, VANISHING])
def test_what_is_true_is_no_finding(after: Any) -> None:
    assert judge(None, after) is None
    assert judge(after, after) is None
    assert judge(SILENT, after) is None


def test_a_multiple_of_the_gradient_is_no_fault_where_it_is_claimed() -> None:
    along = {**SOUND, "claimed": "scale", "expects": "direction", "scale": 0.8}
    assert judge(along, along) is None
    across = {**along, "held": False, "bias": 0.2, "place": "body.1.l0", "place_scale": 0.5}
    found = judge(along, across)
    assert found is not None
    assert (found.kind, found.verdict) == ("bias", WORSE)


def test_the_first_tree_is_asked_unless_the_second_is_true_and_claims_no_bias() -> None:
    assert not true.asks_before(SOUND)
    assert all(map(true.asks_before, (SCALED, VANISHING, SILENT, RAISED)))
    assert not true.asks_before({"status": "n/a", "reason": "left out", "late": True})


# asking


def cell(method: str, arch: str = "mlp-2x6", kind: str = "estimate") -> Cell:
    return Cell(kind, f"{method} on {arch}", method, arch)


def scripted(by_method: Mapping[str, Any], **others: Any) -> trees.Scripted:
    def answer(request: Mapping[str, Any]) -> dict[str, Any]:
        cells = [by_method.get(each["method"], SOUND) for each in request.get("cells", ())]
        return {"cells": cells, "cpu": 1.0, **others}

    return trees.Scripted(answer)


def ask(a: trees.Scripted, b: trees.Scripted, *changed: Cell) -> list[Finding]:
    return true.ask(a, b, changed, tell=lambda line: None)  # type: ignore[arg-type]


def test_one_row_per_estimator_shows_the_largest_fault() -> None:
    small = {**BIASED, "bias": 0.12}
    b = scripted({"fg_a/module-pg": BIASED, "fg_a/overlap-p": small, "np/end": SCALED})
    a = scripted({})
    changed = [
        cell("fg_a/end"),
        cell("fg_a/overlap-p", "localmixer-xs/2/4[channels=8]"),
        cell("fg_a/module-pg", "localmixer-xs/2/4[channels=8]"),
        cell("np/end"),
        cell("np/end", "cnn-tiny[width=2]"),
    ]
    found = ask(a, b, *changed)
    assert [(f.kind, f.where, f.verdict) for f in found] == [
        ("bias", "fg_a, module-pg, overlap-p, localmixer-xs/2/4", WORSE),
        ("scale", "np, end, mlp-2x6, cnn-tiny", WORSE),
    ]
    assert found[0].what.endswith("(of fg_a, module-pg, the largest of 2)")
    assert (found[0].before, found[0].after) == (0.0, 0.468)
    assert {c.method for c in found[0].cells} == {"fg_a/module-pg", "fg_a/overlap-p"}
    asked = [each["method"] for request in a.requests for each in request["cells"]]
    assert sorted(asked) == ["fg_a/module-pg", "fg_a/overlap-p", "np/end", "np/end"]
    nets = {each["net"] for request in b.requests for each in request["cells"]}
    assert nets == {"mixer", "mlp", "convolutions"}


def test_a_fault_of_many_estimators_is_one_row() -> None:
    names = ("fg_a", "np", "inp", "fg_perp")
    b = scripted({f"{name}/end": BIASED for name in names})
    (found,) = ask(scripted({}), b, *(cell(f"{name}/end") for name in names))
    assert (found.where, len(found.cells)) == ("4 estimators, end, mlp-2x6", 4)


def test_time_is_shared_and_what_is_late_is_said(tmp_path: Path) -> None:
    """A repeated call reaches as far as the first one, although its answers are kept."""

    def answer(request: Mapping[str, Any]) -> dict[str, Any]:
        return {"cells": [SOUND for _ in request["cells"]], "cpu": true.SECONDS / 1.5}

    store = Store(tmp_path / "kept", {}, print)
    names = [f"fg_{k}/end" for k in range(3 * true.AT_ONCE)]
    found = []
    for first in (True, False):
        b = trees.Scripted(answer)
        b.tree, b.commit = tmp_path, "a"  # type: ignore[attr-defined]
        found.append(true.ask(scripted({}), b, list(map(cell, names)), tell=str, store=store))  # type: ignore[arg-type]
        assert len(b.requests) == (2 if first else 0)
    assert [f.verdict for f in found[0]] == [NOT_JUDGED]
    assert found[0][0].what == "left out for want of time"
    assert len(found[0][0].cells) == true.AT_ONCE
    assert found[0] == found[1]


def test_what_changed_elsewhere_asks_nothing() -> None:
    b = scripted({})
    assert ask(scripted({}), b, cell("bp/end", kind="training"), Cell("data", "data digits")) == []
    assert b.requests == []


def law(square: float, held: bool, products: float = 0.5) -> dict[str, Any]:
    numbers = {"square": square, "error": 0.002, "mean": 0.3, "products": products}
    return {"name": "gaussian", "status": "ok", "reason": "", "held": held, **numbers}


def test_a_law_is_judged_where_draws_changed() -> None:
    drawn = Cell("draws", "draws gaussian", about="gaussian")
    b, a = scripted({}, laws=[law(1.21, False)]), scripted({}, laws=[law(1.0, True)])
    (found,) = ask(a, b, drawn)
    assert (found.kind, found.where, found.verdict) == ("draws", "law gaussian", WORSE)
    assert found.what == "|v|²/d is 1.2100 on average, expected 1"
    assert (found.before, found.after, found.cells) == (1.0, 1.21, (drawn,))
    (old,) = ask(b, b, drawn)
    assert (old.verdict, old.what[:13]) == (SAME, "an old fault:")
    assert ask(a, a, drawn) == []


@pytest.mark.parametrize(
    ("before", "after", "verdict"),
    [
        (law(1.21, False), law(1.1, False), CHANGED),
        (law(1.21, False), law(0.9, False), CHANGED),
        (law(1.1, False), law(1.21, False), WORSE),
        (law(1.21, False), law(1.1, False, products=9.0), WORSE),  # another moment is off now
        (law(1.0, False, products=9.0), law(1.0, False, products=90.0), WORSE),
        (law(1.0, False, products=90.0), law(1.0, False, products=9.0), CHANGED),
        (law(1.21, False), law(1.1, False, products=0.7), CHANGED),  # which is no fault
        (law(1.21, False), law(1.21, False, products=0.7), SAME),
        (law(1.21, False), law(nan, False), WORSE),
    ],
)
def test_an_untrue_law_that_improves_is_not_worse(
    before: dict[str, Any], after: dict[str, Any], verdict: str
) -> None:
    drawn = Cell("draws", "draws gaussian", about="gaussian")
    (found,) = ask(scripted({}, laws=[before]), scripted({}, laws=[after]), drawn)
    assert found.verdict == verdict
    assert found.what.startswith("an old fault: ") == (verdict == SAME)


def test_the_level_of_a_law_is_that_of_the_probe() -> None:
    assert probe("truth").SIGMAS == true.SIGMAS


def test_intervals_are_judged_where_they_changed() -> None:
    def interval(coverage: float) -> dict[str, Any]:
        held = coverage >= 0.92
        return {
            "name": "mean",
            "status": "ok",
            "reason": "",
            "held": held,
            "coverage": coverage,
            "width": 0.5,
        }

    changed = Cell("intervals", "intervals intervals.mean", about="intervals.mean")
    b, a = scripted({}, intervals=[interval(0.88)]), scripted({}, intervals=[interval(0.95)])
    (found,) = ask(a, b, changed)
    assert (found.kind, found.where, found.verdict) == ("intervals", "mean", WORSE)
    assert found.what == "holds the truth in 88.0% of runs, claimed 95 %"
    assert ask(b, a, changed) == []
    better = scripted({}, intervals=[interval(0.90)])
    assert [f.verdict for f in ask(b, better, changed)] == [CHANGED]
    assert [f.verdict for f in ask(better, b, changed)] == [WORSE]
    assert [f.verdict for f in ask(b, b, changed)] == [SAME]


# planted trees


AXIS = 'return "" if kept in names(self.mixed) else kept'
ESTIMATORS = (
    (
        "estimators/fg_w.py",
        "view.credit(slopes, v, self._cells(view), self.combine)",
        "view.credit(0.98 * slopes, v, self._cells(view), self.combine)",
    ),
    ("estimators/fg_a.py", "return slopes / count", "return 1.1 * slopes / count"),
    ("estimators/np.py", "step=self.step)", "step=2 * self.step)"),
)


@pytest.mark.slow
def test_scales_and_steps_are_found_by_their_number(tmp_path: Path) -> None:
    b = trees.tree(tmp_path, *ESTIMATORS)
    changed = [
        cell(f"{name}/{where}")
        for name in ("fg_w", "fg_a", "np", "wp")
        for where in ("end", "local")
    ]
    found = {f.where.partition(",")[0]: f for f in true.ask(trees.here(), b, changed, tell=print)}
    assert {name: (f.kind, f.verdict) for name, f in found.items()} == {
        "fg_w": ("scale", WORSE),
        "fg_a": ("scale", WORSE),
        "np": ("bias", WORSE),
    }
    assert found["fg_w"].after == pytest.approx(0.98)
    assert found["fg_a"].after == pytest.approx(1.1)
    assert found["np"].after == pytest.approx(
        2 * (found["np"].before or 0), rel=0.1
    )  # one-sided: O(step)


@pytest.mark.slow
def test_patches_that_are_not_summed_are_a_bias_behind_another_module(tmp_path: Path) -> None:
    b = trees.tree(tmp_path, ("core/axes.py", AXIS, AXIS.replace(" else", ' and kept != "p" else')))
    places = ("module-pg", "interlocking-pg", "overlap-p", "local-pg", "end")
    changed = [cell(f"fg_a/{where}", "localmixer-xs/2/4") for where in places]
    (found,) = true.ask(trees.here(), b, changed, tell=print)
    assert (found.kind, found.verdict) == ("bias", WORSE)
    assert {c.method for c in found.cells} == {f"fg_a/{where}" for where in places[:3]}
    assert found.after is not None
    assert 0.3 < found.after < 0.6


@pytest.mark.slow
def test_intervals_of_eight_tenths_are_untrue(tmp_path: Path) -> None:
    quantile = "    return float(stdtrit(df, 0.975))"
    b = trees.tree(
        tmp_path, ("stats/intervals.py", quantile, quantile.replace("float(", "0.8 * float("))
    )
    found = {one["name"]: one["held"] for one in b.run("truth", {"intervals": True})["intervals"]}
    wrong = {name for name, held in found.items() if not held}
    assert {
        "mean",
        "scale",
        "efficiency",
        "bias",
        "over inits",
        "over seeds",
        "paired ratio",
    } <= wrong
    assert not wrong & {"median", "share"}  # these take no quantile of t
