"""Performance profiles, interquartile means and optimality gaps of the methods."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from fgbench.records.metrics import ERROR
from fgbench.reporting.figures.files import writer
from fgbench.reporting.frames import workloads
from fgbench.reporting.frames.load import Records
from fgbench.reporting.frames.metric_columns import (
    ABOUT,
    direction,
    metric_of,
    metrics_in,
    named,
    with_metric,
)
from fgbench.reporting.frames.seed_means import span
from fgbench.reporting.plotting import panels, style
from fgbench.reporting.plotting.panels import Page
from fgbench.reporting.plotting.sheet import PAPER, Sheet
from fgbench.stats.aggregate import iqm, performance_profile, stratified

NAME = "profiles"
AXES = {
    "profile": "score τ",
    "iqm": "interquartile mean of scores",
    "gap": "optimality gap",
}
COLUMNS = (
    "suite",
    *workloads.WORK,
    "method",
    "seed",
    "status",
    "error",
    "chance",
    "score",
    "epochs",
    *ABOUT,
)
NUMBERS = ("suite", "method", "what", "x", "value", "low", "high", "n", "tasks")
POINTS = 201
Floats = NDArray[np.float64]
SHORT = 24  # letters of a name at its row


def scores(records: Records) -> pd.DataFrame:
    """Compute the score of every run: 0 at chance, 1 at backprop's result.

    The score (chance − error)/(chance − backprop), with the mean final error of backprop over its seeds,
    makes workloads of different difficulty comparable. Another metric takes the place of the error where a
    workload has one, and is never in a suite with errors. A diverged run is at chance.

    Args:
        records: of `fgbench.reporting.frames.load.load`.

    Returns:
        Columns `COLUMNS`: a row per run of a workload on which backprop, better than chance, and another
        method ran.

    Example:
        >>> from pathlib import Path
        >>> run = {"verb": "train", "locality": "end", "arch": "mlp-2x8", "data": "digits", "status": "ok"}
        >>> bp = {**run, "method": "BP", "estimator": "bp", "history": [{"epoch": 1, "test_error": 0.1}]}
        >>> fg = {**run, "method": "FG-A", "estimator": "fg_a", "history": [{"epoch": 1, "test_error": 0.2}]}
        >>> table = scores(Records(Path("."), (bp, fg), {}, ()))
        >>> table[["method", "score"]].round(3).values.tolist()
        [['BP', 1.0], ['FG-A', 0.889]]
    """
    runs = workloads.finished(records).drop_duplicates("key")
    runs = runs.assign(error=runs["final"])
    is_reference = runs["method"].eq(workloads.REFERENCE)
    means = runs[is_reference].groupby(workloads.JUDGED)["error"].mean().rename("reference")
    runs = runs.join(means, on=workloads.JUDGED)
    beside = runs.groupby(workloads.JUDGED)["method"].transform("nunique").gt(1)
    upwards = runs["best"].eq("high")
    better = (runs["reference"] < runs["chance"]).where(
        ~upwards, runs["reference"] > runs["chance"]
    )
    runs = workloads.suites(runs[beside & better])
    score = (runs["chance"] - runs["error"]) / (runs["chance"] - runs["reference"])
    return runs.assign(score=score)[list(COLUMNS)].reset_index(drop=True)


def gap(scores: Floats) -> Floats:
    """Compute the optimality gap: the mean of max(0, 1 − score), as in rliable.

    Scores beyond 1 do not make up for others.

    Args:
        scores: shape [..., runs].

    Returns:
        The gap, shape [...].

    Example:
        >>> float(gap(np.array([0.5, 3.0])))
        0.25
    """
    shortfall: Floats = np.maximum(0.0, 1.0 - scores).mean(-1)
    return shortfall


def plotted(scores: pd.DataFrame) -> pd.DataFrame:
    """Aggregate the scores of each method in each suite.

    Args:
        scores: of `scores`.

    Returns:
        Columns `NUMBERS`: "profile", the share of runs above a score ``x`` with its pointwise band; "iqm"
        and "gap" with stratified bootstrap intervals, without ends where a workload has a single run;
        ``n``, the runs on the workload with the fewest, of ``tasks`` workloads. The metric of a suite has
        columns where some suite is of another metric than the error.

    Example:
        >>> from pathlib import Path
        >>> run = {"verb": "train", "locality": "end", "arch": "mlp-2x8", "data": "digits", "status": "ok"}
        >>> bp = {**run, "method": "BP", "estimator": "bp", "history": [{"epoch": 1, "test_error": 0.1}]}
        >>> fg = {**run, "method": "FG-A", "estimator": "fg_a", "history": [{"epoch": 1, "test_error": 0.2}]}
        >>> runs = scores(Records(Path("."), (bp, fg), {}, ()))
        >>> table = plotted(runs)
        >>> table.loc[table["what"] == "gap", ["method", "value"]].round(3).values.tolist()
        [['BP', 0.0], ['FG-A', 0.111]]
    """
    scores = with_metric(scores)
    rows: list[dict[str, Any]] = []
    for suite, runs in scores.groupby("suite", sort=False):
        about = {name: runs[name].iloc[0] for name in ABOUT}
        first, last = float(runs["score"].min()), float(runs["score"].max())
        edge = 0.06 * ((last - first) or 1.0)
        at = np.linspace(first - edge, last + edge, POINTS)
        for method, part in runs.groupby("method", sort=False):
            tasks = [mine["score"].to_numpy(float) for _, mine in part.groupby(workloads.WORK)]
            common = {"suite": suite, "method": method, "tasks": len(tasks), **about}
            common["n"] = min(map(len, tasks))
            curve = np.stack([at, *performance_profile(tasks, at)], 1)
            names = ("x", "value", "low", "high")
            rows += [common | {"what": "profile"} | dict(zip(names, p, strict=True)) for p in curve]
            for what, statistic in (("iqm", iqm), ("gap", gap)):
                value, low, high, n = stratified(tasks, statistic)
                ends = {"low": float(low), "high": float(high)} if n > 1 else {}
                rows.append({**common, "what": what, "value": float(value), **ends})
    table = pd.DataFrame(rows, columns=[*NUMBERS, *ABOUT])
    return named(table.astype({"low": float, "high": float}), {}, {})


def figure(scores: pd.DataFrame, table: pd.DataFrame, sheet: Sheet = PAPER) -> Page:
    """Draw profile, interquartile mean and optimality gap, three panels per suite.

    Args:
        scores: of `scores`.
        table: of `plotted`.
        sheet: what it is drawn on.

    Returns:
        The page.

    Example:
        >>> from pathlib import Path
        >>> run = {"verb": "train", "locality": "end", "arch": "mlp-2x8", "data": "digits", "status": "ok"}
        >>> bp = {**run, "method": "BP", "estimator": "bp", "history": [{"epoch": 1, "test_error": 0.1}]}
        >>> fg = {**run, "method": "FG-A", "estimator": "fg_a", "history": [{"epoch": 1, "test_error": 0.2}]}
        >>> runs = scores(Records(Path("."), (bp, fg), {}, ()))
        >>> [ax.get_xlabel() for ax in figure(runs, plotted(runs)).axes]
        ['score τ', 'interquartile mean of scores', 'optimality gap']
    """
    looks = style.looks(scores["method"])
    suites = sorted(set(scores["suite"]))
    frame = pd.DataFrame([(s, what) for s in suites for what in AXES], columns=["suite", "what"])

    def panel(ax: Axes, group: tuple[Any, ...], _: pd.DataFrame) -> None:
        suite, what = group
        part = table[table["suite"].eq(suite) & table["what"].eq(what)]
        if what == "profile":
            _profiles(ax, part, looks)
        else:
            _rows(ax, part, looks, scores[scores["suite"].eq(suite)], what)
        if what == "profile":
            panels.titled(ax, workloads.suite_title(suite, scores[scores["suite"].eq(suite)]))
        ax.set_xlabel(AXES[what])

    counts = scores.groupby("suite")["method"].nunique()
    heights = [max(2.0, 0.6 + 0.15 * counts[suite]) for suite in frame["suite"]]
    drawing: dict[str, Any] = {"most": 3, "heights": heights, "sheet": sheet}
    return panels.drawn(frame, ["suite", "what"], {}, panel, _caption(scores, table), **drawing)


def _profiles(ax: Axes, part: pd.DataFrame, looks: dict[str, style.Look]) -> None:
    """Draw the share of runs above each score, and its band where a curve falls below one half."""
    for method, curve in part.groupby("method", sort=False):
        look = looks[str(method)]
        half = int((curve["value"] >= 0.5).sum()) - 1
        end = curve.iloc[half]
        ax.vlines(end["x"], end["low"], end["high"], color=look.colour, lw=style.pt(0.9))
        line: dict[str, Any] = {"color": look.colour, "ls": look.dashes, "lw": style.pt(1.1)}
        line |= {"drawstyle": "steps-post", **panels.mark(look, 3.6)}
        ax.plot(curve["x"], curve["value"], markevery=[half], **line)
    ax.set(xlim=(part["x"].min(), part["x"].max()), ylim=(-0.03, 1.03))
    ax.set_ylabel("share of runs above τ")
    ax.axvline(1.0, color=style.FAINT, ls=style.DOTTED, lw=style.pt(0.8))
    ax.xaxis.set_major_locator(MaxNLocator(nbins=4))


def _rows(
    ax: Axes, part: pd.DataFrame, looks: dict[str, style.Look], runs: pd.DataFrame, what: str
) -> None:
    """Draw one number per method, in rows; behind the interquartile means the scores of all runs."""
    for y, (method, value, low, high) in enumerate(
        part[["method", "value", "low", "high"]].itertuples(index=False)
    ):
        look = looks[method]
        if what == "iqm":
            single = runs.loc[runs["method"].eq(method), "score"]
            tick: dict[str, Any] = {"marker": "|", "ms": style.pt(5), "mew": style.pt(0.6)}
            ax.plot(single, [y] * len(single), ls="", color=look.colour, **tick)
        ax.hlines(y, low, high, color=look.colour, lw=style.pt(2.2), alpha=0.55)
        ax.plot(value, y, ls="", **panels.mark(look, 4.5))
    names = [panels.shortened(name, SHORT) if what == "iqm" else "" for name in part["method"]]
    ax.set_yticks(range(len(part)), names)
    ax.tick_params(axis="y", length=0)
    ax.set_ylim(len(part) - 0.4, -0.6)
    ax.xaxis.set_major_locator(MaxNLocator(nbins=4))
    ax.grid(visible=False, axis="y")


def _caption(scores: pd.DataFrame, table: pd.DataFrame) -> str:
    """Describe scores, n, and intervals."""
    scores = with_metric(scores)
    parts = []
    for suite, mine in scores.groupby("suite", sort=False):
        counts = mine.groupby([*workloads.WORK, "method"]).size()
        n = span(counts, "run", "runs")
        metric = metric_of(mine)
        what = "" if metric.name == ERROR.name else f", {metric.axis('test')} ({direction(metric)})"
        parts.append(f"Suite {suite}: {workloads.listed(mine)}{what}; n = {n} per method on each.")
    alone = {metric.name for metric in metrics_in(scores)} == {ERROR.name}
    phrase = "test error" if alone else "test result"
    single = " None where a workload has one run." * bool(table["low"].isna().any())
    guess = workloads.unstated_chance(scores)
    return (
        f"{' '.join(parts)} Score: 0 at chance, 1 at the mean final {phrase} of "
        f"{workloads.REFERENCE} (dotted); a diverged run is at chance. Left: share of runs above each "
        "score, mean over workloads; mark and bar: pointwise 95 % band where a curve falls below one half. "
        "Middle and right: interquartile mean over all runs (ticks: the scores of single runs), and "
        "optimality gap, the mean shortfall from 1 (lower is better); "
        f"bars: 95 % bootstrap intervals, runs resampled within workloads.{single}{guess}"
        f"{workloads.lengths(scores)}"
    )


draw = writer(NAME, scores, plotted, figure)
