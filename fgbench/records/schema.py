"""Schema of a record: the fields that tables, figures and sweeps rely on, and their types."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from math import isfinite
from numbers import Integral, Real
from pathlib import PurePath
from typing import Any

from fgbench.records.metrics import metrics_of

TEXT, NUMBER, MEASURED = "text", "a number", "a number or one with its interval"
COUNT, KNOWN = "a number of 1 or more", "a number with its interval"
FLAG, PLAIN = "true or false", "text, a number or a list of these"
_NAMES = {
    TEXT: "verb method status reason estimator locality arch data device key case_key started commit",
    NUMBER: """seed epochs steps seconds elapsed_s test_error train_error test_loss classes elements
        directions""",
    MEASURED: """efficiency efficiency_debiased efficiency_per_forward relative_variance bias scale cosine
        expected_cosine locality_gap predicted_variance step_ms ratio_to_bp noise_ms peak_mb
        peak_ratio_to_bp peak_ratio_to_plain""",
}
KINDS = {name: kind for kind, names in _NAMES.items() for name in names.split()}
ENDS = ("value", "low", "high", "n")
ROWS = {  # verb -> list of mappings -> names in each
    "fusion": {"rows": {"pass": TEXT, "implementation": TEXT, "groups": COUNT}},
    "compare": {"results": {"at": TEXT, "steps": COUNT, "test": MEASURED, "command": TEXT}},
    "table1": {
        "rows": {
            **dict.fromkeys(("place", "law", "sharing", "what"), TEXT),
            **dict.fromkeys(("fan_in", "fan_out", "batch"), COUNT),
            **{"predicted": NUMBER, "measured": MEASURED, "inside": FLAG},
        },
        "summary": {
            **dict.fromkeys(("entry", "law", "sharing", "what"), TEXT),
            **{"cells": COUNT, "inside": NUMBER, "coverage": KNOWN},
        },
    },
}
_NUMBERS: dict[str, Any] = {
    **{name: kind for name, kind in KINDS.items() if kind == MEASURED},
    **dict.fromkeys(("cosine_draws", "cosine_of_mean", "variance_times_cost"), MEASURED),
    **dict.fromkeys(("distance", "elements"), NUMBER),
    **{"heavy_tail": FLAG, "split": {"*": MEASURED}, "end": {"*": MEASURED}},
}
_PLACES = {"*": _NUMBERS}
INSIDE: dict[str, Any] = {
    **{name: {"*": PLAIN} for name in ("options", "settings", "where", "claimed", "graph")},
    "metrics": {"*": {"unit": TEXT, "best": TEXT, "chance": NUMBER}},
    "about": {"claims": {"*": PLAIN}, "*": PLAIN},
    **{name: {"*": NUMBER} for name in ("cost", "examples")},
    "compiled": {"runs": {"*": NUMBER}, "refused": {"*": TEXT}, "seconds": NUMBER},
    **{name: {"*": MEASURED} for name in ("documented", "reference_ms", "reference_ratio_to_bp")},
    "reference_peak_mb": {"*": NUMBER},
    "reference": TEXT,
    "budget": {"asked": NUMBER, "spent": NUMBER, "note": TEXT},
    **dict.fromkeys(("draws", "inits", "batches", "train_loss"), NUMBER),
    **dict.fromkeys(("per_site", "per_module", "per_parameter"), _PLACES),
    "per_moment": [{**_NUMBERS, "moment": NUMBER, "steps": NUMBER, "per_site": _PLACES}],
    "history": [{"*": NUMBER}],
    "points": [{"*": NUMBER}],
    "moments": [PLAIN],
    "objects": [TEXT],
    "tuned": {"*": PLAIN},
    "moment_steps": [NUMBER],
    "correct": TEXT,
    **{name: shape for name, shape in _NUMBERS.items() if name not in KINDS},
}
"""Shapes of the fields of a record: a kind, names with shapes ("*" for all others), or a list of one shape.

A field that is missing or null is older than the shape, or has no value; any other difference is a defect.
"""


def defect(record: Mapping[str, object]) -> str:
    """Return the first field of a record that no reader could use, and why.

    Args:
        record: as it was read; fields may be missing, as in an old one.

    Returns:
        One line, "" for a sound record.

    Example:
        >>> defect({"verb": "measure", "seed": "0"})
        "seed is '0', expected a number"
        >>> defect({"verb": "measure", "seed": 0})
        ''
    """
    for name, kind in KINDS.items():
        if name in record and not _is(record[name], kind):
            return f"{name} is {_shown(record[name])}, expected {kind}"
    for name, shape in INSIDE.items():
        if wrong := _unlike(record.get(name), shape, name):
            return wrong
    verb, finished = record.get("verb"), record.get("status") == "ok"
    if finished and verb == "train" and (wrong := _unmeasured(record)):
        return wrong
    parts = ROWS.get(str(verb), {}) if finished else {}
    for part, names in parts.items():
        if wrong := _rows(record.get(part), names):
            return f"{part}{wrong}"
    return _endless(record)


def _unmeasured(record: Mapping[str, object]) -> str:
    """Return which metric of a finished training is no number, "" for none."""
    for shown in metrics_of(record):
        value = record.get(shown.field(), 0.0)  # an old record may lack it
        if value is None:
            return f"{shown.field()} is null in a finished run"
        if not _is(value, NUMBER):
            return f"{shown.field()} is {_shown(value)}, expected {NUMBER}"
    return ""


def _unlike(value: object, shape: Any, name: str) -> str:
    """Return where a value differs from a shape of `INSIDE`, "" for nowhere."""
    if value is None:
        return ""
    if isinstance(shape, str):
        return "" if _is(value, shape) else f"{name} is {_shown(value)}, expected {shape}"
    if isinstance(shape, list):
        if not isinstance(value, list):
            return f"{name} is {_shown(value)}, expected a list"
        parts = ((f"{name}[{at}]", part, shape[0]) for at, part in enumerate(value))
    elif not isinstance(value, Mapping):
        return f"{name} is {_shown(value)}, expected names with values"
    else:
        parts = (
            (f"{name}.{key}", part, shape.get(key, shape.get("*")))
            for key, part in value.items()
            if key in shape or "*" in shape
        )
    return next((wrong for where, part, own in parts if (wrong := _unlike(part, own, where))), "")


def _rows(rows: object, names: Mapping[str, str]) -> str:
    """Return what is wrong with a list of mappings, "" for nothing."""
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
    """Return whether a value is of a kind; null counts as a number that is missing."""
    if kind == TEXT:
        return isinstance(value, str)
    if kind == FLAG:
        return isinstance(value, bool)
    if kind == PLAIN:
        return value is None or isinstance(value, str | int | float) or _plain_list(value)
    if kind in (MEASURED, KNOWN) and isinstance(value, Mapping):
        ends = all(_is(value.get(end), NUMBER) for end in ENDS)
        whole = all(value.get(end) is not None for end in ENDS) if kind == KNOWN else True
        return ends and whole and all(_is(part, PLAIN) for part in value.values())
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if kind in (COUNT, KNOWN):
        return kind == COUNT and number and value >= 1  # type: ignore[operator]
    return value is None or number


def _plain_list(value: object) -> bool:
    """Return whether a value is a list of plain values, at any depth."""
    return isinstance(value, list) and all(_is(part, PLAIN) for part in value)


def _endless(value: object, name: str = "") -> str:
    """Return the name of a number beyond what a float can hold, "" if there is none."""
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
    return next((why for where, part in inside if (why := _endless(part, where))), "")


def _shown(value: object) -> str:
    """Format a value on one line, cut where it is long."""
    text = " ".join(repr(value).split())
    return text if len(text) <= 40 else f"{text[:40]}..."


SCHEMA = 1
FOREIGN = "foreign"  # begins the reason of a file that another program wrote
STATUSES = ("ok", "diverged", "failed", "skipped")
FINISHED = ("ok", "diverged")  # the cause of a failure or a skip may have passed: tried again
_FIELD_NAMES = {
    "all": """schema key case_key verb method estimator locality options arch data seed status
        reason device commit where settings started elapsed_s""",
    "measure": """about directions draws inits moments batches engine truth efficiency
        efficiency_debiased efficiency_per_forward relative_variance predicted_variance bias scale
        cosine expected_cosine locality_gap heavy_tail per_site cost""",
    "train": "about epochs test_error train_error test_loss seconds steps history",
    "speed": "about step_ms ratio_to_bp peak_mb peak_ratio_to_bp batch directions",
    "fusion": "rows",
    "table1": "rows summary",
    "compare": "results tuned command kind cost",
    "cost": "forwards slopes pulls backwards readouts network forward_equivalents",
}
FIELDS = {part: tuple(names.split()) for part, names in _FIELD_NAMES.items()}


def to_json(value: object, name: str = "record", *, null: bool = True) -> Any:
    """Convert a value to types that JSON can hold, exactly or not at all.

    Args:
        value: numbers (Python's, numpy's, 0-d arrays), strings, paths, lists, tuples, mappings.
        name: of the value, for an error.
        null: a number that is not finite becomes ``None``; otherwise it is refused.

    Returns:
        The value, made of ``dict``, ``list``, ``str``, ``int``, ``float``, ``bool`` and ``None``.

    Raises:
        TypeError: something else came, such as an array, a set or a key that is no string.
        ValueError: a number is not finite and ``null`` is false.

    Example:
        >>> to_json({'bias': float('nan'), 'moments': (0, 1)})
        {'bias': None, 'moments': [0, 1]}
    """
    if value is None or isinstance(value, bool | str):
        return value
    if isinstance(value, Integral):
        return int(value)
    if isinstance(value, Real):
        number = float(value)
        if math.isfinite(number):
            return number
        if not null:
            raise ValueError(f"{name} is {number}: a case holds finite numbers")
        return None
    if isinstance(value, PurePath):
        return str(value)
    if isinstance(value, list | tuple):
        return [to_json(part, f"{name}[{i}]", null=null) for i, part in enumerate(value)]
    if isinstance(value, Mapping):
        if strange := [k for k in value if not isinstance(k, str)]:
            raise TypeError(f"{name} has the key {strange[0]!r}: keys are strings")
        return {str(k): to_json(part, f"{name}.{k}", null=null) for k, part in value.items()}
    if getattr(value, "ndim", None) == 0 and callable(item := getattr(value, "item", None)):
        return to_json(item(), name, null=null)
    kind = type(value).__name__
    raise TypeError(f"{name} is a {kind}: expected numbers, strings, lists or mappings")


def validate(record: Mapping[str, Any]) -> None:
    """Check that a record has the common fields and a status with its reason.

    Args:
        record: to be written.

    Raises:
        ValueError: a field is missing or wrong.

    Example:
        >>> record = dict.fromkeys(FIELDS["all"], "") | {"status": "ok", "key": 32 * "0"}
        >>> validate(record)
        >>> validate({**record, "status": "failed"})
        Traceback (most recent call last):
            ...
        ValueError: status 'failed' needs a reason
    """
    if missing := [name for name in FIELDS["all"] if name not in record]:
        raise ValueError(f"a record needs {', '.join(missing)}")
    status = record["status"]
    if status not in STATUSES:
        raise ValueError(f"status is one of {', '.join(STATUSES)}, got {status!r}")
    if status != "ok" and not record["reason"]:
        raise ValueError(f"status {status!r} needs a reason")
    if not re.fullmatch("[0-9a-f]{32}", str(record["key"])):
        raise ValueError(f"key is 32 hexadecimal digits, got {record['key']!r}")
