"""Figure: test error against epochs, mean over seeds with a band."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from textwrap import fill
from typing import Any

import numpy as np
import pandas as pd
import seaborn.objects as so
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator
from scipy import stats

from fgbench.analysis import style
from fgbench.analysis.load import Records
from fgbench.errors import UsageError

NAME = "learning_curves"
BANDS = {
    "t": "95 % t interval of the mean",
    "range": "range of two seeds",
    "none": "none for one seed",
}
COLUMNS = (
    *("arch", "data", "method", "label", "run", "epoch", "n", "test_error_percent"),
    *("low_percent", "high_percent", "band", "diverged", "runs"),
)


def mean_interval(values: pd.Series) -> dict[str, float | str]:
    """Average over seeds with an interval.

    Three and more seeds have the 95 % t interval of the mean; two have just their range, since
    with one degree of freedom the interval would be 13 standard errors wide; one has none.

    Args:
        values: a number per seed.

    Returns:
        ``mean low high n band``, where ``band`` names the kind of interval.
    """
    values = values.dropna()
    n, mean = len(values), float(values.mean())
    if n >= 3:
        half = float(stats.t.ppf(0.975, n - 1) * values.std(ddof=1) / np.sqrt(n))
        return {"mean": mean, "low": mean - half, "high": mean + half, "n": n, "band": "t"}
    ends = {"low": float(values.min()), "high": float(values.max())}
    return {"mean": mean, **ends, "n": n, "band": "range" if n == 2 else "none"}


def plotted(curves: pd.DataFrame) -> pd.DataFrame:
    """Compute the drawn numbers, in percent.

    Only finished runs are averaged: a mean over those still alive would improve whenever one dies.
    Diverged runs are kept apart, each as its own curve up to its last epoch.

    Args:
        curves: of `fgbench.analysis.load.Records.curves`.

    Returns:
        Columns `COLUMNS`: a row per method (as labelled), run ("mean" or "seed 3") and epoch.
    """
    test = curves[(curves["split"] == "test") & curves["error"].notna()]
    rows = []
    for (arch, data, method, label), part in test.groupby(["arch", "data", "method", "label"]):
        runs = part.drop_duplicates("key")
        lost = runs.loc[runs["status"] == "diverged", "seed"]
        common = {"arch": arch, "data": data, "method": method, "label": label}
        common |= {"diverged": len(lost), "runs": len(runs)}
        for epoch, points in part[part["status"] == "ok"].groupby("epoch"):
            found = mean_interval(points["error"] * 100)
            ends = {"low_percent": max(0.0, float(found["low"])), "high_percent": found["high"]}
            point = {"test_error_percent": found["mean"], "n": found["n"], "band": found["band"]}
            rows.append({**common, "run": "mean", "epoch": epoch, **point, **ends})
        for _, run in part[part["status"] == "diverged"].groupby("key", sort=False):
            name = f"seed {run['seed'].iloc[0]}"
            for epoch, error in zip(run["epoch"], run["error"] * 100, strict=True):
                point = {"epoch": epoch, "test_error_percent": error, "n": 1, "band": "none"}
                rows.append({**common, "run": name, **point})
    table = pd.DataFrame(rows, columns=list(COLUMNS))
    rank = {method: i for i, method in enumerate(style.order(table["method"]))}
    keys = ["arch", "data", "rank", "label", "run", "epoch"]
    table = table.assign(rank=table["method"].map(rank)).sort_values(keys, kind="stable")
    return table[list(COLUMNS)].reset_index(drop=True)


def figure(curves: pd.DataFrame, log: bool = True) -> Figure:
    """Draw test error against epochs, one panel per architecture and data set.

    Args:
        curves: of `fgbench.analysis.load.Records.curves`.
        log: error on a logarithmic axis, wherever a panel spans more than a factor of 4.

    Returns:
        A figure 3.4 in wide for one panel, else 7 in.
    """
    table = plotted(curves)
    chance = curves.groupby(["arch", "data"])["chance"].max()
    looks = _looks(table)
    panels = list(table.groupby(["arch", "data"], sort=False))
    columns = min(2, len(panels))
    rows = -(-len(panels) // columns)
    width = style.COLUMN if columns == 1 else style.PAGE
    entries = max(1, int(width * 72 / (40 + 4.1 * max(map(len, looks)))))
    with style.context():
        height = 1.9 * rows + 0.14 * -(-len(looks) // entries) + 0.6
        fig = Figure(figsize=(width, height), layout="constrained")
        grid = fig.subplots(rows, columns, squeeze=False)
        for ax in grid.flat[len(panels) :]:
            ax.remove()
        for ax, (panel, part) in zip(grid.flat, panels, strict=False):
            _panel(ax, part, looks)
            _axes(ax, part, 100 * float(chance[panel]), log)
            ax.set_title(" on ".join(panel), loc="left")
        handles = [_handle(look, label) for label, look in looks.items()]
        fig.legend(handles=handles, loc="outside upper left", ncols=entries)
        caption = fill(_caption(table), int(width * 21))
        fig.supxlabel(caption, fontsize=6, color=style.FAINT, x=0.01, ha="left")
    return fig


def draw(records: Records, out: Path) -> list[Path]:
    """Write the figure of a folder of records.

    Args:
        records: of `fgbench.analysis.load.load`.
        out: folder for the PNG, the PDF and the CSV.

    Returns:
        The three files.

    Raises:
        UsageError: no run has a test error.
    """
    curves = records.curves()
    table = plotted(curves)
    if table.empty:
        raise UsageError(f"no learning curve in {str(records.folder)!r}; run fgbench train")
    return style.save(figure(curves), out, NAME, table)


def _looks(table: pd.DataFrame) -> dict[str, style.Look]:
    """Give every label its method's look; further settings of a method get other dashes."""
    cycle = [style.SOLID, style.DASHED, style.DOTTED]
    found: dict[str, style.Look] = {}
    used: Counter[str] = Counter()
    pairs = table[["method", "label"]].drop_duplicates()
    for method, label in pairs.itertuples(index=False):
        if label not in found:
            look = style.look(method)
            dashes = cycle[(cycle.index(look.dashes) + used[method]) % 3]
            found[label] = replace(look, dashes=dashes)
            used[method] += 1
    return found


def _panel(ax: Axes, part: pd.DataFrame, looks: Mapping[str, style.Look]) -> None:
    """Draw the curves of one architecture on one data set."""
    means, lost = part[part["run"] == "mean"], part[part["run"] != "mean"]
    curves = means.groupby("label")["epoch"]
    dots = means[curves.cumcount() % (curves.transform("size") // 8 + 1) == 0]
    scales = {
        "color": {name: look.colour for name, look in looks.items()},
        "linestyle": {name: look.dashes for name, look in looks.items()},
        "marker": {name: look.marker for name, look in looks.items()},
    }
    plot = so.Plot(part, x="epoch", y="test_error_percent", color="label")
    band = {"ymin": "low_percent", "ymax": "high_percent", "legend": False}
    plot = plot.add(so.Band(alpha=0.18), data=means, **band)
    plot = plot.add(so.Line(linewidth=1.2), data=means, linestyle="label", legend=False)
    plot = plot.add(so.Dot(pointsize=4), data=dots, marker="label", legend=False)
    plot = plot.add(so.Line(linewidth=0.6), data=lost, group="run", legend=False)
    plot.scale(**scales).theme(style.RC).on(ax).plot()
    for _, curve in lost.groupby(["label", "run"]):
        end = curve.iloc[-1]
        colour = looks[end["label"]].colour
        ax.plot(end["epoch"], end["test_error_percent"], "x", color=colour, ms=5, mew=1.2)


def _axes(ax: Axes, part: pd.DataFrame, chance: float, log: bool) -> None:
    """Scale and name the axes; chance level is a line unless it would squeeze the curves."""
    errors = part["test_error_percent"]
    low, high = errors[errors > 0].min(), errors.max() or 1.0
    log = log and high > 4 * low
    ax.set(xscale="linear", yscale="linear")  # seaborn leaves scales of its own
    if log:
        ax.set_yscale("log")
        ax.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        ax.yaxis.set_major_formatter("{x:g}")
        ax.yaxis.set_minor_locator(NullLocator())
    line = log or high > chance / 2  # false where chance is not known
    if line and not np.isnan(chance):
        high = max(high, chance)
        ax.axhline(chance, color=style.FAINT, ls=":", lw=0.8)
        words: dict[str, Any] = {"fontsize": 6, "color": style.FAINT, "ha": "right", "va": "bottom"}
        words["bbox"] = {"fc": "w", "ec": "none", "pad": 0.4}
        place = ax.get_yaxis_transform()
        ax.text(1, chance * 1.02, f"chance {chance:.3g} %", transform=place, **words)
    ax.set_ylim((low / 1.3, high * 1.35) if log else (max(0, low - 0.1 * high), high * 1.1))
    first, last = part["epoch"].min(), part["epoch"].max()
    edge = 0.03 * max(1, last - first)
    ax.set(xlim=(first - edge, last + edge), xlabel="epochs", ylabel="test error (%)")
    ax.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=8, steps=(1, 2, 5, 10)))


def _handle(look: style.Look, label: str) -> Line2D:
    """Make a legend entry."""
    line: dict[str, Any] = {"color": look.colour, "ls": look.dashes, "marker": look.marker}
    return Line2D([], [], label=label, lw=1.2, ms=4, mew=0, **line)


def _caption(table: pd.DataFrame) -> str:
    """State what is averaged, over how many seeds, what the band is and which runs diverged."""
    means = table[table["run"] == "mean"]
    parts = []
    if not means.empty:
        low, high = int(means["n"].min()), int(means["n"].max())
        seeds = "1 seed" if high == 1 else f"{low if low == high else f'{low} to {high}'} seeds"
        kinds = [BANDS[kind] for kind in BANDS if (means["band"] == kind).any()]
        parts.append(f"Lines: mean over finished runs, n = {seeds}; band: {', '.join(kinds)}.")
    lost = table[table["diverged"] > 0].drop_duplicates(["arch", "data", "label"])
    columns = ("label", "diverged", "runs", "arch", "data")
    counts = [
        f"{label} {diverged} of {runs} ({arch}, {data})"
        for label, diverged, runs, arch, data in lost[list(columns)].itertuples(index=False)
    ]
    if counts:
        parts.append(f"Diverged (thin, up to ×): {', '.join(counts)}.")
    return " ".join(parts)
