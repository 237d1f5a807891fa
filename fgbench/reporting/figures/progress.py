"""Test error, or another test metric, against epochs, seconds and forward passes."""

from __future__ import annotations

from typing import Any

import pandas as pd
from matplotlib.axes import Axes

from fgbench.reporting.figures import learning_curves
from fgbench.reporting.figures.files import writer
from fgbench.reporting.frames.load import Records
from fgbench.reporting.plotting import epoch_curves, panels, style
from fgbench.reporting.plotting.panels import Page
from fgbench.reporting.plotting.sheet import PAPER, Sheet

NAME = "progress"
AXES = {
    "epoch": "epochs",
    "seconds": "seconds of training",
    "passes": "forward equivalents\n(passes over the training set)",
}
RUNS = ["arch", "data", "method", "label", "run", "epoch"]


def plotted(curves: pd.DataFrame) -> pd.DataFrame:
    """Compute the drawn numbers: errors in percent, other metrics as they are.

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
    test = learning_curves.on_test(curves)
    names = "seed " + test["seed"].astype(str)
    test = test.assign(run=names.where(test["status"] != "ok", "mean"))
    spent = test.groupby(RUNS, sort=False)[["seconds", "passes"]].mean().reset_index()
    return learning_curves.plotted(curves).merge(spent, on=RUNS, how="left", sort=False)


def figure(curves: pd.DataFrame, table: pd.DataFrame, sheet: Sheet = PAPER) -> Page:
    """Draw test error against each of the three axes, a row of panels per architecture and data set.

    Args:
        curves: of `fgbench.reporting.frames.load.Records.curves`, for the devices.
        table: of `plotted`.
        sheet: what it is drawn on.

    Returns:
        The page.

    Example:
        >>> from fgbench.reporting.frames.load import CURVES
        >>> row = {"arch": "mlp-2x8", "data": "digits", "method": "BP", "label": "BP", "status": "ok"}
        >>> row |= {"key": "a", "seed": 0, "split": "test", "device": "cpu", "error": 0.1}
        >>> rows = [{**row, "epoch": at, "seconds": 5.0 * at, "passes": 3.0 * at} for at in (0, 1)]
        >>> curves = pd.DataFrame(rows, columns=CURVES)
        >>> len(figure(curves, plotted(curves)).axes)
        3
    """
    table, kinds = learning_curves.unnamed(table), learning_curves.metrics(curves)
    looks = style.looks(table["label"], table["method"])
    parts = [
        part.assign(what=what).assign(epoch=part[what]).dropna(subset=["epoch"])
        for _, part in table.groupby(["arch", "data"], sort=False)
        for what in AXES
    ]

    def panel(ax: Axes, group: tuple[Any, ...], part: pd.DataFrame) -> None:
        arch, data, what = group
        epoch_curves.draw(ax, part, looks)
        metric = kinds[str(arch), str(data)]
        if metric.best == "low" and not part["mean"].le(0).any():
            low, high = epoch_curves.limits(part)
            if high > 4 * low:
                panels.log_scale(ax)
        ax.set(xlabel=AXES[what], ylabel=metric.axis("test"))
        if what != "epoch":
            epoch_curves.ticks(ax, float(part["epoch"].min()), float(part["epoch"].max()))
        if what == "epoch":
            panels.heading(ax, arch, data)

    shown, text = pd.concat(parts), f"{epoch_curves.caption(table)} {described(curves)}"
    drawing: dict[str, Any] = {"most": 3, "share": "row", "sheet": sheet, "height": 2.1}
    drawing["more"] = epoch_curves.keys(table)
    return panels.drawn(shown, ["arch", "data", "what"], looks, panel, text, **drawing)


def described(curves: pd.DataFrame) -> str:
    """Describe what seconds and forward equivalents are.

    Args:
        curves: of `fgbench.reporting.frames.load.Records.curves`.

    Returns:
        A sentence for a caption.

    Example:
        >>> described(pd.DataFrame({"device": ["cpu"]})).partition(",")[0]
        'Seconds (on cpu) and forward equivalents are means over the same runs'
    """
    devices = ", ".join(sorted(set(curves["device"].astype(str)) - {""}))
    return (
        f"Seconds (on {devices or 'an unknown device'}) and forward equivalents are means over the same "
        "runs, of training alone, without evaluation."
    )


draw = writer(NAME, Records.curves, plotted, figure)
