"""The page of a method, and the page of an architecture on its data."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fgbench.reporting.plotting import style
from fgbench.reporting.site import paths, pictures, run_tables
from fgbench.reporting.site.claims import worded
from fgbench.reporting.site.facts import Facts
from fgbench.reporting.site.figure_kinds import KINDS
from fgbench.reporting.site.leaderboard import Entry, board
from fgbench.reporting.site.method_docs import About, Text, described, recorded, subject
from fgbench.reporting.site.paths import Panel, Places, panel_of
from fgbench.reporting.site.pictures import Gallery, Plot


@dataclass(frozen=True)
class Site:
    """A report.

    Args:
        found: what the records say.
        rows: of the leaderboard.
        places: where pages lie.
        gallery: its figures.
        about: what is registered.
    """

    found: Facts
    rows: Sequence[Entry]
    places: Places
    gallery: Gallery
    about: About

    @property
    def methods(self) -> list[tuple[str, str, str]]:
        """Every method with its page and its colour."""
        return [(m, path, style.look(m).colour) for m, path in self.places.methods.items()]

    @property
    def panels(self) -> list[tuple[str, str]]:
        """Every architecture on its data with its page."""
        return [(paths.title(panel), path) for panel, path in self.places.panels.items()]


def galleries(gallery: Gallery) -> list[tuple[str, str, list[Plot]]]:
    """List the kinds of figures that there are: name, heading and figures."""
    return [(k.name, k.heading, gallery[k.name]) for k in KINDS if k.name in gallery]


def method(site: Site, name: str) -> dict[str, Any]:
    """Gather what the page of a method shows.

    Args:
        site: all of it.
        name: of the method.

    Returns:
        The variables of its template.
    """
    found, places = site.found, site.places
    records = [row for row in found.records.rows if str(row["method"]) == name]
    rows = [entry for entry in site.rows if entry.method == name]
    measures = [row for row in found.of["measure"] if str(row["method"]) == name]
    part = found.measures[found.measures["method"] == name]
    first = {key: str(records[0].get(key) or "") for key in ("estimator", "locality")}
    file, latest = str(records[0].get("file") or ""), max(records, key=_begun)
    registered = None if file else described(site.about, "estimators", first["estimator"])
    return {
        "title": name,
        "method": name,
        "colour": style.look(name).colour,
        **first,
        "file": file,
        "text": recorded(latest) or registered,
        "older": not isinstance(latest.get("about"), Mapping),
        "promised": promised(records),
        "scheme": described(site.about, "localities", first["locality"]),
        "claims": run_tables.tested(found, measures, places),
        "estimates": run_tables.estimates(found, measures, places, False),
        "sites": run_tables.sites(found, part, places, False),
        "trainings": run_tables.trainings(rows, places, False),
        "speeds": run_tables.speeds(rows, places, False),
        "runs": run_tables.runs(records, places, name),
        "galleries": {
            kind: (kind, heading, plots)
            for kind, heading, plots in galleries(pictures.of_method(site.gallery, name))
        },
    }


def promised(records: Iterable[Mapping[str, Any]]) -> dict[str, str]:
    """Gather what an estimator claims, which depends on the task.

    Args:
        records: of one method.

    Returns:
        Claims in words to where they are made; "" where they are the same everywhere.
    """
    found: dict[str, dict[str, None]] = {}
    for row in sorted(records, key=_begun):
        about = row.get("about")
        claims = about.get("claims") if isinstance(about, Mapping) else None
        if isinstance(claims, Mapping) and (words := worded(claims)):
            found.setdefault(words, {})[paths.title(panel_of(row))] = None
    if len(found) == 1:
        return dict.fromkeys(found, "")
    return {words: ", ".join(panels) for words, panels in found.items()}


def _begun(record: Mapping[str, Any]) -> str:
    """Say when a record was made; those that say what their estimator is are later than others."""
    return f"{int(isinstance(record.get('about'), Mapping))} {record.get('started')}"


def architecture(site: Site, panel: Panel) -> dict[str, Any]:
    """Gather what the page of an architecture and its data shows.

    Args:
        site: all of it.
        panel: architecture and data.

    Returns:
        The variables of its template.
    """
    found, places = site.found, site.places
    rows = [entry for entry in site.rows if entry.panel == panel]
    measures = [row for row in found.of["measure"] if panel_of(row) == panel]
    arch, data = panel
    part = found.measures[found.measures["arch"].eq(arch) & found.measures["data"].eq(data)]
    return {
        "title": paths.title(panel),
        "text": _first(described(site.about, "architectures", arch)),
        "dataset": subject(site.about, "datasets", data),
        "board": board("leaderboard", rows, found, places, panel) if rows else None,
        "galleries": galleries(pictures.of_panel(site.gallery, panel)),
        "estimates": run_tables.estimates(found, measures, places, True),
        "sites": run_tables.sites(found, part, places, True),
        "trainings": run_tables.trainings(rows, places, True),
        "speeds": run_tables.speeds(rows, places, True),
        "trials": sum(panel_of(row) == panel for row in found.of["trial"]),
        "runs": run_tables.runs([r for r in found.records.rows if panel_of(r) == panel], places),
    }


def _first(text: Text | None) -> str:
    """Take the first sentence of a documentation, if there is one."""
    return text.lead if text is not None else ""
