"""Test error, or another main metric, above backprop's against the relative variance of the estimate."""

from __future__ import annotations

from math import atanh, nan, sqrt, tanh
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import NullLocator
from numpy.typing import ArrayLike
from scipy.stats import spearmanr

from fgbench.records.metrics import ERROR, FRACTION, Shown
from fgbench.reporting.figures import relative_variance
from fgbench.reporting.figures.files import everything, writer
from fgbench.reporting.frames import comparable, ordering, workloads
from fgbench.reporting.frames.load import Records
from fgbench.reporting.frames.metric_columns import (
    ABOUT,
    direction,
    metric_of,
    metrics_in,
    named,
    phrase,
    unnamed,
)
from fgbench.reporting.frames.seed_means import bands, mean_interval, seeds
from fgbench.reporting.plotting import panels, style
from fgbench.reporting.plotting.numbers import signed
from fgbench.reporting.plotting.panels import Page
from fgbench.reporting.plotting.sheet import PAPER, Sheet
from fgbench.stats.aggregate import NORMAL

NAME = "variance_and_learning"
LENGTHS = ("epochs", "reference_epochs")
COLUMNS = (
    *(
        *workloads.WORK,
        "method",
        "value",
        "low",
        "high",
        "moments",
        "draws",
        "inits",
        "batches",
        "truth",
    ),
    *("along", "others", "unscaled"),
    *("heavy_tail", "label", "gap_points", "gap_low", "gap_high", "n", "band", "mark"),
    *LENGTHS,
    *ABOUT,
)
PLAIN = {"gap_points": "gap"}
"""Names of columns where some gap is of another metric, which the column ``metric`` names."""
STRAIGHT = 10.0  # points: gaps up to here are drawn on a linear axis
LETTERS = "abcdefghijklmnopqrstuvwxyz"


def rank_correlation(x: ArrayLike, y: ArrayLike) -> tuple[float, float, float]:
    """Compute Spearman's rank correlation, with an interval by Fisher's transform.

    The standard error of artanh ρ of ranks is sqrt((1 + ρ²/2)/(n − 3)) (Bonett and Wright 2000).
    Coverage is .93 to .99 for 6 to 24 normal pairs with correlations from 0 to .95.

    Args:
        x: shape [points].
        y: shape [points].

    Returns:
        ρ and the ends of its 95 % interval; NaN where there are fewer than 4 points or one of the two does
        not vary. Where ranks agree or disagree completely there is no interval and the ends are NaN.

    Example:
        >>> rank_correlation([1, 2, 3, 4], [1, 2, 3, 4])
        (1.0, nan, nan)
    """
    x, y = np.asarray(x, float), np.asarray(y, float)
    if len(x) < 4 or not (np.ptp(x) and np.ptp(y)):
        return nan, nan, nan
    rho = float(spearmanr(x, y).statistic)
    if abs(rho) > 1 - 1e-12:
        return rho, nan, nan
    half = NORMAL * sqrt((1 + rho**2 / 2) / (len(x) - 3))
    return rho, tanh(atanh(rho) - half), tanh(atanh(rho) + half)


def plotted(records: Records) -> pd.DataFrame:
    """Compute the drawn numbers: a row per method, task, network and data both measured and trained.

    Args:
        records: of `fgbench.reporting.frames.load.load`.

    Returns:
        Columns `COLUMNS`: relative variance of the whole body, from the record that `_picked` selects (there
        are ``others`` more), and the final test error less that of backprop in points, over the ``n`` seeds
        that both share, a diverged run at chance. Where some workload has another metric the columns have
        the names of `PLAIN` and of the metric; a gap is always how much worse a method is. ``mark`` is the
        letter of the workload in the figure.

    Example:
        >>> from pathlib import Path
        >>> run = {"verb": "train", "locality": "end", "arch": "mlp-2x8", "data": "digits", "status": "ok"}
        >>> run |= {"seed": 0}
        >>> bp = {**run, "method": "BP", "estimator": "bp", "history": [{"epoch": 1, "test_error": 0.1}]}
        >>> fg = {**run, "method": "FG-A", "estimator": "fg_a", "history": [{"epoch": 1, "test_error": 0.2}]}
        >>> measure = {**fg, "verb": "measure", "relative_variance": 2.0}
        >>> measure |= {"draws": 8, "inits": 1, "batches": 1, "truth": "scheme"}
        >>> records = Records(Path("."), (bp, fg, measure), {}, ())
        >>> plotted(records)[["method", "value", "gap_points"]].values.tolist()
        [['FG-A', 2.0, 10.0]]
    """
    runs = workloads.finished(records).drop_duplicates("key")
    by = [*workloads.WORK, "method"]
    reference = runs[runs["method"].eq(workloads.REFERENCE)]
    reference = reference.set_index([*workloads.JUDGED, "seed"])[["final", "epochs"]]
    reference = reference.set_axis(["reference", "reference_epochs"], axis=1)
    pairs = runs[runs["method"].ne(workloads.REFERENCE)].join(
        reference, on=[*workloads.JUDGED, "seed"]
    )
    rows = []
    pairs = pairs.dropna(subset=["reference"])
    for names, part in pairs.groupby([*by, "metric"], sort=False):
        metric = metric_of(part)
        worse = metric.factor * metric.sign * (part["final"] - part["reference"])
        average = mean_interval(worse, signed=True)
        ends = {
            "gap_points": average["mean"],
            "gap_low": average["low"],
            "gap_high": average["high"],
        }
        ends |= {"n": average["n"], "band": average["band"]}
        ends |= {name: part[name].max() for name in LENGTHS}
        ends |= dict(zip(ABOUT, metric[:3], strict=True))
        rows.append(dict(zip(by, names[:-1], strict=True)) | ends)
    columns = [*by, "gap_points", "gap_low", "gap_high", "n", "band", *LENGTHS, *ABOUT]
    gaps = pd.DataFrame(rows, columns=columns)
    table = workloads.joined(gaps, _variances(records).drop(columns="n"), records)
    table = comparable.judged(_picked(table, [*by, "metric"])).assign(
        label=lambda rows: rows["method"]
    )
    table = ordering.arranged(table, [*workloads.WORK, "metric", "method"])
    if not table["value"].gt(relative_variance.ZERO).any():
        table = table[:0]  # without noise there is no variance to compare with
    works = list(table[workloads.WORK].itertuples(index=False, name=None))
    marks = {work: LETTERS[at % 26] for at, work in enumerate(dict.fromkeys(works))}
    table = table.assign(mark=[marks[work] for work in works])[list(COLUMNS)]
    return named(table, {}, PLAIN)


def figure(_: Records, table: pd.DataFrame, sheet: Sheet = PAPER) -> Page:
    """Draw the gap to backprop against relative variance, one point per configuration, a panel per metric.

    Args:
        table: of `plotted`, all that is drawn.
        sheet: what it is drawn on.

    Returns:
        The page.

    Example:
        >>> from pathlib import Path
        >>> run = {"verb": "train", "locality": "end", "arch": "mlp-2x8", "data": "digits", "status": "ok"}
        >>> run |= {"seed": 0}
        >>> bp = {**run, "method": "BP", "estimator": "bp", "history": [{"epoch": 1, "test_error": 0.1}]}
        >>> fg = {**run, "method": "FG-A", "estimator": "fg_a", "history": [{"epoch": 1, "test_error": 0.2}]}
        >>> measure = {**fg, "verb": "measure", "relative_variance": 2.0}
        >>> measure |= {"draws": 8, "inits": 1, "batches": 1, "truth": "scheme"}
        >>> records = Records(Path("."), (bp, fg, measure), {}, ())
        >>> len(figure(records, plotted(records)).axes)
        1
    """
    text, table = caption(table), _placed(unnamed(table, {}, PLAIN))
    looks = style.looks(table["method"])

    def panel(ax: Axes, _: tuple[Any, ...], part: pd.DataFrame) -> None:
        ax.set_xscale("log")
        for _, row in part.iterrows():
            _point(ax, row, looks[row["method"]])
        _variance_axis(ax, part)
        _gap_axis(ax, part, metric_of(part))

    drawing: dict[str, Any] = {"height": 2.6, "line": False, "sheet": sheet}
    drawing["more"] = panels.CROSSED if table["unscaled"].notna().any() else {}
    return panels.drawn(table, ["metric"], looks, panel, text, **drawing)


def _placed(table: pd.DataFrame) -> pd.DataFrame:
    """Compute the horizontal positions: estimates without noise in a strip, with a column per workload.

    Args:
        table: of `plotted`.

    Returns:
        The table with ``noisy``, ``x``, ``strip`` (the middle of the strip), ``first`` (the smallest variance
        right of it) and ``letter``, written beside a point where there are several workloads; in the strip
        just beside the topmost point of a column.
    """
    noisy = table["value"] > relative_variance.ZERO
    drawn = table.loc[noisy, ["low", "value", "high"]].stack()
    drawn = drawn[drawn > 0]
    first, last = (float(drawn.min()), float(drawn.max())) if noisy.any() else (1.0, 10.0)
    wide = max(last / first, 10.0)
    marks = sorted(set(table["mark"]))
    apart = 0.08 * (table["mark"].map(marks.index) / max(1, len(marks) - 1) - 0.5)
    strip = first * wide**-0.12
    x = table["value"].where(noisy, strip * wide ** (apart * (len(marks) > 1)))
    top = table[~noisy].groupby("mark")["gap_points"].idxmax()
    shown = (noisy | table.index.isin(top)) & (len(marks) > 1)
    letter = table["mark"].where(shown, "")
    return table.assign(noisy=noisy, x=x, strip=strip, first=first, letter=letter)


def _point(ax: Axes, row: pd.Series, look: style.Look) -> None:
    """Draw one configuration with its two intervals and its letter."""
    if row["noisy"]:
        ax.hlines(row["gap_points"], row["low"], row["high"], color=look.colour, lw=style.pt(0.9))
    ax.vlines(row["x"], row["gap_low"], row["gap_high"], color=look.colour, lw=style.pt(0.9))
    ax.plot(row["x"], row["gap_points"], ls="", **panels.mark(look))
    if row["unscaled"] == row["unscaled"]:
        panels.crossed(ax, pd.Series([row["x"]]), pd.Series([row["gap_points"]]))
    place: dict[str, Any] = {"xytext": (style.pt(3.5), style.pt(2.5))}
    place |= {"textcoords": "offset points", "fontsize": style.pt(6.5)}
    ax.annotate(row["letter"], (row["x"], row["gap_points"]), **place)


def _variance_axis(ax: Axes, part: pd.DataFrame) -> None:
    """Set the axis of variance, with the strip of estimates without noise."""
    strip, first = float(part["strip"].iloc[0]), float(part["first"].iloc[0])
    edge = (first / strip) ** 0.5
    if not part["noisy"].all():
        ax.axvline(first / edge, color=style.FAINT, lw=style.pt(0.7), ls=style.DOTTED)
        words: dict[str, Any] = {"ha": "center", "va": "top"}
        words["transform"] = ax.get_xaxis_transform()
        panels.small_print(ax, strip, 0.985, "no\nnoise", **words)
    left = first if part["noisy"].all() else strip
    right = (
        float(part.loc[part["noisy"], ["x", "high"]].max(axis=None)) if part["noisy"].any() else 1.0
    )
    ax.set_xlim(left / edge, max(right, first) * edge)
    ax.set_xticks([tick for tick in ax.get_xticks() if first * 0.9 <= tick <= right * edge])
    ax.xaxis.set_minor_locator(NullLocator())
    ax.set_xlabel(relative_variance.AXIS.replace("\n", " "))


def _gap_axis(ax: Axes, part: pd.DataFrame, metric: Shown) -> None:
    """Set the axis of the gap, of errors logarithmic beyond one point where that is needed."""
    ends = part[["gap_low", "gap_points", "gap_high"]]
    least, up = float(ends.min(axis=None)), float(ends.max(axis=None))
    if metric.factor > 1 and ends.abs().max(axis=None) > STRAIGHT:
        ticks = sorted(
            {0, *(sign * tick for tick in (1, 2, 5, 10, 20, 50, 100) for sign in (-1, 1))}
        )
        ax.set_yscale("symlog", linthresh=1.0, linscale=0.4)
        ax.set_yticks([tick for tick in ticks if min(least, 0.0) <= tick <= up])
        ax.yaxis.set_major_formatter("{x:g}")
        ax.yaxis.set_minor_locator(NullLocator())
        ax.set_ylim(min(1.4 * least, -0.4), 1.8 * up)
    ax.axhline(0.0, color=style.FAINT, lw=style.pt(0.7))
    above = "below" if metric.best == "high" else "above"
    unit = " (points)" * (metric.factor > 1)
    better = "" if metric.name == ERROR.name else f", {direction(metric)}"
    ax.set_ylabel(f"test {metric.words} {above} BP's{unit}{better}")


def _variances(records: Records) -> pd.DataFrame:
    """Return the relative variances of whole bodies."""
    measures = records.measures()
    chosen = measures[measures["quantity"].eq("relative_variance") & measures["place"].eq("all")]
    return chosen.dropna(subset=["value"])


def _picked(table: pd.DataFrame, by: list[str]) -> pd.DataFrame:
    """Select one measurement per configuration, so that all are as comparable as possible.

    Measurements along the trajectory that all methods share come first, then those at the moments at which
    most configurations were measured, the latest of these, then those with the most draws in all.

    Args:
        table: a row per configuration and measurement.
        by: columns that name a configuration.

    Returns:
        A row per configuration, with the number of its ``others``.
    """
    separate = table["along"].ne("")
    names = table[by].astype(str).agg("|".join, axis=1) if len(table) else table["method"]
    common = names.groupby([separate, table["moments"]]).transform("nunique")
    last = pd.to_numeric(table["moments"].str.split().str[-1], errors="coerce")
    total = table[["inits", "batches", "draws"]].prod(axis=1)
    ranks = table.assign(own=separate, common=common, last=last, total=total)
    keys = ["own", "common", "last", "total"]
    ranks = ranks.sort_values(keys, ascending=[True, False, False, False], kind="stable")
    others = ranks.groupby(by)["key"].transform("size") - 1
    return ranks.assign(others=others).drop_duplicates(by)


def _correlation(noisy: pd.DataFrame, metric: str) -> str:
    """Describe the rank correlation of gaps with variances, of one metric where there are several."""
    of = f" ({metric})" * bool(metric)
    rho, low, high = rank_correlation(noisy["value"], noisy["gap_points"])
    if np.isnan(rho):
        return f"{len(noisy)} configurations with noise{of}: too few for a rank correlation."
    spec = ".2f"
    interval = f"95 % interval [{signed(low, spec)}, {signed(high, spec)}]"
    words = f"{signed(rho, spec)}, {'no interval' if np.isnan(low) else interval}"
    return (
        f"Rank correlation (Spearman) over {len(noisy)} configurations with noise{of}: {words} "
        "(Fisher's transform, error by Bonett and Wright, configurations taken as independent)."
    )


def _worse(table: pd.DataFrame) -> str:
    """Describe the vertical axis: how much worse than the reference a method is."""
    if {metric.best for metric in metrics_in(table)} == {"low"}:
        return f"final {phrase(table)} less {workloads.REFERENCE}'s"
    return f"how much worse than {workloads.REFERENCE} the final {phrase(table)} is"


def _when(moments: str, along: str) -> str:
    """Describe when a variance was measured."""
    trajectory = f" along {along} training" * bool(along)
    return (
        f"over epochs {', '.join(moments.split())}{trajectory}"
        if " " in moments
        else f"at epoch {moments}{trajectory}"
    )


def caption(table: pd.DataFrame) -> str:
    """Describe the correlation, points and bars, and n.

    Args:
        table: of `plotted`.

    Returns:
        The caption.

    Example:
        >>> from pathlib import Path
        >>> run = {"verb": "train", "locality": "end", "arch": "mlp-2x8", "data": "digits", "status": "ok"}
        >>> run |= {"seed": 0}
        >>> bp = {**run, "method": "BP", "estimator": "bp", "history": [{"epoch": 1, "test_error": 0.1}]}
        >>> fg = {**run, "method": "FG-A", "estimator": "fg_a", "history": [{"epoch": 1, "test_error": 0.2}]}
        >>> measure = {**fg, "verb": "measure", "relative_variance": 2.0}
        >>> measure |= {"draws": 8, "inits": 1, "batches": 1, "truth": "scheme"}
        >>> records = Records(Path("."), (bp, fg, measure), {}, ())
        >>> caption(plotted(records)).partition(".")[0]
        '1 configurations with noise: too few for a rank correlation'
    """
    worse = _worse(table)
    table = unnamed(table, {}, PLAIN)
    noisy = table[table["value"] > relative_variance.ZERO]
    metrics = metrics_in(table)
    correlation = " ".join(
        _correlation(
            noisy[noisy["metric"].eq(metric.name)], metric.words if len(metrics) > 1 else ""
        )
        for metric in metrics
    )
    marks = table.groupby("mark")
    points = "; ".join(
        f"{mark + ': ' if len(marks) > 1 else ''}{workloads.listed(mine)}" for mark, mine in marks
    )
    backprop = table.assign(method=workloads.REFERENCE, epochs=table["reference_epochs"])
    trained = workloads.lengths(pd.concat([backprop, table]))
    when = [
        _when(*each) for each in sorted(set(zip(noisy["moments"], noisy["along"], strict=True)))
    ]
    if len(when) > 1:
        correlation += (
            f" It pools variances of {len(when)} kinds of moments: compare those of one kind."
        )
    rest = int(table["others"].max())
    picked = (
        f" Of several measurements of a method one is drawn, up to {rest} other{'s' * (rest > 1)} "
        f"{'are' if rest > 1 else 'is'} not: the one along the trajectory that all share, at the moments "
        "that most have, with most draws (in the CSV)."
    ) * (rest > 0)
    measured = relative_variance.caption(table)
    errors = table[table["unit"].eq(FRACTION)]
    spread = errors[["gap_low", "gap_points", "gap_high"]].abs().max(axis=None)
    scale = " (axis linear up to 1 point, then logarithmic)" * bool(spread > STRAIGHT)
    bars = bands(table["band"]).replace(" (log scale)", "")
    return (
        f"{correlation} Points: {points}. Vertical: {worse}{scale}, "
        f"paired by seed, n = {seeds(table['n'])}; bar: {bars}. Horizontal: variance "
        f"{'; '.join(when) or '–'} and its 95 % interval.{picked} {measured}{trained}"
        f"{workloads.chance_words(table)}"
    )


draw = writer(NAME, everything, plotted, figure)
