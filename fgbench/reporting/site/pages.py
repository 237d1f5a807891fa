"""Contents of the page of a method, and of the page of an architecture and data set."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any

from fgbench.reporting.plotting import style
from fgbench.reporting.site import glance, paths, pictures, run_tables
from fgbench.reporting.site.claims import worded
from fgbench.reporting.site.facts import Facts
from fgbench.reporting.site.figure_kinds import KINDS
from fgbench.reporting.site.history import Tracked
from fgbench.reporting.site.leaderboard import Entry, board
from fgbench.reporting.site.method_docs import (
    About,
    MethodText,
    recorded_text,
    registered_text,
    subject_line,
)
from fgbench.reporting.site.paths import PagePaths, Panel, panel_of
from fgbench.reporting.site.pictures import Gallery, Plot


@dataclass(frozen=True)
class Site:
    """Everything that the pages of a report are made from.

    Args:
        facts: records with their tables and verdicts.
        rows: of the leaderboard.
        page_paths: of all methods and panels.
        gallery: all figures.
        about: registry entries by kind and name.
        tracked: numbers tracked over commits, if there are any.

    Example:
        >>> from pathlib import Path
        >>> from fgbench.reporting.frames.load import Records
        >>> from fgbench.reporting.site.facts import facts
        >>> report = facts(Records(Path("records"), (), {}, ()))
        >>> Site(report, [], paths.page_paths(["BP"], []), {}, {}).methods[0][:2]
        ('BP', 'methods/BP.html')
    """

    facts: Facts
    rows: Sequence[Entry]
    page_paths: PagePaths
    gallery: Gallery
    about: About
    tracked: Tracked | None = None

    @property
    def methods(self) -> list[tuple[str, str, str]]:
        """Name, page and colour of every method."""
        return [(m, path, style.look(m).colour) for m, path in self.page_paths.methods.items()]

    @property
    def panels(self) -> list[tuple[str, str]]:
        """Title and page of every architecture and data set."""
        return [(paths.title(panel), path) for panel, path in self.page_paths.panels.items()]


def galleries(gallery: Gallery) -> list[tuple[str, str, list[Plot]]]:
    """Return name, heading and figures of every kind of figure that the gallery has.

    Example:
        >>> galleries({})
        []
    """
    return [(k.name, k.heading, gallery[k.name]) for k in KINDS if k.name in gallery]


def method(site: Site, name: str) -> dict[str, Any]:
    """Return the variables of the template of a method's page.

    Args:
        site: the whole report.
        name: of the method.

    Returns:
        Variable to value.

    Example:
        >>> from pathlib import Path
        >>> from fgbench.reporting.frames.load import Records
        >>> from fgbench.reporting.site.facts import facts
        >>> row = {"method": "BP", "estimator": "bp", "verb": "train", "status": "failed", "key": "k"}
        >>> report = facts(Records(Path("records"), (row,), {}, ()))
        >>> site = Site(report, [], paths.page_paths(["BP"], []), {}, {})
        >>> method(site, "BP")["estimator"]
        'bp'
    """
    facts, page_paths = site.facts, site.page_paths
    records = [row for row in facts.records.rows if str(row["method"]) == name]
    rows = [entry for entry in site.rows if entry.method == name]
    measures = [row for row in facts.of["measure"] if str(row["method"]) == name]
    part = facts.measures[facts.measures["method"] == name]
    first = {key: str(records[0].get(key) or "") for key in ("estimator", "locality")}
    file, latest = str(records[0].get("file") or ""), max(records, key=_age)
    registered = None if file else registered_text(site.about, "estimators", first["estimator"])
    return {
        "title": name,
        "method": name,
        "colour": style.look(name).colour,
        **first,
        "file": PurePath(file.replace("\\", "/")).name,
        "text": recorded_text(latest) or registered,
        "older": not isinstance(latest.get("about"), Mapping),
        "claims": claims_of(records),
        "scheme": registered_text(site.about, "localities", first["locality"]),
        "tested_claims": run_tables.tested(facts, measures, page_paths),
        "estimates": run_tables.estimates(facts, measures, page_paths, False),
        "sites": run_tables.sites(facts, part, page_paths, False),
        "trainings": run_tables.trainings(rows, page_paths, False),
        "speeds": run_tables.speeds(rows, page_paths, False),
        "runs": run_tables.runs(records, page_paths, name),
        "galleries": {
            kind: (kind, heading, plots)
            for kind, heading, plots in galleries(pictures.of_method(site.gallery, name))
        },
    }


def claims_of(records: Iterable[Mapping[str, Any]]) -> dict[str, str]:
    """Return what an estimator claims; its claims may depend on the architecture and the data.

    Args:
        records: of one method.

    Returns:
        Claims in words to the titles of the panels where they are made; "" if they are the same in all.

    Example:
        >>> claims_of([{"arch": "mlp-3x64", "about": {"claims": {"bias": "none"}}}])
        {'unbiased': ''}
    """
    panels: dict[str, dict[str, None]] = {}
    for row in sorted(records, key=_age):
        about = row.get("about")
        claims = about.get("claims") if isinstance(about, Mapping) else None
        if isinstance(claims, Mapping) and (words := worded(claims)):
            panels.setdefault(words, {})[paths.title(panel_of(row))] = None
    if len(panels) == 1:
        return dict.fromkeys(panels, "")
    return {words: ", ".join(titles) for words, titles in panels.items()}


def _age(record: Mapping[str, Any]) -> str:
    """Return a sort key: records without a description of the estimator first, then by start time."""
    return f"{int(isinstance(record.get('about'), Mapping))} {record.get('started')}"


def architecture(site: Site, panel: Panel) -> dict[str, Any]:
    """Return the variables of the template of the page of an architecture and data set.

    Args:
        site: the whole report.
        panel: architecture and data.

    Returns:
        Variable to value.

    Example:
        >>> from pathlib import Path
        >>> from fgbench.reporting.frames.load import Records
        >>> from fgbench.reporting.site.facts import facts
        >>> report = facts(Records(Path("records"), (), {}, ()))
        >>> site = Site(report, [], paths.page_paths([], []), {}, {})
        >>> architecture(site, ("mlp-3x64", "digits"))["title"]
        'mlp-3x64 on digits'
    """
    facts, page_paths = site.facts, site.page_paths
    rows = [entry for entry in site.rows if entry.panel == panel]
    measures = [row for row in facts.of["measure"] if panel_of(row) == panel]
    arch, data = panel
    part = facts.measures[facts.measures["arch"].eq(arch) & facts.measures["data"].eq(data)]
    return {
        "title": paths.title(panel),
        "text": _lead(registered_text(site.about, "architectures", arch)),
        "dataset": subject_line(site.about, "datasets", data),
        "answers": glance.answers(rows, facts, page_paths),
        "board": board("leaderboard", rows, facts, page_paths, panel) if rows else None,
        "galleries": galleries(pictures.of_panel(site.gallery, panel)),
        "estimates": run_tables.estimates(facts, measures, page_paths, True),
        "sites": run_tables.sites(facts, part, page_paths, True),
        "trainings": run_tables.trainings(rows, page_paths, True),
        "speeds": run_tables.speeds(rows, page_paths, True),
        "trials": sum(panel_of(row) == panel for row in facts.of["trial"]),
        "runs": run_tables.runs(
            [r for r in facts.records.rows if panel_of(r) == panel], page_paths
        ),
    }


def _lead(text: MethodText | None) -> str:
    """Return the first paragraph of a documentation, "" if there is none."""
    return text.lead if text is not None else ""
