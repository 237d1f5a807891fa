"""Curves over epochs, mean over seeds with a band: for every figure of training."""

from __future__ import annotations

from collections.abc import Mapping
from math import inf

import pandas as pd
import seaborn.objects as so
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from fgbench.reporting.frames import ordering
from fgbench.reporting.frames.seed_means import bands, mean_interval, seeds
from fgbench.reporting.plotting import style

COLUMNS = (
    *("arch", "data", "method", "label", "run", "epoch", "n", "mean", "low", "high", "band"),
    *("diverged", "runs"),
)


def averaged(points: pd.DataFrame, most: float = inf) -> pd.DataFrame:
    """Average the runs of every label at every epoch.

    Only finished runs are averaged: a mean over the surviving runs would improve whenever one diverges.
    Each diverged run stays a curve of its own up to its last epoch.

    Args:
        points: a row per run and epoch, with ``arch data method label key seed status epoch value``.
        most: the largest possible value, see `fgbench.reporting.frames.seed_means.mean_interval`.

    Returns:
        Columns `COLUMNS`: a row per label, run ("mean" or "seed 3") and epoch.

    Example:
        >>> run = {"arch": "mlp-2x8", "data": "digits", "method": "BP", "label": "BP", "status": "ok"}
        >>> runs = [{**run, "key": seed, "seed": seed, "epoch": 1, "value": 10.0 * seed} for seed in (1, 3)]
        >>> averaged(pd.DataFrame(runs))[["epoch", "n", "mean"]].values.tolist()
        [[1.0, 2.0, 20.0]]
    """
    rows = []
    by = ["arch", "data", "method", "label"]
    for (arch, data, method, label), part in points.groupby(by, sort=False):
        runs = part.drop_duplicates("key")
        lost = runs.loc[runs["status"] == "diverged", "seed"]
        common = {"arch": arch, "data": data, "method": method, "label": label}
        common |= {"diverged": len(lost), "runs": len(runs)}
        for epoch, finished in part[part["status"] == "ok"].groupby("epoch"):
            mean = mean_interval(finished["value"], most=most)
            rows.append({**common, "run": "mean", "epoch": epoch, **mean})
        for _, run in part[part["status"] == "diverged"].groupby("key", sort=False):
            name = f"seed {run['seed'].iloc[0]}"
            for epoch, value in zip(run["epoch"], run["value"], strict=True):
                point = {"epoch": epoch, "mean": value, "n": 1, "band": "none"}
                rows.append({**common, "run": name, **point})
    table = pd.DataFrame(rows, columns=list(COLUMNS))
    return ordering.arranged(table, ["arch", "data", "method", "label", "run", "epoch"])


def draw(ax: Axes, part: pd.DataFrame, looks: Mapping[str, style.Look]) -> None:
    """Draw the curves of one panel; a diverged run is a thin line that ends in a cross.

    Args:
        ax: the panel.
        part: rows of `averaged`.
        looks: label to how it is drawn.

    Example:
        >>> from fgbench.reporting.plotting.panels import layout
        >>> ax = layout(1).axes[0]
        >>> run = {"arch": "mlp-2x8", "data": "digits", "method": "BP", "label": "BP", "status": "ok"}
        >>> runs = [{**run, "key": seed, "seed": seed, "epoch": 1, "value": 10.0 * seed} for seed in (1, 3)]
        >>> draw(ax, averaged(pd.DataFrame(runs)), style.looks(["BP"]))
        >>> ax.get_xlabel()
        'epochs'
    """
    means, lost = part[part["run"] == "mean"], part[part["run"] != "mean"]
    curves = means.groupby("label")["epoch"]
    dots = means[curves.cumcount() % (curves.transform("size") // 8 + 1) == 0]
    scales = {
        "color": {name: look.colour for name, look in looks.items()},
        "linestyle": {name: look.dashes for name, look in looks.items()},
        "marker": {name: look.marker for name, look in looks.items()},
        "fill": {name: look.filled for name, look in looks.items()},
    }
    plot = so.Plot(part, x="epoch", y="mean", color="label")
    band = {"ymin": "low", "ymax": "high", "legend": False}
    plot = plot.add(so.Band(alpha=style.thin(len(looks))), data=means, **band)
    plot = plot.add(so.Line(linewidth=1.2), data=means, linestyle="label", legend=False)
    plot = plot.add(so.Dot(pointsize=4), data=dots, marker="label", fill="label", legend=False)
    plot = plot.add(so.Line(linewidth=0.6), data=lost, group="run", legend=False)
    plot.scale(**scales).theme(style.RC).on(ax).plot()
    for _, curve in lost.groupby(["label", "run"]):
        end = curve.iloc[-1]
        ax.plot(end["epoch"], end["mean"], "x", color=looks[end["label"]].colour, ms=5, mew=1.2)
    ax.set(xscale="linear", yscale="linear")  # seaborn leaves scales of its own
    first, last = part["epoch"].min(), part["epoch"].max()
    edge = 0.03 * max(1, last - first)
    ax.set(xlim=(first - edge, last + edge), xlabel="epochs")
    ax.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=8, steps=(1, 2, 5, 10)))


def limits(part: pd.DataFrame) -> tuple[float, float]:
    """Return the smallest positive number and the largest number that a panel shows, bands included.

    Args:
        part: rows of `averaged`.

    Returns:
        The two numbers; the largest is 1 where all are 0.

    Example:
        >>> limits(pd.DataFrame({"mean": [0.0, 2.0], "low": [0.0, 1.0], "high": [0.5, 3.0]}))
        (0.5, 3.0)
    """
    numbers = part[["mean", "low", "high"]].stack()
    return float(numbers[numbers > 0].min()), float(numbers.max()) or 1.0


def caption(table: pd.DataFrame) -> str:
    """Describe what is averaged, over how many seeds, what the band is and which runs diverged.

    Args:
        table: of `averaged`.

    Returns:
        Sentences for a caption.

    Example:
        >>> row = {"run": "mean", "n": 2, "band": "range", "diverged": 0}
        >>> caption(pd.DataFrame([row], columns=COLUMNS))
        'Lines: mean over finished runs, n = 2 seeds; band: range of two seeds.'
    """
    means = table[table["run"] == "mean"]
    parts = []
    if not means.empty:
        kinds = f"n = {seeds(means['n'])}; band: {bands(means['band'])}"
        parts.append(f"Lines: mean over finished runs, {kinds}.")
    lost = table[table["diverged"] > 0].drop_duplicates(["arch", "data", "label"])
    columns = ("label", "diverged", "runs", "arch", "data")
    counts = [
        f"{label} {diverged} of {runs} ({arch}, {data})"
        for label, diverged, runs, arch, data in lost[list(columns)].itertuples(index=False)
    ]
    if counts:
        parts.append(f"Diverged (thin, up to ×): {'; '.join(counts)}.")
    return " ".join(parts)
