"""Variance of one layer's estimates, measured beside the paper's table 1."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, NullLocator

from fgbench.reporting.figures.files import writer
from fgbench.reporting.frames.load import Records, number
from fgbench.reporting.plotting import panels, style
from fgbench.reporting.plotting.panels import Page
from fgbench.reporting.plotting.sheet import PAPER, Sheet

NAME = "table1"
KEYS = ("fan_in", "fan_out", "batch", "place", "law", "sharing", "what")
COLUMNS = ("label", "seed", *KEYS, "predicted", "value", "low", "high", "n", "inside")
AXES = {"fan_in": "fan-in p", "fan_out": "fan-out q", "batch": "batch N"}
PLACES = {"weight": "noise on weights", "activity": "noise on activities"}
WHAT = {"noise": "noise, given the batch", "total": "total, over batches and noise"}
LAWS = {
    "gaussian": style.Look("#0072b2", "o"),
    "rademacher": style.Look("#d55e00", "s"),
    "sphere": style.Look("#009e73", "^"),
    "uniform": style.Look("#cc79a7", "D"),
}
UNKNOWN = style.Look("#595959", "X")  # a law of another version
SHARING = ("shared", "independent")  # filled, open
HEIGHT = 1.8  # inches of a panel
APART = 0.13  # octaves between curves at one size, so that none covers another
DASH = 0.05  # octaves to each side of a prediction that stands alone
OUTSIDE = "#b2182b"


def plotted(grids: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """Select the drawn numbers: a row per record and grid point.

    Args:
        grids: table1 records, with their labels.

    Returns:
        Columns `COLUMNS`, in the order of the records.

    Example:
        >>> plotted([]).empty
        True
    """
    rows = [
        {"label": grid["label"], "seed": grid["seed"], **cell, **number(cell["measured"])}
        for grid in grids
        for cell in grid["rows"]
    ]
    return pd.DataFrame(rows, columns=list(COLUMNS))


def figure(grids: Sequence[Mapping[str, Any]], table: pd.DataFrame, sheet: Sheet = PAPER) -> Page:
    """Draw total variance against each size, and below it measured over predicted for all grid points.

    Args:
        grids: table1 records, with their labels; each has three rows of panels.
        table: of `plotted`.
        sheet: what it is drawn on.

    Returns:
        The page.

    Example:
        >>> cell = {"fan_in": 4, "fan_out": 4, "batch": 8, "place": "weight", "law": "gaussian"}
        >>> cell |= {"sharing": "shared", "what": "total", "predicted": 2.0, "inside": True}
        >>> measured = {"value": 2.0, "low": 1.0, "high": 3.0, "n": 8}
        >>> cells = [{**cell, "place": place, "measured": measured} for place in PLACES]
        >>> coverage = {"entry": "", "inside": 2, "cells": 2, "coverage": {**measured, "value": 1.0}}
        >>> grid = {"label": "table1", "seed": 0, "rows": cells, "summary": [coverage]}
        >>> len(figure([grid], plotted([grid])).axes)
        4
    """
    parts = [plotted([grid]) for grid in grids]
    shown = [(part, axis, place) for part in parts for place in PLACES for axis in _varied(part)]
    with style.context(sheet):
        count = len(shown) + len(WHAT) * len(parts)
        page = _sheet_of(parts, sheet) if sheet.ax is None else panels.layout(count, sheet=sheet)
        axes = iter(page.axes)
        for part in parts:
            for place in PLACES:
                for column, axis in enumerate(_varied(part)):
                    ax = next(axes)
                    _over(ax, part[part["place"] == place], axis)
                    if column == 0 or page.columns == 1:
                        panels.titled(ax, PLACES[place])
                        ax.set_ylabel("total variance\nper weight (S)")
            for column, what in enumerate(WHAT):
                ax = next(axes)
                _all(ax, part[part["what"] == what])
                panels.titled(ax, WHAT[what])
                if column == 0 or page.columns == 1:
                    ax.set_ylabel("measured / predicted")
        text = " ".join(_caption(grid, len(grids) > 1) for grid in grids)
        return page.finish(_handles(table), text)


def _sheet_of(parts: Sequence[pd.DataFrame], sheet: Sheet) -> Page:
    """Create three rows of panels for each record, or all panels below each other on a narrow sheet."""
    rows = len(PLACES) + 1
    columns = sheet.columns(3, 3)
    if columns < 3:
        count = sum(len(PLACES) * len(_varied(part)) + len(WHAT) for part in parts)
        return panels.layout(count, HEIGHT, 1, sheet)
    height = HEIGHT * sheet.scale * rows * len(parts)
    fig = panels.blank(sheet.inches(columns), height)
    spec = fig.add_gridspec(rows * len(parts), 6)
    axes: list[Axes] = []
    for at, part in enumerate(parts):
        varied = len(_varied(part))
        for row in range(rows):
            wide = 6 // (varied if row < len(PLACES) else len(WHAT))
            first: Axes | None = None
            for start in range(0, 6, wide):
                place = spec[rows * at + row, start : start + wide]
                first = fig.add_subplot(place, sharey=first)
                axes.append(first)
    return Page(fig, tuple(axes), sheet, columns, height)


def _grids(records: Records) -> list[dict[str, Any]]:
    """Return the records that hold a grid."""
    return [row for row in records.of(NAME) if row.get("rows")]


def _middle(part: pd.DataFrame, axis: str) -> int:
    """Return the size at which an axis is held in panels of other axes."""
    sizes = sorted(set(part[axis]))
    return int(sizes[len(sizes) // 2])


def _varied(part: pd.DataFrame) -> list[str]:
    """List the axes with several sizes, each of which has a panel; the first axis where none has."""
    return [axis for axis in AXES if part[axis].nunique() > 1] or list(AXES)[:1]


def _over(ax: Axes, part: pd.DataFrame, axis: str) -> None:
    """Draw total variance over one size, theory dashed, the curves of laws and sharing side by side."""
    part = part[part["what"] == "total"]
    if part.empty:
        return
    for other in AXES:
        if other != axis:
            part = part[part[other] == _middle(part, other)]
    curves = list(part.groupby(["law", "sharing"], sort=False))
    for at, ((law, sharing), curve) in enumerate(curves):
        curve = curve.sort_values(axis)
        look, x = LAWS.get(law, UNKNOWN), curve[axis] * 2 ** (APART * (at - (len(curves) - 1) / 2))
        theory: dict[str, Any] = {"color": look.colour, "ls": style.DASHED, "lw": style.pt(0.8)}
        if len(curve) > 1:
            ax.plot(x, curve["predicted"], **theory)
        else:  # a line over one size has no length
            ax.hlines(curve["predicted"], x / 2**DASH, x * 2**DASH, **theory)
        ax.vlines(x, curve["low"], curve["high"], color=look.colour, lw=style.pt(1.1))
        ax.plot(x, curve["value"], ls="", **_mark(look, sharing, 3.4))
    ticks = sorted(set(part[axis]))
    ax.set_xscale("log", base=2)
    ax.set_xticks(ticks, [str(tick) for tick in ticks])
    edge = 2 ** (APART * (len(curves) + 1) / 2)
    ax.set_xlim(ticks[0] / edge, ticks[-1] * edge)
    ax.xaxis.set_minor_locator(NullLocator())
    _decades(ax)
    ax.set_xlabel(AXES[axis])


def _all(ax: Axes, part: pd.DataFrame) -> None:
    """Draw measured over predicted for all grid points, by predicted variance."""
    part = part[part["predicted"] > 0].sort_values("predicted", kind="stable")
    part = part.assign(at=range(len(part)))
    ax.axhline(1.0, color=style.INK, ls=style.DASHED, lw=style.pt(0.8))
    for (sharing, held), cells in part.groupby(["sharing", "inside"], sort=False):
        look = style.Look("#8a8a8a" if held else OUTSIDE, "o")
        ratio = cells[["value", "low", "high"]].div(cells["predicted"], axis=0)
        wide = style.pt(0.5 + (not held))
        ax.vlines(cells["at"], ratio["low"], ratio["high"], color=look.colour, lw=wide)
        ax.plot(cells["at"], ratio["value"], ls="", **_mark(look, sharing, 1.8))
    _decades(ax)
    ax.set_xlabel("cells, by predicted variance")


def _decades(ax: Axes) -> None:
    """Set a logarithmic axis, with more ticks between powers of ten the shorter it is."""
    ax.set_yscale("log")
    low, high = ax.get_ylim()
    fine = (1.0, 1.5, 2.0, 3.0, 5.0, 7.0) if high < 10 * low else (1.0, 2.0, 5.0)
    ax.yaxis.set_major_locator(LogLocator(subs=fine if high < 100 * low else (1.0,)))
    ax.yaxis.set_major_formatter("{x:g}")
    ax.yaxis.set_minor_locator(NullLocator())


def _mark(look: style.Look, sharing: str, size: float) -> dict[str, Any]:
    """Return how a point is drawn: filled for shared directions, open for independent ones."""
    face = look.colour if sharing == SHARING[0] else "w"
    sizes = {"ms": style.pt(size), "mew": style.pt(0.7)}
    return {"marker": look.marker, "mfc": face, "mec": look.colour, **sizes}


def _handles(table: pd.DataFrame) -> list[Line2D]:
    """Create the legend entries of laws, sharing, theory, and points outside their interval."""
    there = list(dict.fromkeys(table["law"]))
    laws = [law for law in LAWS if law in there] + [law for law in there if law not in LAWS]
    looks = {law: LAWS.get(law, UNKNOWN) for law in laws}
    entries = [Line2D([], [], ls="", label=law, **_mark(looks[law], SHARING[0], 4)) for law in laws]
    grey = style.Look(style.FAINT, "o")
    words = ("shared", "independent")
    entries += [
        Line2D([], [], ls="", label=word, **_mark(grey, sharing, 4))
        for sharing, word in zip(SHARING, words, strict=True)
    ]
    entries.append(panels.key("theory (closed form)", ls=style.DASHED, lw=0.9))
    entries.append(panels.key("theory outside the interval", color=OUTSIDE, lw=1.5))
    return entries


def _caption(grid: Mapping[str, Any], named: bool) -> str:
    """Describe held sizes, n, and coverage."""
    part = plotted([grid])
    held = ", ".join(f"{name[-1]} = {_middle(part, axis)}" for axis, name in AXES.items())
    counts = sorted(set(part["n"].dropna().astype(int)))
    kinds = ("what", "law", "sharing")
    summary = {
        next((row[kind] for kind in kinds if row.get(kind, "all") != "all"), ""): row["coverage"]
        for row in grid["summary"]
        if not row["entry"]
    }
    shares = ", ".join(f"{name} {100 * c['value']:.1f}" for name, c in summary.items() if name)
    coverage = summary.get("")
    overall = next((row for row in grid["summary"] if row["coverage"] is coverage), None)
    inside = (
        ""
        if coverage is None or overall is None
        else (
            f" Predicted inside the measured interval in {overall['inside']} of {overall['cells']} cells: "
            f"{100 * coverage['value']:.1f} % [{100 * coverage['low']:.1f}, {100 * coverage['high']:.1f}] "
            f"({shares})."
        )
    )
    return (
        (f"{grid['label']}, seed {grid['seed']}. " if named else "")
        + f"Above: sizes not on an axis are held at {held}. S: squared mean of a gradient per weight; its "
        f"variance between examples is V = 3 S. Bars: 95 % intervals, n = "
        f"{' or '.join(map(str, counts))} draws per point.{inside}"
    )


draw = writer(NAME, _grids, plotted, figure)
