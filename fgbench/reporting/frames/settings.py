"""Settings of a record: what tells it from others of its method, and its label."""

from __future__ import annotations

import re
from collections.abc import Hashable, Iterable, Mapping
from math import nan
from typing import Any
from urllib.parse import unquote

from fgbench.errors import UsageError
from fgbench.registry import split_options
from fgbench.reporting.frames.method_names import called

SET = ("directions", "moments", "truth", "engine", "epochs", "batch", "device")
UNSTATED = {"along": "backprop", "dtype": "float32"}
"""What a setting is in records that are older than it."""


def settings_of(row: Mapping[str, Any]) -> dict[str, str]:
    """Return everything that a user set for a run, as text by name, without what is None.

    Args:
        row: a record of any verb.

    Returns:
        Name of a setting to its value; the seed is none.

    Example:
        >>> settings_of({"epochs": 3, "settings": {"lr": 0.1, "seed": 1}})
        {'epochs': '3', 'lr': '0.1'}
    """
    fields = {name: row[name] for name in SET if name in row} | {"dtype": _where(row, "dtype")}
    options, settings = (part_of(row, part) for part in ("options", "settings"))
    fields |= {f"option {k}" if k in settings else k: v for k, v in options.items()} | {**settings}
    if settings.get("precision"):  # which decides how many
        fields.pop("draws", None)
    stated = {k: v for k, v in fields.items() if v is not None and UNSTATED.get(k) != v}
    return {name: text(value) for name, value in stated.items() if name != "seed"}


def trained_with(row: Mapping[str, Any]) -> dict[str, str]:
    """Return what a user set for a training, without the options of its method.

    Args:
        row: a train record.

    Returns:
        Settings as of `settings_of`, by name; "" for what is stated as None and for the usual dtype.

    Example:
        >>> settings = {"lr": 0.1, "train_size": None}
        >>> trained_with({"epochs": 3, "options": {"directions": 4}, "settings": settings})
        {'dtype': '', 'lr': '0.1', 'train_size': '', 'epochs': '3'}
    """
    stated = settings_of({**row, "options": {}})
    found = {**dict.fromkeys(("dtype", *part_of(row, "settings")), ""), **stated}
    return {name: value for name, value in found.items() if name not in ("device", "seed")}


def decided(row: Mapping[str, Any]) -> dict[str, str]:
    """Return everything that decides a run's numbers except seed and code; for a time also the threads.

    The machine is among them where `fgbench.reporting.frames.machines.told_apart` says so.

    Args:
        row: a record of any verb.

    Returns:
        Settings as of `settings_of`, and the fingerprint of the data.

    Example:
        >>> decided({"verb": "speed", "where": {"threads": 2}})
        {'threads': '2'}
    """
    fields = ("data_fingerprint", *(["threads"] * (row["verb"] == "speed")))
    where = {name: _where(row, name) for name in fields} | {"machine": row.get("machine") or None}
    return settings_of(row) | {
        name: text(value) for name, value in where.items() if value is not None
    }


def directions_of(row: Mapping[str, Any]) -> float:
    """Return the number of directions of an estimate: bought, or stated by the method, else 1.

    Args:
        row: a record of any verb.

    Returns:
        The number.

    Example:
        >>> directions_of({"estimator": "fg_a[directions=4]"})
        4.0
    """
    if (set_to := _option(row)) > 0:
        return set_to
    try:
        return float(split_options(str(row["estimator"]))[1].get("directions", 1))
    except (UsageError, ValueError):  # a record of something else
        return 1.0


def form_of(row: Mapping[str, Any]) -> str:
    """Format what distinguishes estimates of one method: all options but directions, and the dtype.

    Args:
        row: a record of any verb.

    Returns:
        Options and dtype. Records with different forms are never averaged as seeds, drawn as points of one
        line, or joined.

    Example:
        >>> form_of({"options": {"law": "gaussian", "directions": 4}, "where": {"dtype": "float64"}})
        'dtype=float64; law=gaussian'
    """
    options = {**part_of(row, "options"), "dtype": _where(row, "dtype")}
    stated = {k: text(v) for k, v in options.items() if v is not None and UNSTATED.get(k) != v}
    return _form({k: v for k, v in stated.items() if k != "directions"})


def design_of(row: Mapping[str, Any]) -> str:
    """Format the design of a measurement, as far as it decides its numbers, without the number of draws.

    Args:
        row: a measure record with counts of ``inits`` and ``batches``.

    Returns:
        A text for `read_form`, with ``cost`` where that bought the directions. Points of one line are
        measured under one design.

    Example:
        >>> design_of({"batches": 4.0, "inits": 1.0, "settings": {"precision": 0.05}})
        'batches=4; inits=1; precision=0.05'
    """
    counts = {name: f"{row[name]:g}" for name in ("batches", "inits") if row[name] == row[name]}
    settings = part_of(row, "settings")
    asked = {n: text(settings[n]) for n in ("precision", "cost") if settings.get(n) is not None}
    return _form({**counts, **asked})


def read_form(form: str) -> dict[str, str]:
    """Parse a text of `form_of` or `design_of`.

    Args:
        form: the text.

    Returns:
        Name to value.

    Example:
        >>> read_form("batches=4; inits=1")
        {'batches': '4', 'inits': '1'}
    """
    pairs = (part.split("=", 1) for part in form.split("; ") if part)
    return {unquote(name): unquote(value) for name, value in pairs}


def _form(settings: Mapping[str, str]) -> str:
    """Format settings as a text for `read_form`; separators within names and values are percent-encoded."""
    pairs = (
        (re.sub("[%;=]", _encoded, k), re.sub("[%;]", _encoded, v)) for k, v in settings.items()
    )
    return "; ".join(f"{k}={v}" for k, v in sorted(pairs))


def _encoded(found: re.Match[str]) -> str:
    """Percent-encode one character."""
    return f"%{ord(found[0]):02X}"


def _bought(row: Mapping[str, Any]) -> bool:
    """Check whether a fixed cost decided the directions of a record."""
    return bool(row.get("budget")) and _option(row) > 0


def _option(row: Mapping[str, Any]) -> float:
    """Return the directions among a record's options; NaN where there are none."""
    return real(part_of(row, "options").get("directions"))


def _where(row: Mapping[str, Any], name: str) -> object:
    """Return a field of ``where``: the machine, dtype and data that a record was made with."""
    return part_of(row, "where").get(name)


def part_of(row: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """Return a nested field of a record, such as its options; empty where it is missing or no mapping.

    Args:
        row: a record.
        name: of the field.

    Returns:
        The field.

    Example:
        >>> part_of({"options": None}, "options")
        {}
    """
    part = row.get(name)
    return part if isinstance(part, Mapping) else {}


def labels(rows: Iterable[Mapping[str, Any]]) -> list[str]:
    """Label each run with its method and the settings in which runs of this method differ.

    Args:
        rows: records of one verb.

    Returns:
        ``method`` where all its runs on this architecture and data have the same settings, else
        ``method, name=value, ...`` with just the settings that vary; ``method[directions=n]`` where a
        fixed cost bought the directions.

    Example:
        >>> runs = [{"verb": "train", "method": "BP", "settings": {"lr": lr}} for lr in (0.1, 0.3)]
        >>> labels(runs)
        ['BP, lr=0.1', 'BP, lr=0.3']
    """
    rows = list(rows)
    names = [named(row) for row in rows]
    subjects = [(*subject_of(row)[1:], name) for row, name in zip(rows, names, strict=True)]
    differences = apart(subjects, [decided(row) for row in rows])
    return [", ".join([name, *parts]) for name, parts in zip(names, differences, strict=True)]


def apart(subjects: Iterable[Hashable], settings: Iterable[Mapping[str, str]]) -> list[list[str]]:
    """List the settings in which things of one subject differ: the rule of all labels.

    Args:
        subjects: what each is of, such as its method, network and data.
        settings: name to text, of each.

    Returns:
        For each thing its ``name=value`` of the names whose values vary among its subject.

    Example:
        >>> apart(["a", "a", "b"], [{"x": "1", "y": "2"}, {"x": "3", "y": "2"}, {"x": "5"}])
        [['x=1'], ['x=3'], []]
    """
    pairs = list(zip(subjects, settings, strict=True))
    seen: dict[Hashable, list[Mapping[str, str]]] = {}
    for subject, mine in pairs:
        seen.setdefault(subject, []).append(mine)
    varying = {
        subject: [n for n in sorted(set().union(*alike)) if len({s.get(n) for s in alike}) > 1]
        for subject, alike in seen.items()
    }
    return [[f"{n}={mine[n]}" for n in varying[subject] if n in mine] for subject, mine in pairs]


def named(row: Mapping[str, Any]) -> str:
    """Return the name of a record's method, with the directions that a fixed cost bought for it.

    Args:
        row: a record of any verb.

    Returns:
        As `fgbench.reporting.frames.method_names.called`.

    Example:
        >>> named({"method": "fg_a", "budget": {"asked": 50.0}, "options": {"directions": 48}})
        'FG-A[directions=48]'
    """
    return called(str(row["method"]), f"{directions_of(row):g}" if _bought(row) else "")


def subject_of(row: Mapping[str, Any]) -> tuple[str, str, str]:
    """Return the method, network and data of a run, which runs that differ by seed and settings share.

    Args:
        row: a record of any verb.

    Returns:
        Three names.

    Example:
        >>> subject_of({"method": "BP", "arch": "mlp-2x8", "data": "digits"})
        ('BP', 'mlp-2x8', 'digits')
    """
    return str(row["method"]), str(row.get("arch")), str(row.get("data"))


def text(value: object) -> str:
    """Format a setting on one line.

    Args:
        value: of the setting; lists are written with spaces.

    Returns:
        The text.

    Example:
        >>> text([0, 1.0, "end"])
        '0 1 end'
    """
    if isinstance(value, list | tuple):
        return " ".join(map(text, value))
    return f"{value:g}" if isinstance(value, float) else str(value)


def real(value: object) -> float:
    """Return a number as a float, and NaN for anything else.

    Args:
        value: of a record.

    Returns:
        The number or NaN.

    Example:
        >>> real(2), real("2")
        (2.0, nan)
    """
    return float(value) if isinstance(value, int | float) else nan
