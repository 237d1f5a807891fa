"""Test error against epochs, mean over seeds with a band."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from fgbench.reporting.figures.catalogue import FIGURES
from fgbench.reporting.figures.files import writer
from fgbench.reporting.frames.load import Records
from fgbench.reporting.frames.seed_means import WHOLE
from fgbench.reporting.plotting import epoch_curves, panels, style
from fgbench.reporting.plotting.panels import Page
from fgbench.reporting.plotting.sheet import PAPER, Sheet

NAME = "learning_curves"
PERCENT = {"mean": "test_error_percent", "low": "low_percent", "high": "high_percent"}


def plotted(curves: pd.DataFrame) -> pd.DataFrame:
    """Compute the drawn numbers, in percent.

    Args:
        curves: of `fgbench.reporting.frames.load.Records.curves`.

    Returns:
        Columns of `fgbench.reporting.plotting.epoch_curves.averaged` with the names of `PERCENT`.

    Example:
        >>> from fgbench.reporting.frames.load import CURVES
        >>> row = {"arch": "mlp-2x8", "data": "digits", "method": "BP", "label": "BP", "status": "ok"}
        >>> row |= {"key": "a", "seed": 0, "split": "test"}
        >>> rows = [{**row, "epoch": at, "error": 0.2 - 0.1 * at} for at in (0, 1)]
        >>> curves = pd.DataFrame(rows, columns=CURVES)
        >>> plotted(curves)[["epoch", "test_error_percent"]].values.tolist()
        [[0.0, 20.0], [1.0, 10.0]]
    """
    test = curves[(curves["split"] == "test") & curves["error"].notna()]
    test = test.assign(value=100 * test["error"])
    return epoch_curves.averaged(test, WHOLE).rename(columns=PERCENT)


def figure(
    curves: pd.DataFrame, table: pd.DataFrame, log: bool = True, sheet: Sheet = PAPER
) -> Page:
    """Draw test error against epochs, one panel per architecture and data set.

    Args:
        curves: of `fgbench.reporting.frames.load.Records.curves`, for the chance level.
        table: of `plotted`.
        log: whether errors have a logarithmic axis in panels that span more than a factor of 4.
        sheet: what it is drawn on.

    Returns:
        The page.

    Example:
        >>> from fgbench.reporting.frames.load import CURVES
        >>> row = {"arch": "mlp-2x8", "data": "digits", "method": "BP", "label": "BP", "status": "ok"}
        >>> row |= {"key": "a", "seed": 0, "split": "test"}
        >>> rows = [{**row, "epoch": at, "error": 0.2 - 0.1 * at} for at in (0, 1)]
        >>> curves = pd.DataFrame(rows, columns=CURVES)
        >>> fig = figure(curves, plotted(curves))
        >>> fig.axes[0].get_ylabel()
        'test error (%)'
    """
    table = table.rename(columns={new: old for old, new in PERCENT.items()})
    chance = curves.groupby(["arch", "data"])["chance"].max()
    looks = style.looks(table["label"], table["method"])

    def panel(ax: Axes, group: tuple[Any, ...], part: pd.DataFrame) -> None:
        epoch_curves.draw(ax, part, looks)
        _axis(ax, part, 100 * float(chance[group]), log)
        panels.heading(ax, *group)

    more, text = epoch_curves.keys(table), epoch_curves.caption(table)
    drawing: dict[str, Any] = {"height": 2.2, "more": more, "sheet": sheet}
    return panels.drawn(table, ["arch", "data"], looks, panel, text, **drawing)


def _axis(ax: Axes, part: pd.DataFrame, chance: float, log: bool) -> None:
    """Set the error's axis, with a line at chance unless that would squeeze the curves."""
    low, high = epoch_curves.limits(part)
    log = log and high > 4 * low
    if log:
        panels.log_scale(ax)
    line = log or high > chance / 2  # false where chance is not known
    if line and not np.isnan(chance):
        high = max(high, chance)
        ax.axhline(chance, color=style.FAINT, ls=":", lw=style.pt(0.8))
        words: dict[str, Any] = {"ha": "right", "va": "bottom"}
        words["transform"] = ax.get_yaxis_transform()
        panels.small_print(ax, 1, chance * 1.02, f"chance {chance:.3g} %", **words)
    bottom, top = (low / 1.3, high * 1.35) if log else (max(0, low - 0.1 * high), high * 1.1)
    ax.set_ylim(bottom, min(top, 1.08 * WHOLE))
    ax.set_ylabel("test error (%)")


def _lost(records: Records) -> str:
    """Return what is missing where no training has a learning curve, with how trainings ended."""
    ended = Counter(str(row["status"]) for row in records.of("train"))
    lost = ", ".join(f"{ended[how]} {how}" for how in sorted(ended) if how != "ok")
    needs = FIGURES[NAME].needs
    return f"{needs} (of {sum(ended.values())} trainings {lost})" if lost else needs


draw = writer(NAME, Records.curves, plotted, figure, _lost)
