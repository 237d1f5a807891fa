"""Relative variance against something that a sweep varies: the frame of the figures of scaling."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from textwrap import fill
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from fgbench.registry import optioned, split_options
from fgbench.reporting.figures import relative_variance
from fgbench.reporting.frames import ordering
from fgbench.reporting.frames.load import Records
from fgbench.reporting.frames.method_names import called
from fgbench.reporting.frames.settings import apart, read_form, real
from fgbench.reporting.plotting import panels, style
from fgbench.reporting.plotting.power_law import Power, power, signed

PANEL = ["factor", "arch", "data"]
COLUMNS = (
    *(*PANEL, "method", "label", "x", "value", "low", "high", "n", "predicted"),
    *("slope", "slope_low", "slope_high", "slope_predicted", "seed", "directions", "draws"),
    *("inits", "batches", "batch", "elements", "truth", "heavy_tail"),
)
FIT = (
    "Broad pale lines: power laws by least squares on logarithms, weighted by the intervals of the points. "
    "Slopes: theirs, in brackets 95 %, the wider of what these intervals and what the scatter about the line "
    "give; theory: the same fit to the closed form."
)
ROOM = 12  # letters of a name that leave room for its slope on one line
WIDE = 54  # letters of a title that fit a panel
Row = Mapping[str, Any]
Plotted = Callable[[pd.DataFrame], pd.DataFrame]
Drawn = Callable[[pd.DataFrame], Figure]
Written = Callable[[Records, Path], list[Path]]


@dataclass(frozen=True)
class Factor:
    """What is varied.

    Args:
        name: of the factor.
        axis: of the horizontal axis.
        read: from a row of measures its number and what else must be renamed for rows that differ by
            this number alone to be one series; None where a row has no such number.
        law: whether a power law is fitted.
        free: what of a design this number is, in which points of one line therefore differ.
    """

    name: str
    axis: str
    read: Callable[[Row], tuple[float, Mapping[str, str]] | None]
    law: bool = True
    free: tuple[str, ...] = ()


def named(row: Row, without: str = "") -> str:
    """Name the method of a row, as if an option of its estimator had not been given.

    Args:
        row: of measures.
        without: the option.

    Returns:
        The preset it then is, or estimator and locality.
    """
    name, given = split_options(str(row["estimator"]))
    given.pop(without, None)
    return called(f"{optioned(name, given)}/{row['locality']}")


def sized(row: Row) -> tuple[str, int, int, str] | None:
    """Split an architecture such as ``mlp-3x256[activation=tanh]`` into name, depth, width and options."""
    found = re.fullmatch(r"(\w+)-(\d+)x(\d+)(\[.*\])?", str(row["arch"]))
    return found and (found[1], int(found[2]), int(found[3]), found[4] or "")


def plotted(measures: pd.DataFrame, factors: Sequence[Factor]) -> pd.DataFrame:
    """Compute the drawn numbers: a row per record of a method that was measured at several values.

    Args:
        measures: of `fgbench.reporting.frames.load.Records.measures`.
        factors: what may be varied.

    Returns:
        Columns `COLUMNS`; ``arch`` and ``data`` name all that makes a panel, ``slope`` is the fitted
        exponent of the row's series and ``slope_predicted`` that of its closed form at the same values.
    """
    chosen = measures[
        (measures["quantity"] == relative_variance.NAME) & measures["place"].eq("all")
    ]
    chosen = chosen[chosen["value"] > relative_variance.ZERO]
    rows = [row for factor in factors for row in _series(chosen, factor)]
    table = pd.DataFrame(rows, columns=list(COLUMNS)).astype({"x": float, "value": float})
    by = [*PANEL, "method"]
    table = table[table.groupby(by)["x"].transform("nunique") > 1]
    laws = {factor.name: factor.law for factor in factors}
    parts = [_fitted(part, laws[name[0]]) for name, part in table.groupby(by)]
    table = pd.concat(parts) if parts else table
    keys = ["factor", *PANEL[1:], "method", "x", "seed"]
    return ordering.arranged(table, keys, factor=[factor.name for factor in factors])[list(COLUMNS)]


def figure(measures: pd.DataFrame, factors: Sequence[Factor]) -> Figure:
    """Draw relative variance against what was varied, on two logarithmic axes, a panel for each setting.

    Args:
        measures: of `fgbench.reporting.frames.load.Records.measures`.
        factors: what may be varied.

    Returns:
        A figure 3.4 in wide for one panel, else 7 in.
    """
    table = plotted(measures, factors)
    looks = style.looks(table["method"])
    axes = {factor.name: factor.axis for factor in factors}

    def panel(ax: Axes, group: tuple[Any, ...], part: pd.DataFrame) -> None:
        factor, arch, data = group
        lines = [
            _curve(ax, mine, looks[str(name)]) for name, mine in part.groupby("method", sort=False)
        ]
        title = [_title(arch, data), *filter(None, lines)]
        ax.set_title("\n".join(title), loc="left", fontsize=6.5)
        ax.set(xlabel=axes[factor], ylabel="relative variance\nE|e − Ee|² / |g|²")
        scales(ax, part["x"], part[["low", "high", "value", "predicted"]].stack())

    names = table[[*PANEL, "method"]].drop_duplicates()
    rows = names["method"].map(lines_of)
    longest = int(rows.groupby([names[name] for name in PANEL]).sum().max())
    titles = {_title(arch, data) for arch, data in zip(table["arch"], table["data"], strict=True)}
    longest += max(title.count("\n") for title in titles)
    theory = "Dashed: closed form, where there is one. " * bool(table["predicted"].notna().any())
    fits = FIT * bool(table["slope"].notna().any())
    text = f"{relative_variance.caption(table)} Bars: 95 % intervals. {theory}{fits}"
    return panels.drawn(table, PANEL, looks, panel, text, height=1.9 + 0.1 * longest, line=False)


def made(name: str, missing: tuple[str, str], *factors: Factor) -> tuple[Plotted, Drawn, Written]:
    """Make the three functions of a figure of scaling.

    Args:
        name: of its files.
        missing: what records lack of which nothing is drawn, and the shipped sweep that measures it.
        factors: what may be varied.

    Returns:
        `plotted` and `figure` of these factors, and what writes the files.
    """
    numbers, picture = partial(plotted, factors=factors), partial(figure, factors=factors)
    return numbers, picture, style.drawing(name, missing, Records.measures, numbers, picture)


def _title(arch: str, data: str) -> str:
    """Name a panel, in lines that fit its width."""
    return fill(" on ".join(filter(None, (arch, data))), WIDE, break_on_hyphens=False)


def _series(chosen: pd.DataFrame, factor: Factor) -> list[dict[str, Any]]:
    """Give rows their number and the names of their series: a method of one form, measured in one way."""
    found = []
    for row in chosen.to_dict("records"):
        read = factor.read(row)
        if read is None:
            continue
        x, changed = read
        where = {name: str(row[name]) for name in ("arch", "data", "batch")}
        where["batch"] = f"{row['batch']:g}"
        where |= {"method": named(row), **changed}
        parts = [
            where["data"],
            f"batch {where['batch']}" if where["batch"] not in ("", "nan") else "",
        ]
        if row["moments"] not in ("", "0"):
            own = f" along {row['along']}" if row["along"] else ""
            parts.append(f"after epochs {row['moments']}{own}")
        place = {"arch": where["arch"], "data": ", ".join(filter(None, parts))}
        mine = {"factor": factor.name, "x": x, "method": where["method"], **place}
        found.append(
            {**row, "network": (row["arch"], row["data"]), "way": _way(row, factor.free), **mine}
        )
    found = _once(found)
    told = apart([row["method"] for row in found], [dict(row["way"]) for row in found])
    names = [", ".join([row["method"], *parts]) for row, parts in zip(found, told, strict=True)]
    return [{**row, "method": name} for row, name in zip(found, names, strict=True)]


def _way(row: Row, free: Iterable[str]) -> tuple[tuple[str, str], ...]:
    """List all in which points of one line agree, beside their panel and the name of their method."""
    way = {**read_form(row["form"]), **read_form(row["design"])}
    if "cost" not in way:  # which buys more directions where one is cheaper
        way["directions"] = str(row["directions"])
    return tuple(sorted((name, value) for name, value in way.items() if name not in free))


def _once(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Keep one row per point, that of most draws of one seed, and of lines those of two numbers."""
    points: dict[object, dict[str, Any]] = {}
    for row in sorted(rows, key=lambda row: real(row["draws"])):
        points[(*_line(row), row["x"], row["network"], str(row["seed"]))] = row
    lines: dict[object, set[float]] = {}
    for row in points.values():
        lines.setdefault(_line(row), set()).add(row["x"])
    kept = {id(row) for row in points.values()}
    return [row for row in rows if id(row) in kept and len(lines[_line(row)]) > 1]


def _line(row: Row) -> tuple[object, ...]:
    """Name the line that a point is of."""
    return (*(row[name] for name in PANEL), row["method"], row["way"])


def _fitted(part: pd.DataFrame, law: bool) -> pd.DataFrame:
    """Fit a series, and its theory in just the same way, so that the two can be compared."""
    found, theory = fit(part) if law else Power(), Power()
    if law and part["predicted"].notna().all():
        ratio = part["predicted"] / part["value"]
        moved = part.assign(**{c: part[c] * ratio for c in ("value", "low", "high")})
        theory = fit(moved)
    ends = {"slope": found.exponent, "slope_low": found.low, "slope_high": found.high}
    return part.assign(**ends, slope_predicted=theory.exponent)


def fit(part: pd.DataFrame) -> Power:
    """Fit one series of the drawn numbers."""
    return power(part["x"], part["value"], part["low"], part["high"], part["n"])


def _curve(ax: Axes, part: pd.DataFrame, look: style.Look) -> str:
    """Draw one series with its theory and its fit; say its slope."""
    law = Power(*part[["slope", "slope_low", "slope_high"]].iloc[0])
    x = np.array(sorted(set(part["x"])))
    if not np.isnan(law.exponent):
        ax.plot(x, fit(part).at(x), color=look.colour, lw=2.6, alpha=0.25, solid_capstyle="butt")
    theory = part.dropna(subset=["predicted"])
    ax.plot(theory["x"], theory["predicted"], color=look.colour, ls=style.DASHED, lw=0.9)
    panels.points(ax, part["x"], part.rename(columns={"value": "mean"}), look)
    if np.isnan(law.exponent):
        return ""
    name, predicted = str(part["method"].iloc[0]), float(part["slope_predicted"].iloc[0])
    said = "" if np.isnan(predicted) else f", theory {signed(predicted, law.digits)}"
    return headed(name, f"slope {law}{said}")


def headed(name: str, words: str) -> str:
    """Write what is said of a method after its name, below it where that is long, in lines that fit."""
    if len(name) < ROOM:
        return f"{name}: {words}"
    return f"{panels.broken(name, WIDE)}:\n    {words}"


def lines_of(name: str) -> int:
    """Count the lines of `headed`."""
    return headed(name, "").count("\n") + 1


def scales(ax: Axes, x: Iterable[float], y: Iterable[float]) -> None:
    """Make both axes logarithmic, with ticks where something was measured, as far as they fit.

    Args:
        ax: the panel.
        x: where something was measured, positive.
        y: all that is drawn, positive.
    """
    panels.log_axis(ax, y)
    ax.set_xscale("log")
    values: list[float] = sorted(set(x))
    ticks: list[float] = []
    for value in values:
        if not ticks or value >= ticks[-1] * (values[-1] / values[0]) ** 0.12:
            ticks.append(value)
    ax.set_xticks(ticks, [f"{tick:.0f}" if tick >= 10 else f"{tick:.2g}" for tick in ticks])
    ax.xaxis.set_minor_locator(NullLocator())
