"""Building blocks of interactive figures: traces, markers, axes and escaped text in plotly's format."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape
from math import ceil, floor, isinf, log10
from typing import Any

import numpy as np
import pandas as pd

from fgbench.reporting.figures import relative_variance
from fgbench.reporting.plotting import panels, style
from fgbench.reporting.site.method_docs import breakable
from fgbench.reporting.site.table import digits

Spec = dict[str, Any]
SYMBOLS: dict[style.Marker, str] = {
    **{"o": "circle", "s": "square", "D": "diamond", "^": "triangle-up", "v": "triangle-down"},
    **{"8": "octagon", "d": "diamond-tall", "P": "cross", "X": "x", "p": "pentagon", "*": "star"},
    **{"h": "hexagon", "<": "triangle-left", "H": "hexagon2", ">": "triangle-right"},
    **{(6, 1, 0): "hexagram", (4, 1, 0): "star-diamond", (4, 1, 45): "star-square"},
}
TICK, LINE, LINES = (
    26,
    30,
    3,
)  # characters of a tick label; of a line of a legend; lines of a legend
STEPS = (  # possible ticks within a decade, from few to many
    *((1, 2, 5), (1, 1.5, 2, 3, 4, 5, 7)),
    *(tuple(1 + at / parts for at in range(9 * parts)) for parts in (2, 10)),
)
SEEN = 3  # fewest ticks within the range of the data, where any of `STEPS` has as many
GRID = {
    "gridcolor": "#e3e3e3",
    "zeroline": False,
    "linecolor": style.FAINT,
    "ticks": "outside",
    "automargin": True,
}


def safe(text: object) -> str:
    """Return text escaped for plotly, which interprets tags in it as markup.

    Example:
        >>> safe("a<b>")
        'a&lt;b&gt;'
    """
    return escape(str(text), quote=False)


def trace(name: object, text: list[str] | None = None, **more: Any) -> Spec:
    """Return a scatter trace.

    Args:
        name: in the legend.
        text: label of every point when hovered over, already escaped; None for no labels.
        more: further properties, with plotly's names.

    Returns:
        A trace.

    Example:
        >>> trace("BP", x=[1], y=[2])["hoverinfo"]
        'skip'
    """
    hover: Spec = {"hoverinfo": "skip"}
    if text is not None:
        hover = {"text": text, "hovertemplate": "%{text}<extra></extra>"}
    return {"type": "scatter", "mode": "markers", "name": wrapped(name), **hover, **more}


def bars(part: pd.DataFrame, look: style.Look) -> Spec:
    """Return the error bars of intervals.

    Args:
        part: columns ``value low high``.
        look: of the method.

    Example:
        >>> table = pd.DataFrame({"value": [2.0], "low": [1.5], "high": [3.0]})
        >>> bars(table, style.look("BP"))["array"]
        [1.0]
    """
    value, low, high = (part[name].to_numpy(float) for name in ("value", "low", "high"))
    up, down = (np.fmax(reach, 0.0) for reach in (high - value, value - low))  # 0 for NaN
    ends = {"type": "data", "symmetric": False, "array": numbers(up), "arrayminus": numbers(down)}
    return {**ends, "color": look.colour, "thickness": 1.4, "width": 0}


def marker(look: style.Look) -> Spec:
    """Return colour, size and outline of a method's marker.

    Example:
        >>> marker(style.look("BP"))["size"]
        9
    """
    return {"color": look.colour, "size": 9, "line": {"width": 1.2, "color": look.colour}}


def crosses(x: Iterable[float | None], y: Iterable[float | None]) -> Spec:
    """Return the crosses over points that are not comparable, as in the pictures of the same name.

    Args:
        x: horizontal positions of these points.
        y: vertical positions.

    Example:
        >>> crosses([1.0], [2.0])["marker"]["symbol"]
        'x-thin-open'
    """
    mark = {"symbol": "x-thin-open", "size": 13, "color": style.INK, "line": {"width": 1.6}}
    at: Spec = {"x": numbers(x), "y": numbers(y), "marker": mark, "showlegend": False}
    return trace("not comparable", **at)


def crossed_entry() -> Spec:
    """Return the legend entry of `crosses`: a trace without a point, since crosses go with their method.

    Example:
        >>> crossed_entry()["name"].replace("<br>", " ")
        'not comparable: scale is not 1'
    """
    (name,) = panels.CROSSED
    entry: Spec = {**crosses([None], [None]), "showlegend": True, "legendgroup": safe(name)}
    return entry | {"name": wrapped(name)}


def symbol(look: style.Look, filled: bool) -> str:
    """Return plotly's name of a method's marker.

    Example:
        >>> symbol(style.look("BP"), False)
        'circle-open'
    """
    return SYMBOLS[look.marker] + "-open" * (not filled)


def dash(dashes: style.Dashes) -> str:
    """Return a line style in plotly's format.

    Example:
        >>> dash((0, (3, 1)))
        '6px,2px'
        >>> dash((0, ()))
        'solid'
    """
    return ",".join(f"{2 * length:g}px" for length in dashes[1]) or "solid"


def log(title: str, drawn: pd.DataFrame) -> Spec:
    """Return a logarithmic axis: a tick per decade, or ordinary numbers where the range is small.

    Args:
        title: of the axis.
        drawn: numbers that are plotted along it.

    Example:
        >>> log("error", pd.DataFrame({"value": [0.9, 60.0]}))["ticktext"]
        ['0.5', '1', '2', '5', '10', '20', '50', '100']
    """
    values = drawn.stack()
    values = values[values > relative_variance.ZERO]
    wide = values.empty or values.max() > 300 * values.min()
    axis = {**GRID, "type": "log", "title": {"text": title}}
    if wide:
        return {**axis, "dtick": 1, "exponentformat": "power"}
    low, high = float(values.min()), float(values.max())
    decades = range(floor(log10(low)) - 1, ceil(log10(high)) + 1)
    for steps in STEPS:
        ticks = [step * 10.0**k for k in decades for step in steps]
        if sum(low <= tick <= high for tick in ticks) >= SEEN:
            break
    ticks = [tick for tick in ticks if low / 2 <= tick <= high * 2]
    return {**axis, "tickvals": ticks, "ticktext": [digits(tick) for tick in ticks]}


def shade(look: style.Look, among: int) -> str:
    """Return a method's colour for a band, more transparent the more bands there are.

    Example:
        >>> shade(style.look("BP"), 1).startswith("rgba(")
        True
    """
    red, green, blue = (int(look.colour[at : at + 2], 16) for at in (1, 3, 5))
    return f"rgba({red},{green},{blue},{style.thin(among)})"


def wrapped(name: object) -> str:
    """Return a label broken into at most `LINES` lines between its settings, without what does not fit.

    Example:
        >>> wrapped("FG-W, batches=1, inits=4, moments=1 5")
        'FG-W, batches=1, inits=4,<br>moments=1 5'
    """
    lines = [""]
    for part in breakable(str(name)):
        if lines[-1] and len(lines[-1] + part.rstrip()) > LINE:
            lines.append("")
        lines[-1] += part
    cut = [line if len(line.rstrip()) <= LINE else f"{line[: LINE - 1]}…" for line in lines]
    if len(cut) > LINES:
        cut = [*cut[: LINES - 1], f"{cut[LINES - 1].rstrip(', …')} …"]
    return "<br>".join(safe(line.rstrip()) for line in cut)


def short(name: object, most: int = TICK) -> str:
    """Return the name of a site shortened for a tick label, with its beginning and its end.

    Example:
        >>> short("body.0.mixer.tokens.linear", 12)
        'body….linear'
    """
    text, head = str(name), 2 * most // 5
    return safe(text if len(text) <= most else f"{text[:head]}…{text[head + 1 - most :]}")


def numbers(values: Iterable[float | None]) -> list[float | None]:
    """Return numbers as JSON can hold them, with None for NaN and infinities.

    Example:
        >>> numbers([1, float("nan")])
        [1.0, None]
    """
    return [
        None if value is None or pd.isna(value) or isinf(value) else float(value)
        for value in values
    ]
