"""Numbers for asv: scaled for its one factor, and never NaN."""

from __future__ import annotations

import ast
import math
import sys
from pathlib import Path
from typing import Any

import pytest

from fgbench.runs.suites import tracked

FACTOR = 1.1  # asv's
OK = {"status": "ok", "reason": ""}


def cell(**numbers: Any) -> dict[str, Any]:
    return {**OK, **numbers}


def test_it_imports_the_standard_library_alone_at_its_top() -> None:
    tree = ast.parse(Path(tracked.__file__).read_text("utf-8"))
    for node in tree.body:
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = (
                [node.module] if isinstance(node, ast.ImportFrom) else [a.name for a in node.names]
            )
            assert {str(n).partition(".")[0] for n in names} <= sys.stdlib_module_names | {
                "__future__"
            }


@pytest.mark.parametrize("scale", [0.98, 1.02, 0.989])
def test_a_scale_that_is_off_by_more_than_a_hundredth_alarms(scale: float) -> None:
    true, off = (tracked.ten_times(cell(scale=s), "scale", 1.0) for s in (1.0, scale))
    assert off / true > FACTOR


def test_a_bias_of_two_hundredths_alarms_and_less_noise_does_not_hide_it() -> None:
    quiet, loud = ({**OK, "values": [v] * 7} for v in (1.0, 8.0))
    unbiased, biased = cell(bias=0.0, scale=1.0), cell(bias=0.02, scale=1.0)
    before, after = tracked.noise(loud, unbiased), tracked.noise(quiet, biased)
    assert after > FACTOR * before
    assert tracked.ten_times(biased, "bias", 0.0) > FACTOR
    assert tracked.noise(quiet, unbiased) < before  # a true improvement


def test_another_scale_with_less_noise_is_no_improvement() -> None:
    values = {**OK, "values": [0.5] * 7}
    assert tracked.noise(values, cell(bias=0.0, scale=0.98)) == tracked.LARGEST


def test_an_estimate_without_noise_has_that_of_rounding() -> None:
    unbiased = cell(bias=0.0, scale=1.0)
    none, little = ({**OK, "values": [v] * 7} for v in (0.0, 3e-31))
    assert tracked.noise(none, unbiased) == tracked.noise(little, unbiased) == tracked.ROUNDING


@pytest.mark.parametrize("value", [math.nan, math.inf, None])
def test_a_number_that_is_none_fails_and_is_not_hidden(value: float | None) -> None:
    with pytest.raises(RuntimeError):
        tracked.number(cell(bias=value), "bias")
    with pytest.raises(RuntimeError):
        tracked.samples({**OK, "values": [1.0, value]})


def test_a_method_whose_file_cannot_be_imported_failed() -> None:
    cells = {"mine": {"status": "n/a", "reason": "./mine.py cannot be imported: SyntaxError"}}
    tracked.require(cells, "mine")
    with pytest.raises(RuntimeError, match="cannot be imported"):
        tracked.number(cells["mine"], "bias")
    with pytest.raises(NotImplementedError, match="no file"):
        tracked.require({"mine": {"status": "n/a", "reason": "no file './mine.py'"}}, "mine")


def test_a_fingerprint_alarms_in_one_reading_whatever_the_change() -> None:
    missed = 0
    for k in range(400):
        before, after = (cell(numbers={"loss": x}) for x in (1.0 + k, 1.0 + k + 1e-3))
        ratios = [
            tracked.fingerprint(after, r) / tracked.fingerprint(before, r) for r in tracked.READINGS
        ]
        missed += max(ratios) <= FACTOR
    assert missed < 0.04 * 400  # 1.4 % in the mean


def test_a_fingerprint_keeps_rounding_out() -> None:
    numbers = {"a": [0.1234567, 2], "b": {"c": True, "d": "text", "e": None}}
    moved = {"b": numbers["b"], "a": [0.1234567 * (1 + 1e-12), 2]}
    assert tracked.fingerprint(cell(numbers=numbers)) == tracked.fingerprint(cell(numbers=moved))


def test_parts_that_are_gone_change_a_joint_fingerprint() -> None:
    one, gone = cell(numbers={"a": 1.0}), {"status": "n/a", "reason": "no such place"}
    cells = {"x": one, "y": one}
    before, after = tracked.joined(cells, cells), tracked.joined({**cells, "y": gone}, cells)
    assert tracked.fingerprint(before) != tracked.fingerprint(after)
    assert (
        tracked.joined({**cells, "y": {"status": "failed", "reason": "no"}}, cells)["status"]
        == "failed"
    )


def test_a_process_that_gives_no_answer_says_why() -> None:
    with pytest.raises(RuntimeError, match=r"no-such-probe: .*No module named .*no-such-probe"):
        tracked.fresh("no-such-probe", {}, processes=1)
