"""What the terminal shows: numbers with intervals, verdicts, one row per method, no markup from data."""

from __future__ import annotations

from typing import Any

import pytest

from fgbench import tables


def number(value: float | None, low: float | None, high: float | None) -> dict[str, Any]:
    return {"value": value, "low": low, "high": high, "n": 4}


def bias_of(value: float | None, p: float | None, detectable: float | None) -> dict[str, Any]:
    return {**number(value, value, value), "p_value": p, "detectable": detectable}


@pytest.mark.parametrize(
    ("found", "text"),
    [
        (None, "-"),
        (3.14159, "3.14"),
        (number(1.0, 0.5, 1.5), "1 [0.5, 1.5]"),
        (number(1.0, 1.0, 1.0), "1"),
        (number(1.0, None, None), "1"),
        (number(None, None, None), "-"),
        (number(None, 0.0, 0.25), "< 0.25"),
        (number(137.0, 118.2, 1234.5), "137 [118, 1.23e+03]"),
    ],
)
def test_a_number_is_written_with_its_interval(found: Any, text: str) -> None:
    assert tables.number(found) == text


def test_a_bias_comes_with_its_verdict() -> None:
    assert tables.bias(bias_of(0.0, 1.0, 0.0), 1.0) == "0 (exact)"
    assert tables.bias(bias_of(0.3, 0.001, 0.1), 0.002) == "0.3 (p=0.002)"
    said = tables.bias(bias_of(0.04, 0.4, 0.1), 0.8)
    assert said == "not rejected (p=0.8, detectable 0.1)"
    assert tables.bias(bias_of(None, 0.03, 1.5), 0.06) == "not rejected (p=0.06, detectable 1.5)"
    assert tables.bias(bias_of(None, None, None), None) == "-"


def test_p_values_are_adjusted_for_the_rows() -> None:
    rows = [bias_of(0.1, p, 0.1) for p in (0.01, 0.04, 0.03)]
    rows += [bias_of(0.5, 0.0, 0.0), bias_of(None, None, None)]  # exact, and not tested
    found = tables.holm([{"bias": r} for r in rows] + [{}])
    assert found[:3] == [pytest.approx(p) for p in (0.03, 0.06, 0.06)]
    assert found[3:] == [0.0, None, None]
    assert tables.holm([{"bias": bias_of(0.1, 0.9, 0.1)}] * 2) == [1.0, 1.0]
    assert tables.holm([]) == []


def test_a_spread_is_the_mean_with_its_ends() -> None:
    assert tables.spread([]) == "-"
    assert tables.spread([2.5]) == "2.5"
    assert tables.spread([1.0, 2.0, 6.0]) == "3 [1, 6]"


def record(verb: str, method: str, **more: Any) -> dict[str, Any]:
    common = {"verb": verb, "method": method, "status": "ok", "reason": "", "seed": 0}
    return {**common, "arch": "mlp", "data": "digits[x]", "device": "cpu", **more}


def measured(method: str, **more: Any) -> dict[str, Any]:
    one = number(1.0, 0.5, 1.5)
    body = dict.fromkeys(("relative_variance", "efficiency", "scale", "cosine"), one)
    body |= {"predicted_variance": None, "expected_cosine": 0.1, "bias": bias_of(0.0, 1.0, 0.0)}
    head = {"draws": 64, "batches": 4, "batch": 128, "inits": 1}
    return record("measure", method, **body, **head, cost={"forward_equivalents": 3.0}, **more)


def skipped(verb: str, method: str, **more: Any) -> dict[str, Any]:
    return record(verb, method, **{"status": "skipped", "reason": "not [here]", **more})


TRAINED = {"test_error": 0.05, "train_error": 0.0, "test_loss": 0.2, "epochs": 3, "seconds": 1.0}
SPEED = {
    "step_ms": number(2.0, 1.0, 3.0), "ratio_to_bp": number(4.0, 4.0, 4.0), "noise_ms": 0.1,
    "peak_mb": 1.0, "peak_ratio_to_bp": 1.5, "batch": 8, "rounds": 3, "directions": 2,
}  # fmt: skip


def test_one_row_per_record_and_a_reason_for_what_is_not_ok(
    capsys: pytest.CaptureFixture[str],
) -> None:
    head = {"draws": 0, "batches": 4, "batch": 128, "inits": 1}
    tables.show(
        [
            skipped("measure", "first", **head),
            measured("fg_a[law=sphere]"),
            record("train", "BP", **TRAINED),
            record("train", "BP", seed=1, **{**TRAINED, "test_error": 0.07}),
            record("train", "BP", seed=2, status="diverged", reason="loss not finite at step 3"),
            record("speed", "FG-A", **SPEED),
        ]
    )
    out = capsys.readouterr().out
    assert "fg_a[law=sphere]" in out  # brackets are no markup
    assert "digits[x]" in out
    assert "0 (exact)" in out
    assert "this init only" in out
    assert "64 draws" in out
    assert "first seed 0: skipped: not [here]" in out
    assert "6 [5, 7]" in out
    assert "2 of 3" in out
    assert "BP seed 2: diverged: loss not finite at step 3" in out
    speed = next(line for line in out.splitlines() if line.split()[:1] == ["FG-A"])
    assert speed.split() == ["FG-A", "2", "[1,", "3]", "4", "2", "0.1", "1", "1.5"]


@pytest.mark.parametrize("verb", ["measure", "train", "speed"])
def test_a_table_of_nothing_but_skips_is_shown(
    verb: str, capsys: pytest.CaptureFixture[str]
) -> None:
    head = {"draws": 0, "batches": 4, "batch": 128, "inits": 1, "epochs": 3}
    tables.show([skipped(verb, "BP", **head)])
    assert "BP seed 0: skipped: not [here]" in capsys.readouterr().out


def test_nothing_to_measure_says_why(capsys: pytest.CaptureFixture[str]) -> None:
    tables.show([measured("FG-W") | {"reason": "the truth is zero"}])
    assert "FG-W seed 0: ok: the truth is zero" in capsys.readouterr().out


def test_no_records_show_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    tables.show([])
    assert capsys.readouterr().out == ""
