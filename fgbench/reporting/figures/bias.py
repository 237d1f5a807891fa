"""Bias site by site, with the smallest bias that the test would detect."""

from __future__ import annotations

from dataclasses import replace

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from fgbench.reporting.figures import sites
from fgbench.reporting.figures.files import writer
from fgbench.reporting.frames.load import Records
from fgbench.reporting.plotting import panels, style
from fgbench.stats.bias_verdict import judge

NAME = "bias"
WORDS = (
    "Filled: bias found, p below 0.05 after Benjamini–Hochberg over the sites of a record (without any "
    "bias, this happens in at most one record of twenty); hollow: not found, or not tested where there is "
    "no dash. Dash: the smallest bias that the test would detect. Vertical bars: 95 % intervals ({over}); a "
    "bar without a marker: an interval without a value."
)
OVER = {
    "draws": "over draws, as the test is",
    "points": "over inits, moments and batches, where there are several",
}


def plotted(measures: pd.DataFrame) -> pd.DataFrame:
    """Select the drawn numbers: a row per record and site.

    Args:
        measures: of `fgbench.reporting.frames.load.Records.measures`.

    Returns:
        Columns `fgbench.reporting.figures.sites.KEPT` of a bias alone, and ``found``:
        whether the adjusted p-value is below 0.05. ``low`` to ``high`` is the interval that belongs to the
        test, ``over`` draws, or over points in older records.

    Example:
        >>> from fgbench.reporting.frames.load import MEASURES
        >>> row = {"key": "a", "arch": "mlp-2x8", "data": "digits", "method": "FG-A", "label": "FG-A"}
        >>> row |= {"quantity": NAME, "place": "body.0.l0", "value": 2.0}
        >>> row |= {"detectable": 0.5, "p_adjusted": 0.01}
        >>> plotted(pd.DataFrame([row], columns=MEASURES))[["site", "value", "found"]].values.tolist()
        [['body.0.l0', 2.0, True]]
    """
    table = sites.picked(measures, NAME).drop(columns=["predicted", "unscaled", "exactly"])
    over_draws = table["draws_high"].notna()
    ends = {end: table[f"draws_{end}"].where(over_draws, table[end]) for end in ("low", "high")}
    over = over_draws.map({True: "draws", False: "points"})
    tested = zip(table["detectable"], table["p_adjusted"], strict=True)
    biased = [judge({"detectable": least}, p).biased for least, p in tested]
    table = table.assign(**ends, over=over, found=biased)
    return table.drop(columns=["draws_low", "draws_high"])


def figure(_: pd.DataFrame, table: pd.DataFrame) -> Figure:
    """Draw the bias at every site, a panel per architecture and data set.

    Args:
        table: of `plotted`, all that is drawn.

    Returns:
        A figure 3.4 in wide for one panel, else 7 in.

    Example:
        >>> from fgbench.reporting.frames.load import MEASURES
        >>> row = {"key": "a", "arch": "mlp-2x8", "data": "digits", "method": "FG-A", "label": "FG-A"}
        >>> row |= {"quantity": NAME, "place": "body.0.l0", "value": 2.0}
        >>> row |= {"draws": 8, "inits": 1, "batches": 1, "truth": "scheme", "heavy_tail": False}
        >>> measures = pd.DataFrame([row], columns=MEASURES)
        >>> fig = figure(measures, plotted(measures))
        >>> fig.axes[0].get_ylabel()
        'bias of a site |Ee − g| / |g|'
    """
    axis = "bias of a site |Ee − g| / |g|"
    return sites.drawn(table, _curve, axis, words(table), log=False, filled=True)


def words(table: pd.DataFrame) -> str:
    """Describe marks, dashes and bars.

    Args:
        table: of `plotted`.

    Returns:
        Sentences for a caption.

    Example:
        >>> words(pd.DataFrame({"over": ["draws"]})).partition("Vertical bars: ")[2]
        '95 % intervals (over draws, as the test is); a bar without a marker: an interval without a value.'
    """
    over = "; ".join(text for kind, text in OVER.items() if kind in set(table["over"]))
    return WORDS.format(over=over)


def _curve(ax: Axes, x: pd.Series, part: pd.DataFrame, look: style.Look) -> None:
    """Draw the biases of one record."""
    shown = part.rename(columns={"value": "mean"})
    for significant, mine in shown.groupby("found"):
        panels.points(ax, x[mine.index], mine, replace(look, filled=bool(significant)))
    ax.plot(x, part["detectable"], "_", color=look.colour, ms=7, mew=1.1)


draw = writer(NAME, Records.measures, plotted, figure)
