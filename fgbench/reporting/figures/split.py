"""Variance site by site, split between batches and perturbations."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pandas as pd
from matplotlib.axes import Axes

from fgbench.reporting.figures import relative_variance, sites
from fgbench.reporting.figures.files import writer
from fgbench.reporting.frames import ordering
from fgbench.reporting.frames.load import Records
from fgbench.reporting.plotting import panels, style
from fgbench.reporting.plotting.panels import Page
from fgbench.reporting.plotting.sheet import PAPER, Sheet

NAME = "split"
PANEL = ["arch", "data", "label", "seed"]
PARTS = {"batch": "batch_variance", "perturbation": "perturbation_variance"}
COLUMNS = (
    *(*PANEL, "method", "site", "position"),
    *(f"{part}{end}" for part in PARTS for end in ("", "_low", "_high")),
    *("total", "total_low", "total_high", "parity", "n", "directions", "draws", "inits"),
    *("moments", "batches", "batch_size", "truth", "heavy_tail", "value"),
)
WORDS = (
    "Filled: variance of the estimate over batches and perturbations, relative to E|g|². Hollow: variance of "
    "the true gradient between batches. Between them stands what perturbations add; their directions are "
    "drawn anew for every batch, so this includes the interaction of both. Thick bars: 95 % intervals, at "
    "the hollow mark from a jackknife over the gradients of batches, at the filled one of the part of "
    "perturbations alone."
)


def plotted(measures: pd.DataFrame) -> pd.DataFrame:
    """Compute the drawn numbers: a row per record and site where both parts have a value.

    Args:
        measures: of `fgbench.reporting.frames.load.Records.measures`.

    Returns:
        Columns `COLUMNS`: both parts and their sum, relative to E|g|², and ``parity``, the directions at
        which they are equal.

    Example:
        >>> from fgbench.reporting.frames.load import MEASURES
        >>> row = {"key": "a", "arch": "mlp-2x8", "data": "digits", "method": "FG-A", "label": "FG-A"}
        >>> row |= {"place": "body.0.l0", "low": 1.0, "high": 4.0}
        >>> rows = [{**row, "quantity": name, "value": 2.0} for name in PARTS.values()]
        >>> measures = pd.DataFrame(rows, columns=MEASURES)
        >>> plotted(measures)[["site", "batch", "perturbation", "total"]].values.tolist()
        [['body.0.l0', 2.0, 2.0, 4.0]]
    """
    sites = measures[measures["place"] != "all"]
    first = sites[sites["quantity"] == PARTS["batch"]]
    table = first.rename(columns={"batch": "batch_size", "place": "site"})
    table = table.assign(position=table.groupby("key").cumcount() + 1)
    for part, name in PARTS.items():
        ends = {"value": part, "low": f"{part}_low", "high": f"{part}_high", "place": "site"}
        numbers = sites.loc[sites["quantity"] == name, ["key", *ends]]
        table = table.merge(numbers.rename(columns=ends), on=["key", "site"])
    parity = sites.loc[sites["quantity"] == "directions_for_parity", ["key", "place", "value"]]
    parity = parity.rename(columns={"value": "parity", "place": "site"})
    table = table.merge(parity, on=["key", "site"], how="left")
    table = table[table["batch"].gt(relative_variance.ZERO) & table["perturbation"].notna()]
    for end in ("", "_low", "_high"):
        table[f"total{end}"] = table["batch"] + table[f"perturbation{end}"]
    keys = ["arch", "data", "method", "label", "seed", "position"]
    return ordering.arranged(table, keys)[list(COLUMNS)]


def figure(_: pd.DataFrame, table: pd.DataFrame, sheet: Sheet = PAPER) -> Page:
    """Draw both parts at every site, records side by side, a panel per architecture and data set.

    Args:
        table: of `plotted`, all that is drawn.
        sheet: what it is drawn on.

    Returns:
        The page.

    Example:
        >>> from fgbench.reporting.frames.load import MEASURES
        >>> row = {"key": "a", "arch": "mlp-2x8", "data": "digits", "method": "FG-A", "label": "FG-A"}
        >>> row |= {"draws": 8, "inits": 1, "batches": 1, "truth": "scheme", "heavy_tail": False}
        >>> row |= {"place": "body.0.l0", "low": 1.0, "high": 4.0}
        >>> rows = [{**row, "quantity": name, "value": 2.0} for name in PARTS.values()]
        >>> measures = pd.DataFrame(rows, columns=MEASURES)
        >>> page = figure(measures, plotted(measures))
        >>> page.axes[0].get_ylabel()
        'variance / E|g|²'
    """
    numbers = [f"{part}{end}" for part in ("batch", "total") for end in ("", "_low", "_high")]
    more: dict[str, dict[str, Any]] = {
        "over batches and perturbations": {"ls": "", "marker": "o", "ms": 4},
        "between batches": {"ls": "", "marker": "o", "ms": 3, "mfc": "w", "mew": 0.9},
    }
    drawing: dict[str, Any] = {"log": True, "numbers": numbers, "filled": True, "more": more}
    return sites.drawn(table, _pairs, "variance / E|g|²", WORDS, sheet=sheet, **drawing)


def _pairs(ax: Axes, x: pd.Series, part: pd.DataFrame, look: style.Look) -> None:
    """Draw both parts of one record."""
    thin: dict[str, Any] = {"color": look.colour, "lw": style.pt(0.6), "alpha": 0.6}
    ax.vlines(x, part["batch"], part["total"], **thin)
    for name, size, filled in (("batch", 3.0, False), ("total", 4.0, True)):
        thick: dict[str, Any] = {"color": look.colour, "lw": style.pt(1.8)}
        ax.vlines(x, part[f"{name}_low"], part[f"{name}_high"], **thick)
        ax.plot(x, part[name], ls="", **panels.mark(replace(look, filled=filled), size))


draw = writer(NAME, Records.measures, plotted, figure)
