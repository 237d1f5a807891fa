"""The first page: what these records are, and all methods side by side."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from fgbench.records.schema import FIELDS, SCHEMA
from fgbench.reporting.frames.load import Records, verb_of
from fgbench.reporting.site import pages, run_tables
from fgbench.reporting.site.leaderboard import board


def context(site: pages.Site) -> dict[str, Any]:
    """Gather what the first page shows.

    Args:
        site: all of it.

    Returns:
        The variables of its template.
    """
    records = site.found.records
    return {
        "title": "fgbench report",
        "counts": counts(records),
        "facts": _facts(records),
        "board": board("leaderboard", site.rows, site.found, site.places) if site.rows else None,
        "galleries": pages.galleries(site.gallery),
        "trials": len(site.found.of["trial"]),
        "trained": bool(site.found.of["train"]),
        "measured": bool(site.found.body),
        "runs": run_tables.runs(records.rows, site.places),
        "environment": _environment(records),
        "notes": _notes(records),
    }


def counts(records: Records) -> str:
    """Count records by their status and by what was run."""
    statuses = _counted(row["status"] for row in records.rows)
    n = len(records.rows)
    verbs = _counted(verb_of(row) for row in records.rows)
    folder = records.folder.resolve().name
    return f"{n} record{'s' * (n > 1)} ({statuses}) from the folder {folder}: {verbs}."


def _facts(records: Records) -> dict[str, str]:
    """Say on what and by which code these records were made."""
    rows = records.rows
    devices = Counter(_device(row) for row in rows)
    commits = Counter(run_tables.commit(row.get("commit")) for row in rows)
    return {
        "Devices": ", ".join(f"{name} ({n})" for name, n in devices.most_common()),
        "Commits": ", ".join(f"{name} ({n})" for name, n in commits.most_common()),
    }


def _counted(names: Iterable[object]) -> str:
    """Count things by their names."""
    return ", ".join(f"{n} {name}" for name, n in sorted(Counter(map(str, names)).items()))


def _device(row: Mapping[str, Any]) -> str:
    """Name the device of a run."""
    where = row.get("where")
    name = where.get("device_name") if isinstance(where, Mapping) else ""
    return str(name or row.get("device") or "not stated")


def _environment(records: Records) -> list[str]:
    """List the distinct places where records were made, a line each."""
    lines: Counter[str] = Counter()
    for row in records.rows:
        where = row.get("where")
        pairs = {**where, "commit": row.get("commit")} if isinstance(where, Mapping) else {}
        pairs.pop("code", None)  # differs by method; the commit says it for all
        known = [f"{name} {value}" for name, value in pairs.items() if value not in (None, "")]
        lines[", ".join(known) or "not stated"] += 1
    return [f"{n} record{'s' * (n > 1)}: {text}" for text, n in lines.items()]


def _notes(records: Records) -> list[str]:
    """Say what was old, incomplete or not readable."""
    notes = [*records.notes, *(f"{name}: {reason}" for name, reason in records.damaged.items())]
    told = [verb for verb, names in FIELDS.items() if "about" in names]
    untold = sum(verb_of(row) in told and "about" not in row for row in records.rows)
    if untold:
        notes.append(
            f"{untold} older record{'s' * (untold > 1)} without what the estimator is and claims"
        )
    return notes or [f"All records are complete and of schema {SCHEMA}."]
