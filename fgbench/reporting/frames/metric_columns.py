"""Columns for the main metric of runs: errors alone keep their names, other metrics are named beside them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

import numpy as np
import pandas as pd

from fgbench.records.metrics import ERROR, Shown

ABOUT = ("metric", "unit", "best")
"""Name, unit and better direction of a metric."""


def metric_of(rows: pd.DataFrame) -> Shown:
    """Return the metric of rows that share one.

    Args:
        rows: with the columns `ABOUT`, of which the first row is read.

    Example:
        >>> metric_of(pd.DataFrame([["r2", "", "high"]], columns=ABOUT)).best
        'high'
    """
    first = rows.iloc[0]
    return Shown(str(first["metric"]), str(first["unit"]), str(first["best"]))


def metrics_in(rows: pd.DataFrame) -> list[Shown]:
    """Return the metrics of rows, in the order in which they come.

    Args:
        rows: with the columns `ABOUT`; rows without them are of errors.

    Example:
        >>> [shown.name for shown in metrics_in(pd.DataFrame({"value": [1.0]}))]
        ['error']
    """
    if "metric" not in rows:
        return [ERROR]
    return [metric_of(part) for _, part in rows.groupby("metric", sort=False)] or [ERROR]


def with_metric(rows: pd.DataFrame) -> pd.DataFrame:
    """Return rows with the columns `ABOUT`, which are those of the error where they are missing.

    Args:
        rows: of any numbers.

    Example:
        >>> with_metric(pd.DataFrame({"value": [1.0]}))["unit"].tolist()
        ['fraction']
    """
    rows = rows.reindex(columns=[*rows.columns, *(name for name in ABOUT if name not in rows)])
    unknown = rows["metric"].isna()
    about = zip(ABOUT, ERROR[:3], strict=True)
    return rows.assign(**{n: rows[n].astype(object).where(~unknown, word) for n, word in about})


def named(
    table: pd.DataFrame, percent: Mapping[str, str], plain: Mapping[str, str]
) -> pd.DataFrame:
    """Name the numbers of a figure.

    Args:
        table: the drawn numbers, with the columns `ABOUT`.
        percent: column to its name in a table of errors alone, which has no columns about the metric.
        plain: column to its name in a table with another metric.

    Returns:
        The renamed table.

    Example:
        >>> rows = with_metric(pd.DataFrame({"mean": [9.0]}))
        >>> list(named(rows, {"mean": "error_percent"}, {"mean": "result"}))
        ['error_percent']
        >>> list(named(rows.assign(metric="mse", unit=""), {"mean": "error_percent"}, {"mean": "result"}))
        ['result', 'metric', 'unit', 'best']
    """
    if table["metric"].eq(ERROR.name).all():
        return table.drop(columns=list(ABOUT)).rename(columns=percent)
    return table.rename(columns=plain)


def unnamed(
    table: pd.DataFrame, percent: Mapping[str, str], plain: Mapping[str, str]
) -> pd.DataFrame:
    """Undo `named`.

    Args:
        table: of `named`.
        percent: as there.
        plain: as there.

    Returns:
        The table with the columns it had.

    Example:
        >>> table = unnamed(pd.DataFrame({"error_percent": [9.0]}), {"mean": "error_percent"}, {})
        >>> table.to_dict("records")
        [{'mean': 9.0, 'metric': 'error', 'unit': 'fraction', 'best': 'low'}]
    """
    names = plain if "metric" in table else percent
    return with_metric(table.rename(columns={new: old for old, new in names.items()}))


def by_metric(
    rows: pd.DataFrame, table: Callable[[pd.DataFrame, Shown], pd.DataFrame]
) -> pd.DataFrame:
    """Compute a table of each metric by itself, and put them below each other.

    Args:
        rows: with the columns `ABOUT`.
        table: computes it from the rows of one metric.

    Returns:
        The table with the columns `ABOUT`.

    Example:
        >>> rows = pd.DataFrame({"value": [0.1, 2.0], "metric": ["error", "mse"], "unit": ["fraction", ""]})
        >>> shown = by_metric(rows.assign(best="low"), lambda part, metric: metric.factor * part[["value"]])
        >>> shown["value"].tolist()
        [10.0, 2.0]
    """
    parts = [
        table(part, metric).assign(**dict(zip(ABOUT, metric[:3], strict=True)))
        for metric, part in ((metric_of(p), p) for _, p in rows.groupby("metric", sort=False))
    ]
    if not parts:
        return table(rows, ERROR).assign(**dict.fromkeys(ABOUT, ""))
    return pd.concat(parts)


def signed(values: Iterable[float], metric: Shown) -> bool:
    """Check whether numbers of a metric may be negative, so that their interval is on a plain scale.

    Args:
        values: of a table.
        metric: of them.

    Returns:
        Whether they may be.

    Example:
        >>> signed([1.0], Shown("mse")), signed([1.0], Shown("r2", best="high"))
        (False, True)
    """
    return metric.best == "high" or bool(np.any(np.asarray(list(values), float) < 0))


def axis(metric: Shown, split: str = "test") -> str:
    """Return the name of an axis: that of the metric, with its unit, and which direction is better.

    Args:
        metric: that is shown.
        split: ``test``, ``train`` or ``validation``.

    Example:
        >>> axis(ERROR), axis(Shown("r2", best="high"))
        ('test error (%)', 'test r2, higher is better')
    """
    if metric.name == ERROR.name:
        return metric.axis(split)
    return f"{metric.axis(split)}, {direction(metric)}"


def direction(metric: Shown) -> str:
    """Return which direction of a metric is better, in words.

    Example:
        >>> direction(ERROR)
        'lower is better'
    """
    return "higher is better" if metric.best == "high" else "lower is better"


def phrase(rows: pd.DataFrame, split: str = "test") -> str:
    """Return the name of the metric for a caption; where there are several, that each panel names its own.

    Args:
        rows: with the columns `ABOUT`, or of errors.
        split: ``test`` or ``validation``.

    Example:
        >>> phrase(pd.DataFrame())
        'test error'
        >>> phrase(pd.DataFrame([["mse", "", "low"]], columns=ABOUT))
        'test mse (lower is better)'
    """
    found = metrics_in(rows)
    if [metric.name for metric in found] == [ERROR.name]:
        return f"{split} {ERROR.name}"
    if len(found) == 1:
        return f"{found[0].axis(split)} ({direction(found[0])})"
    each = "; ".join(f"{m.words}, {direction(m)}" for m in sorted(found, key=lambda m: m.name))
    return f"{split} result ({each}: never on one axis)"


def text(value: float, metric: Shown) -> str:
    """Format a number of a record with its unit, in three digits.

    Args:
        value: as in the record.
        metric: of it.

    Returns:
        The text.

    Example:
        >>> text(0.0512, ERROR), text(2.5, Shown("bits_per_character", "bits"))
        ('5.12 %', '2.5 bits per character')
    """
    if metric.factor > 1:
        return f"{metric.factor * value:.3g} %"
    return f"{value:.3g} {metric.words}"


def main_results(runs: pd.DataFrame) -> pd.DataFrame:
    """Return runs with their main metric and its numbers, which are the errors where no metric is named.

    Args:
        runs: of `fgbench.reporting.frames.results.results`.

    Returns:
        The runs with the columns `ABOUT`, and with ``test`` and ``train`` as in the record.

    Example:
        >>> run = {"test_error": 0.1, "train_error": 0.0, "test": None, "train": None}
        >>> main_results(pd.DataFrame([run]))[["metric", "test"]].values.tolist()
        [['error', 0.1]]
    """
    table = with_metric(runs)
    errors = table["metric"].eq(ERROR.name)
    splits = {
        split: pd.to_numeric(table[split]).where(~errors, pd.to_numeric(table[f"{split}_error"]))
        for split in ("test", "train")
    }
    return table.assign(**splits)


def other_metrics(rows: pd.DataFrame, split: str = "test") -> str:
    """Return a sentence of a caption that names metrics other than the error, with a space before it.

    Args:
        rows: with the columns `ABOUT`, or of errors.
        split: ``test`` or ``validation``.

    Returns:
        The sentence; "" for errors alone.

    Example:
        >>> other_metrics(pd.DataFrame([["mse", "", "low"]], columns=ABOUT))
        ' Shown: test mse (lower is better).'
    """
    if all(metric.name == ERROR.name for metric in metrics_in(rows)):
        return ""
    return f" Shown: {phrase(rows, split)}."
