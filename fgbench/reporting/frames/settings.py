"""What a record was set to: its settings, what tells it from others of its method, and its label."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping
from math import nan
from typing import Any

from fgbench.errors import UsageError
from fgbench.registry import split_options
from fgbench.reporting.frames.method_names import called

SET = ("directions", "moments", "truth", "engine", "epochs", "batch", "device")
UNSTATED = {"along": "backprop", "dtype": "float32"}
"""What a setting is in records that are older than it."""


def settings_of(row: Mapping[str, Any]) -> dict[str, str]:
    """Flatten all that a user set for a run, as text by name; what is None was not set."""
    found = {name: row[name] for name in SET if name in row} | {"dtype": _where(row, "dtype")}
    options, settings = (part_of(row, part) for part in ("options", "settings"))
    found |= {f"option {k}" if k in settings else k: v for k, v in options.items()} | {**settings}
    if settings.get("precision"):  # which decides how many
        found.pop("draws", None)
    stated = {k: v for k, v in found.items() if v is not None and UNSTATED.get(k) != v}
    return {name: text(value) for name, value in stated.items() if name != "seed"}


def decided(row: Mapping[str, Any]) -> dict[str, str]:
    """Flatten what decides a run's numbers, its seed and its code apart; of a time also the threads."""
    told = ("data_fingerprint", *(["threads"] * (row["verb"] == "speed")))
    where = {name: _where(row, name) for name in told}
    return settings_of(row) | {
        name: text(value) for name, value in where.items() if value is not None
    }


def directions_of(row: Mapping[str, Any]) -> float:
    """Read the directions of an estimate: bought, or stated by the method; 1 where nothing says so."""
    if (set_to := _option(row)) > 0:
        return set_to
    try:
        return float(split_options(str(row["estimator"]))[1].get("directions", 1))
    except (UsageError, ValueError):  # a record of something else
        return 1.0


def form_of(row: Mapping[str, Any]) -> str:
    """Write what tells estimates of one method apart, its directions aside: all other options, and the dtype.

    Args:
        row: a record of any verb.

    Returns:
        Such as ``credit=summed; law=gaussian``. Records whose forms differ are never seeds, points or joins
        of one thing.
    """
    found = {**part_of(row, "options"), "dtype": _where(row, "dtype")}
    stated = {k: text(v) for k, v in found.items() if v is not None and UNSTATED.get(k) != v}
    return "; ".join(f"{k}={v}" for k, v in sorted(stated.items()) if k != "directions")


def design_of(row: Mapping[str, Any]) -> str:
    """Write how a measurement was laid out, as far as it decides its numbers, its size of a sample aside.

    Args:
        row: of a measure record with counts of ``inits`` and ``batches``.

    Returns:
        Such as ``batches=4; inits=1; precision=0.05``, for `read_form`; ``cost`` where it bought the
        directions. Points of one line are measured under one design.
    """
    counts = {name: f"{row[name]:g}" for name in ("batches", "inits") if row[name] == row[name]}
    settings = part_of(row, "settings")
    asked = {n: text(settings[n]) for n in ("precision", "cost") if settings.get(n) is not None}
    return "; ".join(f"{k}={v}" for k, v in sorted({**counts, **asked}.items()))


def read_form(form: str) -> dict[str, str]:
    """Read name and value of every part of what `form_of` or `design_of` wrote."""
    return dict(part.split("=", 1) for part in form.split("; ") if part)


def _bought(row: Mapping[str, Any]) -> bool:
    """Say whether a fixed cost decided the directions of a record."""
    return bool(row.get("budget")) and _option(row) > 0


def _option(row: Mapping[str, Any]) -> float:
    """Read the directions among a record's options; NaN where there are none."""
    return real(part_of(row, "options").get("directions"))


def _where(row: Mapping[str, Any], name: str) -> object:
    """Read a fact of the machine, the numbers or the data that a record was made with."""
    return part_of(row, "where").get(name)


def part_of(row: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """Read a part of a record that has names, such as its options; an old or odd record may lack it."""
    found = row.get(name)
    return found if isinstance(found, Mapping) else {}


def labels(rows: Iterable[Mapping[str, Any]]) -> list[str]:
    """Name each run by its method, with the settings in which runs of this method differ.

    Args:
        rows: records of one verb.

    Returns:
        ``method`` where all its runs on this architecture and data were set alike, else
        ``method, name=value, ...`` with just the settings that vary; ``method[directions=n]`` where a
        fixed cost bought the directions.
    """
    rows = list(rows)
    names = [named(row) for row in rows]
    subjects = [(*subject_of(row)[1:], name) for row, name in zip(rows, names, strict=True)]
    told = apart(subjects, [decided(row) for row in rows])
    return [", ".join([name, *parts]) for name, parts in zip(names, told, strict=True)]


def apart(subjects: Iterable[Hashable], settings: Iterable[Mapping[str, str]]) -> list[list[str]]:
    """Say in which settings things of one subject differ: the rule of all labels.

    Args:
        subjects: what each is of, such as its method, network and data.
        settings: name to text, of each.

    Returns:
        Of each its ``name=value`` for just the names whose values vary among those of its subject; where
        it has none of them, nothing.
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
    """Name the method of a record, with the directions that a fixed cost bought for it."""
    return called(str(row["method"]), f"{directions_of(row):g}" if _bought(row) else "")


def subject_of(row: Mapping[str, Any]) -> tuple[str, str, str]:
    """Give what runs have in common that differ by seed and settings."""
    return str(row["method"]), str(row.get("arch")), str(row.get("data"))


def text(value: object) -> str:
    """Write a setting on one line."""
    if isinstance(value, list | tuple):
        return " ".join(map(text, value))
    return f"{value:g}" if isinstance(value, float) else str(value)


def real(value: object) -> float:
    """Read a number; anything else is NaN."""
    return float(value) if isinstance(value, int | float) else nan
