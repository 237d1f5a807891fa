"""A quantity site by site, in the order of the network: shared by the figures over depth."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from fgbench.reporting.figures import relative_variance
from fgbench.reporting.frames import comparable, ordering
from fgbench.reporting.plotting import panels, style

PANEL = ["arch", "data"]
ASIDE, WIDEST = 0.1, 0.6  # between records at one site, and of all of them, where sites are 1 apart
KEPT = (
    *(*PANEL, "method", "label", "site", "position", "value", "low", "high", "n", "predicted"),
    *(
        "p_value",
        "p_adjusted",
        "detectable",
        "draws_low",
        "draws_high",
        "seed",
        "directions",
        "draws",
        "inits",
        "moments",
    ),
    *("batches", "batch", "truth", "heavy_tail", "unscaled", "exactly"),
)


def picked(measures: pd.DataFrame, quantity: str) -> pd.DataFrame:
    """Select one quantity of every site.

    Args:
        measures: of `fgbench.reporting.frames.load.Records.measures`.
        quantity: such as "bias".

    Returns:
        Columns `KEPT`: a row per record and site, ``position`` counting sites from the input, from 1, and
        ``unscaled`` as :func:`fgbench.reporting.frames.comparable.judged` finds it among all of them.

    Example:
        >>> from fgbench.reporting.frames.load import MEASURES
        >>> row = {"key": "a", "arch": "mlp-2x8", "data": "digits", "method": "FG-A", "label": "FG-A"}
        >>> row |= {"quantity": "bias", "place": "body.0.l0", "value": 2.0}
        >>> picked(pd.DataFrame([row], columns=MEASURES), "bias")[["site", "position"]].values.tolist()
        [['body.0.l0', 1]]
    """
    chosen = measures[(measures["quantity"] == quantity) & (measures["place"] != "all")]
    chosen = chosen.assign(site=chosen["place"], position=chosen.groupby("key").cumcount() + 1)
    chosen = ordering.arranged(chosen, [*PANEL, "method", "label", "seed", "position"])
    return comparable.judged(chosen)[list(KEPT)]


def asides(records: int) -> list[float]:
    """Return the horizontal offsets of records at one site, where sites are 1 apart.

    Args:
        records: their number.

    Returns:
        An offset for each record.

    Example:
        >>> asides(2)
        [-0.05, 0.05]
    """
    step = min(ASIDE, WIDEST / max(1, records - 1))
    return [step * (at - (records - 1) / 2) for at in range(records)]


def drawn(
    table: pd.DataFrame,
    curve: Callable[[Axes, pd.Series, pd.DataFrame, style.Look], None],
    axis: str,
    text: str,
    *,
    log: bool,
    filled: bool = False,
) -> Figure:
    """Draw records side by side at every site, a panel per architecture and data set.

    Args:
        table: of `picked`.
        curve: draws one record, from the axes, horizontal positions, its rows and its look.
        axis: label of the vertical axis.
        text: the caption after the sentence on n.
        log: whether the vertical axis is logarithmic, else it starts at zero.
        filled: whether every marker of the legend is filled, because filling has another meaning in the
            panels.

    Returns:
        A figure 3.4 in wide for one panel, else 7 in.

    Example:
        >>> from fgbench.reporting.frames.load import MEASURES
        >>> row = {"key": "a", "arch": "mlp-2x8", "data": "digits", "method": "FG-A", "label": "FG-A"}
        >>> row |= {"quantity": "bias", "place": "body.0.l0", "value": 2.0}
        >>> row |= {"draws": 8, "inits": 1, "batches": 1, "truth": "scheme", "heavy_tail": False}
        >>> table = picked(pd.DataFrame([row], columns=MEASURES), "bias")
        >>> fig = drawn(table, lambda ax, x, part, look: None, "bias", "No curves.", log=False)
        >>> fig.axes[0].get_ylabel()
        'bias'
    """
    looks = style.looks(table["label"], table["method"])
    if filled:
        looks = {label: replace(look, filled=True) for label, look in looks.items()}

    def panel(ax: Axes, group: tuple[Any, ...], part: pd.DataFrame) -> None:
        runs = list(part.groupby(["label", "seed"], sort=False, dropna=False))
        last = int(part["position"].max())
        for aside, ((label, _), mine) in zip(asides(len(runs)), runs, strict=True):
            curve(ax, mine["position"] + aside, mine, looks[label])
        if log:
            panels.log_axis(ax, part[["value", "low", "high", "predicted"]].stack().dropna())
        else:
            ax.set_ylim(bottom=0)
        places = range(1, last + 1)
        ax.set_xticks(places, [str(k) if (k - 1) % (1 + last // 16) == 0 else "" for k in places])
        ax.tick_params(axis="x", length=0)
        ax.grid(visible=False, axis="x")
        ax.set(xlim=(0.5, last + 0.5), xlabel="site, from input to loss", ylabel=axis)
        panels.heading(ax, *group)

    words = f"{relative_variance.caption(table, 'each of one site')} {text}"
    return panels.drawn(table, PANEL, looks, panel, words, line=False)
