"""The figures of every architecture and its data: an interactive one, and a picture with its data."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from fgbench.analysis import bias, efficiency, epochs, layers, progress, relative_variance, style
from fgbench.analysis.site import marks, plots
from fgbench.analysis.site.facts import Facts
from fgbench.analysis.site.names import Panel, Places, title

BARS = "Bars: 95 % intervals."
BY_DRAWS = (
    "Intervals of bias are over draws, as its test is; in older records over batches or inits."
)
FEW = 12  # pictures that one process draws sooner than several have started
DPI = 130  # of a picture on a page: its height and width in inches times this


@dataclass(frozen=True)
class Kind:
    """A kind of figure.

    Args:
        name: of its files, after the panel's.
        heading: above it.
        source: picks what it is about from the facts.
        plotted: computes the drawn numbers.
        figure: draws the picture.
        spec: draws it for plotly.
        caption: says of the drawn numbers what they are and over how many.
        alt: what the picture shows, in words.
        many: whether it compares methods by one number each; else it has curves of each.
    """

    name: str
    heading: str
    source: Callable[[Facts], pd.DataFrame]
    plotted: Callable[[pd.DataFrame], pd.DataFrame]
    figure: Callable[[pd.DataFrame], Figure]
    spec: Callable[[pd.DataFrame], marks.Spec]
    caption: Callable[[pd.DataFrame], str]
    alt: str
    many: bool = False


def _measures(found: Facts) -> pd.DataFrame:
    """Pick what was measured."""
    return found.measures


def _estimates(table: pd.DataFrame) -> str:
    """Say what points of whole networks are."""
    return f"{relative_variance.caption(table)} {BARS}"


def _layers(table: pd.DataFrame) -> str:
    """Say what variances of sites are."""
    text = f"{relative_variance.caption(table, 'each of one site')} {BARS}"
    return text + " Dashed: closed form." * bool(table["predicted"].notna().any())


def _biases(table: pd.DataFrame) -> str:
    """Say what biases of sites are."""
    return f"{relative_variance.caption(table, 'each of one site')} {bias.WORDS} {BY_DRAWS}"


def _curves(found: Facts) -> pd.DataFrame:
    """Pick the trainings."""
    return found.curves


KINDS = (
    Kind(
        relative_variance.NAME,
        "Relative variance",
        _measures,
        relative_variance.plotted,
        relative_variance.figure,
        plots.variance,
        _estimates,
        "Relative variance by method on a logarithmic axis, measured beside theory",
        many=True,
    ),
    Kind(
        efficiency.NAME,
        "Efficiency against cost",
        _measures,
        efficiency.plotted,
        efficiency.figure,
        plots.against_cost,
        _estimates,
        "Efficiency of each method's estimate against its cost in forward passes, on logarithmic axes",
        many=True,
    ),
    Kind(
        progress.NAME,
        "Learning curves",
        _curves,
        progress.plotted,
        progress.figure,
        plots.training,
        epochs.caption,
        "Test error in percent while training, against epochs, seconds and forward passes",
    ),
    Kind(
        layers.NAME,
        "Relative variance site by site",
        _measures,
        layers.plotted,
        layers.figure,
        plots.layers,
        _layers,
        "Relative variance at every site of the network from input to loss, with its closed form",
    ),
    Kind(
        bias.NAME,
        "Bias site by site",
        _measures,
        bias.plotted,
        bias.figure,
        plots.bias,
        _biases,
        "Bias at every site of the network from input to loss, filled where it was found",
    ),
)


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
    def spec(self) -> marks.Spec:
        """Draw it for plotly."""
        return self.kind.spec(self.table)


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
    todo: list[tuple[int, Panel, pd.DataFrame, pd.DataFrame]] = []
    for at, kind in enumerate(KINDS):
        source = kind.source(found)
        for arch, data in places.stems:
            part = source[source["arch"].eq(arch) & source["data"].eq(data)]
            table = kind.plotted(part)
            if not table.empty:
                todo.append((at, (arch, data), part, table))
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


def _paint(at: int, part: pd.DataFrame, table: pd.DataFrame, target: Path) -> tuple[int, int]:
    """Write one picture with its data; its size on a page in pixels."""
    fig = KINDS[at].figure(_literal(part))
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


def _literal(part: pd.DataFrame) -> pd.DataFrame:
    """Keep matplotlib from reading dollars in names as mathematics."""
    text: dict[str, Any] = {
        name: part[name].astype(str).str.replace("$", r"\$", regex=False)
        for name in ("label", "arch", "data")
    }
    return part.assign(**text)
