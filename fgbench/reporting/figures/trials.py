"""Best validation error, or another metric, against the number of trials and against the learning rate."""

from __future__ import annotations

from math import comb, nan
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator, NullLocator

from fgbench.records.metrics import ERROR, Shown
from fgbench.reporting.figures.files import everything, writer
from fgbench.reporting.frames import ordering, workloads
from fgbench.reporting.frames.load import Records
from fgbench.reporting.frames.metric_columns import (
    ABOUT,
    axis,
    metric_of,
    metrics_in,
    named,
    other_metrics,
    signed,
    unnamed,
)
from fgbench.reporting.frames.results import cells
from fgbench.reporting.frames.seed_means import bands, mean_interval, seeds, span
from fgbench.reporting.frames.settings import apart, read_form
from fgbench.reporting.plotting import panels, style
from fgbench.reporting.plotting.panels import Page
from fgbench.reporting.plotting.sheet import PAPER, Sheet

NAME = "trials"
ORDERS = 0.90  # of the orders of trials lie within the band
PANEL = [*workloads.WORK, "epochs", "what"]
COLUMNS = (*PANEL, "method", "x", "mean", "low", "high", "n", "band")
PERCENT = {"mean": "error_percent", "low": "low_percent", "high": "high_percent"}
"""Names of the columns where every result is an error."""
PLAIN = {"mean": "result"}
"""Names of columns where some result is of another metric, which the column ``metric`` names."""
AXES = {"trials": "trials", "rate": "learning rate"}


def best(errors: list[float], share: float = ORDERS) -> tuple[list[float], ...]:
    """Compute the expected best error after each number of trials, over all orders of the trials.

    Of n errors e₁ ≤ … ≤ eₙ, the best of the first k is eᵢ or less in 1 − C(n − i, k)/C(n, k) of the n!
    orders: those that do not take all of their k from the n − i worse ones. No order is sampled.

    Args:
        errors: of all trials.
        share: of the orders that lie within the band, with equal shares below and above.

    Returns:
        Mean, low and high after 1, ..., n trials.

    Example:
        >>> mean, low, high = best([0.3, 0.1])
        >>> mean
        [0.2, 0.1]
    """
    ranked, n = sorted(errors), len(errors)
    curves: tuple[list[float], ...] = ([], [], [])
    for k in range(1, n + 1):
        below = np.array([1 - comb(n - i, k) / comb(n, k) for i in range(n + 1)])
        curves[0].append(float(np.diff(below) @ ranked))
        for part, tail in zip(curves[1:], ((1 - share) / 2, (1 + share) / 2), strict=True):
            at = int(np.searchsorted(below[1:], tail - 1e-12))
            part.append(ranked[min(at, n - 1)])
    return curves


def plotted(records: Records) -> pd.DataFrame:
    """Compute the drawn numbers: errors in percent, other metrics as they are.

    Args:
        records: of `fgbench.reporting.frames.load.load`.

    Returns:
        Columns `COLUMNS` with the names of `PERCENT`, or of `PLAIN` and the metric. In rows of
        "trials", ``x`` is the number of trials and ``n`` how many there are in all. In rows of "rate",
        ``x`` is the learning rate, and the result is that of the best of the other options, averaged over
        ``n`` seeds.

    Example:
        >>> from pathlib import Path
        >>> run = {"verb": "train", "method": "FG-A", "estimator": "fg_a", "locality": "end"}
        >>> run |= {"arch": "mlp-2x8", "data": "digits", "status": "ok", "seed": 0}
        >>> trials = [
        ...     {**run, "test_error": error, "settings": {"validation": 100, "epochs": 2, "lr": lr}}
        ...     for lr, error in [(0.1, 0.2), (0.3, 0.4)]
        ... ]
        >>> records = Records(Path("."), tuple(trials), {}, ())
        >>> plotted(records)[["what", "x", "error_percent"]].round(6).values.tolist()
        [['trials', 1.0, 30.0], ['trials', 2.0, 20.0], ['rate', 0.1, 20.0], ['rate', 0.3, 40.0]]
    """
    rows = []
    chances = records.chances()
    for cell in cells(records):
        tried = workloads.trials(cell, chances.get((cell.place.arch, cell.place.data), nan))
        forms = list(dict.fromkeys(tried["form"]))
        differences = dict(zip(forms, apart([""] * len(forms), map(read_form, forms)), strict=True))
        by = [*workloads.HELD, "form"]
        for (length, _, form), part in tried.groupby(by, dropna=False, sort=False):
            if part["setting"].nunique() < 2:
                continue
            place = workloads.named(cell.place)
            metric = metric_of(part)
            common = {
                **place,
                **dict(zip(ABOUT, metric[:3], strict=True)),
                "epochs": length,
                "method": ", ".join([place["method"], *differences[form]]),
            }
            rows += [common | row for row in (*_by_trials(part, metric), *_by_rate(part, metric))]
    table = pd.DataFrame(rows, columns=[*COLUMNS, *ABOUT])
    keys = [*PANEL[:-1], "metric", "what", "method", "x"]
    table = ordering.arranged(table, keys, what=AXES)[[*COLUMNS, *ABOUT]]
    return named(table, PERCENT, PLAIN)


def figure(_: Records, table: pd.DataFrame, sheet: Sheet = PAPER) -> Page:
    """Draw two panels per task, network, data and length of training.

    Args:
        table: of `plotted`, all that is drawn.
        sheet: what it is drawn on.

    Returns:
        The page.

    Example:
        >>> from pathlib import Path
        >>> run = {"verb": "train", "method": "FG-A", "estimator": "fg_a", "locality": "end"}
        >>> run |= {"arch": "mlp-2x8", "data": "digits", "status": "ok", "seed": 0}
        >>> trials = [
        ...     {**run, "test_error": error, "settings": {"validation": 100, "epochs": 2, "lr": lr}}
        ...     for lr, error in [(0.1, 0.2), (0.3, 0.4)]
        ... ]
        >>> records = Records(Path("."), tuple(trials), {}, ())
        >>> [ax.get_xlabel() for ax in figure(records, plotted(records)).axes]
        ['trials', 'learning rate']
    """
    table = unnamed(table, PERCENT, PLAIN)
    looks = style.looks(table["method"])

    def panel(ax: Axes, group: tuple[Any, ...], part: pd.DataFrame) -> None:
        *work, length, _, what = group
        metric = metric_of(part)
        for label, mine in part.groupby("method", sort=False):
            _curve(ax, mine, looks[str(label)], style.thin(len(looks)))
        drawn = part[["mean", "low", "high"]].stack()
        if drawn.min() > 0 and metric.best == "low":
            panels.log_axis(ax, drawn)
        if what == "trials":
            last = int(part["x"].max())
            ax.set_xlim(1 - 0.04 * last, 1.04 * last)
            ax.xaxis.set_major_locator(MaxNLocator(integer=True))
            panels.titled(ax, f"{workloads.title(*work)}, {length} epochs")
        else:
            rates = sorted(set(part["x"]))
            ax.set_xscale("log")
            ax.set_xticks(rates, [f"{rate:g}" for rate in rates])
            ax.xaxis.set_minor_locator(NullLocator())
        ax.set(xlabel=AXES[what], ylabel=axis(metric, "validation"))

    drawing: dict[str, Any] = {"height": 2.3, "share": "row", "sheet": sheet}
    by = [*PANEL[:-1], "metric", "what"]
    return panels.drawn(table, by, looks, panel, _caption(table), **drawing)


def _by_trials(part: pd.DataFrame, metric: Shown) -> list[dict[str, Any]]:
    """Compute the best result against the number of trials."""
    sign = metric.sign
    errors = (sign * metric.factor * part.groupby("setting")["error"].mean()).tolist()
    curves = [
        (sign * mean, *sorted((sign * low, sign * high)))
        for mean, low, high in zip(*best(errors), strict=True)
    ]
    return [
        {"what": "trials", "x": k, "mean": mean, "n": len(errors), "band": "orders"}
        | {"low": low, "high": high}
        for k, (mean, low, high) in enumerate(curves, 1)
    ]


def _by_rate(part: pd.DataFrame, metric: Shown) -> list[dict[str, Any]]:
    """Select, at every learning rate, the best of the other options, and average it over seeds."""
    rows, plain = [], signed(part["error"], metric)
    for rate, mine in part.dropna(subset=["lr"]).groupby("lr"):
        means = mine.groupby("setting")["error"].mean()
        chosen = mine[mine["setting"] == (metric.sign * means).idxmin()]
        average = mean_interval(metric.factor * chosen["error"], plain, metric.most)
        rows.append({"what": "rate", "x": float(rate), **average})
    return rows


def _curve(ax: Axes, part: pd.DataFrame, look: style.Look, alpha: float) -> None:
    """Draw one method: a line with a band over orders, or with bars over seeds."""
    if part["what"].eq("rate").all():
        panels.points(ax, part["x"], part, look, line=True)
        return
    ax.fill_between(part["x"], part["low"], part["high"], color=look.colour, alpha=alpha, lw=0)
    panels.points(ax, part["x"], part.assign(low=part["mean"], high=part["mean"]), look, line=True)


def _caption(table: pd.DataFrame) -> str:
    """Describe the averages, bands and n."""
    tried, rated = (table[table["what"] == what] for what in AXES)
    error = {metric.name for metric in metrics_in(table)} == {ERROR.name}
    results, result = ("Errors", "error") if error else ("Results", "result")
    text = (
        f"{results} are of examples held out from training. Left: best {result} so far, mean over all "
        f"orders of a method's n = {span(tried['n'], 'trial', 'trials')}; band: {100 * ORDERS:.0f} % of "
        "these orders."
    )
    if not rated.empty:
        text += (
            f" Right: at each learning rate the best of the other options, mean over "
            f"{seeds(rated['n'])}; bar: {bands(rated['band'])}."
        )
    return text + other_metrics(table, "validation")


draw = writer(NAME, everything, plotted, figure)
