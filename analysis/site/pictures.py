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

from fgbench.analysis import (
    bias,
    cosine,
    cost,
    efficiency,
    epochs,
    layers,
    progress,
    relative_variance,
    style,
    variance_and_learning,
    workloads,
)
from fgbench.analysis.load import Records
from fgbench.analysis.seeds import seeds
from fgbench.analysis.site import marks, plots
from fgbench.analysis.site.facts import Facts
from fgbench.analysis.site.names import Panel, Places, panel_of, title

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
        spec: draws it for plotly; None where the picture is all there is.
        caption: says of the drawn numbers what they are and over how many.
        alt: what the picture shows, in words.
        many: whether it compares methods by one number each; else it has curves of each.
    """

    name: str
    heading: str
    source: Callable[[Facts], Any]
    plotted: Callable[[Any], pd.DataFrame]
    figure: Callable[[Any], Figure]
    spec: Callable[[pd.DataFrame], marks.Spec] | None
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


def _along(found: Facts) -> pd.DataFrame:
    """Pick what was measured moment by moment of estimates whose chance level is known."""
    along = found.records.along()
    return along[along["elements"] > 0]


def _records(found: Facts) -> Records:
    """Pick the records, of which figures join several verbs."""
    return found.records


def _cosines(table: pd.DataFrame) -> str:
    """Say what cosines along training are."""
    return (
        f"{relative_variance.caption(table)} Line: mean over draws, with 95 % intervals; band: nine of ten "
        "single draws; dotted: 1/√d, that of a random direction."
    )


def _costs(table: pd.DataFrame) -> str:
    """Say what errors beside costs are."""
    return (
        f"Median final test error over n = {seeds(table['n'])}, bars to its quartiles; level bars: 95 % "
        "intervals of the time. Ringed, dotted: Pareto front."
    )


def _gaps(table: pd.DataFrame) -> str:
    """Say what errors beside variances are."""
    return (
        f"Final test error less {workloads.REFERENCE}'s, paired by seed, n = {seeds(table['n'])}; level: "
        f"relative variance with its 95 % interval. {relative_variance.caption(table)}"
    )


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
    Kind(
        cosine.NAME,
        "Cosine along training",
        _along,
        cosine.plotted,
        cosine.figure,
        None,
        _cosines,
        "Cosine of estimates with the end-to-end gradient against the steps of training",
        many=True,
    ),
    Kind(
        cost.NAME,
        "Test error against cost",
        _records,
        cost.plotted,
        cost.figure,
        None,
        _costs,
        "Final test error of each method against the time and the memory of a step",
        many=True,
    ),
    Kind(
        variance_and_learning.NAME,
        "Test error against variance",
        _records,
        variance_and_learning.plotted,
        variance_and_learning.figure,
        None,
        _gaps,
        "Final test error less that of backprop against the relative variance of each method's estimate",
        many=True,
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
    def spec(self) -> marks.Spec | None:
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


def _literal(part: Any) -> Any:
    """Keep matplotlib from reading dollars in names as mathematics."""
    if isinstance(part, Records):
        named = ("method", "arch", "data")
        rows = [{**r, **{n: str(r.get(n)).replace("$", r"\$") for n in named}} for r in part.rows]
        return replace(part, rows=tuple(rows))
    text: dict[str, Any] = {
        name: part[name].astype(str).str.replace("$", r"\$", regex=False)
        for name in ("label", "arch", "data")
    }
    return part.assign(**text)
