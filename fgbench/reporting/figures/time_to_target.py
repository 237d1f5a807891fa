"""Share of runs that have reached a target result, against epochs, seconds and forward passes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import NullLocator

from fgbench.records.metrics import ERROR
from fgbench.reporting.figures.files import everything, writer
from fgbench.reporting.frames import workloads
from fgbench.reporting.frames.load import Records
from fgbench.reporting.frames.metric_columns import (
    ABOUT,
    direction,
    metric_of,
    metrics_in,
    named,
    text,
    with_metric,
)
from fgbench.reporting.frames.seed_means import span
from fgbench.reporting.plotting import panels, style
from fgbench.reporting.plotting.panels import Page
from fgbench.reporting.plotting.sheet import PAPER, Sheet
from fgbench.stats.aggregate import wilson

NAME = "time_to_target"
FRACTION = 0.95
ROUNDING = 1e-12  # of a target: errors are counts over counts
AXES = {
    "epoch": "epochs",
    "seconds": "seconds of training",
    "passes": "forward equivalents\n(passes over the training set)",
}
RUN = (*workloads.WORK, "method", "label", "seed", "status", "key")
COLUMNS = (
    "suite",
    *RUN,
    "chance",
    "reference_error",
    "target",
    "reached",
    *AXES,
    "device",
    "epochs",
    *ABOUT,
)
PLAIN = {"reference_error": "reference"}
"""Names of columns where some target is of another metric, which the column ``metric`` names."""


def reached(curves: pd.DataFrame, fraction: float = FRACTION) -> pd.DataFrame:
    """Find when each run reaches the target of its workload.

    The target lies a fraction of the way from chance to the final error of backprop, mean over its seeds on
    the same task, network and data: chance − fraction (chance − backprop). Unlike a factor on the error, it
    asks the same of a hard task and an easy one. Chance is error 1 where a record does not state it. Another
    metric takes the place of the error where a workload has one.

    Args:
        curves: of `fgbench.reporting.frames.workloads.finished`.
        fraction: 1 asks for all that backprop reaches.

    Returns:
        Columns `COLUMNS`: a row per run of a workload on which backprop, better than chance, and another
        method ran. A run has reached the target at the first epoch with a test error at or below it;
        ``epoch seconds passes`` are spent until then, NaN where it never does.

    Example:
        >>> from pathlib import Path
        >>> run = {"verb": "train", "locality": "end", "arch": "mlp-2x8", "data": "digits", "status": "ok"}
        >>> bp = {**run, "method": "BP", "estimator": "bp", "history": [{"epoch": 1, "test_error": 0.1}]}
        >>> fg = {**run, "method": "FG-A", "estimator": "fg_a", "history": [{"epoch": 1, "test_error": 0.2}]}
        >>> curves = workloads.finished(Records(Path("."), (bp, fg), {}, ()))
        >>> reached(curves, 0.8)[["method", "reached", "epoch"]].values.tolist()
        [['BP', True, 1], ['FG-A', True, 1]]
    """
    rows = []
    for work, part in curves.groupby(workloads.JUDGED, sort=False):
        mine = part[part["method"].eq(workloads.REFERENCE)].drop_duplicates("key")
        if mine.empty or part["method"].nunique() < 2:
            continue
        final = float(mine["final"].mean())
        chance = float(part["chance"].iloc[0])
        sign = metric_of(part).sign
        if not sign * final < sign * chance:
            continue
        target = chance - fraction * (chance - final)
        for _, run in part.groupby("key", sort=False):
            there = run[sign * run["error"] <= sign * target + ROUNDING]
            spent = (there if len(there) else run.assign(**dict.fromkeys(AXES, np.nan))).iloc[0]
            row = dict(zip(workloads.JUDGED, work, strict=True)) | spent.to_dict()
            rows.append(
                row
                | {
                    "chance": chance,
                    "reference_error": final,
                    "target": target,
                    "reached": bool(len(there)),
                }
                | {"label": row["method"]}
            )
    table = pd.DataFrame(rows, columns=[name for name in COLUMNS if name != "suite"])
    return workloads.suites(table)[list(COLUMNS)].reset_index(drop=True)


def shares(table: pd.DataFrame, what: str) -> pd.DataFrame:
    """Compute the share of runs of each method and suite that have reached the target by each time.

    Args:
        table: of `reached`.
        what: ``epoch``, ``seconds`` or ``passes``.

    Returns:
        Columns ``suite method x share low high n``, a row per step of a curve; low and high are Wilson's
        95 % limits of a share of n runs. Runs that miss the target count in n.

    Example:
        >>> runs = {"suite": 1, "method": "FG-A", "epoch": [2.0, np.nan], "reached": [True, False]}
        >>> shares(pd.DataFrame(runs), "epoch")[["x", "share", "n"]].values.tolist()
        [[2.0, 0.5, 2.0]]
    """
    rows = []
    for (suite, method), part in table.groupby(["suite", "method"], sort=False):
        times = np.sort(part[what].dropna())
        if len(times) < part["reached"].sum():
            continue  # some that arrived do not tell when
        for x in np.unique(times):
            share = float((times <= x).sum()) / len(part)
            low, high = wilson(np.array(share), np.array(float(len(part))))
            ends = {"share": share, "low": float(low), "high": float(high)}
            rows.append({"suite": suite, "method": method, "x": x, **ends, "n": len(part)})
    return pd.DataFrame(rows, columns=["suite", "method", "x", "share", "low", "high", "n"])


def plotted(records: Records) -> pd.DataFrame:
    """Compute the drawn numbers, see `reached`.

    Args:
        records: of `fgbench.reporting.frames.load.load`.

    Returns:
        Columns `COLUMNS`, without those of the metric where every target is an error; else with the names of
        `PLAIN`.

    Example:
        >>> from pathlib import Path
        >>> run = {"verb": "train", "locality": "end", "arch": "mlp-2x8", "data": "digits", "status": "ok"}
        >>> bp = {**run, "method": "BP", "estimator": "bp", "history": [{"epoch": 1, "test_error": 0.1}]}
        >>> fg = {**run, "method": "FG-A", "estimator": "fg_a", "history": [{"epoch": 1, "test_error": 0.2}]}
        >>> plotted(Records(Path("."), (bp, fg), {}, ()))[["method", "reached"]].values.tolist()
        [['BP', True], ['FG-A', False]]
    """
    return named(reached(workloads.finished(records)), {}, PLAIN)


def figure(_: Records, table: pd.DataFrame, sheet: Sheet = PAPER) -> Page:
    """Draw three panels per suite of workloads on which the same methods ran.

    Args:
        table: of `plotted`, all that is drawn.
        sheet: what it is drawn on.

    Returns:
        The page.

    Example:
        >>> from pathlib import Path
        >>> run = {"verb": "train", "locality": "end", "arch": "mlp-2x8", "data": "digits", "status": "ok"}
        >>> bp = {**run, "method": "BP", "estimator": "bp", "history": [{"epoch": 1, "test_error": 0.1}]}
        >>> fg = {**run, "method": "FG-A", "estimator": "fg_a", "history": [{"epoch": 1, "test_error": 0.2}]}
        >>> records = Records(Path("."), (bp, fg), {}, ())
        >>> fig = figure(records, plotted(records))
        >>> fig.axes[0].get_ylabel()
        'share of runs at the target'
    """
    looks = style.looks(table["method"])
    steps = pd.concat([shares(table, what).assign(what=what) for what in AXES])
    drawable = set(steps[["suite", "what"]].itertuples(index=False, name=None))
    pairs = [(s, what) for s in sorted(set(table["suite"])) for what in AXES]
    frame = pd.DataFrame(
        [pair for pair in pairs if pair[1] == "epoch" or pair in drawable],
        columns=["suite", "what"],
    )

    def panel(ax: Axes, group: tuple[Any, ...], _: pd.DataFrame) -> None:
        suite, what = group
        part = steps[steps["suite"].eq(suite) & steps["what"].eq(what)]
        runs = table[table["suite"].eq(suite)]
        _curves(ax, part, runs, looks)
        ax.set(xlabel=AXES[what], ylim=(-0.04, 1.04))
        if what == "epoch":
            ax.set_ylabel("share of runs at the target")
            panels.titled(ax, workloads.suite_title(suite, runs))

    drawing: dict[str, Any] = {"most": 3, "height": 2.2, "share": "all", "sheet": sheet}
    return panels.drawn(frame, ["suite", "what"], looks, panel, _caption(table), **drawing)


def _curves(
    ax: Axes, steps: pd.DataFrame, runs: pd.DataFrame, looks: dict[str, style.Look]
) -> None:
    """Draw the curves of one panel, and right of them where each ends, with its interval."""
    later = steps.loc[steps["x"] > 0, "x"]
    first, last = (float(later.min()), float(later.max())) if len(later) else (1.0, 10.0)
    step = (2 * last / first) ** 0.035
    ax.set_xscale("log")
    counts = runs.groupby("method", sort=False)["reached"].agg(["sum", "size"])
    shown = counts[counts["sum"].eq(0) | counts.index.isin(steps["method"])]
    for at, (method, (hits, n)) in enumerate(shown.iterrows(), 1):
        look, mine = looks[str(method)], steps[steps["method"].eq(method)]
        mine = mine.assign(x=mine["x"].clip(lower=first / step))  # before training: at the edge
        x, y = [first / step, *mine["x"], last * step], [0.0, *mine["share"], hits / n]
        drawn: dict[str, Any] = {"color": look.colour, "ls": look.dashes, "lw": style.pt(1.1)}
        ax.step(x, y, where="post", **drawn)
        ax.plot(mine["x"], mine["share"], ls="", **panels.mark(look, 2.6))
        end = last * step ** (1 + at)
        low, high = wilson(np.array(hits / n), np.array(float(n)))
        ax.vlines(end, low, high, color=look.colour, lw=style.pt(1.1))
        ax.plot(end, hits / n, ls="", **panels.mark(look, 3.6))
    ax.axvline(last * step, color=style.FAINT, lw=style.pt(0.5))
    ax.set_xlim(first / step, last * step ** (2 + len(shown)))
    ticks = _ticks(first, last, 0.15 * np.log(last / first * step ** (3 + len(shown))))
    ax.set_xticks(ticks, [f"{tick:.3g}" for tick in ticks])
    ax.xaxis.set_minor_locator(NullLocator())


def _ticks(first: float, last: float, apart: float) -> list[float]:
    """List round numbers on a logarithmic axis with a minimum distance; its ends where only one fits."""
    powers = np.arange(np.floor(np.log10(first)), np.log10(last) + 1)
    round_ones = np.outer(10.0**powers, [1, 1.5, 2, 3, 5, 7]).ravel()
    ticks: list[float] = []
    for tick in round_ones[(round_ones >= first) & (round_ones <= last)].tolist():
        if not ticks or np.log(tick / ticks[-1]) >= apart:
            ticks.append(tick)
    return ticks if len(ticks) > 1 else sorted({first, last})


def _caption(table: pd.DataFrame) -> str:
    """Describe the target, n, and the workloads of each suite."""
    table = with_metric(table)
    parts = []
    for suite, mine in table.groupby("suite", sort=False):
        counts = mine.groupby("method").size()
        n = span(counts, "run", "runs")
        goals = mine.drop_duplicates(workloads.JUDGED)
        named = ", ".join(
            f"{workloads.listed(goal)} ({text(goal['target'].iloc[0], metric_of(goal))})"
            for _, goal in goals.groupby(workloads.JUDGED, sort=False)
        )
        parts.append(f"Suite {suite}: {named}; n = {n} per method.")
    devices = ", ".join(sorted(set(table["device"].astype(str)) - {""})) or "an unknown device"
    others = [metric for metric in metrics_in(table) if metric.name != ERROR.name]
    error = "test result" if others else "test error"
    beyond = "at or below it" if all(m.best == "low" for m in others) else "as good as it or better"
    each = "".join(f" {m.axis('test').capitalize()}: {direction(m)}." for m in others)
    return (
        f"{' '.join(parts)} Target (in brackets): {100 * FRACTION:g} % of the way from chance to the final "
        f"{error} of {workloads.REFERENCE}, mean over its seeds; reached at the first epoch with a "
        f"{error} {beyond}. Runs that miss the target count in n: their curve ends below 1. "
        f"Right: share at the end, bars: Wilson's 95 % interval. Seconds are on {devices}."
        f"{workloads.unstated_chance(table)}{workloads.lengths(table)}{each}"
    )


draw = writer(NAME, everything, plotted, figure)
