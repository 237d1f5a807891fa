"""Test error, or another main metric, against time and memory of a step, with the Pareto front."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.markers import MarkerStyle
from numpy.typing import ArrayLike, NDArray

from fgbench.records.metrics import Shown
from fgbench.reporting.figures.files import everything, writer
from fgbench.reporting.frames import ordering, workloads
from fgbench.reporting.frames.load import Records
from fgbench.reporting.frames.metric_columns import (
    ABOUT,
    by_metric,
    metric_of,
    named,
    phrase,
    unnamed,
)
from fgbench.reporting.frames.seed_means import seeds
from fgbench.reporting.plotting import panels, style
from fgbench.reporting.plotting.panels import Page
from fgbench.reporting.plotting.sheet import PAPER, Sheet

NAME = "cost"
AXES = {"step_ms": "ms per step", "peak_mb": "peak memory of a step (MiB)"}
PANEL = ["task", "data", "device", "batch", "what"]
COLUMNS = (
    *PANEL,
    *("arch", "method", "cost", "cost_low", "cost_high", "mean", "low"),
    *("high", "n", "parameters", "front", "epochs", "others"),
)
PERCENT = {"mean": "error_percent", "low": "low_percent", "high": "high_percent"}
"""Names of the columns where every result is an error."""
PLAIN = {"mean": "result", "low": "result_low", "high": "result_high"}
"""Names of the columns where some result is of another metric, which the column ``metric`` names."""
AREAS = 14.0, 75.0  # of the smallest and the largest network


def front(cost: ArrayLike, error: ArrayLike) -> NDArray[np.bool_]:
    """Find the Pareto front: no other point has at most their cost and error, and less of one of them.

    Args:
        cost: shape [points].
        error: shape [points].

    Returns:
        Whether each point is on the front, shape [points]; equal points are on it together or not at all.

    Example:
        >>> front([1.0, 2.0, 3.0], [0.5, 0.2, 0.3]).tolist()
        [True, True, False]
    """
    x, y = np.asarray(cost, float), np.asarray(error, float)
    no_worse = (x[:, None] <= x) & (y[:, None] <= y)
    beaten = no_worse & ((x[:, None] < x) | (y[:, None] < y))
    unbeaten: NDArray[np.bool_] = np.logical_not(beaten.any(0))
    return unbeaten


def plotted(records: Records) -> pd.DataFrame:
    """Compute the drawn numbers: the error of each trained configuration and the cost of its step.

    Args:
        records: of `fgbench.reporting.frames.load.load`.

    Returns:
        Columns `COLUMNS` with the names of `PERCENT`, or with those of `PLAIN` and of the metric: a row per
        configuration, device and batch, and kind of cost. The cost is that of the latest timing; there are
        ``others`` more. The result is the median of the main metric over ``n`` seeds with its quartiles, a
        diverged run at chance. ``parameters`` are those of the body, from a
        measure record of the same network and data.

    Example:
        >>> from pathlib import Path
        >>> run = {"verb": "train", "locality": "end", "arch": "mlp-2x8", "data": "digits", "status": "ok"}
        >>> fg = {**run, "method": "FG-A", "estimator": "fg_a", "history": [{"epoch": 1, "test_error": 0.2}]}
        >>> speed = {**fg, "verb": "speed", "device": "cpu", "batch": 32, "step_ms": 2.0}
        >>> table = plotted(Records(Path("."), (fg, speed), {}, ()))
        >>> table[["method", "what", "cost", "error_percent", "front"]].values.tolist()
        [['FG-A', 'step_ms', 2.0, 20.0, True]]
    """
    runs = workloads.finished(records).drop_duplicates("key")
    by = [*workloads.WORK, "method"]
    results = by_metric(runs.astype({"final": float}), _quartiles)
    speeds = records.speeds()
    speeds = speeds[speeds["quantity"].isin(AXES) & speeds["value"].gt(0)]
    ends = {"value": "cost", "low": "cost_low", "high": "cost_high", "quantity": "what"}
    timed = workloads.joined(results, speeds.drop(columns="n").rename(columns=ends), records)
    started = {row["key"]: str(row.get("started")) for row in records.of("speed")}
    one = [*by, "metric", "device", "batch", "what"]
    timed = timed.assign(started=timed["key"].map(started)).sort_values("started", kind="stable")
    timed = timed.assign(others=timed.groupby(one, dropna=False)["key"].transform("size") - 1)
    timed = timed.drop_duplicates(one, keep="last")
    measures = records.measures().dropna(subset=["elements"])
    sizes = measures.drop_duplicates(["arch", "data"]).set_index(["arch", "data"])["elements"]
    table = timed.join(sizes.rename("parameters"), on=["arch", "bare"])
    fronts = [
        pd.Series(front(p["cost"], metric_of(p).sign * p["mean"]), p.index)
        for _, p in table.groupby([*PANEL, "metric"])
    ]
    table = table.assign(front=pd.concat(fronts) if fronts else None)
    keys = [*PANEL[:-1], "metric", "what", "arch", "method"]
    table = ordering.arranged(table, keys, what=AXES)[[*COLUMNS, *ABOUT]]
    return named(table, PERCENT, PLAIN)


def _quartiles(runs: pd.DataFrame, metric: Shown) -> pd.DataFrame:
    """Compute the median and the quartiles of the final results of each method, as they are shown."""
    grouped = runs.groupby([*workloads.WORK, "method"])
    quartiles = {"low": 0.25, "mean": 0.5, "high": 0.75}
    table = grouped.agg(n=("key", "size"), epochs=("epochs", "max"))
    ends = {k: metric.factor * grouped["final"].quantile(q) for k, q in quartiles.items()}
    return table.assign(**ends).reset_index()


def figure(_: Records, table: pd.DataFrame, sheet: Sheet = PAPER) -> Page:
    """Draw two panels per task, data, metric, device and batch.

    Args:
        table: of `plotted`, all that is drawn.
        sheet: what it is drawn on.

    Returns:
        The page.

    Example:
        >>> from pathlib import Path
        >>> run = {"verb": "train", "locality": "end", "arch": "mlp-2x8", "data": "digits", "status": "ok"}
        >>> fg = {**run, "method": "FG-A", "estimator": "fg_a", "history": [{"epoch": 1, "test_error": 0.2}]}
        >>> speed = {**fg, "verb": "speed", "device": "cpu", "batch": 32, "step_ms": 2.0}
        >>> records = Records(Path("."), (fg, speed), {}, ())
        >>> fig = figure(records, plotted(records))
        >>> fig.axes[0].get_xlabel()
        'ms per step'
    """
    text, table = caption(table), unnamed(table, PERCENT, PLAIN)
    looks = style.looks(table["method"])
    area = _areas(table["parameters"])

    def panel(ax: Axes, group: tuple[Any, ...], part: pd.DataFrame) -> None:
        task, data, device, batch, _, what = group
        metric = metric_of(part)
        best = part[part["front"]].sort_values(["cost", "mean"])
        line: dict[str, Any] = {"color": style.FAINT, "ls": style.DOTTED, "lw": style.pt(1.2)}
        ax.step(best["cost"], best["mean"], where="post", **line)
        for at, row in part.iterrows():
            _point(ax, row, looks[row["method"]], float(area[at]))
        panels.log_axis(ax, part[["cost", "cost_low", "cost_high"]].stack(), "x")
        alike = (table[name].eq(value) for name, value in zip(rows, group[:-1], strict=True))
        row = table[np.logical_and.reduce(list(alike))]
        drawn = row[["low", "mean", "high"]].stack()
        if drawn.min() <= 0 or drawn.max() < 4 * drawn.min():
            ax.set_yscale("linear")
        else:
            panels.log_axis(ax, drawn)
        edge = drawn.max() - drawn.min() or 1.0
        least = drawn.min() - 0.06 * edge
        ends = max(0.0, least) if drawn.min() >= 0 else least, drawn.max() + 0.06 * edge
        if ax.get_yscale() == "log":
            ends = drawn.min() / 1.2, drawn.max() * 1.2
        ax.set_ylim(ends[:: int(-metric.sign)])
        ax.set(xlabel=AXES[what], ylabel=f"{metric.axis('test')}, upwards is better")
        if what == "step_ms":
            panels.titled(ax, f"{task} on {data}, batch {int(batch)}, {device}")

    rows = [*PANEL[:-1], "metric"]
    more = {"Pareto front": {"ls": style.DOTTED, "marker": "o", "ms": 7, "mfc": "none", "mew": 0.7}}
    drawing: dict[str, Any] = {"height": 2.4, "line": False, "share": "row", "more": more}
    return panels.drawn(table, [*rows, "what"], looks, panel, text, sheet=sheet, **drawing)


def _areas(parameters: pd.Series) -> pd.Series:
    """Return the area of each point, which grows with the logarithm of the number of parameters."""
    low, high = parameters.min(), parameters.max()
    if not low < high:
        return pd.Series(sum(AREAS) / 2, parameters.index)
    share = np.log(parameters / low) / np.log(high / low)
    return (AREAS[0] + share * (AREAS[1] - AREAS[0])).fillna(AREAS[0])


def _point(ax: Axes, row: pd.Series, look: style.Look, area: float) -> None:
    """Draw one configuration with its quartiles and the interval of its cost, ringed on the front."""
    x, y = row["cost"], row["mean"]
    thin: dict[str, Any] = {"color": look.colour, "lw": style.pt(0.9)}
    ax.vlines(x, row["low"], row["high"], **thin)
    ax.hlines(y, row["cost_low"], row["cost_high"], **thin)
    face = look.colour if look.filled else "w"
    marker = MarkerStyle(look.marker)
    area, edge = area * style.pt(1.0) ** 2, style.pt(0.7)
    ax.scatter(x, y, area, facecolor=face, edgecolor=look.colour, marker=marker, lw=edge)
    if row["front"]:
        ring = area + 60 * style.pt(1.0) ** 2
        ax.scatter(x, y, ring, facecolor="none", edgecolor=style.INK, lw=edge)


def caption(table: pd.DataFrame) -> str:
    """Describe points, bars, sizes and the front, and n.

    Args:
        table: of `plotted`.

    Returns:
        The caption.

    Example:
        >>> row = {"arch": "mlp-2x8", "parameters": 96.0, "method": "FG-A", "n": 3, "others": 0}
        >>> caption(pd.DataFrame([row], columns=COLUMNS)).rpartition("Size of a point: ")[2]
        'parameters of the body, mlp-2x8 (96).'
    """
    sizes = table.drop_duplicates("arch").sort_values("parameters")
    named = ", ".join(
        f"{arch} ({d:,.0f})" if d > 0 else f"{arch} (unknown: no measure record)"
        for arch, d in sizes[["arch", "parameters"]].itertuples(index=False)
    )
    rest = int(table["others"].max())
    latest = (
        f" Of several timings of a method, batch and device the latest is drawn, up to {rest} "
        f"other{'s' * (rest > 1)} (another seed, setting or number of threads) are not."
    ) * (rest > 0)
    return (
        f"Points: median final {phrase(table)} over n = {seeds(table['n'])} (a diverged run "
        "is at chance); vertical bars: quartiles over seeds; horizontal bars: 95 % intervals of the time, "
        "where there is one. Ringed, dotted: Pareto front, no other point is as cheap and as accurate. "
        f"Size of a point: parameters of the body, {named}.{latest}"
        f"{workloads.lengths(table)}{workloads.chance_words(table)}"
    )


draw = writer(NAME, everything, plotted, figure)
