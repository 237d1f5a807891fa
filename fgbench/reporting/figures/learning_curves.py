"""Test error, or another test metric, against epochs: mean over seeds with a band."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from fgbench.records.metrics import ERROR, Shown
from fgbench.reporting.figures.catalogue import FIGURES
from fgbench.reporting.figures.files import writer
from fgbench.reporting.frames import ordering
from fgbench.reporting.frames.load import Records
from fgbench.reporting.frames.seed_means import WHOLE
from fgbench.reporting.plotting import epoch_curves, panels, style
from fgbench.reporting.plotting.panels import Page
from fgbench.reporting.plotting.sheet import PAPER, Sheet

NAME = "learning_curves"
PERCENT = {"mean": "test_error_percent", "low": "low_percent", "high": "high_percent"}
"""Names of the columns where every curve is of an error."""
PLAIN = {"mean": "test", "low": "low", "high": "high"}
"""Names of the columns where some curve is of another metric, which the column ``metric`` names."""
PANEL = ["arch", "data"]


def unnamed(table: pd.DataFrame) -> pd.DataFrame:
    """Return a table of `plotted` with the column names of `epoch_curves.averaged`.

    Args:
        table: of `plotted`.

    Example:
        >>> list(unnamed(pd.DataFrame({"test_error_percent": [1.0]})))
        ['mean']
    """
    names = {new: old for columns in (PERCENT, PLAIN) for old, new in columns.items()}
    return table.rename(columns=names)


def metrics(curves: pd.DataFrame) -> dict[tuple[str, str], Shown]:
    """Return the metric of every architecture and data set, with its level of chance as it is shown.

    Args:
        curves: of `fgbench.reporting.frames.load.Records.curves`.

    Example:
        >>> row = {"arch": "gpt", "data": "topics", "metric": "bits_per_character", "unit": "bits"}
        >>> row |= {"best": "low", "level": 6.5}
        >>> metrics(pd.DataFrame([row]))[("gpt", "topics")].axis("test")
        'test bits per character'
    """
    found: dict[tuple[str, str], Shown] = {}
    for (arch, data), part in curves.groupby(PANEL):
        known = part.dropna(subset=["metric"])
        level = float(part["level"].max())
        shown = ERROR._replace(
            chance=100 * float(part["chance"].max()) if "chance" in part else np.nan
        )
        if not known.empty:
            first = known.iloc[0]
            shown = Shown(str(first["metric"]), str(first["unit"]), str(first["best"]), level)
        found[str(arch), str(data)] = shown
    return found


def plotted(curves: pd.DataFrame) -> pd.DataFrame:
    """Compute the drawn numbers: errors in percent, other metrics as they are.

    Args:
        curves: of `fgbench.reporting.frames.load.Records.curves`.

    Returns:
        Columns of `fgbench.reporting.plotting.epoch_curves.averaged` with the names of `PERCENT`; with those
        of `PLAIN`, ``metric`` and ``unit`` where some curve is of another metric than an error.

    Example:
        >>> from fgbench.reporting.frames.load import CURVES
        >>> row = {"arch": "mlp-2x8", "data": "digits", "method": "BP", "label": "BP", "status": "ok"}
        >>> row |= {"key": "a", "seed": 0, "split": "test"}
        >>> rows = [{**row, "epoch": at, "error": 0.2 - 0.1 * at} for at in (0, 1)]
        >>> curves = pd.DataFrame(rows, columns=CURVES)
        >>> plotted(curves)[["epoch", "test_error_percent"]].values.tolist()
        [[0.0, 20.0], [1.0, 10.0]]
    """
    test = on_test(curves)
    errors = test["metric"].eq(ERROR.name)
    table = epoch_curves.averaged(test[errors], WHOLE)
    if errors.all():
        return table.rename(columns=PERCENT)
    parts = [] if table.empty else [table.assign(metric=ERROR.name, unit=ERROR.unit)]
    for (name, unit), part in test[~errors].groupby(["metric", "unit"], sort=False):
        signed = bool(part["value"].lt(0).any() or part["best"].eq("high").any())
        most = Shown(str(name), str(unit)).most
        parts.append(epoch_curves.averaged(part, most, signed).assign(metric=name, unit=unit))
    whole = pd.concat(parts)
    return ordering.arranged(whole, [*PANEL, "method", "label", "run", "epoch"]).rename(
        columns=PLAIN
    )


def on_test(curves: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of test examples that have a number of the main metric, as ``value``.

    Args:
        curves: of `fgbench.reporting.frames.load.Records.curves`; rows without a metric are of errors.

    Example:
        >>> row = {"split": "test", "error": 0.25, "metric": None, "value": None}
        >>> on_test(pd.DataFrame([row]))[["metric", "value"]].values.tolist()
        [['error', 25.0]]
    """
    test = curves[curves["split"] == "test"]
    values = pd.to_numeric(test["value"]).fillna(100 * test["error"])
    known = test["metric"].where(test["metric"].notna(), ERROR.name)
    return test.assign(value=values, metric=known)[values.notna()]


def figure(
    curves: pd.DataFrame, table: pd.DataFrame, log: bool = True, sheet: Sheet = PAPER
) -> Page:
    """Draw the main test metric against epochs, one panel per architecture and data set.

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
    table, kinds = unnamed(table), metrics(curves)
    looks = style.looks(table["label"], table["method"])

    def panel(ax: Axes, group: tuple[Any, ...], part: pd.DataFrame) -> None:
        epoch_curves.draw(ax, part, looks)
        _axis(ax, part, kinds[str(group[0]), str(group[1])], log)
        panels.heading(ax, *group)

    more, text = epoch_curves.keys(table), epoch_curves.caption(table)
    drawing: dict[str, Any] = {"height": 2.2, "more": more, "sheet": sheet}
    return panels.drawn(table, PANEL, looks, panel, text, **drawing)


def _axis(ax: Axes, part: pd.DataFrame, metric: Shown, log: bool) -> None:
    """Set the metric's axis, with a line at chance unless that would squeeze the curves."""
    chance = np.nan if metric.chance is None else metric.chance
    ax.set_ylabel(metric.axis("test"))
    if metric.best == "high" or part["mean"].le(0).any():
        _plain_axis(ax, chance)
        return
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
        panels.small_print(ax, 1, chance * 1.02, _chance(chance, metric), **words)
    bottom, top = (low / 1.3, high * 1.35) if log else (max(0, low - 0.1 * high), high * 1.1)
    ax.set_ylim(bottom, min(top, 1.08 * metric.most))


def _plain_axis(ax: Axes, chance: float) -> None:
    """Set the axis of a metric that may be negative, with a line at chance where it is in sight."""
    bottom, top = ax.get_ylim()
    if bottom <= chance <= top:
        ax.axhline(chance, color=style.FAINT, ls=":", lw=style.pt(0.8))
        words: dict[str, Any] = {"ha": "right", "va": "bottom"}
        panels.small_print(ax, 1, chance, "chance", transform=ax.get_yaxis_transform(), **words)


def _chance(chance: float, metric: Shown) -> str:
    """Return the words at the line of chance."""
    return f"chance {chance:.3g}{' %' if metric.factor > 1 else ''}"


def _lost(records: Records) -> str:
    """Return what is missing where no training has a learning curve, with how trainings ended."""
    ended = Counter(str(row["status"]) for row in records.of("train"))
    lost = ", ".join(f"{ended[how]} {how}" for how in sorted(ended) if how != "ok")
    needs = FIGURES[NAME].needs
    return f"{needs} (of {sum(ended.values())} trainings {lost})" if lost else needs


draw = writer(NAME, Records.curves, plotted, figure, _lost)
