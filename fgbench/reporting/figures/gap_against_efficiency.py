"""Test error above the reference's, at equal compute, against the efficiency at initialisation."""

from __future__ import annotations

from math import floor, log10
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import NullLocator

from fgbench.reporting.figures.efficiency import OPEN
from fgbench.reporting.figures.files import writer
from fgbench.reporting.frames import comparisons, ordering
from fgbench.reporting.plotting import panels, style
from fgbench.reporting.plotting.numbers import signed
from fgbench.reporting.plotting.panels import Page
from fgbench.reporting.plotting.sheet import PAPER, Sheet
from fgbench.stats.scale_verdict import Sign

NAME = "gap_against_efficiency"
CROWDED = 5.0
"""How many times the median gap the largest is where the axis beyond some gap is logarithmic."""


def bend(gaps: pd.Series[float]) -> float | None:
    """Return the gap beyond which the axis is logarithmic, None where it is linear throughout.

    One method that hardly learns is so far from the others that a linear axis draws these as one.

    Args:
        gaps: of all methods of a panel.

    Returns:
        A round number of at least twice the median gap.

    Example:
        >>> bend(pd.Series([1.0, 2.0, 3.0])), bend(pd.Series([1.0, 2.0, 4.0, 80.0]))
        (None, 10.0)
    """
    size = gaps.abs()
    if not size.max() > CROWDED * size.median() > 0.0:
        return None
    decade = 10.0 ** floor(log10(2 * size.median()))
    return next(n * decade for n in (1.0, 2.0, 5.0, 10.0) if n * decade >= 2 * size.median())


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
        if bent := bend(part["gap"]):
            ax.set_yscale("symlog", linthresh=bent, linscale=1.5)
            ticks = [n * bent for n in (-1, -0.5, 0, 0.5, 1, 2, 5, 10)]
            least, most = part["gap_low"].min(), part["gap_high"].max()
            shown = [tick for tick in ticks if min(least, 0.0) - bent / 2 < tick <= most]
            ax.set_yticks(shown, [signed(tick, "g") for tick in shown])
            ax.yaxis.set_minor_locator(NullLocator())
            ax.axhline(bent, color=style.FAINT, lw=style.pt(0.7), ls=":")
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
        >>> row = {"n": 10.0, "sign": "", "label": "FG-A", "arch": "mlp-2x8", "data": "digits", "gap": 1.0}
        >>> table = pd.DataFrame([row])
        >>> caption(table).partition(";")[2].partition(".")[0]
        ' 10 paired seeds'
    """
    least, most = (f"{count:.0f}" for count in (table["n"].min(), table["n"].max()))
    counts = least if least == most else f"{least} to {most}"
    bends = [bend(part["gap"]) for _, part in table.groupby(["arch", "data"])]
    unsure = table.loc[table["sign"].eq(Sign.UNRESOLVED), "label"]
    return (
        "Efficiency of the gradient estimate of the whole body before training, against the test result "
        "less that of the reference at equal forward equivalents, each tuned with the same budget; "
        f"{counts} paired seeds. Bars: 95 % intervals. Methods that estimate no gradient have no point."
        + " Above a dotted line the vertical axis is logarithmic." * any(bends)
        + (f" {OPEN}: {'; '.join(ordering.order(unsure))}." if len(unsure) else "")
    )


draw = writer(NAME, comparisons.gaps, plotted, figure)
