"""Test error above the reference's, at equal compute, against the efficiency at initialisation."""

from __future__ import annotations

from typing import Any

import pandas as pd
from matplotlib.axes import Axes

from fgbench.reporting.figures.efficiency import OPEN
from fgbench.reporting.figures.files import writer
from fgbench.reporting.frames import comparisons, ordering
from fgbench.reporting.plotting import panels, style
from fgbench.reporting.plotting.panels import Page
from fgbench.reporting.plotting.sheet import PAPER, Sheet
from fgbench.stats.scale_verdict import Sign

NAME = "gap_against_efficiency"


def plotted(table: pd.DataFrame) -> pd.DataFrame:
    """Select the drawn numbers: a row per method compared and measured on one network and data set.

    Args:
        table: of `fgbench.reporting.frames.comparisons.gaps`.

    Returns:
        The same rows.

    Example:
        >>> len(plotted(pd.DataFrame([], columns=comparisons.COLUMNS)))
        0
    """
    return table


def figure(_: pd.DataFrame, table: pd.DataFrame, sheet: Sheet = PAPER) -> Page:
    """Draw the gap to the reference against efficiency, a panel per network and data set.

    Args:
        table: of `plotted`.
        sheet: what it is drawn on.

    Returns:
        The page.

    Example:
        >>> row = dict.fromkeys(comparisons.COLUMNS, 0.1) | {"arch": "mlp-2x8", "data": "digits"}
        >>> row |= {"method": "FG-A", "label": "FG-A", "n": 10, "metric": "test error (%)"}
        >>> fig = figure(pd.DataFrame(), pd.DataFrame([row]))
        >>> fig.axes[0].get_xlabel()
        'efficiency at initialisation'
    """
    looks = style.looks(table["label"], table["method"])

    def panel(ax: Axes, group: tuple[Any, ...], part: pd.DataFrame) -> None:
        ax.axhline(0.0, color=style.FAINT, lw=style.pt(0.7))
        for _, row in part.iterrows():
            look = looks[str(row["label"])]
            lines: dict[str, Any] = {"color": look.colour, "lw": style.pt(0.9)}
            ax.hlines(row["gap"], row["low"], row["high"], **lines)
            ax.vlines(row["efficiency"], row["gap_low"], row["gap_high"], **lines)
            ax.plot(row["efficiency"], row["gap"], ls="", **panels.mark(look))
        ends = part[["efficiency", "low", "high"]].stack().dropna()
        panels.log_axis(ax, [float(e) for e in ends[ends > 0]], "x")
        ax.set_xlabel("efficiency at initialisation")
        what = str(part["metric"].iloc[0])
        unit = " (points)" * what.endswith(" (%)")
        ax.set_ylabel(f"{what.removesuffix(' (%)')} above\nthe reference's{unit}")
        panels.heading(ax, *group)

    drawing: dict[str, Any] = {"height": 2.5, "line": False, "sheet": sheet}
    return panels.drawn(table, ["arch", "data"], looks, panel, caption(table), **drawing)


def caption(table: pd.DataFrame) -> str:
    """Describe the two axes, the bars, over how many seeds they are, and signs that are open.

    Args:
        table: of `plotted`.

    Returns:
        The caption.

    Example:
        >>> table = pd.DataFrame({"n": [10.0], "sign": "", "label": "FG-A"})
        >>> caption(table).partition(";")[2].partition(".")[0]
        ' 10 paired seeds'
    """
    least, most = (f"{count:.0f}" for count in (table["n"].min(), table["n"].max()))
    counts = least if least == most else f"{least} to {most}"
    unsure = table.loc[table["sign"].eq(Sign.UNRESOLVED), "label"]
    return (
        "Efficiency of the gradient estimate of the whole body before training, against the test result "
        "less that of the reference at equal forward equivalents, each tuned with the same budget; "
        f"{counts} paired seeds. Bars: 95 % intervals. Methods that estimate no gradient have no point."
        + (f" {OPEN}: {'; '.join(ordering.order(unsure))}." if len(unsure) else "")
    )


draw = writer(NAME, comparisons.gaps, plotted, figure)
