"""A parameter that a method estimates as 0 in every draw is named, unless its gradient is 0."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import fgbench
from fgbench.reporting.terminal import measure_table, notes

CASE: dict[str, Any] = {"data": "synthetic[size=4,train=64,test=32]", "batches": 2, "batch": 8}
FILE = """
from dataclasses import dataclass
from fgbench import Claims, Defaults, Estimate

@dataclass(frozen=True)
class Less(Defaults):
    without: str = "1.l0.bias"
    def claims(self, task):
        return Claims(bias="none", backward="segment")
    def __call__(self, view, noise, state):
        u = noise.directions(view.sites)
        g = view.pull(view.credit(view.slopes(u), u))
        return Estimate(grads={n: t * (not n.endswith(self.without)) for n, t in g.items()})
"""


def test_a_parameter_without_an_estimate_is_shouted(tmp_path: Path) -> None:
    file = tmp_path / "less.py"
    file.write_text(FILE)
    less = fgbench.run("measure", method=f"{file}:Less", arch="mlp-2x4", draws=32, **CASE)
    assert less["silent"] == ["body.1.l0.bias"]
    assert less["bias"]["value"] is None or less["bias"]["p_value"] > 0.01  # the test is blind
    (line,) = notes.silent([less])
    assert "gives nothing for body.1.l0.bias: 0 in every draw" in line
    sound = fgbench.run("measure", method="FG-A", arch="mlp-2x4", draws=32, **CASE)
    shown = measure_table.table([less, sound])
    cells = [row[shown.columns.index("bias")] for row in shown.rows]
    assert [cell.endswith(measure_table.SILENT) for cell in cells] == [True, False]


@pytest.mark.parametrize(
    ("method", "arch"),
    [
        ("FG-A", "mlp-2x4"),
        ("FA", "mlp-2x4"),
        ("fg_a/last", "mlp-2x4"),  # the body below has no gradient
        ("BP", "localmixer-xs/1/1"),  # a head that starts at zero
        ("LG-FG-A", "localmixer-xs/1/1"),
    ],
)
def test_what_has_no_gradient_is_not_shouted(method: str, arch: str) -> None:
    case = {**CASE, "data": "synthetic"} if "mixer" in arch else CASE
    record = fgbench.run("measure", method=method, arch=arch, draws=8, moments=(0.0,), **case)
    assert record["status"] == "ok"
    assert record["silent"] == []
    assert notes.silent([record, {"method": "of old", "status": "ok"}]) == []


def row(name: str, scale: float, p: float, **more: Any) -> dict[str, Any]:
    """A record of an outside method as tables read it."""
    number: dict[str, Any] = {"value": 0.5, "low": 0.4, "high": 0.6, "n": 4}
    case: dict[str, Any] = {"verb": "measure", "arch": "mlp-1x8", "data": "digits", "seed": 0}
    case |= {"inits": 1, "batches": 4, "batch": 8, "draws": 64, "status": "ok", "reason": ""}
    case |= dict.fromkeys(("relative_variance", "efficiency", "cosine"), number)
    case |= {"predicted_variance": None, "cost": {"forward_equivalents": 3.0}, "method": name}
    ends = {"value": scale, "low": scale - 0.02, "high": scale + 0.02}
    case |= {"scale": {**number, **ends, "p_value": p}, "file": "./mine.py"}
    bias = {**number, "p_value": 0.5, "detectable": 0.3, "draws_low": 0.0, "draws_high": 0.3}
    return {**case, "bias": bias, "claimed": {"bias": "none"}, **more}


def cells(shown: Any, column: str) -> list[str]:
    return [line[shown.columns.index(column)] for line in shown.rows]


def test_a_scale_is_judged_among_all_that_are_shown() -> None:
    assert "Scale is not 1" in measure_table.table([row("Mine", 1.2, 0.04)]).caption
    several = [row("Mine", 1.2, 0.04), row("Other", 1.05, 0.4)]
    assert "Scale is not 1" not in measure_table.table(several).caption


def test_what_points_uphill_has_no_efficiency() -> None:
    ratio = {"value": 2.0, "low": 1.0, "high": 3.0, "n": 4, "reason": ""}
    against = {"method": "FG-A", "own": False, "efficiency": ratio}
    own = {"method": "FG-A", "own": True, "efficiency": dict.fromkeys(ratio) | {"reason": ""}}
    dfa = row("DFA", -0.05, 1e-6, against=against)
    shown = measure_table.table([dfa, row("FG-A", 1.0, 0.9, against=own)])
    assert cells(shown, "efficiency") == ["-", "0.5 [0.4, 0.6]"]
    assert cells(shown, "efficiency / FG-A") == ["-", "-"]
    assert "No efficiency, because the mean points uphill (scale below 0): DFA." in shown.caption
    assert "none for DFA: points uphill" in shown.caption
    beside = {**against, "method": "DFA"}
    lost = [row("FG-A", 1.0, 0.9, against=beside), {**dfa, "against": {**own, "method": "DFA"}}]
    shown = measure_table.table(lost)
    assert cells(shown, "efficiency / DFA") == ["-", "-"]
    assert "No ratios: the reference points uphill." in shown.caption


def test_a_scale_whose_interval_holds_both_signs_keeps_its_efficiency_and_is_named() -> None:
    ratio = {"value": 2.0, "low": 1.0, "high": 3.0, "n": 4, "reason": ""}
    against = {"method": "DFA", "own": False, "efficiency": ratio}
    own = {"method": "DFA", "own": True, "efficiency": dict.fromkeys(ratio) | {"reason": ""}}
    shown = measure_table.table(
        [
            row("DFA", -0.01, 1e-6, against=own),
            row("Mine", 0.01, 1e-6, against=against),
            row("FG-A", 1.0, 0.9, against=against),
        ]
    )
    assert cells(shown, "efficiency") == ["0.5 [0.4, 0.6]"] * 3
    assert cells(shown, "efficiency / DFA") == ["-", "2 [1, 3]", "2 [1, 3]"]
    assert "sign of the scale not resolved, so that the mean may point uphill: DFA, Mine." in (
        shown.caption
    )
    assert "No efficiency" not in shown.caption
    assert "No ratios" not in shown.caption


def test_signs_are_adjusted_for_the_rows_of_the_table() -> None:
    edge = row("Mine", -0.021, 1e-6)
    assert "No efficiency" in measure_table.table([edge]).caption
    beside = measure_table.table([edge, row("DFA", -0.01, 1e-6)])
    assert cells(beside, "efficiency") == ["0.5 [0.4, 0.6]"] * 2
    assert "not resolved, so that the mean may point uphill: Mine, DFA." in beside.caption


def test_of_what_has_no_efficiency_no_sign_is_said() -> None:
    none = {"value": None, "low": 0.0, "high": 0.1, "n": 4, "reason": "unresolved"}
    caption = measure_table.table([row("DFA", -0.01, 1e-6, efficiency=none)]).caption
    assert "sign of the scale" not in caption


@pytest.mark.parametrize(
    ("method", "design", "state"),
    [
        ("weight_mirror/end", {}, "initial"),
        ("kolen_pollack/end", {}, "initial"),
        ("guided_es/end", {}, "initial"),
        (
            "kolen_pollack/end",
            {"along": "own", "moments": (1.0,), "data": "synthetic[size=4]"},
            "trained",
        ),
        ("FA", {}, ""),  # its feedback weights stay
        ("FG-A", {}, ""),
    ],
)
def test_a_method_that_learns_a_state_is_named(method: str, design: Any, state: str) -> None:
    record = fgbench.run("measure", method=method, arch="mlp-2x4", draws=4, **CASE | design)
    assert record["status"] == "ok"
    assert record["learned_state"] == state
    note = measure_table.table([record]).caption
    assert ("of which nothing is learned" in note) == (state == "initial")
