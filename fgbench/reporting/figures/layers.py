"""Relative variance site by site, from input to loss."""

from __future__ import annotations

from typing import Any

import pandas as pd
from matplotlib.axes import Axes

from fgbench.reporting.figures import relative_variance, sites
from fgbench.reporting.figures.files import writer
from fgbench.reporting.frames.load import TESTED, Records
from fgbench.reporting.plotting import panels, style
from fgbench.reporting.plotting.panels import Page
from fgbench.reporting.plotting.sheet import PAPER, Sheet

NAME = "layers"
THEORY: dict[str, Any] = {"ls": style.DASHED, "lw": 0.9, "marker": "_"}


def plotted(measures: pd.DataFrame) -> pd.DataFrame:
    """Select the drawn numbers: a row per record and site whose variance is above zero.

    Args:
        measures: of `fgbench.reporting.frames.load.Records.measures`.

    Returns:
        Columns `fgbench.reporting.figures.sites.KEPT`, without those of tests of bias.

    Example:
        >>> from fgbench.reporting.frames.load import MEASURES
        >>> row = {"key": "a", "arch": "mlp-2x8", "data": "digits", "method": "FG-A", "label": "FG-A"}
        >>> row |= {"quantity": "relative_variance", "place": "body.0.l0", "value": 2.0}
        >>> plotted(pd.DataFrame([row], columns=MEASURES))[["site", "value"]].values.tolist()
        [['body.0.l0', 2.0]]
    """
    table = sites.picked(measures, relative_variance.NAME)
    table = table[table["value"] > relative_variance.ZERO].reset_index(drop=True)
    return table.drop(columns=list(TESTED))


def figure(_: pd.DataFrame, table: pd.DataFrame, sheet: Sheet = PAPER) -> Page:
    """Draw relative variance at every site, a panel per architecture and data set.

    Args:
        table: of `plotted`, all that is drawn.
        sheet: what it is drawn on.

    Returns:
        The page.

    Example:
        >>> from fgbench.reporting.frames.load import MEASURES
        >>> row = {"key": "a", "arch": "mlp-2x8", "data": "digits", "method": "FG-A", "label": "FG-A"}
        >>> row |= {"quantity": "relative_variance", "place": "body.0.l0", "value": 2.0}
        >>> row |= {"draws": 8, "inits": 1, "batches": 1, "truth": "scheme", "heavy_tail": False}
        >>> measures = pd.DataFrame([row], columns=MEASURES)
        >>> fig = figure(measures, plotted(measures))
        >>> fig.axes[0].get_xlabel()
        'site, from input to loss'
    """
    known = bool(table["predicted"].notna().any())
    theory = " Dashed, with a dash at each site: closed form, where there is one." * known
    axis = "relative variance of a site\nE|e − Ee|² / |g|²"
    more = {"theory (closed form)": {**THEORY, "ms": 7, "mew": 0.9}} if known else {}
    more |= panels.CROSSED if table["unscaled"].notna().any() else {}
    words = f"Bars: 95 % intervals.{theory}"
    return sites.drawn(table, _curve, axis, words, log=True, more=more, sheet=sheet)


def _curve(ax: Axes, x: pd.Series, part: pd.DataFrame, look: style.Look) -> None:
    """Draw the variances of one record with their closed form."""
    sizes: dict[str, Any] = {"ms": style.pt(7), "mew": style.pt(0.9)}
    ax.plot(x, part["predicted"], color=look.colour, **THEORY, **sizes)
    panels.points(ax, x, part.rename(columns={"value": "mean"}), look)
    panels.crossed(ax, x[part["unscaled"].notna()], part["value"])


draw = writer(NAME, Records.measures, plotted, figure)
