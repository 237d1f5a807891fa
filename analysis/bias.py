"""Figure: bias site by site, with what the test would have seen."""

from __future__ import annotations

from dataclasses import replace

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from fgbench.analysis import panels, sites, style
from fgbench.analysis.load import Records

NAME = "bias"
MISSING = "bias measured at sites", "run fgbench measure"
LEVEL = 0.05
WORDS = (
    "Filled: bias found, p below 0.05 after Benjamini–Hochberg over the sites of a record (where there is "
    "no bias, in at most one record of twenty); hollow: not found, or without a dash not tested. Dash: the "
    "smallest bias that the test sees. Upright bars: 95 % intervals; one alone: an interval without a value."
)


def plotted(measures: pd.DataFrame) -> pd.DataFrame:
    """Pick the drawn numbers: a row per record and site.

    Args:
        measures: of `fgbench.analysis.load.Records.measures`.

    Returns:
        Columns `fgbench.analysis.sites.KEPT` without a prediction and ``unscaled``, and ``found``: whether
        the adjusted p-value is below 0.05.
    """
    table = sites.picked(measures, NAME).drop(columns=["predicted", "unscaled"])
    return table.assign(found=table["p_adjusted"] < LEVEL)


def figure(measures: pd.DataFrame) -> Figure:
    """Draw the bias at every site, a panel per architecture and data set.

    Args:
        measures: of `fgbench.analysis.load.Records.measures`.

    Returns:
        A figure 3.4 in wide for one panel, else 7 in.
    """
    axis = "bias of a site |Ee − g| / |g|"
    return sites.drawn(plotted(measures), _curve, axis, WORDS, log=False, filled=True)


def _curve(ax: Axes, x: pd.Series, part: pd.DataFrame, look: style.Look) -> None:
    """Draw the biases of one record."""
    shown = part.rename(columns={"value": "mean"})
    for found, mine in shown.groupby("found"):
        panels.points(ax, x[mine.index], mine, replace(look, filled=bool(found)))
    ax.plot(x, part["detectable"], "_", color=look.colour, ms=7, mew=1.1)


draw = style.drawing(NAME, MISSING, Records.measures, plotted, figure)
