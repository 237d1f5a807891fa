"""Fields of records: what is refused, and what no reader could use."""

from __future__ import annotations

import json
from typing import Any

import pytest

from fgbench.api import run, table1
from fgbench.records.schema import defect, validate
from tests.makers.minimal_records import a_record


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"status": "done"}, "status is one of ok, diverged, failed, skipped, got 'done'"),
        ({"status": "diverged"}, "'diverged' needs a reason"),
        ({"key": "short"}, "32 hexadecimal digits"),
    ],
)
def test_a_bad_record_is_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        validate(a_record(**change))


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"verb": "train", "test_error": None}, "test_error is null in a finished run"),
        ({"verb": "fusion", "rows": "lost"}, "rows is 'lost', expected a list of rows"),
        ({"verb": "fusion", "rows": [3]}, "rows[0] is 3, expected names with values"),
        ({"verb": "fusion", "rows": []}, "rows is [], expected a list of rows"),
        ({"verb": "table1"}, "rows is None, expected a list of rows"),
        ({"verb": "fusion", "rows": [{"pass": 1}]}, "rows[0].pass is 1, expected text"),
        ({"verb": "train", "status": "failed", "test_error": None}, ""),
        ({"verb": "fusion", "status": "failed", "rows": "lost"}, ""),
        ({"verb": "of tomorrow", "rows": "lost"}, ""),
    ],
)
def test_what_no_reader_could_use_is_named(more: dict[str, Any], said: str) -> None:
    assert defect({**a_record(), **more}) == said


CASE = {"arch": "mlp-1x4", "data": "synthetic[train=64,test=32]", "method": "BP"}
RUNS: dict[str, dict[str, Any]] = {
    "measure": {**CASE, "batch": 8, "draws": 4, "batches": 1},
    "train": {**CASE, "epochs": 1, "batch": 32},
    "speed": {**CASE, "batch": 8, "rounds": 3, "reference": "plain"},
    "table1": {"fan_in": (2,), "fan_out": (2,), "batch": (2,), "draws": 32, "laws": ("gaussian",)},
}


@pytest.mark.parametrize("verb", RUNS)
def test_readers_take_what_every_verb_writes(verb: str) -> None:
    written = table1(**RUNS[verb]) if verb == "table1" else run(verb, **RUNS[verb])
    assert written["status"] == "ok"
    assert defect(json.loads(json.dumps(written))) == ""
