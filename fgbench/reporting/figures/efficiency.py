"""Efficiency of each estimate against its cost in forward passes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from fgbench.reporting.figures import relative_variance
from fgbench.reporting.figures.files import writer
from fgbench.reporting.frames import ordering
from fgbench.reporting.frames.load import Records
from fgbench.reporting.plotting import panels, style
from fgbench.reporting.plotting.panels import Page
from fgbench.reporting.plotting.sheet import PAPER, Sheet
from fgbench.stats.scale_verdict import Sign

NAME = "efficiency"
OPEN = "Sign of the scale not resolved, so that the mean may point uphill"
MARGIN = 1.3  # factor of cost beside the outermost points
COLUMNS = (
    *("arch", "data", "method", "label", "seed", "forwards", "value", "low", "high", "n"),
    *("per_forward", "directions", "draws", "inits", "moments", "batches", "batch"),
    *("truth", "heavy_tail"),
)


def plotted(measures: pd.DataFrame) -> pd.DataFrame:
    """Select the drawn numbers: a row per record with a positive efficiency.

    Args:
        measures: of `fgbench.reporting.frames.load.Records.measures`.

    Returns:
        Columns `COLUMNS`; ``forwards`` is the cost of an estimate, ``per_forward`` the efficiency over it.

    Example:
        >>> from fgbench.reporting.frames.load import MEASURES
        >>> row = {"key": "a", "arch": "mlp-2x8", "data": "digits", "method": "FG-A", "label": "FG-A"}
        >>> row |= {"quantity": NAME, "place": "all", "value": 0.5, "forwards": 2.0}
        >>> plotted(pd.DataFrame([row], columns=MEASURES))["per_forward"].tolist()
        [0.25]
    """
    chosen = measures[(measures["quantity"] == NAME) & measures["place"].eq("all")]
    chosen = chosen[chosen["value"].gt(0) & chosen["forwards"].gt(0)]
    chosen = chosen.assign(per_forward=chosen["value"] / chosen["forwards"])
    return ordering.arranged(chosen, ["arch", "data", "method", "label", "seed"])[list(COLUMNS)]


def figure(measures: pd.DataFrame, table: pd.DataFrame, sheet: Sheet = PAPER) -> Page:
    """Draw efficiency against cost, on two logarithmic axes, a panel per architecture and data set.

    Args:
        measures: of `fgbench.reporting.frames.load.Records.measures`.
        table: of `plotted`.
        sheet: what it is drawn on.

    Returns:
        The page.

    Example:
        >>> from fgbench.reporting.frames.load import MEASURES
        >>> row = {"key": "a", "arch": "mlp-2x8", "data": "digits", "method": "FG-A", "label": "FG-A"}
        >>> row |= {"quantity": NAME, "place": "all", "value": 0.5, "forwards": 2.0}
        >>> row |= {"draws": 8, "inits": 1, "batches": 1, "truth": "scheme", "heavy_tail": False}
        >>> measures = pd.DataFrame([row], columns=MEASURES)
        >>> fig = figure(measures, plotted(measures))
        >>> fig.axes[0].get_xlabel()
        'forward equivalents per estimate'
    """
    looks = style.looks(table["label"], table["method"])

    def panel(ax: Axes, group: tuple[Any, ...], part: pd.DataFrame) -> None:
        x = apart(part["forwards"])
        for label, mine in part.groupby("label", sort=False):
            shown = mine.rename(columns={"value": "mean"})
            panels.points(ax, x[mine.index], shown, looks[str(label)])
        drawn = table[["low", "high", "value"]].stack().dropna()
        panels.log_log_axes(ax, part["forwards"], drawn[drawn > 0])
        ax.set_xlim(part["forwards"].min() / MARGIN, part["forwards"].max() * MARGIN)
        ax.set_xlabel("forward equivalents per estimate")
        ax.set_ylabel("efficiency\n⟨Ee, g⟩² / (|g|² E|e|²)")
        panels.heading(ax, *group)

    text = f"{relative_variance.caption(table)} Bars: 95 % intervals. {described(measures)}"
    drawing: dict[str, Any] = {"height": 2.3, "line": False, "share": "all", "sheet": sheet}
    return panels.drawn(table, ["arch", "data"], looks, panel, text, **drawing)


def apart(cost: pd.Series) -> pd.Series:
    """Move points of one cost side by side, on a logarithmic axis.

    Args:
        cost: of each point.

    Returns:
        Their horizontal positions.

    Example:
        >>> apart(pd.Series([4.0, 8.0])).tolist()
        [4.0, 8.0]
    """
    step = 1 + 0.015 * float(np.log(MARGIN**2 * cost.max() / cost.min()))
    alike = cost.groupby(cost)
    return cost * step ** (alike.cumcount() - (alike.transform("size") - 1) / 2)


def described(measures: pd.DataFrame) -> str:
    """Describe where points of one cost stand, and name the methods without a point or a sure sign.

    Args:
        measures: of `fgbench.reporting.frames.load.Records.measures`.

    Returns:
        Sentences for a caption.

    Example:
        >>> from fgbench.reporting.frames.load import MEASURES
        >>> described(pd.DataFrame([], columns=MEASURES))
        'Points of one cost stand side by side.'
    """
    chosen = measures[(measures["quantity"] == NAME) & measures["place"].eq("all")]
    missing, wrong = ~chosen["value"].gt(0), chosen["sign"].eq(Sign.UPHILL)
    parts = ["Points of one cost stand side by side."]
    for why, rows in (
        ("Points uphill (scale below 0), so without a point", wrong),
        ("Not resolved, so without a point", missing & ~wrong),
        (OPEN, ~missing & chosen["sign"].eq(Sign.UNRESOLVED)),
    ):
        if named := ordering.order(chosen.loc[rows, "label"]):
            parts.append(f"{why}: {'; '.join(named)}.")
    return " ".join(parts)


draw = writer(NAME, Records.measures, plotted, figure)
