"""Alignment with the true gradient site by site, from input to loss."""

from __future__ import annotations

from functools import partial
from typing import Any

import pandas as pd
from matplotlib.axes import Axes

from fgbench.reporting.figures import sites
from fgbench.reporting.figures.files import writer
from fgbench.reporting.frames.load import Records
from fgbench.reporting.plotting import panels, style
from fgbench.reporting.plotting.panels import Page
from fgbench.reporting.plotting.sheet import PAPER, Sheet
from fgbench.stats import intervals

NAME = "alignment"
TOP = 1.05  # a marker at 1 is whole
BELOW = -0.05
WIDE = 0.4  # of the dash at chance level, to both sides of a site
WORDS = (
    "G: the end-to-end gradient of the same batch, whatever the method's own truth. Line: mean cosine over "
    "draws; 1 is the direction of backprop, 0 at right angles to it. Bars: 95 % intervals. Dotted: "
    "chance, the mean cosine of an estimate along one random direction of the d parameters of the site, "
    "about √(2/(πd)); random feedback has either sign."
)


def plotted(measures: pd.DataFrame) -> pd.DataFrame:
    """Select the drawn numbers: a row per record and site with a gradient to compare with.

    Args:
        measures: of `fgbench.reporting.frames.load.Records.measures`.

    Returns:
        Columns `fgbench.reporting.figures.sites.KEPT` of a cosine alone: ``value`` is the mean cosine of
        single draws with the end-to-end gradient of the site, and ``chance`` that of an estimate along one
        isotropic direction of its parameters.

    Example:
        >>> from fgbench.reporting.frames.load import MEASURES
        >>> row = {"key": "a", "arch": "mlp-2x8", "data": "digits", "method": "DFA", "label": "DFA"}
        >>> row |= {"quantity": "cosine", "place": "body.0.l0", "value": 0.5, "place_elements": 100}
        >>> plotted(pd.DataFrame([row], columns=MEASURES))[["site", "value", "chance"]].values.tolist()
        [['body.0.l0', 0.5, 0.07998817343488557]]
    """
    table = sites.picked(measures, "cosine", also=("place_elements",))
    table = table[table["value"].notna()].reset_index(drop=True)
    chance = [
        intervals.expected_cosine(int(size)) if size > 0 else None
        for size in table["place_elements"].fillna(0)
    ]
    table = table.assign(chance=pd.Series(chance, table.index, dtype=float))
    of_bias = [
        "predicted",
        "p_value",
        "p_adjusted",
        "detectable",
        "draws_low",
        "draws_high",
        "exactly",
    ]
    return table.drop(columns=[*of_bias, "place_elements", "unscaled"])


def figure(_: pd.DataFrame, table: pd.DataFrame, sheet: Sheet = PAPER) -> Page:
    """Draw the cosine at every site, a panel per architecture and data set.

    Args:
        table: of `plotted`, all that is drawn.
        sheet: what it is drawn on.

    Returns:
        The page.

    Example:
        >>> from fgbench.reporting.frames.load import MEASURES
        >>> row = {"key": "a", "arch": "mlp-2x8", "data": "digits", "method": "DFA", "label": "DFA"}
        >>> row |= {"quantity": "cosine", "place": "body.0.l0", "value": 0.5, "place_elements": 100}
        >>> row |= {"draws": 8, "inits": 1, "batches": 1, "truth": "scheme", "heavy_tail": False}
        >>> measures = pd.DataFrame([row], columns=MEASURES)
        >>> fig = figure(measures, plotted(measures))
        >>> fig.axes[0].get_ylabel()
        'cosine of e and G, of a site'
    """
    drawn = table[["value", "low", "high"]].stack().dropna()
    lowest = min(BELOW, 1.1 * float(drawn.min()))
    known = bool(table["chance"].notna().any())
    more = {"chance": {"color": style.INK, "ls": style.DOTTED, "lw": 0.9}} if known else {}
    return sites.drawn(
        table,
        partial(_curve, chance=known),
        "cosine of e and G, of a site",
        WORDS,
        log=False,
        ends=(lowest, TOP),
        truth=False,
        line=True,
        more=more,
        sheet=sheet,
    )


def _curve(ax: Axes, x: pd.Series, part: pd.DataFrame, look: style.Look, chance: bool) -> None:
    """Draw the cosines of one record, zero, and the chance level of every site."""
    ax.axhline(0, color=style.FAINT, lw=style.pt(0.5))
    if chance:
        at = part["position"]
        thin: dict[str, Any] = {"color": style.INK, "ls": style.DOTTED, "lw": style.pt(0.9)}
        ax.hlines(part["chance"], at - WIDE, at + WIDE, **thin)
    panels.points(ax, x, part.rename(columns={"value": "mean"}), look, line=True)


draw = writer(NAME, Records.measures, plotted, figure)
