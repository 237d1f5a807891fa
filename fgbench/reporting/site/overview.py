"""The overview page: a summary of the records and all methods side by side."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from fgbench.records.schema import FIELDS, SCHEMA
from fgbench.reporting.frames.load import Records, verb_of
from fgbench.reporting.site import glance, history, pages, paths, run_tables
from fgbench.reporting.site.contest import contest
from fgbench.reporting.site.leaderboard import board
from fgbench.reporting.site.paths import Panel
from fgbench.reporting.site.pictures import Plot


def context(site: pages.Site) -> dict[str, Any]:
    """Return the variables of the template of the overview.

    Args:
        site: the whole report.

    Returns:
        Variable to value.

    Example:
        >>> from pathlib import Path
        >>> from fgbench.reporting.site.facts import facts
        >>> from fgbench.reporting.site.paths import page_paths
        >>> report = facts(Records(Path("records"), (), {}, ()))
        >>> context(pages.Site(report, [], page_paths([], []), {}, {}))["trained"]
        False
    """
    records, page_paths = site.facts.records, site.page_paths
    panel = glance.main_panel(site.rows)
    rows = sorted(site.rows, key=lambda entry: entry.panel != panel)  # its rows first
    mine = [entry for entry in rows if entry.panel == panel]
    return {
        "title": "fgbench report",
        "counts": counts(records),
        "facts": _facts(records),
        "panel": (paths.title(panel), page_paths.panels[panel]) if panel else None,
        "answers": glance.answers(mine, site.facts, page_paths),
        "contest": contest(records, page_paths),
        "board": board("leaderboard", rows, site.facts, page_paths) if rows else None,
        "galleries": [
            (name, heading, [plot], others) for name, heading, plot, others in _charts(site, panel)
        ],
        "tracked": history.lead(site.tracked) if site.tracked else "",
        "trials": len(site.facts.of["trial"]),
        "trained": bool(site.facts.of["train"]),
        "runs": run_tables.runs(records.rows, site.page_paths),
        "environment": _environment(records),
        "notes": _notes(records),
    }


def _charts(
    site: pages.Site, panel: Panel | None
) -> Iterator[tuple[str, str, Plot, list[tuple[str, str]]]]:
    """Yield one figure of each kind, of the main panel if it has one, with the pages of the others."""
    for name, heading, plots in pages.galleries(site.gallery):
        shown = max(plots, key=lambda plot: (plot.panel == panel, plot.table["method"].nunique()))
        others = [
            (plot.title, f"{site.page_paths.panels[plot.panel]}#{name}")
            for plot in plots
            if plot is not shown
        ]
        yield name, heading, shown, others


def counts(records: Records) -> str:
    """Return a sentence that counts records by status and by verb.

    Args:
        records: of a folder.

    Returns:
        Such as "3 records (1 diverged, 2 ok) from the folder records: 3 train."

    Example:
        >>> from pathlib import Path
        >>> counts(Records(Path("records"), ({"verb": "train", "status": "ok"},), {}, ()))
        '1 record (1 ok) from the folder records: 1 train.'
    """
    statuses = _counted(row["status"] for row in records.rows)
    n = len(records.rows)
    verbs = _counted(verb_of(row) for row in records.rows)
    folder = records.folder.resolve().name
    return f"{n} record{'s' * (n > 1)} ({statuses}) from the folder {folder}: {verbs}."


def _facts(records: Records) -> dict[str, str]:
    """Return the devices and the commits of the records, with counts."""
    rows = records.rows
    devices = Counter(_device(row) for row in rows)
    commits = Counter(run_tables.commit(row.get("commit")) for row in rows)
    return {
        "Devices": ", ".join(f"{name} ({n})" for name, n in devices.most_common()),
        "Commits": ", ".join(f"{name} ({n})" for name, n in commits.most_common()),
    }


def _counted(names: Iterable[object]) -> str:
    """Format how often each name occurs, such as "1 failed, 3 ok"."""
    return ", ".join(f"{n} {name}" for name, n in sorted(Counter(map(str, names)).items()))


def _device(row: Mapping[str, Any]) -> str:
    """Return the name of the device of a run."""
    where = row.get("where")
    name = where.get("device_name") if isinstance(where, Mapping) else ""
    return str(name or row.get("device") or "not stated")


def _environment(records: Records) -> list[str]:
    """List the distinct software and hardware environments of the records, a line each."""
    lines: Counter[str] = Counter()
    for row in records.rows:
        where = row.get("where")
        pairs = {**where, "commit": row.get("commit")} if isinstance(where, Mapping) else {}
        pairs.pop("code", None)  # differs by method; the commit says it for all
        parts = [f"{name} {value}" for name, value in pairs.items() if value not in (None, "")]
        lines[", ".join(parts) or "not stated"] += 1
    return [f"{n} record{'s' * (n > 1)}: {text}" for text, n in lines.items()]


def _notes(records: Records) -> list[str]:
    """List records that are old, incomplete or unreadable."""
    notes = [*records.notes, *(f"{name}: {reason}" for name, reason in records.damaged.items())]
    described = [verb for verb, names in FIELDS.items() if "about" in names]
    older = sum(verb_of(row) in described and "about" not in row for row in records.rows)
    if older:
        notes.append(
            f"{older} older record{'s' * (older > 1)} without a description and claims of the estimator"
        )
    return notes or [f"All records are complete and of schema {SCHEMA}."]
