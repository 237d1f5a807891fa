"""Figures of every architecture and data set: a picture with its numbers, and an interactive version."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import cached_property
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pandas as pd

from fgbench.records import interrupts
from fgbench.reporting.frames.load import Records
from fgbench.reporting.plotting import style
from fgbench.reporting.site import plotly_marks
from fgbench.reporting.site.facts import Facts
from fgbench.reporting.site.figure_kinds import KINDS, Kind
from fgbench.reporting.site.paths import PagePaths, Panel, panel_of, title

FEW = 12  # pictures that one process draws faster than several processes start
DPI = 130  # pixels on a page per inch of a picture


@dataclass(frozen=True)
class Plot:
    """A figure of one panel.

    Args:
        kind: of figure.
        panel: architecture and data.
        table: the plotted numbers.
        file: path of its PNG, PDF and CSV without suffix, relative to the root of the site.
        size: width and height of the picture on a page, in pixels.
        source: what the numbers were computed from.
        part: whether the interactive figure shows only some of the methods in the picture.

    Example:
        >>> panel = ("mlp-3x64", "digits")
        >>> Plot(KINDS[0], panel, pd.DataFrame(), "figures/mlp-relative_variance", (910, 520)).name
        'mlp-relative_variance'
    """

    kind: Kind
    panel: Panel
    table: pd.DataFrame
    file: str
    size: tuple[int, int]
    source: Any = None
    part: bool = False

    @property
    def title(self) -> str:
        """Title of the panel."""
        return title(self.panel)

    @property
    def name(self) -> str:
        """Id of its HTML element."""
        return Path(self.file).name

    @property
    def alt(self) -> str:
        """Alternative text of the picture."""
        n = self.table["method"].nunique()
        methods = "all methods" if self.part else f"{n} method{'s' * (n > 1)}"
        return f"{self.kind.alt}; {methods}, {self.title}. The numbers are in the tables."

    @property
    def caption(self) -> str:
        """Caption: kind of figure, panel, what is plotted and over how many runs."""
        return f"{self.kind.heading}, {self.title}. {self.kind.caption(self.source, self.table)}"

    @cached_property
    def spec(self) -> plotly_marks.Spec | None:
        """Data and layout for plotly; None where there is only a picture."""
        return self.kind.spec(self.table) if self.kind.spec else None


Gallery = Mapping[str, list[Plot]]  # name of a kind of figure to its figures


def draw_all(report: Facts, page_paths: PagePaths, out: Path, jobs: int = 1) -> Gallery:
    """Draw a picture of each kind for each architecture and data set.

    Cost: about two thirds of a second per picture, most of the time of a report.

    Args:
        report: records with their tables.
        page_paths: of all panels.
        out: root of the site.
        jobs: processes that draw; one process draws up to `FEW` pictures.

    Returns:
        Figures by kind, without those that would be empty.

    Example:
        >>> from fgbench.reporting.site.facts import facts
        >>> from fgbench.reporting.site.paths import page_paths
        >>> draw_all(facts(Records(Path("records"), (), {}, ())), page_paths([], []), Path("site"))
        {}
    """
    todo: list[tuple[int, Panel, Any, pd.DataFrame]] = []
    for at, kind in enumerate(KINDS):
        source = kind.source(report)
        for panel in page_paths.stems:
            part = _part(source, panel)
            table = kind.plotted(part)
            if not table.empty and kind.shows(table):
                todo.append((at, panel, part, table))
    kinds = [at for at, *_ in todo]
    files = [f"figures/{page_paths.stems[panel]}-{KINDS[at].name}" for at, panel, *_ in todo]
    work = kinds, [part for *_, part, _ in todo], [table for *_, table in todo]
    targets = [out / file for file in files]
    if jobs > 1 and len(todo) > FEW:
        spawn, follow = get_context("spawn"), interrupts.follow_parent
        with ProcessPoolExecutor(jobs, mp_context=spawn, initializer=follow) as pool:
            with interrupts.unheard():
                drawn = pool.map(_draw, *work, targets)
            try:
                sizes = list(drawn)
            except KeyboardInterrupt:
                pool.shutdown(cancel_futures=True)
                raise
    else:
        sizes = list(map(_draw, *work, targets))
    gallery: dict[str, list[Plot]] = {}
    for (at, panel, part, table), file, size in zip(todo, files, sizes, strict=True):
        gallery.setdefault(KINDS[at].name, []).append(
            Plot(KINDS[at], panel, table, file, size, part)
        )
    return gallery


def _part(source: Any, panel: Panel) -> Any:
    """Select the rows of a panel from a table or from records."""
    if isinstance(source, Records):
        return source.kept([row for row in source.rows if panel_of(row) == panel])
    arch, data = panel
    return source[source["arch"].eq(arch) & source["data"].eq(data)]


def _draw(at: int, part: Any, table: pd.DataFrame, target: Path) -> tuple[int, int]:
    """Write one picture and its numbers; return its size on a page in pixels."""
    kind, shown = KINDS[at], _literal(part)
    page = kind.figure(shown, table if shown is part else kind.plotted(shown))
    style.save(page.figure, target.parent, target.name, table, style.USUAL, page.caption)
    width, height = (round(DPI * inches) for inches in page.figure.get_size_inches())
    return width, height


def of_method(gallery: Gallery, method: str) -> Gallery:
    """Select the figures with a curve per method, with only the curves of one method in each.

    Args:
        gallery: all figures.
        method: whose curves are wanted.

    Returns:
        Figures that have a curve of the method.

    Example:
        >>> of_method({}, "BP")
        {}
    """
    chosen: dict[str, list[Plot]] = {}
    for kind in [kind for kind in KINDS if not kind.many]:
        for plot in gallery.get(kind.name, []):
            table = plot.table[plot.table["method"] == method]
            if not table.empty:
                mine = replace(plot, table=table, part=len(table) < len(plot.table))
                chosen.setdefault(kind.name, []).append(mine)
    return chosen


def of_panel(gallery: Gallery, panel: Panel) -> Gallery:
    """Select the figures of an architecture and data set.

    Args:
        gallery: all figures.
        panel: architecture and data.

    Returns:
        Its figures by kind.

    Example:
        >>> of_panel({}, ("mlp-3x64", "digits"))
        {}
    """
    chosen = {name: [p for p in plots if p.panel == panel] for name, plots in gallery.items()}
    return {name: plots for name, plots in chosen.items() if plots}


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
