"""Interactive figures as plotly reads them, from the tables of the figures of the same names.

Every text in them passes `fgbench.reporting.site.plotly_marks.safe`: plotly takes tags in it for markup.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from math import log10

import pandas as pd

from fgbench.reporting.figures import (
    efficiency,
    learning_curves,
    progress,
    relative_variance,
    sites,
)
from fgbench.reporting.plotting import style
from fgbench.reporting.site import plotly_marks
from fgbench.reporting.site.table import digits, interval

ZERO = relative_variance.ZERO
MOST_TICKS = 8  # costs that are named one by one
APART = 0.16  # of a row: how far a measured point and its theory are from its middle


def variance(table: pd.DataFrame) -> plotly_marks.Spec:
    """Draw relative variance by method, measured beside theory.

    Args:
        table: of `fgbench.reporting.figures.relative_variance.plotted`, of one panel.

    Returns:
        Data and layout.
    """
    rows = table.reset_index(drop=True)
    names = [_told(row) for _, row in rows.iterrows()]
    looks = style.looks(rows["label"], rows["method"])
    theory = rows.loc[rows["predicted"] > ZERO, "predicted"]
    data: list[plotly_marks.Spec] = []
    for at, row in rows.iterrows():
        if row["value"] > ZERO:  # above its theory, which else would hide it
            place, look = int(at) - APART * (at in theory.index), looks[str(row["label"])]
            data.append(_point(row, "x", place, names[int(at)], look))
    said = [f"{names[int(at)]}<br>theory {digits(value)}" for at, value in theory.items()]
    mark = {"symbol": "diamond-open", "size": 8, "color": "#000", "line": {"width": 1.3}}
    x, y = plotly_marks.numbers(theory), [int(at) + APART for at in theory.index]
    data.append(
        plotly_marks.trace("theory (closed form)", said, x=x, y=y, marker=mark, showlegend=True)
    )
    aside = {"x": 0, "xref": "paper", "xanchor": "left", "xshift": 8, "showarrow": False}
    missing = [
        {**aside, "y": int(at), "text": relative_variance.words(value)}
        for at, value in rows["value"].items()
        if not value > ZERO
    ]
    labels = [plotly_marks.wrapped(name) for name in rows["label"]]
    ticks = {"tickvals": list(rows.index), "ticktext": labels}
    most = max(label.count("<br>") for label in labels)
    places = {"range": [len(rows) - 0.5, -0.5]}
    layout = {
        "height": 150 + (26 + 13 * most) * len(rows),
        "xaxis": plotly_marks.log("relative variance", rows[["value", "low", "high", "predicted"]]),
        "yaxis": {**plotly_marks.GRID, **ticks, **places, "ticks": ""},
        "annotations": missing,
        "showlegend": True,
        "legend": {"orientation": "h", "x": 0, "xref": "container", "y": 1, "yanchor": "bottom"},
    }
    return {"data": data, "layout": layout}


def against_cost(table: pd.DataFrame) -> plotly_marks.Spec:
    """Draw efficiency against cost.

    Args:
        table: of `fgbench.reporting.figures.efficiency.plotted`, of one panel.

    Returns:
        Data and layout.
    """
    places = efficiency.apart(table["forwards"])
    looks = style.looks(table["label"], table["method"])
    points = [
        _point(row, "y", places[at], _told(row), looks[str(row["label"])])
        for at, row in table.iterrows()
    ]
    costs = sorted(set(table["forwards"]))
    shown = {"tickvals": costs, "ticktext": [digits(cost) for cost in costs]}
    shown = shown if len(costs) <= MOST_TICKS else {}
    ends = [log10(costs[0] / 1.3), log10(costs[-1] * 1.3)]
    cost = plotly_marks.log("forward equivalents per estimate", table[["forwards"]])
    layout = {
        "height": 420,
        "xaxis": {**cost, **shown, "range": ends},
        "yaxis": plotly_marks.log("efficiency", table[["value", "low", "high"]]),
    }
    return {"data": [{**point, "showlegend": True} for point in points], "layout": layout}


def layers(table: pd.DataFrame) -> plotly_marks.Spec:
    """Draw relative variance at every site, with its closed form dashed."""
    return _sites(table, "relative variance of a site", log=True)


def bias(table: pd.DataFrame) -> plotly_marks.Spec:
    """Draw the bias at every site; filled where it was found."""
    return _sites(table, "bias of a site |Ee − g| / |g|", log=False)


def training(table: pd.DataFrame) -> plotly_marks.Spec:
    """Draw test error while training, against epochs, seconds or forward equivalents.

    Args:
        table: of `fgbench.reporting.figures.progress.plotted`, of one panel.

    Returns:
        Data and layout, and in ``axes`` the other choices of the horizontal axis, whose numbers are in
        the ``meta`` of every curve.
    """
    table = table.rename(columns={v: k for k, v in learning_curves.PERCENT.items()})
    looks = style.looks(table["label"], table["method"])
    data: list[plotly_marks.Spec] = []
    for (label, run), part in table.groupby(["label", "run"], sort=False):
        look = looks[str(label)]
        if run == "mean" and (part["n"] > 1).any():
            data.append(_band(part, look, len(looks)))
        data.append(_curve(part, look, str(label), str(run)))
    layout = {
        "height": 460,
        "xaxis": {**plotly_marks.GRID, "title": {"text": "epochs"}},
        "yaxis": plotly_marks.log("test error (%)", table[["mean", "low", "high"]]),
    }
    axes = [
        {"name": name, "title": text.replace("\n", " ")} for name, text in progress.AXES.items()
    ]
    return {"data": data, "layout": layout, "axes": axes}


def _sites(table: pd.DataFrame, axis: str, log: bool) -> plotly_marks.Spec:
    """Draw records side by side at every site, in the order of the network."""
    runs = list(table.groupby(["label", "seed"], sort=False, dropna=False))
    data, asides = [], sites.asides(len(runs))
    counts = Counter(label for (label, _), _ in runs)
    looks = style.looks(table["label"], table["method"])
    for at, ((label, seed), part) in enumerate(runs):
        name = f"{label}, seed {seed}" if counts[label] > 1 else str(label)
        x = plotly_marks.numbers(part["position"] + asides[at])
        more = {"legendgroup": str(at), "x": x}
        data += [{**more, **trace} for trace in _record(part, name, x, looks[str(label)])]
    order = table.drop_duplicates("position").sort_values("position")
    places = plotly_marks.numbers(order["position"])
    ticks = {"tickvals": places, "ticktext": [plotly_marks.short(site) for site in order["site"]]}
    where = {"title": {"text": "site, from input to loss"}}
    shown = {**plotly_marks.GRID, "title": {"text": axis}, "rangemode": "tozero"}
    if log:
        shown = plotly_marks.log(axis, table[["value", "low", "high", "predicted"]])
    layout = {"height": 440, "xaxis": {**plotly_marks.GRID, **ticks, **where}, "yaxis": shown}
    return {"data": data, "layout": layout}


def _record(
    part: pd.DataFrame, name: str, x: list[float | None], look: style.Look
) -> Iterator[plotly_marks.Spec]:
    """Draw one record at every site, with what belongs to it; where bias is drawn, filled says found."""
    found = part.get("found", pd.Series(look.filled, part.index))
    said = [
        f"{plotly_marks.safe(name)}<br>{plotly_marks.safe(row['site'])}<br>{interval(row)}, "
        f"n {digits(row['n'], 6)}{_aside(row)}"
        for _, row in part.iterrows()
    ]
    mark = {
        **plotly_marks.marker(look),
        "symbol": [plotly_marks.symbol(look, bool(f)) for f in found],
    }
    y = plotly_marks.numbers(part["value"])
    yield plotly_marks.trace(
        name, said, y=y, marker=mark, error_y=plotly_marks.bars(part, look), showlegend=True
    )
    yield from ({**drawn, "showlegend": False} for drawn in _beside(part, x, look))


def _beside(
    part: pd.DataFrame, x: list[float | None], look: style.Look
) -> Iterator[plotly_marks.Spec]:
    """Draw what belongs to the points of a record: closed form, detectable bias, bars without a point."""
    if "predicted" in part:
        line = {"color": look.colour, "width": 1, "dash": "5px,3px"}
        yield plotly_marks.trace(
            "theory", mode="lines", y=plotly_marks.numbers(part["predicted"]), line=line
        )
    else:
        mark = {"symbol": "line-ew-open", "size": 13, "color": look.colour, "line": {"width": 1.5}}
        yield plotly_marks.trace(
            "detectable", y=plotly_marks.numbers(part["detectable"]), marker=mark
        )
    bare = part["value"].isna() & part["high"].notna()
    places = [place for place, is_bare in zip(x, bare, strict=True) if is_bare]
    if places:
        ends = (plotly_marks.numbers(part.loc[bare, end]) for end in ("low", "high"))
        y = [end for low, high in zip(*ends, strict=True) for end in (low, high, None)]
        along = [end for place in places for end in (place, place, None)]
        line = {"color": look.colour, "width": 1.4}
        yield plotly_marks.trace("interval", mode="lines", x=along, y=y, line=line)


def _aside(row: pd.Series) -> str:
    """Say what belongs to the number of a site."""
    if "predicted" not in row:
        p, detectable = digits(row["p_adjusted"], 2), digits(row["detectable"])
        return f"<br>adjusted p {p}, detectable {detectable}"
    return f"<br>theory {digits(row['predicted'])}" if pd.notna(row["predicted"]) else ""


def _point(
    row: pd.Series, along: str, place: float, name: str, look: style.Look
) -> plotly_marks.Spec:
    """Draw one measured number with its interval, along one of the two axes."""
    counts = " × ".join(digits(row[n], 6) for n in ("draws", "inits", "batches"))
    said = f"{name}<br>{interval(row)}<br>draws × inits × batches: {counts}"
    at = {along: [float(row["value"])], "y" if along == "x" else "x": [float(place)]}
    mark = {**plotly_marks.marker(look), "symbol": plotly_marks.symbol(look, look.filled)}
    ends = {f"error_{along}": plotly_marks.bars(row.to_frame().T, look)}
    return plotly_marks.trace(row["label"], [said], marker=mark, showlegend=False, **at, **ends)


def _curve(part: pd.DataFrame, look: style.Look, label: str, run: str) -> plotly_marks.Spec:
    """Draw the curve of a mean, or of a run that diverged, which ends in a cross."""
    lost = run != "mean"
    name = f"{label}, {run} diverged" if lost else label
    said = []
    for _, row in part.iterrows():
        one = digits(row["mean"])
        told = one if row["n"] < 2 else f"{interval({**row, 'value': row['mean']})}, n {row['n']}"
        said.append(f"{plotly_marks.safe(name)}<br>epoch {digits(row['epoch'], 6)}: {told} %")
    mark = {
        **plotly_marks.marker(look),
        "symbol": plotly_marks.symbol(look, look.filled),
        "size": 6,
    }
    if lost:
        ends = len(part) - 1
        mark |= {"symbol": ["circle"] * ends + ["x"], "size": [0] * ends + [9]}
    line = {"color": look.colour, "width": 1 if lost else 2, "dash": plotly_marks.dash(look.dashes)}
    axes = {axis: plotly_marks.numbers(part[axis]) for axis in progress.AXES}
    more: plotly_marks.Spec = {
        "x": axes["epoch"],
        "y": plotly_marks.numbers(part["mean"]),
        "meta": axes,
    }
    more |= {
        "line": line,
        "marker": mark,
        "legendgroup": plotly_marks.safe(label),
        "showlegend": True,
    }
    return plotly_marks.trace(name, said, mode="lines+markers", **more)


def _band(part: pd.DataFrame, look: style.Look, among: int) -> plotly_marks.Spec:
    """Shade the interval of a mean, one among several."""
    label, forth, back = part["label"].iloc[0], part, part[::-1]
    axes = {
        a: [*plotly_marks.numbers(forth[a]), *plotly_marks.numbers(back[a])] for a in progress.AXES
    }
    y = [*plotly_marks.numbers(forth["low"]), *plotly_marks.numbers(back["high"])]
    fill: plotly_marks.Spec = {
        "fill": "toself",
        "fillcolor": plotly_marks.shade(look, among),
        "line": {"width": 0},
    }
    more: plotly_marks.Spec = {"legendgroup": plotly_marks.safe(label), "showlegend": False}
    return plotly_marks.trace(label, mode="lines", x=axes["epoch"], y=y, meta=axes, **fill, **more)


def _told(row: pd.Series) -> str:
    """Name a record for the label of its point."""
    return plotly_marks.safe(
        f"{row['label']}, seed {digits(row['seed'], 6)}"
        if row["seed"] == row["seed"]
        else row["label"]
    )
