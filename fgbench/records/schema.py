"""What a record must be for anybody to read it: types of names that tables, figures and sweeps rely on."""

from __future__ import annotations

from collections.abc import Mapping
from math import isfinite

TEXT, NUMBER, MEASURED = "text", "a number", "a number or one with its interval"
_NAMES = {
    TEXT: "verb method status reason estimator locality arch data device key case_key started commit",
    NUMBER: """seed epochs steps seconds elapsed_s test_error train_error test_loss classes elements
        directions""",
    MEASURED: """efficiency efficiency_debiased efficiency_per_forward relative_variance bias scale cosine
        expected_cosine locality_gap predicted_variance step_ms ratio_to_bp peak_mb peak_ratio_to_bp""",
}
KINDS = {name: kind for kind, names in _NAMES.items() for name in names.split()}
ENDS = ("value", "low", "high", "n")
ROWS = {  # verb -> list of mappings -> names in each
    "fusion": {"rows": {"pass": TEXT, "implementation": TEXT, "groups": NUMBER}},
    "table1": {
        "rows": {
            **dict.fromkeys(("place", "law", "sharing", "what"), TEXT),
            **dict.fromkeys(("fan_in", "fan_out", "batch", "predicted"), NUMBER),
            "measured": MEASURED,
        },
        "summary": {"entry": TEXT, "cells": NUMBER, "inside": NUMBER, "coverage": MEASURED},
    },
}


def fault(record: Mapping[str, object]) -> str:
    """Say what of a record no reader could use.

    Args:
        record: as it was read; names may be missing, as in an old one.

    Returns:
        One line, "" if nothing.
    """
    for name, kind in KINDS.items():
        if name in record and not _is(record[name], kind):
            return f"{name} is {_shown(record[name])}, expected {kind}"
    verb, finished = record.get("verb"), record.get("status") == "ok"
    if finished and verb == "train" and record.get("test_error", 0.0) is None:
        return "test_error is null in a finished run"
    parts = ROWS.get(str(verb), {}) if finished else {}
    for part, names in parts.items():
        if wrong := _rows(record.get(part), names):
            return f"{part}{wrong}"
    return _endless(record)


def _rows(rows: object, names: Mapping[str, str]) -> str:
    """Say what is wrong with a list of mappings."""
    if not isinstance(rows, list) or not rows:
        return f" is {_shown(rows)}, expected a list of rows"
    for at, row in enumerate(rows):
        if not isinstance(row, Mapping):
            return f"[{at}] is {_shown(row)}, expected names with values"
        for name, kind in names.items():
            if name not in row or not _is(row[name], kind):
                return f"[{at}].{name} is {_shown(row.get(name))}, expected {kind}"
    return ""


def _is(value: object, kind: str) -> bool:
    """Say whether a value is of a kind; null is a number that is not there."""
    if kind == TEXT:
        return isinstance(value, str)
    if kind == MEASURED and isinstance(value, Mapping):
        return all(_is(value.get(end), NUMBER) for end in ENDS)
    return value is None or (isinstance(value, int | float) and not isinstance(value, bool))


def _endless(value: object, name: str = "") -> str:
    """Name a number beyond what a float can hold."""
    if isinstance(value, Mapping):
        inside = ((f"{name}.{key}" if name else str(key), part) for key, part in value.items())
    elif isinstance(value, list):
        inside = ((f"{name}[{at}]", part) for at, part in enumerate(value))
    else:
        try:
            ends = not isinstance(value, int | float) or isfinite(value)
        except OverflowError:  # of an int
            ends = False
        return "" if ends else f"{name} is too large for a number"
    return next((said for where, part in inside if (said := _endless(part, where))), "")


def _shown(value: object) -> str:
    """Show a value on one line, cut where it is long."""
    text = " ".join(repr(value).split())
    return text if len(text) <= 40 else f"{text[:40]}..."
