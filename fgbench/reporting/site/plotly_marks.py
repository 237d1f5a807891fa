"""What interactive figures are made of: marks and axes as plotly reads them, and text that is safe in it."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape
from math import ceil, floor, log10
from typing import Any

import pandas as pd

from fgbench.reporting.figures import relative_variance
from fgbench.reporting.plotting import style
from fgbench.reporting.site.method_docs import breakable
from fgbench.reporting.site.table import digits

Spec = dict[str, Any]
SYMBOLS: dict[style.Marker, str] = {
    **{"o": "circle", "s": "square", "D": "diamond", "^": "triangle-up", "v": "triangle-down"},
    **{"8": "octagon", "d": "diamond-tall", "P": "cross", "X": "x", "p": "pentagon", "*": "star"},
    **{"h": "hexagon", "<": "triangle-left", "H": "hexagon2", ">": "triangle-right"},
    **{(6, 1, 0): "hexagram", (4, 1, 0): "star-diamond", (4, 1, 45): "star-square"},
}
TICK, LINE, LINES = 26, 30, 3  # letters of a site's name; of a line of a label, and its lines
STEPS = (  # ticks of a decade
    *((1, 2, 5), (1, 1.5, 2, 3, 4, 5, 7)),
    *(tuple(1 + at / parts for at in range(9 * parts)) for parts in (2, 10)),
)
SEEN = 3  # ticks that lie between the ends of what is drawn, if any steps have as many
GRID = {
    "gridcolor": "#e3e3e3",
    "zeroline": False,
    "linecolor": style.FAINT,
    "ticks": "outside",
    "automargin": True,
}


def safe(text: object) -> str:
    """Write text for plotly, which takes tags in it for markup."""
    return escape(str(text), quote=False)


def trace(name: object, text: list[str] | None = None, **more: Any) -> Spec:
    """Draw something that has a name.

    Args:
        name: in the legend.
        text: the label of every point, safe already; without any it has none.
        more: as plotly names it.

    Returns:
        A trace.
    """
    said: Spec = {"hoverinfo": "skip"}
    if text is not None:
        said = {"text": text, "hovertemplate": "%{text}<extra></extra>"}
    return {"type": "scatter", "mode": "markers", "name": wrapped(name), **said, **more}


def bars(part: pd.DataFrame, look: style.Look) -> Spec:
    """Draw intervals."""
    value, low, high = (part[name].astype(float) for name in ("value", "low", "high"))
    up, down = (high - value).fillna(0).clip(lower=0), (value - low).fillna(0).clip(lower=0)
    ends = {"type": "data", "symmetric": False, "array": numbers(up), "arrayminus": numbers(down)}
    return {**ends, "color": look.colour, "thickness": 1.4, "width": 0}


def marker(look: style.Look) -> Spec:
    """Draw a method's marker."""
    return {"color": look.colour, "size": 9, "line": {"width": 1.2, "color": look.colour}}


def symbol(look: style.Look, filled: bool) -> str:
    """Name a marker as plotly does."""
    return SYMBOLS[look.marker] + "-open" * (not filled)


def dash(dashes: style.Dashes) -> str:
    """Write a line style as plotly does."""
    return ",".join(f"{2 * length:g}px" for length in dashes[1]) or "solid"


def log(title: str, drawn: pd.DataFrame) -> Spec:
    """Make an axis logarithmic, with a tick per decade, or plain numbers where there are few."""
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
    """Make a method's colour thin enough for a band, thinner among many."""
    red, green, blue = (int(look.colour[at : at + 2], 16) for at in (1, 3, 5))
    return f"rgba({red},{green},{blue},{style.thin(among)})"


def wrapped(name: object) -> str:
    """Break a label into a few lines, between its settings; of one that is longer the last are left out."""
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
    """Cut the name of a site to what fits beside an axis: its ends tell it from others."""
    text, head = str(name), 2 * most // 5
    return safe(text if len(text) <= most else f"{text[:head]}…{text[head + 1 - most :]}")


def numbers(values: Iterable[float]) -> list[float | None]:
    """Write numbers as JSON can hold them."""
    return [None if pd.isna(value) else float(value) for value in values]
