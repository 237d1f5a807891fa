"""Curves over epochs, mean over seeds with a band: for every figure of training."""

from __future__ import annotations

from collections.abc import Mapping
from math import inf
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from fgbench.reporting.frames import ordering
from fgbench.reporting.frames.seed_means import bands, mean_interval, seeds
from fgbench.reporting.plotting import panels, style

COLUMNS = (
    *("arch", "data", "method", "label", "run", "epoch", "n", "mean", "low", "high", "band"),
    *("diverged", "runs"),
)


def averaged(points: pd.DataFrame, most: float = inf, signed: bool = False) -> pd.DataFrame:
    """Average the runs of every label at every epoch.

    Only finished runs are averaged: a mean over the surviving runs would improve whenever one diverges.
    Each diverged run stays a curve of its own up to its last epoch.

    Args:
        points: a row per run and epoch, with ``arch data method label key seed status epoch value``.
        most: the largest possible value, see `fgbench.reporting.frames.seed_means.mean_interval`.
        signed: whether values may be negative.

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
            mean = mean_interval(finished["value"], signed, most)
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

    Bands of more than `fgbench.reporting.plotting.style.MANY` curves would hide each other: the interval of
    each at its last epoch is drawn right of the curves instead.

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
    crowded = means["label"].nunique() > style.MANY
    for label, curve in means.groupby("label", sort=False):
        look, x = looks[str(label)], curve["epoch"]
        if curve["band"].ne("none").any() and not crowded:
            shade: dict[str, Any] = {"color": look.colour, "alpha": style.thin(len(looks))}
            ax.fill_between(x, curve["low"], curve["high"], lw=0, **shade)
        every = len(curve) // 8 + 1
        line: dict[str, Any] = {"color": look.colour, "ls": look.dashes, "lw": style.pt(1.2)}
        ax.plot(x, curve["mean"], markevery=every, **line, **panels.mark(look))
    for (label, _), curve in lost.groupby(["label", "run"], sort=False):
        colour = looks[str(label)].colour
        ax.plot(curve["epoch"], curve["mean"], color=colour, lw=style.pt(0.6))
        end = curve.iloc[-1]
        cross: dict[str, Any] = {"ms": style.pt(5), "mew": style.pt(1.2)}
        ax.plot(end["epoch"], end["mean"], "x", color=colour, **cross)
    first, last = part["epoch"].min(), part["epoch"].max()
    edge = 0.03 * max(1, last - first)
    right = last + edge
    if crowded:
        ends = means.sort_values("epoch").groupby("label", sort=False).tail(1)
        step = 0.25 * (last - first or 1) / len(ends)
        for at, end in enumerate(ends.sort_values("mean").itertuples(), 1):
            right = last + edge + at * step
            look = looks[str(end.label)]
            ax.vlines(right, end.low, end.high, color=look.colour, lw=style.pt(1.1))
            ax.plot(right, end.mean, ls="", **panels.mark(look, 3.2))
        ax.axvline(last + edge, color=style.FAINT, lw=style.pt(0.5))
        right += step
    ax.set(xlim=(first - edge, right), xlabel="epochs")
    ticks(ax, first - edge, last + edge, integer=True)


def ticks(ax: Axes, first: float, last: float, integer: bool = False) -> None:
    """Set round ticks between two numbers, and none where intervals stand right of the curves.

    Args:
        ax: the panel.
        first: the smallest number.
        last: the largest.
        integer: whether numbers are counts.

    Example:
        >>> from fgbench.reporting.plotting.panels import layout
        >>> ax = layout(1).axes[0]
        >>> ticks(ax, 0, 10, integer=True)
        >>> ax.get_xticks().tolist()
        [0.0, 2.0, 4.0, 6.0, 8.0, 10.0]
    """
    found = MaxNLocator(nbins=6, steps=[1, 2, 5, 10], integer=integer).tick_values(first, last)
    ax.set_xticks([tick for tick in found if first <= tick <= last])


def keys(table: pd.DataFrame) -> dict[str, dict[str, Any]]:
    """Return the legend entry of diverged runs, one for all of them.

    Args:
        table: of `averaged`.

    Returns:
        Its label and properties; nothing where no run diverged.

    Example:
        >>> list(keys(pd.DataFrame({"run": ["mean", "seed 1", "seed 2"]})))
        ['diverged run, up to ×']
    """
    if not table["run"].ne("mean").any():
        return {}
    return {"diverged run, up to ×": {"lw": 0.6, "marker": "x", "ms": 5, "mew": 1.2}}


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
        crowds = means.groupby(["arch", "data"])["label"].nunique() > style.MANY
        if crowds.any():
            words = f"Of more than {style.MANY} curves the intervals at the end stand right of the panel."
            parts.append(words)
    lost = table[table["diverged"] > 0].drop_duplicates(["arch", "data", "label"])
    columns = ("label", "diverged", "runs", "arch", "data")
    counts = [
        f"{label} {diverged} of {runs} ({arch}, {data})"
        for label, diverged, runs, arch, data in lost[list(columns)].itertuples(index=False)
    ]
    if counts:
        parts.append(f"Diverged (thin, up to ×): {'; '.join(counts)}.")
    return " ".join(parts)
