"""Interactive figures as plotly reads them, from the tables of the figures of the same names.

What stands in them is written for plotly, which takes tags in text for markup: see `safe`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from html import escape
from typing import Any

import pandas as pd

from fgbench.analysis import epochs, learning_curves, progress, relative_variance, style
from fgbench.analysis.site.table import NOTHING, digits, interval

Spec = dict[str, Any]
SYMBOLS: dict[style.Marker, str] = {
    **{"o": "circle", "s": "square", "D": "diamond", "^": "triangle-up", "v": "triangle-down"},
    **{"8": "octagon", "d": "diamond-tall", "P": "cross", "X": "x", "p": "pentagon", "*": "star"},
    **{"h": "hexagon", "<": "triangle-left", "H": "hexagon2", ">": "triangle-right"},
    (6, 1, 0): "hexagram",
}
TICK = 26  # letters of a name beside an axis; the whole one is in the label of its point
GRID = {"gridcolor": "#e3e3e3", "zeroline": False, "linecolor": style.FAINT, "ticks": "outside"}


def variance(table: pd.DataFrame) -> Spec:
    """Draw relative variance by method, measured beside theory.

    Args:
        table: of `fgbench.analysis.relative_variance.plotted`, of one panel.

    Returns:
        Data and layout.
    """
    rows = table.reset_index(drop=True)
    names = [_told(row) for _, row in rows.iterrows()]
    data: list[Spec] = []
    for at, row in rows.iterrows():
        if row["value"] > relative_variance.ZERO:
            data.append(_point(row, "x", at, names[int(at)]))
    theory = rows[rows["predicted"] > relative_variance.ZERO]
    data.append({
        "type": "scatter", "mode": "markers", "name": "theory (closed form)", "x": _list(theory["predicted"]),
        "y": [int(at) for at in theory.index], "showlegend": True,
        "marker": {"symbol": "diamond-open", "size": 8, "color": "#000", "line": {"width": 1.3}},
        "text": [f"{names[int(at)]}<br>theory {digits(value)}" for at, value in theory["predicted"].items()],
        "hovertemplate": "%{text}<extra></extra>",
    })  # fmt: skip
    missing = [
        {"x": 0, "xref": "paper", "xanchor": "left", "y": int(at), "showarrow": False, "text": words}
        for at, row in rows.iterrows()
        if (words := relative_variance.words(row["value"]) if not row["value"] > relative_variance.ZERO else "")
    ]  # fmt: skip
    ticks = {"tickvals": list(range(len(rows))), "ticktext": [_short(n) for n in rows["label"]]}
    layout = {
        "height": 150 + 26 * len(rows),
        "xaxis": {**GRID, **_log("relative variance E|e − Ee|² / |g|²")},
        "yaxis": {**GRID, **ticks, "range": [len(rows) - 0.5, -0.5], "ticks": "", "automargin": True},
        "annotations": missing,
        "showlegend": True,
    }  # fmt: skip
    return {"data": data, "layout": layout}


def efficiency(table: pd.DataFrame) -> Spec:
    """Draw efficiency against cost.

    Args:
        table: of `fgbench.analysis.efficiency.plotted`, of one panel.

    Returns:
        Data and layout.
    """
    data = [
        {**_point(row, "y", row["forwards"], _told(row)), "showlegend": True}
        for _, row in table.iterrows()
    ]
    layout = {
        "height": 420,
        "xaxis": {**GRID, **_log("forward equivalents per estimate")},
        "yaxis": {**GRID, **_log("efficiency")},
    }
    return {"data": data, "layout": layout}


def layers(table: pd.DataFrame) -> Spec:
    """Draw relative variance at every site, with its closed form dashed."""
    return _sites(table, "relative variance of a site", log=True)


def bias(table: pd.DataFrame) -> Spec:
    """Draw the bias at every site; filled where it was found."""
    return _sites(table, "bias of a site |Ee − g| / |g|", log=False)


def training(table: pd.DataFrame) -> Spec:
    """Draw test error while training, against epochs, seconds or forward equivalents.

    Args:
        table: of `fgbench.analysis.progress.plotted`, of one panel.

    Returns:
        Data and layout, and in ``axes`` the other choices of the horizontal axis, whose numbers are in
        the ``meta`` of every curve.
    """
    table = table.rename(columns={v: k for k, v in learning_curves.PERCENT.items()})
    looks = epochs.looks(table)
    data: list[Spec] = []
    for (label, run), part in table.groupby(["label", "run"], sort=False):
        look = looks[str(label)]
        if run == "mean" and (part["n"] > 1).any():
            data.append(_band(part, look))
        data.append(_curve(part, look, str(label), str(run)))
    layout = {
        "height": 460,
        "xaxis": {**GRID, "title": {"text": "epochs"}},
        "yaxis": {**GRID, **_log("test error (%)")},
    }
    axes = [{"name": name, "title": text.replace("\n", " ")} for name, text in progress.AXES.items()]
    return {"data": data, "layout": layout, "axes": axes}


def safe(text: object) -> str:
    """Write text for plotly, which takes tags in it for markup."""
    return escape(str(text), quote=False)


def _sites(table: pd.DataFrame, axis: str, log: bool) -> Spec:
    """Draw records side by side at every site, in the order of the network."""
    runs = list(table.groupby(["label", "seed"], sort=False, dropna=False))
    step, data = 0.6 / max(1, len(runs) - 1), []
    for at, ((label, seed), part) in enumerate(runs):
        look = style.look(str(part["method"].iloc[0]))
        shift = step * at - 0.3 * (len(runs) > 1)
        name = str(label) if len({s for (n, s), _ in runs if n == label}) < 2 else f"{label}, seed {seed}"
        found = part.get("found", pd.Series(look.filled, part.index))
        lines = [
            f"{safe(name)}<br>{safe(row['site'])}<br>{interval(row)}, n {digits(row['n'], 6)}{_aside(row)}"
            for _, row in part.iterrows()
        ]
        mark = _marker(look)
        mark["symbol"] = [_symbol(look, filled=bool(f)) for f in found]
        trace = {"type": "scatter", "mode": "markers", "name": safe(name), "legendgroup": str(at)}
        trace |= {"x": _list(part["position"] + shift), "y": _list(part["value"]), "marker": mark}
        trace |= {"error_y": _bars(part, look), "text": lines, "hovertemplate": "%{text}<extra></extra>"}
        data.append(trace)
        if "predicted" in part and part["predicted"].notna().any():
            line = {"color": look.colour, "width": 1, "dash": "5px,3px"}
            theory = {"type": "scatter", "mode": "lines", "line": line, "hoverinfo": "skip"}
            theory |= {"x": trace["x"], "y": _list(part["predicted"]), "showlegend": False}
            data.append({**theory, "legendgroup": str(at), "name": "theory"})
    sites = table.drop_duplicates("position").sort_values("position")
    ticks = {"tickvals": _list(sites["position"]), "ticktext": [_short(site) for site in sites["site"]]}
    shown = _log(axis) if log else {"title": {"text": axis}, "rangemode": "tozero"}
    layout = {
        "height": 440,
        "xaxis": {**GRID, **ticks, "title": {"text": "site, from input to loss"}, "automargin": True},
        "yaxis": {**GRID, **shown},
    }
    return {"data": data, "layout": layout}


def _aside(row: pd.Series) -> str:
    """Say what belongs to the number of a site."""
    if "predicted" in row:
        return f"<br>theory {digits(row['predicted'])}" if row["predicted"] == row["predicted"] else ""
    return f"<br>adjusted p {digits(row['p_adjusted'], 2)}, detectable {digits(row['detectable'])}"


def _point(row: pd.Series, along: str, place: float, name: str) -> Spec:
    """Draw one measured number with its interval, along one of the two axes."""
    look = style.look(str(row["method"]))
    across = "y" if along == "x" else "x"
    one = row.to_frame().T
    counts = " × ".join(digits(row[n], 6) for n in ("draws", "inits", "batches"))
    said = f"{name}<br>{interval(row)}<br>draws × inits × batches: {counts}"
    return {
        "type": "scatter", "mode": "markers", "name": safe(row["label"]), along: [float(row["value"])],
        across: [float(place)], f"error_{along}": _bars(one, look), "text": [said], "showlegend": False,
        "marker": {**_marker(look), "symbol": _symbol(look)}, "hovertemplate": "%{text}<extra></extra>",
    }  # fmt: skip


def _curve(part: pd.DataFrame, look: style.Look, label: str, run: str) -> Spec:
    """Draw the curve of a mean, or of a run that diverged, which ends in a cross."""
    lost = run != "mean"
    name = f"{label}, {run} diverged" if lost else label
    axes = {axis: _list(part[axis]) for axis in progress.AXES}
    said = [
        f"{safe(name)}<br>epoch {digits(row['epoch'], 6)}: "
        + (digits(row["mean"]) if row["n"] < 2 else f"{interval({**row, 'value': row['mean']})}, n {row['n']}")
        + " %"
        for _, row in part.iterrows()
    ]
    mark = {**_marker(look), "symbol": _symbol(look), "size": 6}
    if lost:
        mark["symbol"] = ["circle"] * (len(part) - 1) + ["x"]
        mark["size"] = [0] * (len(part) - 1) + [9]
    line = {"color": look.colour, "width": 1 if lost else 2, "dash": _dash(look.dashes)}
    return {
        "type": "scatter", "mode": "lines+markers", "name": safe(name), "x": axes["epoch"], "meta": axes,
        "y": _list(part["mean"]), "line": line, "marker": mark, "text": said, "legendgroup": safe(label),
        "showlegend": True, "hovertemplate": "%{text}<extra></extra>",
    }  # fmt: skip


def _band(part: pd.DataFrame, look: style.Look) -> Spec:
    """Shade the interval of a mean."""
    axes = {axis: [*_list(part[axis]), *_list(part[axis])[::-1]] for axis in progress.AXES}
    return {
        "type": "scatter", "mode": "lines", "x": axes["epoch"], "meta": axes, "hoverinfo": "skip",
        "y": [*_list(part["low"]), *_list(part["high"])[::-1]], "fill": "toself", "line": {"width": 0},
        "fillcolor": f"rgba({','.join(map(str, _rgb(look.colour)))},0.18)", "showlegend": False,
        "legendgroup": safe(part["label"].iloc[0]),
    }  # fmt: skip


def _bars(part: pd.DataFrame, look: style.Look) -> Spec:
    """Draw intervals."""
    value, low, high = (part[name].astype(float) for name in ("value", "low", "high"))
    up, down = (high - value).fillna(0).clip(lower=0), (value - low).fillna(0).clip(lower=0)
    bars = {"type": "data", "symmetric": False, "array": _list(up), "arrayminus": _list(down)}
    return {**bars, "color": look.colour, "thickness": 1.4, "width": 0}


def _marker(look: style.Look) -> Spec:
    """Draw a method's marker."""
    return {"color": look.colour, "size": 9, "line": {"width": 1.2, "color": look.colour}}


def _symbol(look: style.Look, filled: bool = True) -> str:
    """Name a method's marker as plotly does."""
    return SYMBOLS[look.marker] + ("" if filled and look.filled else "-open")


def _dash(dashes: style.Dashes) -> str:
    """Write a line style as plotly does."""
    return ",".join(f"{2 * length:g}px" for length in dashes[1]) or "solid"


def _log(title: str) -> Spec:
    """Make an axis logarithmic."""
    return {"type": "log", "title": {"text": title}, "exponentformat": "power"}


def _rgb(colour: str) -> Iterator[int]:
    """Read a hexadecimal colour."""
    return (int(colour[at : at + 2], 16) for at in (1, 3, 5))


def _told(row: pd.Series) -> str:
    """Name a record for the label of its point."""
    return safe(f"{row['label']}, seed {digits(row['seed'], 6)}" if row["seed"] == row["seed"] else row["label"])


def _short(name: object) -> str:
    """Cut a name to what fits beside an axis."""
    text = str(name)
    return safe(text if len(text) <= TICK else f"{text[: TICK - 1]}…")


def _list(values: pd.Series | Sequence[float]) -> list[float | None]:
    """Write numbers as JSON can hold them."""
    return [None if pd.isna(value) else float(value) for value in values]
