"""Figures of relative variance against one factor that a sweep varies, such as the batch size.

`FACTORS` is the table of all of them. Each record gives a factor's value and the name of its series;
records that differ by this value alone are the points of one line, to which a power law is fitted.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from fgbench.registry import optioned, split_options
from fgbench.reporting.figures import relative_variance
from fgbench.reporting.figures.files import writer
from fgbench.reporting.figures.groups import network_of
from fgbench.reporting.frames import ordering
from fgbench.reporting.frames.load import Records
from fgbench.reporting.frames.method_names import called
from fgbench.reporting.frames.settings import apart, read_form, real
from fgbench.reporting.plotting import panels, style
from fgbench.reporting.plotting.numbers import signed
from fgbench.reporting.plotting.panels import Page
from fgbench.reporting.plotting.power_law import Power, power
from fgbench.reporting.plotting.sheet import PAPER, Sheet

PANEL = ["factor", "arch", "data"]
COLUMNS = (
    *(*PANEL, "method", "label", "x", "value", "low", "high", "n", "predicted"),
    *("slope", "slope_low", "slope_high", "slope_predicted", "seed", "directions", "draws"),
    *("inits", "batches", "batch", "elements", "truth", "heavy_tail"),
)
FIT = (
    " Broad pale lines: power laws fitted by least squares on logarithms, each point weighted by its "
    "interval. Slopes: fitted exponents with 95 % intervals in brackets, the wider of the one from the "
    "intervals of the points and the one from their scatter about the line; theory: the same fit to the "
    "closed form."
)
Row = Mapping[str, Any]
Reading = tuple[float, Mapping[str, str]]


# Values of the factors, read from a row of `fgbench.reporting.frames.load.Records.measures`. Beside the
# value each function returns the names (method, arch, data, batch) that rows of one series share in
# place of their own; None where the row has no such value.


def _batch(row: Row) -> Reading | None:
    """Read the number of examples in a batch."""
    return (float(row["batch"]), {"batch": ""}) if row["batch"] > 0 else None


def _channel_groups(row: Row) -> Reading | None:
    """Read the number of channel groups from the name of the network."""
    base, count = network_of(str(row["arch"]))
    return (float(count), {"arch": base}) if count else None


def _directions(row: Row) -> Reading:
    """Read the number of directions; the method is named without it."""
    return float(row["directions"]), {"method": _method_name(row, without="directions")}


def _fan_in(row: Row) -> Reading | None:
    """Compute the inputs of a unit of a one-layer network: parameters per unit, less the bias."""
    layers, count = _equal_layers(row), float(row["elements"])
    if layers is None or layers[1] != 1 or not count > 0:
        return None
    return count / layers[2] - 1, {"data": str(row["data"]).partition("[")[0]}


def _parameters(row: Row) -> Reading | None:
    """Read the number of parameters of the body; networks of one kind on one data set form a series."""
    count = float(row["elements"])
    return (count, {"arch": kind(str(row["arch"]))}) if count > 0 else None


def _patches(row: Row) -> Reading | None:
    """Compute the number of patches from the patches per side: ``name[side=4]`` or ``name/4/8``."""
    name, given = split_options(str(row["arch"]))
    parts = name.split("/")
    stated = given.pop("side", parts[1] if len(parts) == 3 else "")
    if not stated.isdecimal():
        return None
    options = ",".join(f"{option}={value}" for option, value in sorted(given.items()))
    base = f"{parts[0]}/*/{parts[2]}" if len(parts) == 3 else f"{name}, * patches"
    return float(stated) ** 2, {"arch": base + (f"[{options}]" if options else "")}


def _width(row: Row) -> Reading | None:
    """Read the width of a network of equal layers."""
    if (layers := _equal_layers(row)) is None:
        return None
    name, depth, width, options = layers
    return width, {"arch": f"{name}-{depth}x*{options}"}


def _depth(row: Row) -> Reading | None:
    """Read the depth of a network of equal layers."""
    if (layers := _equal_layers(row)) is None:
        return None
    name, depth, width, options = layers
    return depth, {"arch": f"{name}-*x{width}{options}"}


@dataclass(frozen=True)
class Factor:
    """A quantity that a sweep varies.

    Args:
        name: of the factor, as in the column ``factor`` of the CSV.
        axis: label of the horizontal axis.
        read: from a row of measures, the factor's value and the names that rows of one series share;
            None where the row has no such value.
        law: whether a power law is fitted.
        free: settings of a design that the factor decides, and in which points of one line differ.

    Example:
        >>> batch = FACTORS["batch"][0]
        >>> batch.read({"batch": 16.0})
        (16.0, {'batch': ''})
    """

    name: str
    axis: str
    read: Callable[[Row], Reading | None]
    law: bool = True
    free: tuple[str, ...] = ()


FACTORS = {
    "batch": (Factor("batch", "examples in a batch", _batch),),
    "channel_groups": (Factor("channel_groups", "groups of channels", _channel_groups),),
    "directions": (  # stated, or bought by a cost
        Factor("directions", "directions averaged", _directions, free=("directions", "cost")),
    ),
    "fan_in": (Factor("fan_in", "inputs of a unit", _fan_in),),
    "parameters": (Factor("parameters", "parameters of the body", _parameters, law=False),),
    "patches": (Factor("patches", "patches of an image", _patches),),
    "size": (
        Factor("width", "width (units per layer)", _width),
        Factor("depth", "depth (hidden layers)", _depth),
    ),
}
"""Name of a figure to its factors, a row of panels for each."""


def kind(arch: str) -> str:
    """Return the name that networks of one kind and of any size share.

    Args:
        arch: such as ``mlp-3x256[activation=tanh]``.

    Returns:
        The name before its numbers, with the options that are no numbers.

    Example:
        >>> kind("mlp-3x256[activation=tanh]"), kind("localmixer-xs/2/4[channels=64]")
        ('mlp-*[activation=tanh]', 'localmixer-*')
    """
    name, given = split_options(arch)
    others = {k: v for k, v in given.items() if not re.fullmatch(r"\d+", v)}
    base, size, _ = name.partition("-")
    return optioned(base + "-*" * bool(size), others)


def _equal_layers(row: Row) -> tuple[str, int, int, str] | None:
    """Split an architecture such as ``mlp-3x256[activation=tanh]`` into name, depth, width and options."""
    match = re.fullmatch(r"(\w+)-(\d+)x(\d+)(\[.*\])?", str(row["arch"]))
    return match and (match[1], int(match[2]), int(match[3]), match[4] or "")


def _method_name(row: Row, without: str = "") -> str:
    """Return the name of a row's method, as if one option of its estimator had not been given."""
    name, given = split_options(str(row["estimator"]))
    given.pop(without, None)
    return called(f"{optioned(name, given)}/{row['locality']}")


def plotted(measures: pd.DataFrame, name: str) -> pd.DataFrame:
    """Compute the drawn numbers: a row per record of a method measured at two or more values.

    Args:
        measures: of `fgbench.reporting.frames.load.Records.measures`.
        name: of the figure, a key of `FACTORS`.

    Returns:
        Columns `COLUMNS`; ``arch`` and ``data`` name the panel, ``slope`` is the fitted exponent of the
        row's series, and ``slope_predicted`` that of its closed form at the same values.

    Example:
        >>> from fgbench.reporting.frames.load import MEASURES
        >>> row = {"arch": "mlp-2x8", "data": "digits", "estimator": "fg_a", "locality": "end", "form": ""}
        >>> row |= {"quantity": "relative_variance", "place": "all", "moments": "0", "design": ""}
        >>> rows = [{**row, "batch": n, "value": 64 / n, "low": 32 / n, "high": 128 / n} for n in (16, 32)]
        >>> measures = pd.DataFrame(rows, columns=MEASURES)
        >>> plotted(measures, "batch")[["x", "value"]].values.tolist()
        [[16.0, 4.0], [32.0, 2.0]]
    """
    factors = FACTORS[name]
    chosen = measures[
        (measures["quantity"] == relative_variance.NAME) & measures["place"].eq("all")
    ]
    chosen = chosen[chosen["value"] > relative_variance.ZERO]
    rows = [row for factor in factors for row in _series(chosen, factor)]
    table = pd.DataFrame(rows, columns=list(COLUMNS)).astype({"x": float, "value": float})
    by = [*PANEL, "method"]
    table = table[table.groupby(by)["x"].transform("nunique") > 1]
    laws = {factor.name: factor.law for factor in factors}
    parts = [_fitted(part, laws[group[0]]) for group, part in table.groupby(by)]
    table = pd.concat(parts) if parts else table
    keys = ["factor", *PANEL[1:], "method", "x", "seed"]
    order = [factor.name for factor in factors]
    return ordering.arranged(table, keys, factor=order)[list(COLUMNS)]


def figure(_: pd.DataFrame, table: pd.DataFrame, name: str, sheet: Sheet = PAPER) -> Page:
    """Draw relative variance against the factor on two logarithmic axes, a panel for each setting.

    Args:
        table: of `plotted`, all that is drawn.
        name: of the figure, a key of `FACTORS`.
        sheet: what it is drawn on.

    Returns:
        The page.

    Example:
        >>> from fgbench.reporting.frames.load import MEASURES
        >>> row = {"arch": "mlp-2x8", "data": "digits", "estimator": "fg_a", "locality": "end", "form": ""}
        >>> row |= {"quantity": "relative_variance", "place": "all", "moments": "0", "design": ""}
        >>> row |= {"draws": 8, "inits": 1, "batches": 1, "truth": "scheme", "heavy_tail": False}
        >>> rows = [{**row, "batch": n, "value": 64 / n, "low": 32 / n, "high": 128 / n} for n in (16, 32)]
        >>> measures = pd.DataFrame(rows, columns=MEASURES)
        >>> fig = figure(measures, plotted(measures, "batch"), "batch")
        >>> fig.axes[0].get_xlabel()
        'examples in a batch'
    """
    looks = style.looks(table["method"])
    axes = {factor.name: factor.axis for factor in FACTORS[name]}

    def panel(ax: Axes, group: tuple[Any, ...], part: pd.DataFrame) -> None:
        factor, arch, data = group
        notes = [
            _curve(ax, series, looks[str(method)])
            for method, series in part.groupby("method", sort=False)
        ]
        panels.titled(ax, " on ".join(filter(None, (arch, data))))
        ax.set(xlabel=axes[factor], ylabel="relative variance\nE|e − Ee|² / |g|²")
        panels.log_log_axes(ax, part["x"], table[["low", "high", "value", "predicted"]].stack())
        panels.notes(ax, [note for note in notes if note is not None], "slope [95 %]")

    fits, known = (bool(table[name].notna().any()) for name in ("slope", "predicted"))
    theory = " Dashed: closed form, where there is one." * known
    text = f"{relative_variance.caption(table)} Bars: 95 % intervals.{theory}{FIT * fits}"
    fitted: dict[str, dict[str, Any]] = {"power-law fit": {"lw": 2.6, "alpha": 0.3}}
    more = (fitted if fits else {}) | (panels.THEORY if known else {})
    tall = panels.room(table[table["slope"].notna()].groupby(PANEL)["method"].nunique(), 2)
    drawing: dict[str, Any] = {"height": max(2.0, tall), "line": False, "more": more}
    return panels.drawn(table, PANEL, looks, panel, text, share="all", sheet=sheet, **drawing)


def _series(chosen: pd.DataFrame, factor: Factor) -> list[dict[str, Any]]:
    """Give rows their value and the names of their series: one method in one form, measured in one way."""
    rows = []
    for row in chosen.to_dict("records"):
        reading = factor.read(row)
        if reading is None:
            continue
        x, changed = reading
        names = {name: str(row[name]) for name in ("arch", "data", "batch")}
        names["batch"] = f"{row['batch']:g}"
        names |= {"method": _method_name(row), **changed}
        parts = [
            names["data"],
            f"batch {names['batch']}" if names["batch"] not in ("", "nan") else "",
        ]
        if row["moments"] not in ("", "0"):
            trajectory = f" along {row['along']}" if row["along"] else ""
            parts.append(f"after epochs {row['moments']}{trajectory}")
        panel = {"arch": names["arch"], "data": ", ".join(filter(None, parts))}
        point = {"factor": factor.name, "x": x, "method": names["method"], **panel}
        network = row["arch"], row["data"]
        rows.append({**row, "network": network, "way": _way(row, factor.free), **point})
    rows = _once(rows)
    differences = apart([row["method"] for row in rows], [dict(row["way"]) for row in rows])
    labels = [
        ", ".join([row["method"], *parts]) for row, parts in zip(rows, differences, strict=True)
    ]
    return [{**row, "method": label} for row, label in zip(rows, labels, strict=True)]


def _way(row: Row, free: Iterable[str]) -> tuple[tuple[str, str], ...]:
    """List the settings that points of one line share, beside their panel and the name of their method."""
    way = {**read_form(row["form"]), **read_form(row["design"])}
    if "cost" not in way:  # which buys more directions where one is cheaper
        way["directions"] = str(row["directions"])
    return tuple(sorted((name, value) for name, value in way.items() if name not in free))


def _once(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Keep one row per point and seed, the one with the most draws, on lines of two or more points."""
    points: dict[object, dict[str, Any]] = {}
    for row in sorted(rows, key=lambda row: real(row["draws"])):
        points[(*_line(row), row["x"], row["network"], str(row["seed"]))] = row
    lines: dict[object, set[float]] = {}
    for row in points.values():
        lines.setdefault(_line(row), set()).add(row["x"])
    chosen = {id(row) for row in points.values()}
    return [row for row in rows if id(row) in chosen and len(lines[_line(row)]) > 1]


def _line(row: Row) -> tuple[object, ...]:
    """Return the names of the line that a point is on."""
    return (*(row[name] for name in PANEL), row["method"], row["way"])


def _fitted(part: pd.DataFrame, law: bool) -> pd.DataFrame:
    """Fit a series, and its closed form with the same relative intervals, so that slopes compare."""
    measured, theory = _fit(part) if law else Power(), Power()
    if law and part["predicted"].notna().all():
        ratio = part["predicted"] / part["value"]
        moved = part.assign(**{c: part[c] * ratio for c in ("value", "low", "high")})
        theory = _fit(moved)
    ends = {"slope": measured.exponent, "slope_low": measured.low, "slope_high": measured.high}
    return part.assign(**ends, slope_predicted=theory.exponent)


def _fit(part: pd.DataFrame) -> Power:
    """Fit a power law to one series of the drawn numbers."""
    return power(part["x"], part["value"], part["low"], part["high"], part["n"])


def _curve(ax: Axes, part: pd.DataFrame, look: style.Look) -> panels.Note | None:
    """Draw one series with its closed form and its fit; return the note on its slope."""
    law = Power(*part[["slope", "slope_low", "slope_high"]].iloc[0])
    x = np.array(sorted(set(part["x"])))
    if not np.isnan(law.exponent):
        y = _fit(part).at(x)
        ax.plot(x, y, color=look.colour, lw=style.pt(2.6), alpha=0.3, solid_capstyle="butt")
    theory = part.dropna(subset=["predicted"])
    ax.plot(theory["x"], theory["predicted"], color=look.colour, ls=style.DASHED, lw=style.pt(0.9))
    panels.points(ax, part["x"], part.rename(columns={"value": "mean"}), look)
    if np.isnan(law.exponent):
        return None
    last, predicted = (
        float(part.sort_values("x")["value"].iloc[-1]),
        part["slope_predicted"].iloc[0],
    )
    spec = f".{law.digits}f"
    theory = [] if np.isnan(predicted) else [f"theory {signed(float(predicted), spec)}"]
    return panels.Note(last, (str(law), *theory), look)


def _drawing(name: str) -> Callable[[Records, Path], list[Path]]:
    """Return the function that writes one of the figures."""
    table, picture = partial(plotted, name=name), partial(figure, name=name)
    return writer(name, Records.measures, table, picture)


draw_batch = _drawing("batch")
draw_channel_groups = _drawing("channel_groups")
draw_directions = _drawing("directions")
draw_fan_in = _drawing("fan_in")
draw_parameters = _drawing("parameters")
draw_patches = _drawing("patches")
draw_size = _drawing("size")
