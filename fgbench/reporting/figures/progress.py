"""Test error against epochs, seconds and forward passes."""

from __future__ import annotations

from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from fgbench.reporting.figures import learning_curves
from fgbench.reporting.figures.files import writer
from fgbench.reporting.frames.load import Records
from fgbench.reporting.plotting import epoch_curves, panels, style

NAME = "progress"
AXES = {
    "epoch": "epochs",
    "seconds": "seconds of training",
    "passes": "forward equivalents\n(passes over the training set)",
}
RUNS = ["arch", "data", "method", "label", "run", "epoch"]


def plotted(curves: pd.DataFrame) -> pd.DataFrame:
    """Compute the drawn numbers, in percent.

    Args:
        curves: of `fgbench.reporting.frames.load.Records.curves`.

    Returns:
        Columns of `fgbench.reporting.figures.learning_curves.plotted` and, as means over the same runs at the
        same epoch, ``seconds`` and ``passes``.

    Example:
        >>> from fgbench.reporting.frames.load import CURVES
        >>> row = {"arch": "mlp-2x8", "data": "digits", "method": "BP", "label": "BP", "status": "ok"}
        >>> row |= {"key": "a", "seed": 0, "split": "test", "device": "cpu", "error": 0.1}
        >>> rows = [{**row, "epoch": at, "seconds": 5.0 * at, "passes": 3.0 * at} for at in (0, 1)]
        >>> curves = pd.DataFrame(rows, columns=CURVES)
        >>> plotted(curves)[["epoch", "seconds", "passes"]].values.tolist()
        [[0.0, 0.0, 0.0], [1.0, 5.0, 3.0]]
    """
    test = curves[curves["split"].eq("test") & curves["error"].notna()]
    names = "seed " + test["seed"].astype(str)
    test = test.assign(run=names.where(test["status"] != "ok", "mean"))
    spent = test.groupby(RUNS, sort=False)[["seconds", "passes"]].mean().reset_index()
    return learning_curves.plotted(curves).merge(spent, on=RUNS, how="left", sort=False)


def figure(curves: pd.DataFrame, table: pd.DataFrame) -> Figure:
    """Draw test error against each of the three axes, a row of panels per architecture and data set.

    Args:
        curves: of `fgbench.reporting.frames.load.Records.curves`, for the devices.
        table: of `plotted`.

    Returns:
        A figure 7 in wide.

    Example:
        >>> from fgbench.reporting.frames.load import CURVES
        >>> row = {"arch": "mlp-2x8", "data": "digits", "method": "BP", "label": "BP", "status": "ok"}
        >>> row |= {"key": "a", "seed": 0, "split": "test", "device": "cpu", "error": 0.1}
        >>> rows = [{**row, "epoch": at, "seconds": 5.0 * at, "passes": 3.0 * at} for at in (0, 1)]
        >>> curves = pd.DataFrame(rows, columns=CURVES)
        >>> len(figure(curves, plotted(curves)).axes)
        3
    """
    table = table.rename(columns={v: k for k, v in learning_curves.PERCENT.items()})
    looks = style.looks(table["label"], table["method"])
    parts = [
        part.assign(what=what).assign(epoch=part[what]).dropna(subset=["epoch"])
        for _, part in table.groupby(["arch", "data"], sort=False)
        for what in AXES
    ]

    def panel(ax: Axes, group: tuple[Any, ...], part: pd.DataFrame) -> None:
        arch, data, what = group
        epoch_curves.draw(ax, part, looks)
        low, high = epoch_curves.limits(part)
        if high > 4 * low:
            panels.log_scale(ax)
        ax.set(xlabel=AXES[what], ylabel="test error (%)")
        ax.xaxis.set_major_locator(MaxNLocator(nbins=5, steps=(1, 2, 5, 10)))
        if what == "epoch":
            panels.heading(ax, arch, data, letters=32)

    devices = ", ".join(sorted(set(curves["device"].astype(str)) - {""}))
    text = (
        f"{epoch_curves.caption(table)} Seconds (on {devices or 'an unknown device'}) and "
        "forward equivalents are means over the same runs, of training alone, without evaluation."
    )
    shown = pd.concat(parts)
    return panels.drawn(shown, ["arch", "data", "what"], looks, panel, text, most=3)


draw = writer(NAME, Records.curves, plotted, figure)
