"""A quantity site by site, in the order of the network: the frame of the figures over depth."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from fgbench.reporting.figures import relative_variance
from fgbench.reporting.frames import ordering
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
    *("batches", "batch", "truth", "heavy_tail", "unscaled"),
)


def picked(measures: pd.DataFrame, quantity: str) -> pd.DataFrame:
    """Pick one quantity of every site.

    Args:
        measures: of `fgbench.reporting.frames.load.Records.measures`.
        quantity: such as "bias".

    Returns:
        Columns `KEPT`: a row per record and site, ``position`` counting sites from the input, from 1.
    """
    chosen = measures[(measures["quantity"] == quantity) & (measures["place"] != "all")]
    chosen = chosen.assign(site=chosen["place"], position=chosen.groupby("key").cumcount() + 1)
    return ordering.arranged(chosen, [*PANEL, "method", "label", "seed", "position"])[list(KEPT)]


def asides(records: int) -> list[float]:
    """Return how far records stand to the right of a site, where sites are 1 apart."""
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
        curve: draws one record: axes, places from left to right, its rows and its look.
        axis: of the numbers.
        text: what is to be said after n.
        log: numbers on a logarithmic axis, else on one from zero up.
        filled: every marker is, in the legend: whether it is has another meaning in the panels.

    Returns:
        A figure 3.4 in wide for one panel, else 7 in.
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
