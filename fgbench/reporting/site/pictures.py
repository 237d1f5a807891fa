"""The figures of every architecture and its data: an interactive one, and a picture with its data."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pandas as pd

from fgbench.reporting.frames.load import Records
from fgbench.reporting.plotting import style
from fgbench.reporting.site import plotly_marks
from fgbench.reporting.site.facts import Facts
from fgbench.reporting.site.figure_kinds import KINDS, Kind
from fgbench.reporting.site.paths import Panel, Places, panel_of, title

FEW = 12  # pictures that one process draws sooner than several have started
DPI = 130  # of a picture on a page: its height and width in inches times this


@dataclass(frozen=True)
class Plot:
    """A figure of one panel.

    Args:
        kind: of figure.
        panel: architecture and data.
        table: the drawn numbers.
        file: of its picture, PDF and CSV, from the root of the site without a suffix.
        size: width and height of the picture on a page, in pixels.
        part: whether less is drawn interactively than is in the picture.
    """

    kind: Kind
    panel: Panel
    table: pd.DataFrame
    file: str
    size: tuple[int, int]
    part: bool = False

    @property
    def title(self) -> str:
        """Name the panel."""
        return title(self.panel)

    @property
    def name(self) -> str:
        """Name its element."""
        return Path(self.file).name

    @property
    def alt(self) -> str:
        """Say what the picture shows."""
        n = self.table["method"].nunique()
        methods = "all methods" if self.part else f"{n} method{'s' * (n > 1)}"
        return f"{self.kind.alt}; {methods}, {self.title}. The numbers are in the tables."

    @property
    def caption(self) -> str:
        """Say what is drawn and over how many."""
        return f"{self.kind.heading}, {self.title}. {self.kind.caption(self.table)}"

    @property
    def spec(self) -> plotly_marks.Spec | None:
        """Draw it for plotly."""
        return self.kind.spec(self.table) if self.kind.spec else None


Gallery = Mapping[str, list[Plot]]  # name of a kind to the figures of it


def drawn(found: Facts, places: Places, out: Path, jobs: int = 1) -> Gallery:
    """Draw every picture: one of each kind for each architecture and its data.

    Cost: most of the time of a report, about two thirds of a second for each.

    Args:
        found: what the report shows.
        places: where things lie.
        out: root of the site.
        jobs: processes that draw, where there are pictures enough for more than one.

    Returns:
        Every kind with its figures, those of which there are numbers.
    """
    todo: list[tuple[int, Panel, Any, pd.DataFrame]] = []
    for at, kind in enumerate(KINDS):
        source = kind.source(found)
        for panel in places.stems:
            part = _part(source, panel)
            table = kind.plotted(part)
            if not table.empty:
                todo.append((at, panel, part, table))
    kinds = [at for at, *_ in todo]
    files = [f"figures/{places.stems[panel]}-{KINDS[at].name}" for at, panel, *_ in todo]
    work = kinds, [part for *_, part, _ in todo], [table for *_, table in todo]
    targets = [out / file for file in files]
    if jobs > 1 and len(todo) > FEW:
        with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
            sizes = list(pool.map(_paint, *work, targets))
    else:
        sizes = list(map(_paint, *work, targets))
    gallery: dict[str, list[Plot]] = {}
    for (at, panel, _, table), file, size in zip(todo, files, sizes, strict=True):
        gallery.setdefault(KINDS[at].name, []).append(Plot(KINDS[at], panel, table, file, size))
    return gallery


def _part(source: Any, panel: Panel) -> Any:
    """Pick what is of a panel from a table or from records."""
    if isinstance(source, Records):
        return source.kept([row for row in source.rows if panel_of(row) == panel])
    arch, data = panel
    return source[source["arch"].eq(arch) & source["data"].eq(data)]


def _paint(at: int, part: Any, table: pd.DataFrame, target: Path) -> tuple[int, int]:
    """Write one picture with its data; its size on a page in pixels."""
    kind, shown = KINDS[at], _literal(part)
    fig = kind.figure(shown, table if shown is part else kind.plotted(shown))
    style.save(fig, target.parent, target.name, table)
    width, height = (round(DPI * inches) for inches in fig.get_size_inches())
    return width, height


def of_method(gallery: Gallery, method: str) -> Gallery:
    """Pick the figures with curves of a method, and of these what is its own."""
    chosen: dict[str, list[Plot]] = {}
    for kind in [kind for kind in KINDS if not kind.many]:
        for plot in gallery.get(kind.name, []):
            table = plot.table[plot.table["method"] == method]
            if not table.empty:
                mine = replace(plot, table=table, part=len(table) < len(plot.table))
                chosen.setdefault(kind.name, []).append(mine)
    return chosen


def of_panel(gallery: Gallery, panel: Panel) -> Gallery:
    """Pick the figures of an architecture and its data."""
    chosen = {name: [p for p in found if p.panel == panel] for name, found in gallery.items()}
    return {name: found for name, found in chosen.items() if found}


def _literal(part: Any) -> Any:
    """Escape dollars in names, which matplotlib would read as mathematics; without any, return `part`."""
    if isinstance(part, Records):
        named = ("method", "arch", "data")
        if not any("$" in str(row.get(name)) for row in part.rows for name in named):
            return part
        rows = [{**r, **{n: str(r.get(n)).replace("$", r"\$") for n in named}} for r in part.rows]
        return replace(part, rows=tuple(rows))
    names = part[["label", "arch", "data"]].astype(str)
    if not names.apply(lambda column: column.str.contains("$", regex=False)).to_numpy().any():
        return part
    text: dict[str, Any] = {
        name: part[name].astype(str).str.replace("$", r"\$", regex=False)
        for name in ("label", "arch", "data")
    }
    return part.assign(**text)
