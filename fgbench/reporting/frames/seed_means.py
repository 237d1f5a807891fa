"""Means over seeds with their intervals."""

from __future__ import annotations

from math import inf
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from fgbench.records.metrics import ERROR, Shown
from fgbench.reporting.frames.metric_columns import signed

BANDS = {
    "t": "95 % t interval of the mean (log scale)",
    "cut": "cut at 100 %",
    "range": "range of two seeds",
    "none": "none for one seed",
}
INTERVALS = ("t", "cut")
"""The kinds that say where the mean may be."""
WHOLE = 100.0
"""No error in percent is above it."""


def mean_interval(
    values: pd.Series, signed: bool = False, most: float = inf
) -> dict[str, float | str]:
    """Average over seeds, with an interval.

    From three seeds on this is the 95 % t interval of the mean; two seeds have their range, since with one
    degree of freedom the interval would be 13 standard errors wide; one seed has none. Numbers that cannot
    be negative have their t interval on the log scale, mean · exp(± t s / mean) with s the standard error.
    By the delta method it equals the plain interval to first order, and it stays above zero however few the
    seeds are. For normal and lognormal seeds of 3 to 60 % deviation its coverage is nowhere below the plain
    one's by more than Monte Carlo error. Where numbers have a maximum, as percentages do, the interval is
    cut there: no mean lies in what is cut off, so the coverage is unchanged.

    Args:
        values: a number per seed.
        signed: the numbers may be negative, such as differences: the plain t interval.
        most: the largest number there can be, `WHOLE` for percentages.

    Returns:
        ``mean low high n band``, where ``band`` names the kind of interval.

    Example:
        >>> mean_interval(pd.Series([1.0, 3.0]))
        {'mean': 2.0, 'low': 1.0, 'high': 3.0, 'n': 2, 'band': 'range'}
    """
    values = values.dropna()
    n, mean = len(values), float(values.mean())
    if n < 3:
        ends = {"low": float(values.min()), "high": float(values.max())}
        return {"mean": mean, **ends, "n": n, "band": "range" if n == 2 else "none"}
    half = float(stats.t.ppf(0.975, n - 1) * values.std(ddof=1) / np.sqrt(n))
    if signed:
        return {"mean": mean, "low": mean - half, "high": mean + half, "n": n, "band": "t"}
    factor = float(np.exp(half / mean)) if mean else 1.0
    ends = {"low": mean / factor, "high": min(mean * factor, most)}
    return {"mean": mean, **ends, "n": n, "band": "cut" if mean * factor > most else "t"}


def bands(kinds: pd.Series) -> str:
    """Name the kinds of interval that occur, for a caption.

    Args:
        kinds: the column ``band`` of `mean_interval`.

    Returns:
        The names, separated by commas.

    Example:
        >>> bands(pd.Series(["t", "range"]))
        '95 % t interval of the mean (log scale), range of two seeds'
    """
    among = set(kinds) | ({"t"} if (kinds == "cut").any() else set())
    return ", ".join(words for kind, words in BANDS.items() if kind in among)


def seeds(counts: pd.Series) -> str:
    """Format the number of seeds of means.

    Args:
        counts: seeds of each mean.

    Returns:
        One number or a range.

    Example:
        >>> seeds(pd.Series([3, 2]))
        '2 to 3 seeds'
    """
    return span(counts, "seed", "seeds")


def span(counts: pd.Series, one: str, many: str) -> str:
    """Format a count, or the range of several counts.

    Args:
        counts: the counts.
        one: singular of what is counted.
        many: plural.

    Returns:
        One number or a range, with its noun.

    Example:
        >>> span(pd.Series([1]), "run", "runs"), span(pd.Series([2, 3]), "run", "runs")
        ('1 run', '2 to 3 runs')
    """
    low, high = int(counts.min()), int(counts.max())
    return f"{low if low == high else f'{low} to {high}'} {one if high == 1 else many}"


def over_seeds(
    runs: pd.DataFrame, by: list[str], value: str, metric: Shown = ERROR
) -> pd.DataFrame:
    """Average the finished runs of each group, and count the others.

    Args:
        runs: a row per run, with ``status``.
        by: columns that name a group.
        value: the column averaged, as in records; errors, which are fractions, are returned in percent.
        metric: of the numbers in it.

    Returns:
        ``by`` and ``mean low high n band lost runs``, a row per group, also where no run finished.

    Example:
        >>> runs = pd.DataFrame({"method": "BP", "status": ["ok", "ok"], "error": [0.1, 0.3]})
        >>> over_seeds(runs, ["method"], "error")[["mean", "low", "high"]].values.round(6).tolist()
        [[20.0, 10.0, 30.0]]
    """
    rows = []
    plain = signed(runs[value], metric)
    for names, part in runs.groupby(by, sort=False):
        done = part[part["status"] == "ok"]
        average: dict[str, Any] = {"n": 0}
        if done[value].notna().any():
            average = {**mean_interval(metric.factor * done[value], plain, metric.most)}
        counts = {"lost": len(part) - len(done), "runs": len(part)}
        rows.append(dict(zip(by, names, strict=True)) | average | counts)
    columns = [*by, "mean", "low", "high", "n", "band", "lost", "runs"]
    return pd.DataFrame(rows, columns=columns)
