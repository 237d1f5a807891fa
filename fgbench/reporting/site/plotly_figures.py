"""Interactive figures for plotly, made from the tables of the figures of the same names.

All text is escaped by `fgbench.reporting.site.plotly_marks.safe`, since plotly interprets tags as markup.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from math import log10

import pandas as pd

from fgbench.records.metrics import ERROR, Shown
from fgbench.reporting.figures import (
    efficiency,
    learning_curves,
    progress,
    relative_variance,
    sites,
)
from fgbench.reporting.plotting import panels, style
from fgbench.reporting.site import plotly_marks
from fgbench.reporting.site.table import digits, interval

ZERO = relative_variance.ZERO
MOST_TICKS = 8  # up to as many different costs, each has a tick
APART = 0.16  # distance of a measured point and of its theory from the middle of a row, in rows


def variance(table: pd.DataFrame) -> plotly_marks.Spec:
    """Return the figure of relative variance by method, measured and predicted.

    Args:
        table: of `fgbench.reporting.figures.relative_variance.plotted`, of one panel.

    Returns:
        Data and layout.

    Example:
        >>> row = {"label": "BP", "method": "BP", "seed": 0, "value": 2.0, "low": 1.0, "high": 3.0,
        ...     "predicted": 2.1, "draws": 64, "inits": 1, "batches": 1, "unscaled": None}
        >>> variance(pd.DataFrame([row]))["data"][0]["x"]
        [2.0]
    """
    rows = table.reset_index(drop=True)
    names = [_point_name(row) for _, row in rows.iterrows()]
    looks = style.looks(rows["label"], rows["method"])
    theory = rows.loc[rows["predicted"] > ZERO, "predicted"]
    data: list[plotly_marks.Spec] = []
    crossed: list[tuple[float, float]] = []
    for at, row in rows.iterrows():
        if row["value"] > ZERO:  # above its theory, which would hide it otherwise
            place, look = int(at) - APART * (at in theory.index), looks[str(row["label"])]
            data.append(_point(row, "x", place, names[int(at)], look))
            crossed += [(row["value"], place)] * bool(pd.notna(row["unscaled"]))
    if crossed:
        data.append(plotly_marks.crosses(*zip(*crossed, strict=True)))
        data.append(plotly_marks.crossed_entry())
    labels = [f"{names[int(at)]}<br>theory {digits(value)}" for at, value in theory.items()]
    mark = {"symbol": "diamond-open", "size": 8, "color": "#000", "line": {"width": 1.3}}
    x, y = plotly_marks.numbers(theory), [int(at) + APART for at in theory.index]
    data.append(
        plotly_marks.trace("theory (closed form)", labels, x=x, y=y, marker=mark, showlegend=True)
    )
    aside = {"x": 0, "xref": "paper", "xanchor": "left", "xshift": 8, "showarrow": False}
    missing = [
        {**aside, "y": int(at), "text": relative_variance.words(row)}
        for at, row in rows.iterrows()
        if not row["value"] > ZERO
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
        "legend": {"orientation": "h", "x": 0, "y": 1, "yanchor": "bottom"},
    }
    return {"data": data, "layout": layout, "narrow": _labels_above(layout, labels)}


def _labels_above(layout: plotly_marks.Spec, labels: list[str]) -> plotly_marks.Spec:
    """Return the layout of a narrow page, where the label of a row is above it and not beside the chart."""
    most = max(label.count("<br>") for label in labels)
    first = {"x": 0, "xref": "paper", "xanchor": "left", "showarrow": False, "align": "left"}
    above = [
        {**first, "y": at, "yanchor": "bottom", "yshift": 14, "text": label, "font": {"size": 11}}
        for at, label in enumerate(labels)
    ]
    return {
        "height": 150 + (46 + 14 * most) * len(labels),
        "yaxis": {**layout["yaxis"], "showticklabels": False, "range": [len(labels) - 0.5, -0.8]},
        "annotations": [*layout["annotations"], *above],
        "margin": {"l": 12, "r": 12, "t": 36, "b": 56},
    }


def against_cost(table: pd.DataFrame) -> plotly_marks.Spec:
    """Return the figure of efficiency against cost.

    Args:
        table: of `fgbench.reporting.figures.efficiency.plotted`, of one panel.

    Returns:
        Data and layout.

    Example:
        >>> row = {"label": "BP", "method": "BP", "seed": 0, "value": 0.2, "low": 0.1, "high": 0.3,
        ...     "forwards": 3.0, "draws": 64, "inits": 1, "batches": 1}
        >>> against_cost(pd.DataFrame([row]))["data"][0]["y"]
        [0.2]
    """
    positions = efficiency.apart(table["forwards"])
    looks = style.looks(table["label"], table["method"])
    points = [
        _point(row, "y", positions[at], _point_name(row), looks[str(row["label"])])
        for at, row in table.iterrows()
    ]
    costs = sorted(set(table["forwards"]))
    ticks = panels.fitting(costs)
    shown = {"tickvals": ticks, "ticktext": [digits(cost) for cost in ticks]}
    shown = shown if len(ticks) <= MOST_TICKS else {}
    ends = [log10(costs[0] / 1.3), log10(costs[-1] * 1.3)]
    cost = plotly_marks.log("forward equivalents per estimate", table[["forwards"]])
    layout = {
        "height": 420,
        "xaxis": {**cost, **shown, "range": ends},
        "yaxis": plotly_marks.log("efficiency", table[["value", "low", "high"]]),
    }
    groups = [
        {"legendgroup": plotly_marks.safe(label), "showlegend": True} for label in table["label"]
    ]
    data = [{**point, **group} for point, group in zip(points, groups, strict=True)]
    return {"data": _once(data), "layout": layout}


def layers(table: pd.DataFrame) -> plotly_marks.Spec:
    """Return the figure of the relative variance at every site, with its closed form as a dashed line.

    Args:
        table: of `fgbench.reporting.figures.layers.plotted`, of one panel.

    Returns:
        Data and layout.

    Example:
        >>> row = {"label": "BP", "method": "BP", "seed": 0, "value": 2.0, "low": 1.0, "high": 3.0,
        ...     "predicted": 2.1, "n": 64, "position": 1, "site": "body.0.l0"}
        >>> layers(pd.DataFrame([row]))["data"][0]["y"]
        [2.0]
    """
    return _sites(table, "relative variance of a site", log=True)


def bias(table: pd.DataFrame) -> plotly_marks.Spec:
    """Return the figure of the bias at every site; filled markers differ significantly from zero.

    Args:
        table: of `fgbench.reporting.figures.bias.plotted`, of one panel.

    Returns:
        Data and layout.

    Example:
        >>> row = {"label": "BP", "method": "BP", "seed": 0, "value": 2.0, "low": 1.0, "high": 3.0,
        ...     "n": 64, "position": 1, "site": "body.0.l0", "p_adjusted": 0.5, "detectable": 4.0,
        ...     "found": False}
        >>> bias(pd.DataFrame([row]))["data"][0]["marker"]["symbol"]
        ['circle-open']
    """
    return _sites(table, "bias of a site |Ee − g| / |g|", log=False)


def training(table: pd.DataFrame) -> plotly_marks.Spec:
    """Return the figure of the main test metric during training, against epochs, seconds or forwards.

    Args:
        table: of `fgbench.reporting.figures.progress.plotted`, of one panel.

    Returns:
        Data and layout, and in ``axes`` the choices of the horizontal axis, whose numbers are in the
        ``meta`` of every curve.

    Example:
        >>> row = {"label": "BP", "method": "BP", "run": "mean", "n": 1, "epoch": 1, "seconds": 2.0,
        ...     "passes": 3.0, "test_error_percent": 9.0, "low_percent": 9.0, "high_percent": 9.0}
        >>> [axis["name"] for axis in training(pd.DataFrame([row]))["axes"]]
        ['epoch', 'seconds', 'passes']
    """
    table = learning_curves.unnamed(table)
    first = table.iloc[0]
    metric = Shown(str(first["metric"]), str(first["unit"])) if "metric" in table else ERROR
    ends, axis = table[["mean", "low", "high"]], metric.axis("test")
    plain = {**plotly_marks.GRID, "title": {"text": axis}}
    positive = not ends.le(0).any(axis=None) or metric == ERROR
    looks = style.looks(table["label"], table["method"])
    data: list[plotly_marks.Spec] = []
    for (label, run), part in table.groupby(["label", "run"], sort=False):
        look = looks[str(label)]
        if run == "mean" and (part["n"] > 1).any():
            data.append(_band(part, look, len(looks)))
        data.append(_curve(part, look, str(label), str(run), metric))
    layout = {
        "height": 460,
        "xaxis": {**plotly_marks.GRID, "title": {"text": "epochs"}},
        "yaxis": plotly_marks.log(axis, ends) if positive else plain,
    }
    axes = [
        {"name": name, "title": text.replace("\n", " ")} for name, text in progress.AXES.items()
    ]
    return {"data": _once(data), "layout": layout, "axes": axes}


def _sites(table: pd.DataFrame, axis: str, log: bool) -> plotly_marks.Spec:
    """Return a figure of all records at every site, in the order of the network."""
    runs = list(table.groupby(["label", "seed"], sort=False, dropna=False))
    data, asides = [], sites.asides(len(runs))
    counts = Counter(label for (label, _), _ in runs)
    looks = style.looks(table["label"], table["method"])
    for at, ((label, seed), part) in enumerate(runs):
        name = f"{label}, seed {seed}" if counts[label] > 1 else str(label)
        x = plotly_marks.numbers(part["position"] + asides[at])
        more = {"legendgroup": plotly_marks.safe(label), "x": x}
        record = _record(part, name, x, looks[str(label)])
        data += [{**more, **trace} for trace in record]
    if "unscaled" in table and table["unscaled"].notna().any():
        data.append(plotly_marks.crossed_entry())
    order = table.drop_duplicates("position").sort_values("position")
    positions = plotly_marks.numbers(order["position"])
    ticks = {
        "tickvals": positions,
        "ticktext": [plotly_marks.short(site) for site in order["site"]],
    }
    where = {"title": {"text": "site, from input to loss"}}
    shown = {**plotly_marks.GRID, "title": {"text": axis}, "rangemode": "tozero"}
    if log:
        shown = plotly_marks.log(axis, table[["value", "low", "high", "predicted"]])
    layout = {"height": 440, "xaxis": {**plotly_marks.GRID, **ticks, **where}, "yaxis": shown}
    return {"data": _once(data), "layout": layout}


def _record(
    part: pd.DataFrame, name: str, x: list[float | None], look: style.Look
) -> Iterator[plotly_marks.Spec]:
    """Yield the traces of one record; a marker of bias is filled where it differs from zero."""
    filled = part.get("found", pd.Series(look.filled, part.index))
    labels = [
        f"{plotly_marks.safe(name)}<br>{plotly_marks.safe(row['site'])}<br>{interval(row)}, "
        f"n {digits(row['n'], 6)}{_aside(row)}"
        for _, row in part.iterrows()
    ]
    mark = {
        **plotly_marks.marker(look),
        "symbol": [plotly_marks.symbol(look, bool(f)) for f in filled],
    }
    y = plotly_marks.numbers(part["value"])
    yield plotly_marks.trace(
        part["label"].iloc[0],
        labels,
        y=y,
        marker=mark,
        error_y=plotly_marks.bars(part, look),
        showlegend=True,
    )
    yield from ({**drawn, "showlegend": False} for drawn in _beside(part, x, look))
    if "unscaled" in part and (off := part["unscaled"].notna()).any():
        at = [position for position, is_off in zip(x, off, strict=True) if is_off]
        yield plotly_marks.crosses(at, part.loc[off, "value"])


def _beside(
    part: pd.DataFrame, x: list[float | None], look: style.Look
) -> Iterator[plotly_marks.Spec]:
    """Yield the closed form or the detectable bias of a record, and intervals that have no point."""
    if "predicted" in part:
        line = {"color": look.colour, "width": 1, "dash": "5px,3px"}
        mark = {"symbol": "line-ew-open", "size": 13, "color": look.colour, "line": {"width": 1}}
        y = plotly_marks.numbers(part["predicted"])
        yield plotly_marks.trace("theory", mode="lines+markers", y=y, line=line, marker=mark)
    else:
        mark = {"symbol": "line-ew-open", "size": 13, "color": look.colour, "line": {"width": 1.5}}
        yield plotly_marks.trace(
            "detectable", y=plotly_marks.numbers(part["detectable"]), marker=mark
        )
    bare = part["value"].isna() & part["high"].notna()
    positions = [position for position, is_bare in zip(x, bare, strict=True) if is_bare]
    if positions:
        ends = (plotly_marks.numbers(part.loc[bare, end]) for end in ("low", "high"))
        y = [end for low, high in zip(*ends, strict=True) for end in (low, high, None)]
        along = [end for position in positions for end in (position, position, None)]
        line = {"color": look.colour, "width": 1.4}
        yield plotly_marks.trace("interval", mode="lines", x=along, y=y, line=line)


def _aside(row: pd.Series) -> str:
    """Return the part of a label that follows the number of a site: its test, or its theory."""
    if "predicted" not in row:
        p, detectable = digits(row["p_adjusted"], 2), digits(row["detectable"])
        return f"<br>adjusted p {p}, detectable {detectable}"
    return f"<br>theory {digits(row['predicted'])}" if pd.notna(row["predicted"]) else ""


def _point(
    row: pd.Series, along: str, position: float, name: str, look: style.Look
) -> plotly_marks.Spec:
    """Return the trace of one measured number with its interval along one of the two axes."""
    counts = " × ".join(digits(row[n], 6) for n in ("draws", "inits", "batches"))
    label = f"{name}<br>{interval(row)}<br>draws × inits × batches: {counts}"
    at = {along: [float(row["value"])], "y" if along == "x" else "x": [float(position)]}
    mark = {**plotly_marks.marker(look), "symbol": plotly_marks.symbol(look, look.filled)}
    ends = {f"error_{along}": plotly_marks.bars(row.to_frame().T, look)}
    return plotly_marks.trace(row["label"], [label], marker=mark, showlegend=False, **at, **ends)


def _curve(
    part: pd.DataFrame, look: style.Look, label: str, run: str, metric: Shown
) -> plotly_marks.Spec:
    """Return the curve of a mean, or of a run that diverged, which ends in a cross."""
    diverged = run != "mean"
    name = f"{label}, {run} diverged" if diverged else label
    entry = f"{label}, diverged" if diverged else label
    labels = []
    for _, row in part.iterrows():
        text = digits(row["mean"])
        if row["n"] >= 2:
            text = f"{interval({**row, 'value': row['mean']})}, n {row['n']}"
        text += " %" if metric.factor > 1 else ""
        labels.append(f"{plotly_marks.safe(name)}<br>epoch {digits(row['epoch'], 6)}: {text}")
    mark = {
        **plotly_marks.marker(look),
        "symbol": plotly_marks.symbol(look, look.filled),
        "size": 6,
    }
    if diverged:
        ends = len(part) - 1
        mark |= {"symbol": ["circle"] * ends + ["x"], "size": [0] * ends + [9]}
    line = {
        "color": look.colour,
        "width": 1 if diverged else 2,
        "dash": plotly_marks.dash(look.dashes),
    }
    axes = {axis: plotly_marks.numbers(part[axis]) for axis in progress.AXES}
    more: plotly_marks.Spec = {
        "x": axes["epoch"],
        "y": plotly_marks.numbers(part["mean"]),
        "meta": axes,
    }
    more |= {
        "line": line,
        "marker": mark,
        "legendgroup": plotly_marks.safe(entry),
        "showlegend": True,
    }
    return plotly_marks.trace(entry, labels, mode="lines+markers", **more)


def _once(data: list[plotly_marks.Spec]) -> list[plotly_marks.Spec]:
    """Return traces of which each group has one entry in the legend, which switches all of them."""
    seen: set[str] = set()
    traces = []
    for trace in data:
        shown = bool(trace.get("showlegend")) and trace["legendgroup"] not in seen
        seen |= {trace["legendgroup"]} if shown else set()
        traces.append({**trace, "showlegend": shown})
    return traces


def _band(part: pd.DataFrame, look: style.Look, among: int) -> plotly_marks.Spec:
    """Return the band of the interval of a mean; ``among`` is the number of bands in the figure."""
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


def _point_name(row: pd.Series) -> str:
    """Return the name of a record in the label of its point: its label, with the seed if it has one."""
    return plotly_marks.safe(
        f"{row['label']}, seed {digits(row['seed'], 6)}"
        if row["seed"] == row["seed"]
        else row["label"]
    )
