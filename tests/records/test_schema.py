"""Fields of records: what is refused, and what no reader could use."""

from __future__ import annotations

from typing import Any

import pytest

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


def test_the_time_of_drawing_noise_has_an_interval() -> None:
    """As ``fgbench speed`` writes it; taken for damage, no record of speed could be read again."""
    measured = {"value": 0.5, "low": 0.4, "high": 0.7, "n": 20}
    assert defect({"verb": "speed", "noise_ms": measured}) == ""
    assert "noise_ms" in defect({"verb": "speed", "noise_ms": "fast"})
