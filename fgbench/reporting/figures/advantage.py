"""Variance of weight directions over that of activity directions, measured beside theory."""

from __future__ import annotations

from math import exp, log
from typing import Any

import pandas as pd
from matplotlib.axes import Axes

from fgbench.registry import split_options
from fgbench.reporting.figures import relative_variance
from fgbench.reporting.figures.files import writer
from fgbench.reporting.frames import ordering
from fgbench.reporting.frames.load import Records
from fgbench.reporting.frames.settings import read_form
from fgbench.reporting.plotting import panels, style
from fgbench.reporting.plotting.panels import Page
from fgbench.reporting.plotting.sheet import PAPER, Sheet

NAME = "advantage"
PAIRS = {"FG-A": "FG-W", "LG-FG-A": "LG-FG-W"}
OWN = {"share"}
"""Options whose default is each method's own: as stated in their names, they are alike."""
ALIKE = [
    *("arch", "data", "seed", "directions", "inits", "moments", "batches", "batch", "along"),
    "design",
]
COLUMNS = (
    *("method", "other", *ALIKE, "draws", "factor", "low", "high", "n", "predicted", "truth"),
    *("heavy_tail", "label", "value"),
)


def plotted(measures: pd.DataFrame) -> pd.DataFrame:
    """Compute the drawn numbers: a row per two records that differ by their method alone.

    A factor is a quotient of relative variances. Its interval takes the two as independent and adds the
    squared log half-widths, which is too wide where both were measured at the same points.

    Args:
        measures: of `fgbench.reporting.frames.load.Records.measures`.

    Returns:
        Columns `COLUMNS`; ``factor`` is measured, ``predicted`` the quotient of the closed forms.

    Example:
        >>> from fgbench.reporting.frames.load import MEASURES
        >>> row = {"arch": "mlp-2x8", "data": "digits", "quantity": "relative_variance", "place": "all"}
        >>> row |= {"form": "", "design": "", "along": ""}
        >>> fg_a = {**row, "method": "FG-A", "value": 2.0, "low": 1.0, "high": 4.0, "predicted": 2.0}
        >>> fg_w = {**row, "method": "FG-W", "value": 6.0, "low": 3.0, "high": 12.0, "predicted": 8.0}
        >>> table = plotted(pd.DataFrame([fg_a, fg_w], columns=MEASURES))
        >>> table[["method", "other", "factor", "predicted"]].values.tolist()
        [['FG-A', 'FG-W', 3.0, 4.0]]
    """
    chosen = measures[measures["quantity"].eq(relative_variance.NAME) & measures["place"].eq("all")]
    chosen = chosen[(chosen["value"] > relative_variance.ZERO) & chosen["predicted"].gt(0)]
    presets = chosen["method"].str.partition("[")[0] if len(chosen) else chosen["method"]
    chosen = chosen.assign(preset=presets)[presets.isin([*PAIRS, *PAIRS.values()])]
    stated = [str(sorted(split_options(name)[1].items())) for name in chosen["method"]]
    chosen = chosen.assign(stated=stated).sort_values("draws", kind="stable")
    once = [*ALIKE, "preset", "stated", "form"]  # what was measured twice is no second pair
    chosen = chosen.drop_duplicates(once, keep="last").sort_index()
    rows = []
    for one, other in PAIRS.items():
        mine, others = (chosen[chosen["preset"] == name] for name in (one, other))
        pairs = mine.merge(others, on=[*ALIKE, "stated"], suffixes=("", "_other"))
        rows += [
            {**row, "other": row["method_other"], **_factor(row)}
            for row in pairs.to_dict("records")
            if _alike(row)
        ]
    table = pd.DataFrame(rows, columns=list(COLUMNS))
    return ordering.arranged(table, ["method", "predicted"])


def figure(_: pd.DataFrame, table: pd.DataFrame, sheet: Sheet = PAPER) -> Page:
    """Draw the measured factor against the predicted one, with a dashed line where both are equal.

    Args:
        table: of `plotted`, all that is drawn.
        sheet: what it is drawn on.

    Returns:
        The page.

    Example:
        >>> row = {"arch": "mlp-2x8", "data": "digits", "method": "FG-A", "other": "FG-W", "factor": 3.0}
        >>> row |= {"low": 2.0, "high": 4.0, "predicted": 3.5, "value": 2.0, "label": "FG-A"}
        >>> row |= {"draws": 8, "inits": 1, "batches": 1, "truth": "scheme", "heavy_tail": False}
        >>> fig = figure(pd.DataFrame(), pd.DataFrame([row], columns=COLUMNS))
        >>> fig.axes[0].get_xlabel()
        'predicted ratio of variances'
    """
    names = table["other"] + " / " + table["method"]
    looks = style.looks(names, table["method"])

    def panel(ax: Axes, group: tuple[Any, ...], part: pd.DataFrame) -> None:
        del group
        ends = part[["factor", "predicted", "low", "high"]].stack()
        line = [float(ends.min()) / 1.3, float(ends.max()) * 1.3]
        ax.plot(line, line, color=style.FAINT, ls=style.DASHED, lw=style.pt(0.9))
        for name, mine in part.groupby(names, sort=False):
            shown = mine.rename(columns={"factor": "mean"})
            panels.points(ax, mine["predicted"], shown, looks[str(name)])
        panels.log_axis(ax, line)
        panels.log_axis(ax, line, "x")
        ax.set(xlabel="predicted ratio of variances", ylabel="measured ratio of variances")
        panels.titled(ax, "weight / activity directions")

    where = " ".join(sorted(set(table["arch"] + " on " + table["data"])))
    many = len(set(table["arch"] + table["data"]))
    where = f"{many} networks and data sets" if many > 2 else where
    text = (
        f"{relative_variance.caption(table)} {len(table)} pairs of records, {where}. Dashed: equality. Bars: "
        "95 % intervals, the two variances taken as independent."
    )
    more = {"measured = predicted": {"ls": style.DASHED, "lw": 0.9}}
    drawing: dict[str, Any] = {"height": 2.4, "line": False, "more": more, "sheet": sheet}
    return panels.drawn(table.assign(all=""), ["all"], looks, panel, text, **drawing)


def _alike(row: dict[Any, Any]) -> bool:
    """Check whether two records have the same dtype, and the same options where both methods have them."""
    mine, other = (read_form(str(row[f"form{of}"])) for of in ("", "_other"))
    same = all(mine[name] == other[name] for name in (mine.keys() & other.keys()) - OWN)
    return same and mine.get("dtype") == other.get("dtype")


def _factor(row: dict[Any, Any]) -> dict[str, float]:
    """Divide two relative variances, measured and predicted."""
    factor = row["value_other"] / row["value"]
    halves = [log(row[f"high{of}"] / row[f"low{of}"]) / 2 for of in ("", "_other")]
    half = sum(part**2 for part in halves) ** 0.5
    ends = {"low": factor * exp(-half), "high": factor * exp(half)}
    return {"factor": factor, **ends, "predicted": row["predicted_other"] / row["predicted"]}


draw = writer(NAME, Records.measures, plotted, figure)
