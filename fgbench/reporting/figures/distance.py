"""Relative variance of a site against the number of modules between it and its loss."""

from __future__ import annotations

from math import exp
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from fgbench.reporting.figures import relative_variance
from fgbench.reporting.figures.files import writer
from fgbench.reporting.frames import ordering
from fgbench.reporting.frames.load import Records
from fgbench.reporting.plotting import panels, style
from fgbench.reporting.plotting.panels import Page
from fgbench.reporting.plotting.power_law import power
from fgbench.reporting.plotting.sheet import PAPER, Sheet

NAME = "distance"
PANEL = ["arch", "data"]
RECORD = [*PANEL, "label", "seed"]
GROWTH = ("growth", "growth_low", "growth_high", "growth_predicted")
COLUMNS = (
    *(*RECORD, "method", "site", "position", "distance", "value", "low", "high", "n", "predicted"),
    *(*GROWTH, "directions", "draws", "inits", "moments", "batches", "batch"),
    *("truth", "heavy_tail"),
)


def plotted(measures: pd.DataFrame) -> pd.DataFrame:
    """Compute the drawn numbers: a row per record and site, of networks with two or more distances to a loss.

    Args:
        measures: of `fgbench.reporting.frames.load.Records.measures`.

    Returns:
        Columns `COLUMNS`: ``growth`` is the factor per module, fitted to the record of the row, NaN where its
        sites have fewer than three distances; ``growth_predicted`` is fitted to the closed form.

    Example:
        >>> from fgbench.reporting.frames.load import MEASURES
        >>> row = {"key": "a", "arch": "mlp-2x8", "data": "digits", "method": "FG-A", "label": "FG-A"}
        >>> row |= {"quantity": "relative_variance", "low": 1.0, "high": 8.0, "n": 8}
        >>> rows = [{**row, "place": f"l{k}", "distance": k, "value": 2.0**k} for k in (1, 2)]
        >>> measures = pd.DataFrame(rows, columns=MEASURES)
        >>> plotted(measures)[["site", "distance", "value"]].values.tolist()
        [['l1', 1, 2.0], ['l2', 2, 4.0]]
    """
    chosen = measures[measures["quantity"].eq(relative_variance.NAME) & measures["place"].ne("all")]
    chosen = chosen.assign(site=chosen["place"], position=chosen.groupby("key").cumcount() + 1)
    chosen = chosen[chosen["value"].gt(relative_variance.ZERO) & chosen["distance"].notna()]
    chosen = chosen[chosen.groupby(PANEL)["distance"].transform("nunique") > 1]
    parts = [_fitted(part) for _, part in chosen.groupby(RECORD, sort=False, dropna=False)]
    table = pd.concat(parts) if parts else chosen.assign(**dict.fromkeys(GROWTH, np.nan))
    return ordering.arranged(table, [*PANEL, "method", "label", "seed", "position"])[list(COLUMNS)]


def figure(_: pd.DataFrame, table: pd.DataFrame, sheet: Sheet = PAPER) -> Page:
    """Draw the variance of every site against its distance, a panel per architecture and data set.

    Args:
        table: of `plotted`, all that is drawn.
        sheet: what it is drawn on.

    Returns:
        The page.

    Example:
        >>> from fgbench.reporting.frames.load import MEASURES
        >>> row = {"key": "a", "arch": "mlp-2x8", "data": "digits", "method": "FG-A", "label": "FG-A"}
        >>> row |= {"quantity": "relative_variance", "low": 1.0, "high": 8.0, "n": 8}
        >>> row |= {"draws": 8, "inits": 1, "batches": 1, "truth": "scheme", "heavy_tail": False}
        >>> rows = [{**row, "place": f"l{k}", "distance": k, "value": 2.0**k} for k in (1, 2)]
        >>> measures = pd.DataFrame(rows, columns=MEASURES)
        >>> fig = figure(measures, plotted(measures))
        >>> fig.axes[0].get_xlabel()
        'modules between a site and its loss'
    """
    looks = style.looks(table["label"], table["method"])

    def panel(ax: Axes, group: tuple[Any, ...], part: pd.DataFrame) -> None:
        notes: list[panels.Note] = []
        for (label, _), mine in part.groupby(["label", "seed"], sort=False, dropna=False):
            notes += _curve(ax, mine, looks[str(label)])
        panels.heading(ax, *group)
        panels.log_axis(ax, table[["value", "low", "high", "predicted"]].stack().dropna())
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))
        ax.set(xlabel="modules between a site and its loss")
        ax.set_ylabel("relative variance of a site\nE|e − Ee|² / |g|²")
        panels.notes(ax, notes, "× per module [95 %]")

    known = bool(table["predicted"].notna().any())
    theory = "Dashed: closed form, where there is one. " * known
    fits = (
        " Factors per module, where sites have three distances: least squares on logarithms, in brackets "
        "95 %; theory: the same fit to the closed form."
    ) * bool(table["growth"].notna().any())
    text = (
        f"{relative_variance.caption(table, 'each of one site')} Bars: 95 % intervals. {theory}Sites of one "
        f"distance stand side by side, from input to loss.{fits}"
    )
    fitted = table[table["growth"].notna()]
    tall = panels.room(fitted.groupby([*PANEL])[["label", "seed"]].apply(_records), 2)
    drawing: dict[str, Any] = {"height": max(2.3, tall), "line": False, "share": "all"}
    more = panels.THEORY if known else {}
    return panels.drawn(table, PANEL, looks, panel, text, more=more, sheet=sheet, **drawing)


def _records(part: pd.DataFrame) -> int:
    """Count the records of a panel."""
    return len(part.drop_duplicates())


def _fitted(part: pd.DataFrame) -> pd.DataFrame:
    """Fit c fᵏ to the sites of one record: a power law in eᵏ with the exponent log f."""
    at = np.exp(part["distance"])
    law = power(at, part["value"], part["low"], part["high"], part["n"])
    growth = [exp(end) for end in (law.exponent, law.low, law.high)]
    predicted = np.nan
    if part["predicted"].notna().all():
        ratio = part["predicted"] / part["value"]
        value, low, high = (part[name] * ratio for name in ("value", "low", "high"))
        predicted = exp(power(at, value, low, high, part["n"]).exponent)
    return part.assign(**dict(zip(GROWTH, (*growth, predicted), strict=True)))


def _curve(ax: Axes, part: pd.DataFrame, look: style.Look) -> list[panels.Note]:
    """Draw the sites of one record with their closed form; return the note on its growth."""
    alike = part.groupby("distance")["position"]
    apart = alike.rank("first") - (alike.transform("size") + 1) / 2
    x = part["distance"] + 0.08 * apart
    order = x.sort_values().index
    theory = part.loc[order, "predicted"]
    ax.plot(x[order], theory, color=look.colour, ls=style.DASHED, lw=style.pt(0.9))
    panels.points(ax, x, part.rename(columns={"value": "mean"}), look)
    factor, low, high, predicted = (float(part[name].iloc[0]) for name in GROWTH)
    if np.isnan(factor):
        return []
    beside = [] if np.isnan(predicted) else [f"theory {predicted:.2f}"]
    last = float(part.loc[order, "value"].iloc[-1])
    return [panels.Note(last, (f"{factor:.2f} [{low:.2f}, {high:.2f}]", *beside), look)]


draw = writer(NAME, Records.measures, plotted, figure)
